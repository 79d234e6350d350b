//! Checks of numbers: timeouts, retry policies, limits.

use super::fault::FaultKind;
use crate::workflow::retry::{Jitter, RetryPolicy, TEN_YEARS_MS};

/// A number out of range and what would be right.
pub(super) type BadSetting = (FaultKind, String);

fn bad(field: &'static str, value: impl ToString, hint: impl Into<String>) -> BadSetting {
    (FaultKind::BadNumber { field, value: value.to_string() }, hint.into())
}

/// A limit in milliseconds: absent, or 1..=ten years.
pub(super) fn check_timeout(field: &'static str, ms: Option<u64>) -> Option<BadSetting> {
    let ms = ms?;
    (ms == 0 || ms > TEN_YEARS_MS)
        .then(|| bad(field, ms, format!("use 1..={TEN_YEARS_MS} ms, or leave it out for no limit")))
}

/// A count that must not be zero.
pub(super) fn check_count(field: &'static str, count: u32) -> Option<BadSetting> {
    (count == 0).then(|| bad(field, count, "use 1 or more"))
}

/// Field names of one retry policy, so that a fault names the one it is in.
pub(super) struct RetryFields {
    max_attempts: &'static str,
    initial: &'static str,
    coefficient: &'static str,
    maximum: &'static str,
    jitter: &'static str,
    max_elapsed: &'static str,
}

pub(super) const STEP_RETRY: RetryFields = RetryFields {
    max_attempts: "retry.max_attempts",
    initial: "retry.initial_interval_ms",
    coefficient: "retry.backoff_coefficient",
    maximum: "retry.maximum_interval_ms",
    jitter: "retry.jitter",
    max_elapsed: "retry.max_elapsed_ms",
};

pub(super) const COMPENSATION_RETRY: RetryFields = RetryFields {
    max_attempts: "compensation.retry.max_attempts",
    initial: "compensation.retry.initial_interval_ms",
    coefficient: "compensation.retry.backoff_coefficient",
    maximum: "compensation.retry.maximum_interval_ms",
    jitter: "compensation.retry.jitter",
    max_elapsed: "compensation.retry.max_elapsed_ms",
};

/// Every fault of a retry policy.
pub(super) fn check_retry(policy: &RetryPolicy, fields: &RetryFields) -> Vec<BadSetting> {
    let mut faults = Vec::new();
    faults.extend(check_count(fields.max_attempts, policy.max_attempts));
    faults.extend(check_timeout(fields.initial, Some(policy.initial_interval_ms)));
    faults.extend(check_timeout(fields.maximum, policy.maximum_interval_ms));
    faults.extend(check_timeout(fields.max_elapsed, policy.max_elapsed_ms));
    if let Some(maximum) = policy.maximum_interval_ms
        && maximum > 0
        && maximum < policy.initial_interval_ms
    {
        let hint = format!("use at least initial_interval_ms, {}", policy.initial_interval_ms);
        faults.push(bad(fields.maximum, maximum, hint));
    }
    if !(1.0..=1_000.0).contains(&policy.backoff_coefficient) {
        faults.push(bad(fields.coefficient, policy.backoff_coefficient, "use 1.0..=1000.0"));
    }
    if let Jitter::Fraction(fraction) = policy.jitter
        && !(0.0..=1.0).contains(&fraction)
    {
        faults.push(bad(fields.jitter, fraction, "use a fraction of 0.0..=1.0"));
    }
    faults
}
