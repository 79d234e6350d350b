//! [`Retrier`]: the attempts of one call.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use super::{
    RetryStats,
    decide::{GiveUpReason, RetryCause, RetryDecision, RetryState},
    policy::RetryPolicy,
    validate::RetryPolicyError,
};
use crate::{
    error::{Coded, Family},
    ids::Timestamp,
};

/// Failed attempts remembered of one call: the last ones.
pub const HISTORY_MAX: usize = 32;

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedAttempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// Code of the failure.
    pub code: String,
    /// When it failed.
    pub at: Timestamp,
    /// The delay after it; `None` after the last.
    pub delay: Option<Duration>,
}

/// What a call came to that was given up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gave up after {attempts} attempts ({reason}): {last}")]
#[non_exhaustive]
pub struct RetryError<E> {
    /// Why no other attempt follows.
    pub reason: GiveUpReason,
    /// Attempts that were made.
    pub attempts: u32,
    /// Time from the first start.
    pub elapsed: Duration,
    /// The failure of the last attempt.
    pub last: E,
    /// The last failed attempts, up to [`HISTORY_MAX`], oldest first.
    pub history: Vec<FailedAttempt>,
}

impl<E: Coded> Coded for RetryError<E> {
    fn code(&self) -> &'static str {
        match self.reason {
            GiveUpReason::NotRetryable => "retry.not_retryable",
            GiveUpReason::AttemptsExhausted => "retry.attempts_exhausted",
            GiveUpReason::MaxElapsed => "retry.max_elapsed",
            GiveUpReason::Deadline => "retry.deadline",
            GiveUpReason::NoProgress => "retry.no_progress",
            GiveUpReason::Condition => "retry.condition",
            GiveUpReason::BudgetExhausted => "retry.budget_exhausted",
            GiveUpReason::CircuitOpen => "retry.circuit_open",
            GiveUpReason::Cancelled => "retry.cancelled",
        }
    }
    /// That of the last failure: only it knows whether anything was applied.
    fn family(&self) -> Family {
        self.last.family()
    }
}

/// What to do after a failure.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum RetryStep<E> {
    /// Try again after this time.
    RetryIn(Duration),
    /// Hand this to the caller.
    GiveUp(RetryError<E>),
}

/// What a condition of the caller sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetrySeen {
    /// Attempts made, all failed.
    pub attempt: u32,
    /// Time from the first start.
    pub elapsed: Duration,
    /// The delay before the next attempt.
    pub delay: Duration,
}

/// The attempts of one call: counts, remembers and decides. Knows no clock, no chance and no task.
#[derive(Debug)]
pub struct Retrier<E> {
    policy: Arc<RetryPolicy>,
    started: Timestamp,
    state: RetryState,
    history: VecDeque<FailedAttempt>,
    /// The failure that a retry is to follow.
    last: Option<E>,
    /// The answer, once there is one: it stays.
    over: Option<GiveUpReason>,
    stats: Option<Arc<RetryStats>>,
}

impl<E: RetryCause> Retrier<E> {
    /// The attempts of a call whose first attempt starts at `started`.
    ///
    /// # Errors
    /// [`RetryPolicyError`] when the policy is not valid: nothing was attempted.
    pub fn new(policy: impl Into<Arc<RetryPolicy>>, started: Timestamp) -> Result<Self, RetryPolicyError> {
        let policy = policy.into();
        policy.validate()?;
        Ok(Self::of_valid(policy, started))
    }

    pub(crate) fn of_valid(policy: Arc<RetryPolicy>, started: Timestamp) -> Self {
        let state = RetryState { first: Some(started), ..RetryState::default() };
        Self { policy, started, state, history: VecDeque::new(), last: None, over: None, stats: None }
    }

    /// No attempt starts after `deadline`.
    #[must_use]
    pub fn deadline(mut self, deadline: Timestamp) -> Self {
        self.state.deadline = Some(deadline);
        self
    }

