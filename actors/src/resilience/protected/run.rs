//! The way of a call through the layers.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::{
    Attempt, Layer, Protected, ProtectedCtx, ProtectedError, ProtectedErrorKind, ProtectedValue, Refusal,
    attempts::Cause,
    layers::Layers,
    stats::{Running, add},
};
use crate::{
    error::Coded,
    ids::Timestamp,
    resilience::{
        breaker::{BreakerPermit, Outcome, StateName},
        bulkhead::{BulkheadError, BulkheadPermit},
        cache::CacheKey,
        fallback::{Fallback, FallbackFailed, FallbackKind, Provenance},
        limiter::LimitKey,
        retry::{FailedAttempt, GiveUpReason, Retrier, RetryCause, RetrySeen, RetryStep},
        timeout::{TimedOut, Timeouts},
    },
};

/// How much too early an attempt may come that the other side asked to wait for: clocks differ by that much.
const SLACK: Duration = Duration::from_millis(10);

/// What came of one attempt.
enum Tried<T, E> {
    Value(T),
    /// It ran. `probing`: the breaker was not closed, none may follow.
    Failed {
        cause: Cause<E>,
        probing: bool,
    },
    /// It did not run.
    Stopped(Stop),
}

/// Why an attempt does not run.
enum Stop {
    Refused(Refusal),
    Over(TimedOut),
}

impl<R: Into<Refusal>> From<R> for Stop {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal.into())
    }
}

/// Leave to run one attempt; all of it is given back when dropped.
struct Leave {
    permit: Option<BreakerPermit>,
    _place: Option<BulkheadPermit>,
}

impl Protected {
    /// Calls through every layer, and through those of the service it falls back to.
    ///
    /// # Errors
    /// [`ProtectedError`]: its kind says what ended the call; `retry_after` when to try again.
    ///
    /// # Cancel safety
    /// Dropping the future drops the attempt that runs: it counts as ignored, and its places are free.
    pub async fn call<T, E: RetryCause, F: Future<Output = Result<T, E>>>(
        &self,
        ctx: &ProtectedCtx<'_>,
        mut attempt: impl FnMut(Attempt) -> F,
    ) -> Result<ProtectedValue<T>, ProtectedError<E>> {
        let mut error = match self.own(ctx, &mut attempt).await {
            Ok(own) => return Ok(own),
            Err(error) => error,
        };
        // Each service is asked once, should routes be changed meanwhile.
        let (mut asked, mut next) = (vec![Arc::clone(self.name())], self.fallback());
        let mut faults = Vec::new();
        while let Some(other) = next.filter(|other| !asked.contains(other.name())) {
            match other.own(ctx, &mut attempt).await {
                Ok(value) => {
                    add(&self.0.counters.fell_back);
                    let cause = Arc::from(error.cause_code());
                    let provenance = Provenance::Fallback { kind: FallbackKind::Service, cause };
                    let before: u32 = faults.iter().map(|fault: &ProtectedError<E>| fault.attempts).sum();
                    let attempts = value.attempts + error.attempts + before;
                    return Ok(ProtectedValue { provenance, attempts, ..value });
                }
                Err(fault) => faults.push(fault),
            }
            asked.push(Arc::clone(other.name()));
            next = other.fallback();
        }
        error.fallback = faults.into_iter().rev().fold(None, |inner, mut fault| {
            fault.fallback = inner;
            Some(Box::new(fault))
        });
        Err(error)
    }

    /// As [`Protected::call`], with a fallback of the caller's own for `key` outermost.
    ///
    /// # Errors
    /// [`FallbackFailed`] with the [`ProtectedError`], and why there is no other answer.
    ///
    /// # Cancel safety
    /// As [`Protected::call`].
    pub async fn call_or<K: CacheKey, T, E: RetryCause, F: Future<Output = Result<T, E>>>(
        &self,
        fallback: &Fallback<K, T, ProtectedError<E>>,
        key: &K,
        ctx: &ProtectedCtx<'_>,
        attempt: impl FnMut(Attempt) -> F,
    ) -> Result<ProtectedValue<Arc<T>>, FallbackFailed<ProtectedError<E>>> {
        match self.call(ctx, attempt).await {
            Ok(ProtectedValue { value, provenance: Provenance::Primary, attempts }) => {
                let answer = fallback.apply(key, Ok(value)).await?;
                Ok(ProtectedValue { value: answer.value, provenance: answer.provenance, attempts })
            }
            // Of another service already: no good value of this one.
            Ok(ProtectedValue { value, provenance, attempts }) => {
                Ok(ProtectedValue { value: Arc::new(value), provenance, attempts })
            }
            Err(error) => {
                let attempts = error.attempts;
                let answer = fallback.apply(key, Err(error)).await?;
                add(&self.0.counters.fell_back);
                Ok(ProtectedValue { value: answer.value, provenance: answer.provenance, attempts })
            }
        }
    }

