//! The circuit breaker: stops calls to what fails, and lets it recover by a few probes.
//!
//! It owns the window of outcomes, the state, and the places of probes; it refuses to know clocks, tasks and what
//! a call is. Names and rules are those of resilience4j; what is added says so.
//!
//! ```
//! use std::time::Duration;
//! use stanchion_actors::{
//!     ids::Timestamp,
//!     resilience::breaker::{Breaker, BreakerOptions, FailureClass, Outcome},
//! };
//!
//! let options = BreakerOptions { minimum_number_of_calls: 1, ..BreakerOptions::default() };
//! let breaker = Breaker::new("payments", options)?;
//! let now = Timestamp(0);
//! let permit = breaker.acquire(now)?;
//! permit.finish(Outcome::Failure(FailureClass::Timeout), now);
//! let refused = breaker.acquire(now).unwrap_err();
//! assert_eq!(refused.retry_after, Some(Duration::from_secs(60)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Source
//! resilience4j, circuit breaker documentation and `CircuitBreakerStateMachineTest` (Apache-2.0).

mod core;
mod error;
mod half_open;
mod judge;
mod machine;
mod options;
mod outcome;
mod registry;
mod shared;
mod snapshot;
mod stats;
mod window;

#[cfg(test)]
mod lane_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use core::{Breaker, BreakerPermit};
pub use error::{BreakerNotFound, BreakerOpen, BreakerOptionsError, FORCED_OPEN_LOOK};
pub use options::{
    BreakerOptions, CLASSES, ClassRule, HalfOpenMode, MAX_LOG_SIZE, MAX_WINDOW_CALLS, RAMP_STAGES, WindowType,
};
pub use outcome::{FailureClass, Outcome};
pub use registry::Breakers;
pub use snapshot::{BreakerSnapshot, SavedState, SavedWindow};
pub use stats::{BreakerState, BreakerStats, Cause, FailuresByClass, StateName, Transition};
