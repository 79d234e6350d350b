//! [`FallbackFailed`], [`FallbackLoop`].

use std::{fmt, sync::Arc, time::Duration};

use super::FallbackKind;
use crate::{
    error::{Coded, Family},
    resilience::{
        breaker::{FailureClass, Outcome},
        retry::RetryCause,
    },
};

/// The call failed, and there is no other answer. Code, class and text are those of the call's own failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FallbackFailed<E> {
    /// Why the call failed.
    pub original: E,
    /// Why its fallback failed too; `None`: the fallback is not for such failures.
    pub fallback: Option<FallbackFault<E>>,
}

/// Why a fallback has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FallbackFault<E> {
    /// No value of the call is younger than this.
    NoLastGood {
        /// The oldest that may be given.
        max_age: Duration,
    },
    /// The function or the other service failed.
    Failed {
        /// Which of them.
        kind: FallbackKind,
        /// Why.
        error: E,
    },
}

impl<E: fmt::Display> fmt::Display for FallbackFault<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLastGood { max_age } => write!(f, "no value younger than {} ms", max_age.as_millis()),
            Self::Failed { kind, error } => write!(f, "{kind}: {error}"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for FallbackFailed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fallback {
            Some(fault) => write!(f, "{} (its fallback failed too: {fault})", self.original),
            None => self.original.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for FallbackFailed<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The text begins with that of the original: what it has below it comes next.
        self.original.source()
    }
}

impl<E: Coded> Coded for FallbackFailed<E> {
    fn code(&self) -> &'static str {
        self.original.code()
    }
    fn family(&self) -> Family {
        self.original.family()
    }
}

impl<E: RetryCause> RetryCause for FallbackFailed<E> {
    fn cause_code(&self) -> &str {
        self.original.cause_code()
    }
    fn may_retry(&self) -> bool {
        self.original.may_retry()
    }
    fn class(&self) -> Option<FailureClass> {
        self.original.class()
    }
    fn outcome(&self) -> Outcome {
        self.original.outcome()
    }
    fn asked_wait(&self) -> Option<Duration> {
        self.original.asked_wait()
    }
}

/// Services that are each other's fallback, or one that is its own: a failure would go round. Nothing is set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fallback of {} leads back to it: {}", .path.first().map_or("", |first| first), .path.join(" -> "))]
#[non_exhaustive]
pub struct FallbackLoop {
    /// The way round; the first is the last.
    pub path: Vec<Arc<str>>,
}

impl Coded for FallbackLoop {
    fn code(&self) -> &'static str {
        "fallback.loop"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}
