//! Layers of one policy each.

use std::{future::Future, sync::Arc, time::Duration};

use ::tower::Layer;
use tokio::time::Instant;

use super::{
    PolicyError,
    service::{Policy, PolicyService},
};
use crate::{
    clock::Clock,
    resilience::{
        OptionsError,
        breaker::{Breaker, Outcome},
        bulkhead::Bulkhead,
        limiter::{LimitKey, Limiter},
        protected::Refusal,
        retry::RetryCause,
        timeout::{TimeoutOptions, Timeouts},
    },
};

fn refused<E>(refusal: impl Into<Refusal>) -> PolicyError<E> {
    PolicyError::Refused(Box::new(refusal.into()))
}

/// Stops requests to what fails.
#[derive(Clone, Debug)]
pub struct BreakerLayer {
    breaker: Breaker,
    clock: Arc<dyn Clock>,
}

impl BreakerLayer {
    /// The layer of this breaker.
    #[must_use]
    pub fn new(breaker: Breaker, clock: Arc<dyn Clock>) -> Self {
        Self { breaker, clock }
    }
}

impl<E: RetryCause + Send> Policy<E> for BreakerLayer {
    async fn around<T: Send, F: Future<Output = Result<T, E>> + Send>(
        &self,
        request: impl FnOnce() -> F + Send,
    ) -> Result<T, PolicyError<E>> {
        let permit = self.breaker.acquire(self.clock.now()).map_err(refused)?;
        let result = request().await;
        let outcome = result.as_ref().map_or_else(RetryCause::outcome, |_| Outcome::Success);
        permit.finish(outcome, self.clock.now());
        result.map_err(PolicyError::Inner)
    }
}

/// So many requests in a time; all of one layer count for one key.
#[derive(Clone, Debug)]
pub struct LimiterLayer {
    limiter: Arc<Limiter>,
    agent: Arc<str>,
    operation: Arc<str>,
    wait: Duration,
    clock: Arc<dyn Clock>,
}

impl LimiterLayer {
    /// The layer of this limiter, for one key; what is not allowed is refused at once.
    #[must_use]
    pub fn new(limiter: Arc<Limiter>, key: LimitKey<'_>, clock: Arc<dyn Clock>) -> Self {
        let (agent, operation) = (Arc::from(key.agent), Arc::from(key.operation));
        Self { limiter, agent, operation, wait: Duration::ZERO, clock }
    }

    /// Waits so long until it is allowed.
    #[must_use]
    pub fn wait(self, wait: Duration) -> Self {
        Self { wait, ..self }
    }
}

impl<E: Send> Policy<E> for LimiterLayer {
    async fn around<T: Send, F: Future<Output = Result<T, E>> + Send>(
        &self,
        request: impl FnOnce() -> F + Send,
    ) -> Result<T, PolicyError<E>> {
        let (key, now) = (LimitKey::new(&self.agent, &self.operation), self.clock.now());
        if self.wait.is_zero() {
            self.limiter.acquire(key, 1, now).map_err(refused)?;
        } else {
            let until = now.after(self.wait);
            let allowed = self.limiter.until_allowed(key, 1, self.clock.as_ref(), until);
            allowed.await.map_err(refused)?;
        }
        request().await.map_err(PolicyError::Inner)
    }
}

/// So many requests at once, each of the same weight.
#[derive(Clone, Debug)]
pub struct BulkheadLayer {
    bulkhead: Bulkhead,
    weight: u64,
}

impl BulkheadLayer {
    /// The layer of this bulkhead; a request weighs 1.
    #[must_use]
    pub fn new(bulkhead: Bulkhead) -> Self {
        Self { bulkhead, weight: 1 }
    }

    /// A request weighs so much.
    #[must_use]
    pub fn weight(self, weight: u64) -> Self {
        Self { weight, ..self }
    }
}

impl<E: Send> Policy<E> for BulkheadLayer {
    async fn around<T: Send, F: Future<Output = Result<T, E>> + Send>(
        &self,
        request: impl FnOnce() -> F + Send,
    ) -> Result<T, PolicyError<E>> {
        let _place = self.bulkhead.acquire(self.weight, None).await.map_err(refused)?;
        request().await.map_err(PolicyError::Inner)
    }
}

/// Drops requests that take too long. Outside of a [`RetryLayer`](super::RetryLayer) it is one of the whole call,
/// inside one of an attempt: it takes the shorter one of both options.
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    options: TimeoutOptions,
}

impl TimeoutLayer {
    /// The layer with these limits.
    ///
    /// # Errors
    /// [`OptionsError`] when an option is outside its range.
    pub fn new(options: TimeoutOptions) -> Result<Self, OptionsError> {
        options.validate()?;
        Ok(Self { options })
    }
}

impl<E: Send> Policy<E> for TimeoutLayer {
    async fn around<T: Send, F: Future<Output = Result<T, E>> + Send>(
        &self,
        request: impl FnOnce() -> F + Send,
    ) -> Result<T, PolicyError<E>> {
        let begun = Instant::now();
        let time = Timeouts::of_valid(&self.options, begun, None).attempt(begun);
        let result = time.map_err(PolicyError::TimedOut)?.run(request()).await;
        result.map_err(PolicyError::TimedOut)?.map_err(PolicyError::Inner)
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = PolicyService<Self, S>;
    fn layer(&self, inner: S) -> Self::Service {
        PolicyService { policy: self.clone(), inner }
    }
}

impl<S> Layer<S> for LimiterLayer {
    type Service = PolicyService<Self, S>;
    fn layer(&self, inner: S) -> Self::Service {
        PolicyService { policy: self.clone(), inner }
    }
}

impl<S> Layer<S> for BulkheadLayer {
    type Service = PolicyService<Self, S>;
    fn layer(&self, inner: S) -> Self::Service {
        PolicyService { policy: self.clone(), inner }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = PolicyService<Self, S>;
    fn layer(&self, inner: S) -> Self::Service {
        PolicyService { policy: self.clone(), inner }
    }
}
