//! From the end of an attempt to the next try.

use super::input::{AttemptResult, Failure};
use super::state::Trouble;
use crate::workflow::retry::{RetryPolicy, TEN_YEARS_MS};
use serde_json::Value;

/// Whether and when another attempt follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextTry {
    /// The failure is final.
    Never,
    /// At this time, after this delay.
    After { at_us: i64, delay_us: u64 },
}

/// The output of an attempt, or its failure: timeouts, panics and cancellations are failures like others.
pub(super) fn failure_of(result: AttemptResult) -> Result<Value, Failure> {
    match result {
        AttemptResult::Completed(output) => Ok(output),
        AttemptResult::Failed(failure) => Err(failure),
        AttemptResult::TimedOut => {
            Err(Failure::retryable("timeout", "the attempt took longer than its timeout"))
        }
        AttemptResult::Panicked(message) => Err(Failure::retryable("panic", message)),
        AttemptResult::Cancelled => Err(Failure::retryable("cancelled", "the attempt was cancelled")),
    }
}

/// Applies the policy to one more failure. Draws once, unless the failure is final.
pub(super) fn next_try(
    policy: &RetryPolicy,
    before: Trouble,
    failure: &Failure,
    first_us: Option<i64>,
    now_us: i64,
    draw: &mut dyn FnMut() -> f64,
) -> NextTry {
    let failures = before.failures.saturating_add(1);
    let final_code = policy.non_retryable.contains(&failure.code);
    if !failure.retryable || final_code || failures >= policy.max_attempts {
        return NextTry::Never;
    }
    let previous_us = (before.failures > 0).then_some(before.last_delay_us);
    let asked_us = failure.retry_after_ms.unwrap_or(0).min(TEN_YEARS_MS).saturating_mul(1_000);
    let delay_us = policy.delay_us(failures, previous_us, draw()).max(asked_us);
    let at_us = now_us.saturating_add_unsigned(delay_us);
    let last_us = match (policy.max_elapsed_ms, first_us) {
        (Some(ms), Some(first_us)) => first_us.saturating_add_unsigned(ms.saturating_mul(1_000)),
        (None, _) | (Some(_), None) => i64::MAX,
    };
    if at_us > last_us { NextTry::Never } else { NextTry::After { at_us, delay_us } }
}
