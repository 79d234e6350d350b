//! Why a limiter refuses.

use std::{sync::Arc, time::Duration};

use crate::{
    error::{Coded, Family},
    ids::Timestamp,
};

/// The limiter does not let the call run: nothing was done, nothing was counted against the limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limiter {limiter:?} refuses: {reason}{}", after(*.retry_after))]
#[non_exhaustive]
pub struct Denied {
    /// The limiter.
    pub limiter: Arc<str>,
    /// When the same call would be allowed, if nobody else took; `None` where waiting alone does not help.
    pub retry_after: Option<Duration>,
    /// What the key has left: less than the call costs.
    pub remaining: u64,
    /// Why.
    pub reason: DenyReason,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DenyReason {
    /// The limit of the key is used up.
    Limit,
    /// The call costs more than the whole limit.
    Cost,
    /// Nothing is admitted under pressure.
    Pressure,
    /// The key cannot be counted, and the limiter fails closed.
    Uncounted,
    /// As many callers wait as may.
    Waiting,
}

impl std::fmt::Display for DenyReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Limit => "the limit is used up",
            Self::Cost => "the call costs more than the whole limit",
            Self::Pressure => "nothing is admitted under pressure",
            Self::Uncounted => "there is no place to count this key",
            Self::Waiting => "too many callers wait",
        })
    }
}

fn after(retry_after: Option<Duration>) -> String {
    retry_after
        .map(|after| format!(", retry in {} ms", after.as_micros().div_ceil(1_000)))
        .unwrap_or_default()
}

impl Coded for Denied {
    fn code(&self) -> &'static str {
        match self.reason {
            DenyReason::Limit => "limiter.limit",
            DenyReason::Cost => "limiter.cost",
            DenyReason::Pressure => "limiter.pressure",
            DenyReason::Uncounted => "limiter.uncounted",
            DenyReason::Waiting => "limiter.waiting",
        }
    }
    fn family(&self) -> Family {
        match self.reason {
            DenyReason::Cost => Family::Rejected,
            DenyReason::Limit | DenyReason::Pressure | DenyReason::Uncounted | DenyReason::Waiting => {
                Family::Unavailable
            }
        }
    }
}

/// No limiter has this name: the call did not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no limiter is named {0:?}: set it first")]
pub struct LimiterNotFound(pub String);

impl Coded for LimiterNotFound {
    fn code(&self) -> &'static str {
        "limiter.not_found"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// A limiter, found by its name, does not let the call run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// No limiter has the name.
    #[error(transparent)]
    NotFound(#[from] LimiterNotFound),
    /// The limiter refuses.
    #[error(transparent)]
    Denied(#[from] Denied),
}

impl Coded for AcquireError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(error) => error.code(),
            Self::Denied(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::NotFound(error) => error.family(),
            Self::Denied(error) => error.family(),
        }
    }
}

/// A field of the options is outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limiter option {field} is {given}: {hint}")]
#[non_exhaustive]
pub struct LimiterOptionsError {
    /// The field, as a path with dots.
    pub field: &'static str,
    /// What it is.
    pub given: String,
    /// What would be right.
    pub hint: String,
}

impl Coded for LimiterOptionsError {
    fn code(&self) -> &'static str {
        "limiter.options"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// A limiter does not get its name or its settings: nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitersError {
    /// The settings are not valid.
    #[error("limiter {name:?}: {error}")]
    Options {
        /// Its name.
        name: String,
        /// What is wrong.
        #[source]
        error: LimiterOptionsError,
    },
    /// The name comes twice.
    #[error("two limiters are named {0:?}")]
    Duplicate(String),
    /// The name is empty or too long.
    #[error("{0:?} is no name of a limiter: use 1..={max} bytes", max = super::LIMITER_NAME_MAX_BYTES)]
    Name(String),
    /// There are too many.
    #[error("more than {max} limiters", max = super::LIMITERS_MAX)]
    Full,
}

impl Coded for LimitersError {
    fn code(&self) -> &'static str {
        match self {
            Self::Options { error, .. } => error.code(),
            Self::Duplicate(_) => "limiter.duplicate",
            Self::Name(_) => "limiter.name",
            Self::Full => "limiter.full",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// The other side asked for no calls until then: the call did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("backed off, retry in {} ms", .retry_after.as_micros().div_ceil(1_000))]
#[non_exhaustive]
pub struct BackedOff {
    /// End of the window: a call may run at it.
    pub until: Timestamp,
    /// Time until then.
    pub retry_after: Duration,
}

impl Coded for BackedOff {
    fn code(&self) -> &'static str {
        "limiter.backed_off"
    }
    fn family(&self) -> Family {
        Family::Unavailable
    }
}
