//! [`PolicyService`]: a service behind one policy.

use std::{
    future::Future,
    mem,
    task::{Context, Poll},
};

use ::tower::Service;
use futures_util::future::BoxFuture;

use super::PolicyError;

/// A policy that stands around requests whose failures are `E`.
pub trait Policy<E>: Clone + Send + Sync + 'static {
    /// Runs `request` if the policy lets it, and takes note of what came of it.
    fn around<T: Send, F: Future<Output = Result<T, E>> + Send>(
        &self,
        request: impl FnOnce() -> F + Send,
    ) -> impl Future<Output = Result<T, PolicyError<E>>> + Send;
}

/// A service behind one policy.
#[derive(Clone, Debug)]
pub struct PolicyService<P, S> {
    pub(super) policy: P,
    pub(super) inner: S,
}

impl<P, S, R> Service<R> for PolicyService<P, S>
where
    P: Policy<S::Error>,
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Send,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = PolicyError<S::Error>;
    type Future = BoxFuture<'static, Result<S::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(PolicyError::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (policy, next) = (self.policy.clone(), self.inner.clone());
        // The one that is ready makes the call.
        let mut ready = mem::replace(&mut self.inner, next);
        Box::pin(async move { policy.around(move || ready.call(request)).await })
    }
}
