//! What may be wrong with a [`RetryPolicy`].

use super::policy::{Jitter, RetryPolicy, RetryRule, TEN_YEARS_MS};
use crate::{
    error::{Coded, Family},
    resilience::breaker::FailureClass,
};

/// A field of a policy is outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("retry policy: {field} is {given}: {hint}")]
#[non_exhaustive]
pub struct RetryPolicyError {
    /// The field.
    pub field: &'static str,
    /// What it is.
    pub given: String,
    /// What would be right.
    pub hint: String,
}

impl Coded for RetryPolicyError {
    fn code(&self) -> &'static str {
        "retry.policy"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

fn wrong(field: &'static str, given: impl ToString, hint: impl Into<String>) -> RetryPolicyError {
    RetryPolicyError { field, given: given.to_string(), hint: hint.into() }
}

/// A limit in milliseconds: absent, or 1..=ten years.
fn time(field: &'static str, ms: Option<u64>) -> Option<RetryPolicyError> {
    let ms = ms.filter(|ms| *ms == 0 || *ms > TEN_YEARS_MS)?;
    Some(wrong(field, ms, format!("use 1..={TEN_YEARS_MS} ms, or leave it out for no limit")))
}

fn count(field: &'static str, count: u32) -> Option<RetryPolicyError> {
    (count == 0).then(|| wrong(field, count, "use 1 or more"))
}

impl RetryPolicy {
    /// Checks every field.
    ///
    /// # Errors
    /// [`RetryPolicyError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), RetryPolicyError> {
        self.faults().into_iter().next().map_or(Ok(()), Err)
    }

    /// Every fault; none when the policy is valid. Does not allocate then.
    #[must_use]
    pub fn faults(&self) -> Vec<RetryPolicyError> {
        let mut faults = Vec::new();
        faults.extend(count("max_attempts", self.max_attempts));
        faults.extend(time("initial_interval_ms", Some(self.initial_interval_ms)));
        faults.extend(time("maximum_interval_ms", self.maximum_interval_ms));
        faults.extend(time("max_elapsed_ms", self.max_elapsed_ms));
        faults.extend(time("progress_timeout_ms", self.progress_timeout_ms));
        faults.extend(self.maximum_below_initial());
        if !(1.0..=1_000.0).contains(&self.backoff_coefficient) {
            faults.push(wrong("backoff_coefficient", self.backoff_coefficient, "use 1.0..=1000.0"));
        }
        if let Jitter::Fraction(fraction) | Jitter::Around(fraction) = self.jitter
            && !(0.0..=1.0).contains(&fraction)
        {
            faults.push(wrong("jitter", fraction, "use a fraction of 0.0..=1.0"));
        }
        faults.extend(self.classes.iter().filter_map(|(class, rule)| rule_fault(*class, *rule)));
        faults
    }

    fn maximum_below_initial(&self) -> Option<RetryPolicyError> {
        let maximum = self.maximum_interval_ms.filter(|ms| *ms > 0 && *ms < self.initial_interval_ms)?;
        let hint = format!("use at least initial_interval_ms, {}", self.initial_interval_ms);
        Some(wrong("maximum_interval_ms", maximum, hint))
    }
}

fn rule_fault(class: FailureClass, rule: RetryRule) -> Option<RetryPolicyError> {
    let field = match class {
        FailureClass::Network => "classes.network",
        FailureClass::Timeout => "classes.timeout",
        FailureClass::Application => "classes.application",
        FailureClass::Slow => "classes.slow",
    };
    match rule {
        RetryRule::Never => None,
        RetryRule::AfterMs(ms) => time(field, Some(ms)),
        RetryRule::MaxAttempts(attempts) => count(field, attempts),
    }
}
