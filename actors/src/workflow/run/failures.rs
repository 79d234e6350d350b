//! From the end of an attempt to the next try.

use super::event::WaitingFor;
use super::input::{AttemptResult, Failure};
use super::state::Trouble;
use crate::{
    ids::Timestamp,
    resilience::{
        breaker::{BreakerOpen, FORCED_OPEN_LOOK, FailureClass},
        retry::{RetryCause, RetryDecision, RetryPolicy, RetryState},
    },
};
use serde_json::Value;
use std::time::Duration;

/// Code of an attempt that took longer than its timeout.
const TIMEOUT: &str = "timeout";

/// Whether and when another attempt follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextTry {
    /// The failure is final.
    Never,
    /// At this time, after this delay.
    After { at_us: i64, delay_us: u64, waiting: Option<WaitingFor> },
}

/// Shortest wait for a breaker, whatever the activity asks for: a look is an entry.
const BREAKER_WAIT_MIN: Duration = Duration::from_millis(10);

/// The output of an attempt, or its failure: timeouts, panics and cancellations are failures like others.
pub(super) fn failure_of(result: AttemptResult) -> Result<Value, Failure> {
    match result {
        AttemptResult::Completed(output) => Ok(output),
        AttemptResult::Failed(failure) => Err(failure),
        AttemptResult::TimedOut => {
            Err(Failure::retryable(TIMEOUT, "the attempt took longer than its timeout"))
        }
        AttemptResult::Panicked(message) => Err(Failure::retryable("panic", message)),
        AttemptResult::Cancelled => Err(Failure::retryable("cancelled", "the attempt was cancelled")),
    }
}

impl RetryCause for Failure {
    fn cause_code(&self) -> &str {
        &self.code
    }
    fn may_retry(&self) -> bool {
        self.retryable
    }
    fn class(&self) -> Option<FailureClass> {
        Some(if self.code == TIMEOUT { FailureClass::Timeout } else { FailureClass::Application })
    }
    fn asked_wait(&self) -> Option<Duration> {
        self.retry_after_ms.map(Duration::from_millis)
    }
}

/// When to look again at a breaker that did not let the attempt run; `None`: it failed for another reason, or its
/// policy takes an open breaker for a final failure.
fn behind_breaker(policy: &RetryPolicy, failure: &Failure, now_us: i64) -> Option<NextTry> {
    let is_final = !failure.retryable || policy.non_retryable.contains(&failure.code);
    if failure.code != BreakerOpen::CODE || is_final {
        return None;
    }
    let wait = failure.retry_after_ms.map_or(FORCED_OPEN_LOOK, Duration::from_millis).max(BREAKER_WAIT_MIN);
    let delay_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    let at_us = now_us.saturating_add_unsigned(delay_us);
    Some(NextTry::After { at_us, delay_us, waiting: Some(WaitingFor::Breaker) })
}

/// Applies the policy to one more failure. Draws once, unless the failure is final or the wait is a breaker's: that
/// one is no failure to the policy.
pub(super) fn next_try(
    policy: &RetryPolicy,
    before: Trouble,
    failure: &Failure,
    first_us: Option<i64>,
    now_us: i64,
    draw: &mut dyn FnMut() -> f64,
) -> NextTry {
    if let Some(wait) = behind_breaker(policy, failure, now_us) {
        return wait;
    }
    let state = RetryState {
        failures: before.failures,
        previous_us: (before.failures > 0).then_some(before.last_delay_us),
        first: first_us.map(Timestamp),
        ..RetryState::default()
    };
    match policy.decide(&state, failure, Timestamp(now_us), draw) {
        RetryDecision::Never(_) => NextTry::Never,
        RetryDecision::After { at, delay_us } => NextTry::After { at_us: at.0, delay_us, waiting: None },
    }
}
