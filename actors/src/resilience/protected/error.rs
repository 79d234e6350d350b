//! [`ProtectedError`]: why a protected call has no answer, and which layer says so.

use std::{fmt, sync::Arc, time::Duration};

use super::Layer;
use crate::{
    error::{Coded, Family},
    resilience::{
        breaker::{BreakerOpen, FailureClass, Outcome},
        bulkhead::BulkheadError,
        limiter::{BackedOff, Denied},
        retry::{FailedAttempt, GiveUpReason, RetryCause},
        timeout::{TimedOut, TimeoutLayer},
    },
};

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtectedError<E> {
    /// The service.
    pub service: Arc<str>,
    /// Attempts that ran.
    pub attempts: u32,
    /// The last failed attempts, oldest first.
    pub history: Vec<FailedAttempt>,
    /// Why.
    pub kind: ProtectedErrorKind<E>,
    /// Why the service it falls back to has no answer either.
    pub fallback: Option<Box<Self>>,
}

/// Why a call has no answer, by what ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtectedErrorKind<E> {
    /// A layer let no attempt through. Without `last_error` nothing ran.
    Refused {
        /// What it said.
        refusal: Box<Refusal>,
        /// Failure of the attempt before.
        last_error: Option<E>,
    },
    /// The last attempt failed, and none follows.
    Failed {
        /// Why none follows.
        reason: GiveUpReason,
        /// Its failure.
        last_error: E,
    },
    /// The last attempt failed, and the budget has no retry left.
    RetryBudgetExhausted {
        /// Its failure.
        last_error: E,
    },
    /// A limit in time ended it.
    TimedOut {
        /// Which one, and after how long.
        by: TimedOut,
        /// Why no attempt follows; for a limit of the whole call always `NotRetryable`.
        reason: GiveUpReason,
    },
    /// The call panicked; the panic ended there.
    Panicked {
        /// Its text.
        message: String,
    },
}

/// What a layer says that lets no attempt through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The breaker is open, or its probes run.
    #[error(transparent)]
    Breaker(#[from] BreakerOpen),
    /// The other side asked for no calls until a time.
    #[error(transparent)]
    Backoff(#[from] BackedOff),
    /// The caller has used up its rate.
    #[error(transparent)]
    Limiter(#[from] Denied),
    /// There is no place.
    #[error(transparent)]
    Bulkhead(#[from] BulkheadError),
}

impl Refusal {
    /// The layer.
    #[must_use]
    pub const fn layer(&self) -> Layer {
        match self {
            Self::Breaker(_) => Layer::Breaker,
            Self::Backoff(_) => Layer::Backoff,
            Self::Limiter(_) => Layer::Limiter,
            Self::Bulkhead(_) => Layer::Bulkhead,
        }
    }

    /// When to try again, as far as the layer knows: a place in a bulkhead is free when somebody leaves.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Breaker(open) => open.retry_after,
            Self::Backoff(held) => Some(held.retry_after),
            Self::Limiter(denied) => denied.retry_after,
            Self::Bulkhead(BulkheadError::BackingOff { retry_after, .. }) => Some(*retry_after),
            Self::Bulkhead(_) => None,
        }
    }

    pub(super) fn reason(&self) -> GiveUpReason {
        match self {
            Self::Breaker(_) => GiveUpReason::CircuitOpen,
            Self::Backoff(_) | Self::Limiter(_) | Self::Bulkhead(_) => GiveUpReason::Condition,
        }
    }
}

impl Coded for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Breaker(error) => error.code(),
            Self::Backoff(error) => error.code(),
            Self::Limiter(error) => error.code(),
            Self::Bulkhead(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Breaker(error) => error.family(),
            Self::Backoff(error) => error.family(),
            Self::Limiter(error) => error.family(),
            Self::Bulkhead(error) => error.family(),
        }
    }
}

impl<E> ProtectedError<E> {
    /// The layer that ended the call; `None` where the call itself did.
    #[must_use]
    pub fn layer(&self) -> Option<Layer> {
        match &self.kind {
            ProtectedErrorKind::Refused { refusal, .. } => Some(refusal.layer()),
            ProtectedErrorKind::Failed { .. } => Some(Layer::Retry),
            ProtectedErrorKind::RetryBudgetExhausted { .. } => Some(Layer::Budget),
            ProtectedErrorKind::TimedOut { .. } => Some(Layer::Timeout),
            ProtectedErrorKind::Panicked { .. } => None,
        }
    }

