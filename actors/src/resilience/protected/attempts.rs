//! [`Cause`]: why one attempt failed, for those who decide what follows.

use std::time::Duration;

use super::ProtectedErrorKind;
use crate::{
    error::Coded,
    resilience::{
        breaker::{FailureClass, Outcome},
        retry::{GiveUpReason, RetryCause},
        timeout::{TimedOut, TimeoutLayer},
    },
};

/// Why an attempt that ran has no value.
#[derive(Debug)]
pub(super) enum Cause<E> {
    Error(E),
    TimedOut(TimedOut),
    Panicked(String),
}

impl<E: RetryCause> RetryCause for Cause<E> {
    fn cause_code(&self) -> &str {
        match self {
            Self::Error(error) => error.cause_code(),
            Self::TimedOut(by) => by.code(),
            Self::Panicked(_) => "protected.panicked",
        }
    }
    fn may_retry(&self) -> bool {
        match self {
            Self::Error(error) => error.may_retry(),
            Self::TimedOut(by) => by.layer == TimeoutLayer::Attempt,
            Self::Panicked(_) => false,
        }
    }
    fn class(&self) -> Option<FailureClass> {
        match self {
            Self::Error(error) => error.class(),
            Self::TimedOut(_) => Some(FailureClass::Timeout),
            Self::Panicked(_) => Some(FailureClass::Application),
        }
    }
    fn outcome(&self) -> Outcome {
        match self {
            Self::Error(error) => error.outcome(),
            Self::TimedOut(_) => Outcome::Failure(FailureClass::Timeout),
            Self::Panicked(_) => Outcome::Failure(FailureClass::Application),
        }
    }
    fn asked_wait(&self) -> Option<Duration> {
        match self {
            Self::Error(error) => error.asked_wait(),
            Self::TimedOut(_) | Self::Panicked(_) => None,
        }
    }
}

impl<E> Cause<E> {
    /// What the caller hears when no attempt follows.
    pub(super) fn ended(self, reason: GiveUpReason) -> ProtectedErrorKind<E> {
        match self {
            Self::Error(last_error) if reason == GiveUpReason::BudgetExhausted => {
                ProtectedErrorKind::RetryBudgetExhausted { last_error }
            }
            Self::Error(last_error) => ProtectedErrorKind::Failed { reason, last_error },
            Self::TimedOut(by) => ProtectedErrorKind::TimedOut { by, reason },
            Self::Panicked(message) => ProtectedErrorKind::Panicked { message },
        }
    }

    pub(super) fn error(self) -> Option<E> {
        match self {
            Self::Error(error) => Some(error),
            Self::TimedOut(_) | Self::Panicked(_) => None,
        }
    }
}
