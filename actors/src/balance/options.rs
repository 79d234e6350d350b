//! Settings of a balancer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::BalanceOptionsError;

/// What a balancer goes by. Defaults of the EWMA are Finagle's and tower's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BalanceOptions {
    /// How long a latency weighs, in milliseconds: 1..=3 600 000; default 10 000. After this time it counts 1/e.
    pub ewma_decay_ms: u64,
    /// Latency of an instance of which nothing is known, in milliseconds: 1..=3 600 000; default 30.
    pub latency_initial_ms: u64,
    /// Work that failed counts as slow as this at least, in milliseconds: 0..=3 600 000; default 1 000. Otherwise an
    /// instance that fails at once would look fast and draw all the work. `0` counts what it took.
    pub failure_penalty_ms: u64,
    /// Sticky keys remembered: 1..=10 000 000; default 100 000. Beyond it the key unused for longest is forgotten.
    pub sticky_keys_max: usize,
}

impl Default for BalanceOptions {
    fn default() -> Self {
        Self {
            ewma_decay_ms: 10_000,
            latency_initial_ms: 30,
            failure_penalty_ms: 1_000,
            sticky_keys_max: 100_000,
        }
    }
}

impl BalanceOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`BalanceOptionsError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), BalanceOptionsError> {
        const HOUR_MS: u64 = 3_600_000;
        let error = |field, given: String, allowed| Err(BalanceOptionsError { field, given, allowed });
        if !(1..=HOUR_MS).contains(&self.ewma_decay_ms) {
            return error("ewma_decay_ms", self.ewma_decay_ms.to_string(), "1..=3600000");
        }
        if !(1..=HOUR_MS).contains(&self.latency_initial_ms) {
            return error("latency_initial_ms", self.latency_initial_ms.to_string(), "1..=3600000");
        }
        if self.failure_penalty_ms > HOUR_MS {
            return error("failure_penalty_ms", self.failure_penalty_ms.to_string(), "0..=3600000");
        }
        if !(1..=10_000_000).contains(&self.sticky_keys_max) {
            return error("sticky_keys_max", self.sticky_keys_max.to_string(), "1..=10000000");
        }
        Ok(())
    }

    pub(super) fn failure_penalty(&self) -> Duration {
        Duration::from_millis(self.failure_penalty_ms)
    }
}
