//! Why a breaker refuses.

use std::{sync::Arc, time::Duration};

use super::StateName;
use crate::{
    error::{Coded, Family},
    ids::Timestamp,
};

/// The breaker does not let the call run: nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("breaker {breaker:?} is {state}{}", .retry_after.map(|after| format!(", retry in {} ms", after.as_millis())).unwrap_or_default())]
#[non_exhaustive]
pub struct BreakerOpen {
    /// The breaker.
    pub breaker: Arc<str>,
    /// Its state.
    pub state: StateName,
    /// When the next probe may run; `None` while probes run, and while it is forced open.
    pub until: Option<Timestamp>,
    /// Time until then.
    pub retry_after: Option<Duration>,
}

impl Coded for BreakerOpen {
    fn code(&self) -> &'static str {
        "breaker.open"
    }
    fn family(&self) -> Family {
        Family::Unavailable
    }
}

/// No breaker has this name: the call did not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no breaker is named {0:?}: register it first")]
pub struct BreakerNotFound(pub String);

impl Coded for BreakerNotFound {
    fn code(&self) -> &'static str {
        "breaker.not_found"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// A field of the options is outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("breaker option {field} is {given}: allowed is {allowed}")]
#[non_exhaustive]
pub struct BreakerOptionsError {
    /// The field, as a path with dots.
    pub field: String,
    /// What it is.
    pub given: String,
    /// What it may be.
    pub allowed: String,
}

impl Coded for BreakerOptionsError {
    fn code(&self) -> &'static str {
        "breaker.options"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}