    /// Counts in `stats` what becomes of the call.
    #[must_use]
    pub fn counted_in(mut self, stats: Arc<RetryStats>) -> Self {
        self.stats = Some(stats);
        self
    }

    /// The call got on: `progress_timeout_ms` counts from here.
    pub fn progress(&mut self, now: Timestamp) {
        self.state.progress = self.state.progress.max(Some(now));
    }

    /// Attempts that failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.state.failures
    }

    /// An attempt failed. `draw` is uniform in `[0, 1)`.
    pub fn next(&mut self, failure: E, now: Timestamp, draw: f64) -> RetryStep<E> {
        self.next_if(failure, now, draw, |_, _| Ok(()))
    }

    /// As [`Retrier::next`]; where the policy would retry, `admit` has the last word: a condition on failure, attempt
    /// and time ([`GiveUpReason::Condition`]), or a budget, which is asked for retries alone.
    pub fn next_if(
        &mut self,
        failure: E,
        now: Timestamp,
        draw: f64,
        admit: impl FnOnce(&E, RetrySeen) -> Result<(), GiveUpReason>,
    ) -> RetryStep<E> {
        let decision = match self.over {
            Some(reason) => RetryDecision::Never(reason),
            None => self.policy.decide(&self.state, &failure, now, || draw),
        };
        self.state.failures = self.state.failures.saturating_add(1);
        self.remember(&failure, now);
        match decision {
            RetryDecision::Never(reason) => RetryStep::GiveUp(self.end(reason, failure, now)),
            RetryDecision::After { delay_us, .. } => {
                let delay = Duration::from_micros(delay_us);
                let elapsed = now.since(self.started);
                let seen = RetrySeen { attempt: self.state.failures, elapsed, delay };
                match admit(&failure, seen) {
                    Err(reason) => RetryStep::GiveUp(self.end(reason, failure, now)),
                    Ok(()) => RetryStep::RetryIn(self.retry(failure, delay, delay_us)),
                }
            }
        }
    }

    /// Gives up while the call waits for its next attempt: cancelled, or the breaker is open. `None` when no attempt
    /// failed yet, or the call has ended.
    pub fn give_up(&mut self, reason: GiveUpReason, now: Timestamp) -> Option<RetryError<E>> {
        let last = self.last.take()?;
        if let Some(attempt) = self.history.back_mut() {
            attempt.delay = None;
        }
        Some(self.end(reason, last, now))
    }

    /// An attempt succeeded. Returns how many were made.
    pub fn succeeded(self) -> u32 {
        let attempts = self.state.failures.saturating_add(1);
        if let Some(stats) = self.stats.as_ref().filter(|_| self.over.is_none()) {
            stats.succeeded(attempts);
        }
        attempts
    }

    fn retry(&mut self, failure: E, delay: Duration, delay_us: u64) -> Duration {
        self.state.previous_us = Some(delay_us);
        if let Some(attempt) = self.history.back_mut() {
            attempt.delay = Some(delay);
        }
        self.last = Some(failure);
        if let Some(stats) = &self.stats {
            stats.waits(delay);
        }
        delay
    }

    fn remember(&mut self, failure: &E, now: Timestamp) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        let code = failure.cause_code().to_owned();
        let attempt = self.state.failures;
        self.history.push_back(FailedAttempt { attempt, code, at: now, delay: None });
    }

    fn end(&mut self, reason: GiveUpReason, last: E, now: Timestamp) -> RetryError<E> {
        let attempts = self.state.failures;
        if let Some(stats) = self.stats.as_ref().filter(|_| self.over.is_none()) {
            stats.gave_up(attempts, reason);
        }
        (self.over, self.last) = (Some(reason), None);
        let history = mem::take(&mut self.history).into();
        RetryError { reason, attempts, elapsed: now.since(self.started), last, history }
    }
}