    /// When to try again, as far as the layer that ended the call knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.kind {
            ProtectedErrorKind::Refused { refusal, .. } => refusal.retry_after(),
            ProtectedErrorKind::Failed { .. }
            | ProtectedErrorKind::RetryBudgetExhausted { .. }
            | ProtectedErrorKind::TimedOut { .. }
            | ProtectedErrorKind::Panicked { .. } => None,
        }
    }

    /// The failure of the last attempt that gave one.
    #[must_use]
    pub fn last_error(&self) -> Option<&E> {
        match &self.kind {
            ProtectedErrorKind::Refused { last_error, .. } => last_error.as_ref(),
            ProtectedErrorKind::Failed { last_error, .. }
            | ProtectedErrorKind::RetryBudgetExhausted { last_error } => Some(last_error),
            ProtectedErrorKind::TimedOut { .. } | ProtectedErrorKind::Panicked { .. } => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for ProtectedError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, attempts, .. } = self;
        match &self.kind {
            ProtectedErrorKind::Refused { refusal, last_error: None } => write!(f, "{service}: {refusal}"),
            ProtectedErrorKind::Refused { refusal, last_error: Some(error) } => {
                write!(f, "{service}: {refusal}; attempt {attempts} failed: {error}")
            }
            ProtectedErrorKind::Failed { reason, last_error } => {
                write!(f, "{service}: gave up after {attempts} attempts ({reason}): {last_error}")
            }
            ProtectedErrorKind::RetryBudgetExhausted { last_error } => {
                write!(f, "{service}: the retry budget is spent after {attempts} attempts: {last_error}")
            }
            ProtectedErrorKind::TimedOut { by, .. } => write!(f, "{service}: {by}"),
            ProtectedErrorKind::Panicked { message } => write!(f, "{service}: the call panicked: {message}"),
        }?;
        match &self.fallback {
            Some(fallback) => write!(f, " (its fallback failed too: {fallback})"),
            None => Ok(()),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ProtectedError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.last_error().map(|error| error as _)
    }
}

impl<E: Coded> Coded for ProtectedError<E> {
    /// That of the layer that ended the call.
    fn code(&self) -> &'static str {
        match &self.kind {
            ProtectedErrorKind::Refused { refusal, .. } => refusal.code(),
            ProtectedErrorKind::Failed { last_error, .. } => last_error.code(),
            ProtectedErrorKind::RetryBudgetExhausted { .. } => "retry.budget_exhausted",
            ProtectedErrorKind::TimedOut { by, .. } => by.code(),
            ProtectedErrorKind::Panicked { .. } => "protected.panicked",
        }
    }
    /// After an attempt that ran, that of its failure: only it knows whether anything was applied.
    fn family(&self) -> Family {
        match &self.kind {
            ProtectedErrorKind::Refused { refusal, .. } if self.attempts == 0 => refusal.family(),
            ProtectedErrorKind::Refused { last_error, .. } => {
                last_error.as_ref().map_or(Family::Unknown, Coded::family)
            }
            ProtectedErrorKind::Failed { last_error, .. }
            | ProtectedErrorKind::RetryBudgetExhausted { last_error } => last_error.family(),
            ProtectedErrorKind::TimedOut { .. } if self.attempts == 0 => Family::Unavailable,
            ProtectedErrorKind::TimedOut { by, .. } => by.family(),
            ProtectedErrorKind::Panicked { .. } => Family::Unknown,
        }
    }
}

/// What ended the call, for whoever decides about it in turn: a fallback, or a call around this one.
impl<E: RetryCause> RetryCause for ProtectedError<E> {
    fn cause_code(&self) -> &str {
        match &self.kind {
            ProtectedErrorKind::Refused { refusal, .. } => refusal.code(),
            ProtectedErrorKind::Failed { last_error, .. } => last_error.cause_code(),
            ProtectedErrorKind::RetryBudgetExhausted { .. } => "retry.budget_exhausted",
            ProtectedErrorKind::TimedOut { by, .. } => by.code(),
            ProtectedErrorKind::Panicked { .. } => "protected.panicked",
        }
    }
    fn may_retry(&self) -> bool {
        match &self.kind {
            ProtectedErrorKind::Refused { refusal, .. } => refusal.family() == Family::Unavailable,
            ProtectedErrorKind::Failed { last_error, .. }
            | ProtectedErrorKind::RetryBudgetExhausted { last_error } => last_error.may_retry(),
            ProtectedErrorKind::TimedOut { by, .. } => by.layer != TimeoutLayer::Deadline,
            ProtectedErrorKind::Panicked { .. } => false,
        }
    }
    fn class(&self) -> Option<FailureClass> {
        match &self.kind {
            ProtectedErrorKind::Refused { .. } => None,
            ProtectedErrorKind::Failed { last_error, .. }
            | ProtectedErrorKind::RetryBudgetExhausted { last_error } => last_error.class(),
            ProtectedErrorKind::TimedOut { .. } => Some(FailureClass::Timeout),
            ProtectedErrorKind::Panicked { .. } => Some(FailureClass::Application),
        }
    }
    fn outcome(&self) -> Outcome {
        match &self.kind {
            ProtectedErrorKind::Refused { .. } => Outcome::Ignored,
            ProtectedErrorKind::Failed { last_error, .. }
            | ProtectedErrorKind::RetryBudgetExhausted { last_error } => last_error.outcome(),
            ProtectedErrorKind::TimedOut { .. } => Outcome::Failure(FailureClass::Timeout),
            ProtectedErrorKind::Panicked { .. } => Outcome::Failure(FailureClass::Application),
        }
    }
    fn asked_wait(&self) -> Option<Duration> {
        self.retry_after().or_else(|| self.last_error().and_then(RetryCause::asked_wait))
    }
}
