//! Rate limiters: so many calls in a time, for each caller and operation alone.
//!
//! It owns limits, what is used of them, and shared back-off windows; it refuses to know clocks, tasks and what a call
//! is. Only `until_allowed` waits. A check goes through no actor.
//!
//! ```
//! use stanchion_actors::{
//!     ids::Timestamp,
//!     resilience::limiter::{LimitKey, LimiterOptions, Limiters},
//! };
//!
//! let (limiters, now) = (Limiters::new(), Timestamp(0));
//! let search = limiters.set("search", LimiterOptions::per_second(2, 10), now)?;
//! let key = LimitKey::new("agent-7", "query");
//! assert!(search.acquire(key, 1, now).is_ok() && search.acquire(key, 1, now).is_ok());
//! let denied = search.acquire(key, 1, now).unwrap_err();
//! assert_eq!(denied.retry_after, Some(std::time::Duration::from_millis(100)));
//! assert!(search.acquire(LimitKey::new("agent-8", "query"), 1, now).is_ok());
//! # Ok::<(), stanchion_actors::resilience::limiter::LimitersError>(())
//! ```
//!
//! # Source
//! Generic cell rate algorithm, ITU-T I.371; token bucket, RFC 2698 (one rate); `Retry-After`, RFC 9110.

mod alert;
mod backoff;
mod cell;
mod core;
mod error;
mod key;
mod keys;
mod known;
mod law;
mod options;
mod registry;
mod ring;
mod settings;
mod snapshot;
mod wait;

#[cfg(test)]
mod alert_tests;
#[cfg(test)]
mod backoff_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use alert::{DenyAlert, DenyAlertEvent, DenyAlertOptions};
pub use backoff::{BackoffSnapshot, BackoffWindow, BackoffWindowOptions};
pub use core::{Limiter, LimiterStats, LimiterStatus};
pub use error::{
    AcquireError, BackedOff, Denied, DenyReason, LimiterNotFound, LimiterOptionsError, LimitersError,
};
pub use key::{LIMIT_KEY_MAX_BYTES, LimitKey};
pub use options::{
    LIMIT_REFILL_MAX_MS, LIMITER_KEYS_MAX, LIMITER_WAITING_MAX, LimitStrategy, LimiterOptions, OnError,
    Pressure, SLIDING_INSTANTS_MAX, SLIDING_LIMIT_MAX,
};
pub use registry::{LIMITERS_MAX, Limiters};
pub use settings::{LIMITER_NAME_MAX_BYTES, LimiterSettings};
pub use snapshot::LimiterSnapshot;
