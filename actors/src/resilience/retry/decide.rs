//! The one decision after a failed attempt: everybody who retries asks it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::policy::{RetryPolicy, RetryRule, TEN_YEARS_MS};
use crate::{
    ids::Timestamp,
    resilience::breaker::{FailureClass, Outcome},
};

/// What a policy has to know about a failure.
pub trait RetryCause {
    /// Short code that policies may name.
    fn cause_code(&self) -> &str;
    /// Whether another attempt may help at all.
    fn may_retry(&self) -> bool;
    /// Its class, for the rules of classes; `None`: no rule applies.
    fn class(&self) -> Option<FailureClass> {
        None
    }
    /// What a breaker is told: by default a failure of its class, of class application without one.
    /// [`Outcome::Ignored`] where it says nothing about the other side.
    fn outcome(&self) -> Outcome {
        Outcome::Failure(self.class().unwrap_or(FailureClass::Application))
    }
    /// Shortest wait that the other side asks for; see [`retry_after`](super::retry_after).
    fn asked_wait(&self) -> Option<Duration> {
        None
    }
}

/// What happened before the failure that is decided on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryState {
    /// Failures before this one.
    pub failures: u32,
    /// The delay before this attempt, in microseconds; `None` before the first.
    pub previous_us: Option<u64>,
    /// When the first attempt started; `None`: limits that count from there do not apply.
    pub first: Option<Timestamp>,
    /// When progress was told last.
    pub progress: Option<Timestamp>,
    /// The caller's deadline: no attempt starts later.
    pub deadline: Option<Timestamp>,
}

/// Whether and when another attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// It starts at this time.
    After {
        /// When.
        at: Timestamp,
        /// The delay until then, in microseconds.
        delay_us: u64,
    },
    /// The failure is final.
    Never(GiveUpReason),
}

/// Why no other attempt follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GiveUpReason {
    /// The failure, its code or its class says that no attempt can mend it.
    NotRetryable,
    /// All attempts are used.
    AttemptsExhausted,
    /// The next start would be later than `max_elapsed_ms` allows.
    MaxElapsed,
    /// The next start would be after the caller's deadline.
    Deadline,
    /// The next start would be later than `progress_timeout_ms` allows.
    NoProgress,
    /// The caller's own condition says no.
    Condition,
    /// The retry budget is spent.
    BudgetExhausted,
    /// A circuit breaker is open.
    CircuitOpen,
    /// The caller does not want it any more.
    Cancelled,
}

impl GiveUpReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::NotRetryable,
        Self::AttemptsExhausted,
        Self::MaxElapsed,
        Self::Deadline,
        Self::NoProgress,
        Self::Condition,
        Self::BudgetExhausted,
        Self::CircuitOpen,
        Self::Cancelled,
    ];

    /// The name in metrics and documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRetryable => "not_retryable",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::MaxElapsed => "max_elapsed",
            Self::Deadline => "deadline",
            Self::NoProgress => "no_progress",
            Self::Condition => "condition",
            Self::BudgetExhausted => "budget_exhausted",
            Self::CircuitOpen => "circuit_open",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for GiveUpReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl RetryPolicy {
    /// Decides after one more failure. Draws once, unless the failure is final for another reason than time.
    ///
    /// A wait that the other side asks for, or a rule for the class, makes the delay longer, also over the longest
    /// one of the policy. When the next start would be too late, the answer is at once `Never`: nobody waits for it.
    pub fn decide(
        &self,
        state: &RetryState,
        cause: &(impl RetryCause + ?Sized),
        now: Timestamp,
        draw: impl FnOnce() -> f64,
    ) -> RetryDecision {
        let rule = cause.class().and_then(|class| self.classes.get(&class));
        let (most, least_ms) = match rule {
            None => (self.max_attempts, 0),
            Some(RetryRule::Never) => return RetryDecision::Never(GiveUpReason::NotRetryable),
            Some(RetryRule::AfterMs(ms)) => (self.max_attempts, *ms),
            Some(RetryRule::MaxAttempts(most)) => (self.max_attempts.min(*most), 0),
        };
        if !cause.may_retry() || self.non_retryable.iter().any(|code| code == cause.cause_code()) {
            return RetryDecision::Never(GiveUpReason::NotRetryable);
        }
        let failures = state.failures.saturating_add(1);
        // The largest number means no limit, also for whoever gets that far.
        if failures >= most && most != super::UNLIMITED_ATTEMPTS {
            return RetryDecision::Never(GiveUpReason::AttemptsExhausted);
        }
        let asked = cause.asked_wait().map_or(0, |wait| u64::try_from(wait.as_micros()).unwrap_or(u64::MAX));
        let least_us = least_ms.saturating_mul(1_000).max(asked).min(TEN_YEARS_MS.saturating_mul(1_000));
        let delay_us = self.delay_us(failures, state.previous_us, draw()).max(least_us);
        let at = Timestamp(now.0.saturating_add_unsigned(delay_us));
        match self.too_late(state, at) {
            Some(reason) => RetryDecision::Never(reason),
            None => RetryDecision::After { at, delay_us },
        }
    }

    fn too_late(&self, state: &RetryState, at: Timestamp) -> Option<GiveUpReason> {
        let beyond = |from: Option<Timestamp>, ms: Option<u64>| {
            from.zip(ms)
                .is_some_and(|(from, ms)| at.0 > from.0.saturating_add_unsigned(ms.saturating_mul(1_000)))
        };
        if state.deadline.is_some_and(|deadline| at > deadline) {
            Some(GiveUpReason::Deadline)
        } else if beyond(state.first, self.max_elapsed_ms) {
            Some(GiveUpReason::MaxElapsed)
        } else if beyond(state.progress.max(state.first), self.progress_timeout_ms) {
            Some(GiveUpReason::NoProgress)
        } else {
            None
        }
    }
}
