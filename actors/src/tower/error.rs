//! [`PolicyError`]: what a layer says, or the service within it.

use std::time::Duration;

use crate::{
    error::{Coded, Family},
    resilience::{
        breaker::{FailureClass, Outcome},
        protected::Refusal,
        retry::RetryCause,
        timeout::TimedOut,
    },
};

/// Why a service behind one policy has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError<E> {
    /// The policy did not let the request through.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// It took too long and was dropped; it may have been applied.
    #[error(transparent)]
    TimedOut(TimedOut),
    /// The service within failed.
    #[error("{0}")]
    Inner(E),
}

impl<E: Coded> Coded for PolicyError<E> {
    fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::TimedOut(error) => error.code(),
            Self::Inner(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Refused(refusal) => refusal.family(),
            Self::TimedOut(error) => error.family(),
            Self::Inner(error) => error.family(),
        }
    }
}

/// A refusal of a breaker ends retries, for the attempts of one call are no storm of probes; others may be retried
/// after what they ask for.
impl<E: RetryCause> RetryCause for PolicyError<E> {
    fn cause_code(&self) -> &str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::TimedOut(error) => error.code(),
            Self::Inner(error) => error.cause_code(),
        }
    }
    fn may_retry(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                refusal.family() == Family::Unavailable && !matches!(**refusal, Refusal::Breaker(_))
            }
            Self::TimedOut(_) => true,
            Self::Inner(error) => error.may_retry(),
        }
    }
    fn class(&self) -> Option<FailureClass> {
        match self {
            Self::Refused(_) => None,
            Self::TimedOut(_) => Some(FailureClass::Timeout),
            Self::Inner(error) => error.class(),
        }
    }
    fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(_) => Outcome::Ignored,
            Self::TimedOut(_) => Outcome::Failure(FailureClass::Timeout),
            Self::Inner(error) => error.outcome(),
        }
    }
    fn asked_wait(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after(),
            Self::TimedOut(_) => None,
            Self::Inner(error) => error.asked_wait(),
        }
    }
}
