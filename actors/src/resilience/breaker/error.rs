//! Why a breaker refuses.

use std::{sync::Arc, time::Duration};

use super::StateName;
use crate::{
    entity::Failure,
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

/// How long to leave a breaker alone that is forced open: nobody knows when it will be closed.
pub const FORCED_OPEN_LOOK: Duration = Duration::from_secs(30);
/// How long to leave a breaker alone whose probes run.
const WHILE_PROBED: Duration = Duration::from_millis(200);

impl BreakerOpen {
    /// Its code; also that of an activity's failure which says so, for steps and jobs that wait for the breaker.
    pub const CODE: &'static str = "breaker.open";

    /// How long to wait before asking again, for callers that can: until the breaker takes probes, 200 ms while they
    /// run, and [`FORCED_OPEN_LOOK`] while it is forced open.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.retry_after.unwrap_or(match self.state {
            StateName::ForcedOpen => FORCED_OPEN_LOOK,
            StateName::Closed | StateName::Open | StateName::HalfOpen | StateName::Disabled => WHILE_PROBED,
        })
    }
}

impl From<BreakerOpen> for Failure {
    /// The failure of an activity whose breaker is open: its step waits for the breaker, its job goes back to the
    /// queue, and neither counts it as an attempt that failed.
    fn from(open: BreakerOpen) -> Self {
        // Rounded up: a look before the time is one in vain.
        let wait_ms = open.wait().as_micros().div_ceil(1_000);
        Self {
            retry_after_ms: Some(u64::try_from(wait_ms).unwrap_or(u64::MAX)),
            ..Self::retryable(BreakerOpen::CODE, open.to_string())
        }
    }
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
