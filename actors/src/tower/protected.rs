//! [`ProtectedLayer`]: every policy of a service, in their order.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use ::tower::{Layer, Service};
use futures_util::future::BoxFuture;

use crate::resilience::{
    protected::{Protected, ProtectedCtx, ProtectedError, ProtectedValue},
    retry::RetryCause,
};

/// Every policy of a service around requests that can be cloned; all of one layer count for one key of its limiter.
#[derive(Clone, Debug)]
pub struct ProtectedLayer {
    protected: Protected,
    agent: Arc<str>,
    operation: Arc<str>,
}

impl ProtectedLayer {
    /// The layer of this service, for one caller and operation.
    pub fn new(protected: Protected, agent: impl Into<Arc<str>>, operation: impl Into<Arc<str>>) -> Self {
        Self { protected, agent: agent.into(), operation: operation.into() }
    }
}

impl<S> Layer<S> for ProtectedLayer {
    type Service = ProtectedService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        ProtectedService { layer: self.clone(), inner }
    }
}

/// A service behind every policy.
#[derive(Clone, Debug)]
pub struct ProtectedService<S> {
    layer: ProtectedLayer,
    inner: S,
}

impl<S, R> Service<R> for ProtectedService<S>
where
    S: Service<R> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: RetryCause + Send,
    R: Clone + Send + Sync + 'static,
{
    type Response = ProtectedValue<S::Response>;
    type Error = ProtectedError<S::Error>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    /// Readiness of the service within is awaited by each attempt, in its time.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (layer, inner) = (self.layer.clone(), self.inner.clone());
        Box::pin(async move {
            let ctx = ProtectedCtx::new(&layer.agent, &layer.operation);
            let attempt = |_| {
                let (mut service, request) = (inner.clone(), request.clone());
                async move {
                    poll_fn(|cx| service.poll_ready(cx)).await?;
                    service.call(request).await
                }
            };
            layer.protected.call(&ctx, attempt).await
        })
    }
}
