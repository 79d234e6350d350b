//! [`OptionsError`]: why options of a policy are refused.

use crate::error::{Coded, Family};

/// A field of the options is outside its range. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{policy} option {field} is {given}: allowed is {allowed}")]
#[non_exhaustive]
pub struct OptionsError {
    /// The policy: `bulkhead`, `timeout`, `fallback`, `cache`, `resources`.
    pub policy: &'static str,
    /// The field.
    pub field: String,
    /// What it is.
    pub given: String,
    /// What it may be.
    pub allowed: String,
}

impl OptionsError {
    pub(super) fn new(
        policy: &'static str,
        field: impl Into<String>,
        given: impl ToString,
        allowed: impl Into<String>,
    ) -> Self {
        Self { policy, field: field.into(), given: given.to_string(), allowed: allowed.into() }
    }

    /// Refuses a number outside `range`.
    pub(super) fn check(
        policy: &'static str,
        field: &'static str,
        given: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<(), Self> {
        if range.contains(&given) {
            return Ok(());
        }
        Err(Self::new(policy, field, given, format!("{}..={}", range.start(), range.end())))
    }
}

impl Coded for OptionsError {
    fn code(&self) -> &'static str {
        "resilience.options"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}
