//! Checks of numbers: timeouts, retry policies, limits.

use super::fault::FaultKind;
use crate::resilience::retry::{RetryPolicy, TEN_YEARS_MS};

/// Fields of a retry policy behind a prefix.
macro_rules! fields {
    ($prefix:literal) => {
        [
            concat!($prefix, "max_attempts"),
            concat!($prefix, "initial_interval_ms"),
            concat!($prefix, "backoff_coefficient"),
            concat!($prefix, "maximum_interval_ms"),
            concat!($prefix, "jitter"),
            concat!($prefix, "max_elapsed_ms"),
            concat!($prefix, "progress_timeout_ms"),
            concat!($prefix, "classes.network"),
            concat!($prefix, "classes.timeout"),
            concat!($prefix, "classes.application"),
            concat!($prefix, "classes.slow"),
        ]
    };
}

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

/// Where a retry policy stands: names of its fields, in the order of [`RETRY_FIELDS`].
pub(super) struct RetryFields([&'static str; 11]);

/// The fields of a retry policy that may be at fault.
const RETRY_FIELDS: [&str; 11] = fields!("");
pub(super) const STEP_RETRY: RetryFields = RetryFields(fields!("retry."));
pub(super) const COMPENSATION_RETRY: RetryFields = RetryFields(fields!("compensation.retry."));

/// Every fault of a retry policy, under the names of where it stands.
pub(super) fn check_retry(policy: &RetryPolicy, fields: &RetryFields) -> Vec<BadSetting> {
    let named = |field: &'static str| {
        let pairs = RETRY_FIELDS.iter().zip(fields.0);
        pairs.into_iter().find(|(name, _)| **name == field).map_or(field, |(_, there)| there)
    };
    let faults = policy.faults().into_iter();
    faults.map(|fault| bad(named(fault.field), fault.given, fault.hint)).collect()
}
