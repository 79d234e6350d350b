//! [`RetryLayer`]: further attempts, within a budget.

use std::{
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use ::tower::{Layer, Service};
use futures_util::future::BoxFuture;

use crate::{
    clock::Clock,
    resilience::{
        budget::RetryBudget,
        retry::{
            GiveUpReason, Retrier, RetryCause, RetryError, RetryPolicy, RetryPolicyError, RetryStats,
            RetryStep,
        },
    },
};

/// Further attempts of a request that can be cloned.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    policy: Arc<RetryPolicy>,
    budget: Option<Arc<RetryBudget>>,
    stats: Arc<RetryStats>,
    clock: Arc<dyn Clock>,
    /// Uniform in `[0, 1)`.
    chance: fn() -> f64,
}

impl RetryLayer {
    /// The layer of this policy. `chance` draws uniformly in `[0, 1)`, for jitter.
    ///
    /// # Errors
    /// [`RetryPolicyError`] when a field is outside its range.
    pub fn new(
        policy: RetryPolicy,
        clock: Arc<dyn Clock>,
        chance: fn() -> f64,
    ) -> Result<Self, RetryPolicyError> {
        policy.validate()?;
        Ok(Self { policy: Arc::new(policy), budget: None, stats: Arc::default(), clock, chance })
    }

    /// Retries cost this budget; share it among all that call the same dependency.
    #[must_use]
    pub fn budget(self, budget: Arc<RetryBudget>) -> Self {
        Self { budget: Some(budget), ..self }
    }

    /// What became of the requests.
    #[must_use]
    pub fn stats(&self) -> &Arc<RetryStats> {
        &self.stats
    }

    /// What follows a failed attempt.
    fn next<E: RetryCause>(&self, retrier: &mut Retrier<E>, error: E) -> RetryStep<E> {
        let now = self.clock.now();
        retrier.next_if(error, now, (self.chance)(), |_, _| match &self.budget {
            Some(budget) => budget.try_withdraw(now).map_err(GiveUpReason::from),
            None => Ok(()),
        })
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = RetryService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        RetryService { layer: self.clone(), inner }
    }
}

/// A service whose failed requests are made again.
#[derive(Clone, Debug)]
pub struct RetryService<S> {
    layer: RetryLayer,
    inner: S,
}

impl<S, R> Service<R> for RetryService<S>
where
    S: Service<R> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: RetryCause + Send,
    R: Clone + Send + 'static,
{
    type Response = S::Response;
    type Error = RetryError<S::Error>;
    type Future = BoxFuture<'static, Result<S::Response, Self::Error>>;

    /// Readiness of the service within is awaited by each attempt, so that its failures are retried, too.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (layer, next) = (self.layer.clone(), self.inner.clone());
        let mut inner = mem::replace(&mut self.inner, next);
        Box::pin(async move {
            let now = layer.clock.now();
            let mut retrier = Retrier::of_valid(Arc::clone(&layer.policy), now);
            retrier = retrier.counted_in(Arc::clone(&layer.stats));
            if let Some(budget) = &layer.budget {
                budget.deposit(now);
            }
            loop {
                let error = match once(&mut inner, request.clone()).await {
                    Ok(response) => {
                        retrier.succeeded();
                        return Ok(response);
                    }
                    Err(error) => error,
                };
                match layer.next(&mut retrier, error) {
                    RetryStep::RetryIn(delay) => tokio::time::sleep(delay).await,
                    RetryStep::GiveUp(error) => return Err(error),
                }
            }
        })
    }
}

async fn once<S: Service<R>, R>(service: &mut S, request: R) -> Result<S::Response, S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}
