//! Retry budgets: retries stay a part of the traffic, so that a failing dependency is not stormed.
//!
//! Two laws. [`RetryBudget`] earns retries by calls, over a window of time; [`RetryThrottle`] stops retries while
//! failures outweigh successes. Both refuse to know clocks and tasks; neither waits.
//!
//! ```
//! use stanchion_actors::{ids::Timestamp, resilience::budget::{RetryBudget, RetryBudgetOptions}};
//!
//! let options = RetryBudgetOptions { min_retries_per_second: 0, ratio: 0.5, ..RetryBudgetOptions::default() };
//! let budget = RetryBudget::new(options)?;
//! let now = Timestamp(0);
//! budget.deposit(now);
//! budget.deposit(now);
//! assert!(budget.try_withdraw(now).is_ok());
//! assert!(budget.try_withdraw(now).is_err());
//! # Ok::<(), stanchion_actors::resilience::budget::RetryBudgetError>(())
//! ```
//!
//! # Source
//! Finagle `RetryBudget` (Apache-2.0); gRPC proposal A6, "Throttling Retry Attempts and Hedged RPCs".

mod throttle;
mod window;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Coded, Family},
    resilience::retry::GiveUpReason,
};

pub use throttle::{RetryThrottle, RetryThrottleOptions, ThrottleSnapshot};
pub use window::{BudgetSnapshot, RetryBudget, RetryBudgetOptions};

/// No retry: the budget is spent. Not an answer of the other side; the last failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the retry budget is spent")]
#[non_exhaustive]
pub struct RetryBudgetExhausted;

impl Coded for RetryBudgetExhausted {
    fn code(&self) -> &'static str {
        "budget.exhausted"
    }
    fn family(&self) -> Family {
        Family::Unavailable
    }
}

impl From<RetryBudgetExhausted> for GiveUpReason {
    fn from(_: RetryBudgetExhausted) -> Self {
        Self::BudgetExhausted
    }
}

/// A field of the options is outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("retry budget: {field} is {given}: allowed is {allowed}")]
#[non_exhaustive]
pub struct RetryBudgetError {
    /// The field.
    pub field: &'static str,
    /// What it is.
    pub given: String,
    /// What it may be.
    pub allowed: &'static str,
}

impl RetryBudgetError {
    fn new(field: &'static str, given: impl ToString, allowed: &'static str) -> Self {
        Self { field, given: given.to_string(), allowed }
    }
}

impl Coded for RetryBudgetError {
    fn code(&self) -> &'static str {
        "budget.options"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// What a budget did in this life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BudgetStats {
    /// Calls that paid in: first attempts, or successes of a throttle.
    pub deposits: u64,
    /// Retries allowed.
    pub withdrawals: u64,
    /// Retries refused.
    pub denied: u64,
    /// Retries that would be allowed at once.
    pub available: u64,
}
