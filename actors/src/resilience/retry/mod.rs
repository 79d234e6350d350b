//! Retries: whether another attempt follows a failed one, and when.
//!
//! It owns delays, limits and the account of the attempts of a call; it refuses to know clocks, chance, tasks and
//! what a call is. Steps of workflows, jobs of queues and calls ask the same [`RetryPolicy::decide`].
//!
//! ```
//! use std::time::Duration;
//! use stanchion_actors::{
//!     entity::Failure,
//!     ids::Timestamp,
//!     resilience::retry::{GiveUpReason, Retrier, RetryPolicy, RetryStep},
//! };
//!
//! let started = Timestamp(0);
//! let mut retrier = Retrier::new(RetryPolicy::exponential(100), started)?.deadline(Timestamp(250_000));
//! let broken = || Failure::retryable("network", "connection reset");
//! assert_eq!(retrier.next(broken(), started, 0.5), RetryStep::RetryIn(Duration::from_millis(100)));
//! // The next attempt would start at 300 ms, after the deadline: the answer is there at once.
//! let RetryStep::GiveUp(error) = retrier.next(broken(), Timestamp(100_000), 0.5) else { panic!() };
//! assert_eq!((error.reason, error.attempts, error.last), (GiveUpReason::Deadline, 2, broken()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decide;
mod policies;
mod policy;
mod retrier;
mod retry_after;
mod stats;
mod validate;

#[cfg(test)]
mod law_tests;
#[cfg(test)]
mod tests;

pub use decide::{GiveUpReason, RetryCause, RetryDecision, RetryState};
pub use policies::{
    POLICIES_MAX, POLICY_NAME_MAX_BYTES, RetryPolicies, RetryPoliciesError, RetryPolicyNotFound,
};
pub use policy::{Growth, Jitter, RetryPolicy, RetryRule, TEN_YEARS_MS, UNLIMITED_ATTEMPTS};
pub use retrier::{FailedAttempt, HISTORY_MAX, Retrier, RetryError, RetrySeen, RetryStep};
pub use retry_after::retry_after;
pub use stats::{ATTEMPT_BUCKETS, DELAY_BUCKETS_MS, RetryCounts, RetryStats};
pub use validate::RetryPolicyError;