    /// Through the layers of this service alone.
    async fn own<T, E: RetryCause, F: Future<Output = Result<T, E>>>(
        &self,
        ctx: &ProtectedCtx<'_>,
        attempt: &mut impl FnMut(Attempt) -> F,
    ) -> Result<ProtectedValue<T>, ProtectedError<E>> {
        let counters = &self.0.counters;
        let running = Running::begin(counters);
        let ended = self.attempts(ctx, attempt).await;
        running.ended();
        match &ended {
            Ok(_) => add(&counters.succeeded),
            Err(error) => counters.failed(self.name(), &error.kind),
        }
        ended
    }

    /// Total timeout, retries and their budget.
    async fn attempts<T, E: RetryCause, F: Future<Output = Result<T, E>>>(
        &self,
        ctx: &ProtectedCtx<'_>,
        attempt: &mut impl FnMut(Attempt) -> F,
    ) -> Result<ProtectedValue<T>, ProtectedError<E>> {
        let (layers, now, begun) = (self.layers(), self.now(), Instant::now());
        let timeouts = Timeouts::of_valid(&layers.timeout, begun, ctx.deadline);
        let mut retrier =
            Retrier::of_valid(Arc::clone(&layers.retry), now).counted_in(Arc::clone(&self.0.retry_stats));
        if let Some(end) = timeouts.end() {
            retrier = retrier.deadline(now.after(end.saturating_duration_since(begun)));
        }
        let mut asked_wait = Duration::ZERO;
        loop {
            let number = retrier.failures().saturating_add(1);
            match self.try_once(&layers, ctx, &timeouts, (number, asked_wait), attempt).await {
                Tried::Value(value) => {
                    let attempts = retrier.succeeded();
                    return Ok(ProtectedValue { value, provenance: Provenance::Primary, attempts });
                }
                Tried::Stopped(stop) => return Err(self.stopped(stop, retrier)),
                Tried::Failed { cause, probing } => {
                    asked_wait = self.hold(&cause);
                    match self.next(&layers, ctx, &mut retrier, cause, probing) {
                        RetryStep::RetryIn(delay) => sleep(delay).await,
                        RetryStep::GiveUp(error) => {
                            let kind = error.last.ended(error.reason);
                            return Err(self.error(kind, error.attempts, error.history));
                        }
                    }
                }
            }
        }
    }

    /// A `Retry-After` holds for every caller.
    fn hold<E: RetryCause>(&self, cause: &Cause<E>) -> Duration {
        let Some(wait) = cause.asked_wait() else { return Duration::ZERO };
        self.0.backoff.hold("", wait, self.now());
        wait
    }

    /// Whether another attempt follows: policy, idempotence, breaker and budget, in this order.
    fn next<E: RetryCause>(
        &self,
        layers: &Layers,
        ctx: &ProtectedCtx<'_>,
        retrier: &mut Retrier<Cause<E>>,
        cause: Cause<E>,
        probing: bool,
    ) -> RetryStep<Cause<E>> {
        let now = self.now();
        // 53 bits: every such number is exact in an f64.
        let draw = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        retrier.next_if(cause, now, draw, |_, _: RetrySeen| {
            if !ctx.idempotent {
                return Err(GiveUpReason::Condition);
            }
            if probing {
                return Err(GiveUpReason::CircuitOpen);
            }
            let Some(budget) = &layers.budget else { return Ok(()) };
            match budget.try_withdraw(now) {
                Ok(()) => self.0.log.admitted(Layer::Budget, now),
                Err(error) => {
                    self.0.log.refused(Layer::Budget, "retry.budget_exhausted", now);
                    return Err(error.into());
                }
            }
            Ok(())
        })
    }

    fn stopped<E: RetryCause>(&self, stop: Stop, mut retrier: Retrier<Cause<E>>) -> ProtectedError<E> {
        let reason = match &stop {
            Stop::Refused(refusal) => refusal.reason(),
            Stop::Over(_) => GiveUpReason::Deadline,
        };
        let attempts = retrier.failures();
        let before = retrier.give_up(reason, self.now());
        let (last, history) = before.map_or((None, Vec::new()), |error| (error.last.error(), error.history));
        let kind = match stop {
            Stop::Refused(refusal) => {
                ProtectedErrorKind::Refused { refusal: Box::new(refusal), last_error: last }
            }
            Stop::Over(by) => match last {
                Some(last_error) => ProtectedErrorKind::Failed { reason, last_error },
                None => ProtectedErrorKind::TimedOut { by, reason },
            },
        };
        self.error(kind, attempts, history)
    }

    fn error<E>(
        &self,
        kind: ProtectedErrorKind<E>,
        attempts: u32,
        history: Vec<FailedAttempt>,
    ) -> ProtectedError<E> {
        ProtectedError { service: Arc::clone(self.name()), attempts, history, kind, fallback: None }
    }

    /// One attempt: breaker, rate limit, bulkhead, attempt timeout, call.
    async fn try_once<T, E: RetryCause, F: Future<Output = Result<T, E>>>(
        &self,
        layers: &Layers,
        ctx: &ProtectedCtx<'_>,
        timeouts: &Timeouts,
        (number, asked_wait): (u32, Duration),
        attempt: &mut impl FnMut(Attempt) -> F,
    ) -> Tried<T, E> {
        let leave = match self.admit(layers, ctx, timeouts, asked_wait).await {
            Ok(leave) => leave,
            Err(stop) => {
                if let Stop::Refused(refusal) = &stop {
                    self.0.log.refused(refusal.layer(), refusal.code(), self.now());
                }
                return Tried::Stopped(stop);
            }
        };
        let began = Instant::now();
        let time = match timeouts.attempt(began) {
            Ok(time) => time,
            Err(over) => return Tried::Stopped(Stop::Over(over)),
        };
        if number == 1
            && let Some(budget) = &layers.budget
        {
            budget.deposit(self.now());
        }
        add(&self.0.counters.attempts);
        let deadline = time.limit.map(|limit| began + limit);
        let told = Attempt { service: Arc::clone(self.name()), number, deadline };
        let caught = AssertUnwindSafe(async { attempt(told).await }).catch_unwind();
        let result = match time.run(caught).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(Cause::Error(error)),
            Ok(Err(panic)) => {
                add(&self.0.counters.panics);
                Err(Cause::Panicked(panic_text(panic.as_ref())))
            }
            Err(over) => Err(Cause::TimedOut(over)),
        };
        self.finish(layers, leave, result, began.elapsed())
    }

    /// Asks the layers in their order. What an inner one refuses is given back to the outer ones.
    async fn admit(
        &self,
        layers: &Layers,
        ctx: &ProtectedCtx<'_>,
        timeouts: &Timeouts,
        asked_wait: Duration,
    ) -> Result<Leave, Stop> {
        let now = self.now();
        let permit = layers.breaker.as_ref().map(|breaker| breaker.acquire(now)).transpose()?;
        self.0.log.admitted(Layer::Breaker, now);
        self.pass_backoff(now, asked_wait).await?;
        self.pass_limiter(layers, ctx, timeouts, now).await?;
        let Some(bulkhead) = &layers.bulkhead else { return Ok(Leave { permit, _place: None }) };
        match bulkhead.acquire(ctx.weight, timeouts.end()).await {
            Ok(place) => {
                self.0.log.admitted(Layer::Bulkhead, now);
                Ok(Leave { permit, _place: Some(place) })
            }
            Err(refused @ BulkheadError::TimedOut { .. }) => {
                Err(timeouts.attempt(Instant::now()).err().map_or_else(|| refused.into(), Stop::Over))
            }
            Err(refused) => Err(refused.into()),
        }
    }

    async fn pass_backoff(&self, now: Timestamp, asked_wait: Duration) -> Result<(), Stop> {
        let Err(held) = self.0.backoff.check("", now) else {
            self.0.log.admitted(Layer::Backoff, now);
            return Ok(());
        };
        // Whoever waited for that hold itself may find its end a moment ahead.
        if asked_wait.is_zero() || held.retry_after > SLACK {
            return Err(held.into());
        }
        sleep(held.retry_after).await;
        Ok(())
    }

    async fn pass_limiter(
        &self,
        layers: &Layers,
        ctx: &ProtectedCtx<'_>,
        timeouts: &Timeouts,
        now: Timestamp,
    ) -> Result<(), Stop> {
        let Some(limiter) = &layers.limiter else { return Ok(()) };
        let key = LimitKey::new(ctx.agent, ctx.operation);
        if layers.limiter_wait.is_zero() {
            limiter.acquire(key, ctx.cost, now)?;
        } else {
            let left = timeouts.end().map(|end| end.saturating_duration_since(Instant::now()));
            let wait = left.map_or(layers.limiter_wait, |left| left.min(layers.limiter_wait));
            limiter.until_allowed(key, ctx.cost, self.0.clock.as_ref(), now.after(wait)).await?;
        }
        self.0.log.admitted(Layer::Limiter, now);
        Ok(())
    }

    /// Tells the breaker, and gives every place back.
    fn finish<T, E: RetryCause>(
        &self,
        layers: &Layers,
        leave: Leave,
        result: Result<T, Cause<E>>,
        took: Duration,
    ) -> Tried<T, E> {
        let mut probing = false;
        if let Some(permit) = leave.permit {
            probing = permit.is_probe();
            let outcome =
                result.as_ref().map_or_else(|cause| self.judged(layers, cause), |_| Outcome::Success);
            permit.finish_with(outcome, took, self.draw(), self.now());
        }
        match result {
            Ok(value) => Tried::Value(value),
            Err(cause) => {
                let state = layers.breaker.as_ref().map(|breaker| breaker.state().name());
                let may = matches!(state, None | Some(StateName::Closed | StateName::Disabled));
                Tried::Failed { cause, probing: probing || !may }
            }
        }
    }

    fn judged<E: RetryCause>(&self, layers: &Layers, cause: &Cause<E>) -> Outcome {
        if layers.options.ignored_codes.contains(cause.cause_code()) {
            return Outcome::Ignored;
        }
        cause.outcome()
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "not a text".to_owned())
}
