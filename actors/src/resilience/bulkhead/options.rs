//! [`BulkheadOptions`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stanchion_sync::TurnstileLimits;

use crate::resilience::OptionsError;

/// Most calls inside or waiting.
const MAX_CALLS: u64 = 1_000_000;
/// Longest wait: a day.
const MAX_WAIT_MS: u64 = 86_400_000;

/// What a bulkhead lets in, and how long it lets wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BulkheadOptions {
    /// Calls at once: 1..=1 000 000; default 25.
    pub max_concurrent: u32,
    /// Weight of all calls at once, in the caller's unit (bytes, say): at least 1; default no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_weight: Option<u64>,
    /// Calls that wait: 0..=1 000 000; default 100. `0`: nobody waits.
    pub max_waiting: u32,
    /// Longest wait for a place: 0..=86 400 000; default 1 000. `0`: nobody waits. The deadline of a call makes it
    /// shorter.
    pub max_wait_ms: u64,
}

impl Default for BulkheadOptions {
    fn default() -> Self {
        Self { max_concurrent: 25, max_weight: None, max_waiting: 100, max_wait_ms: 1_000 }
    }
}

impl BulkheadOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`OptionsError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let check = |field, given, range| OptionsError::check("bulkhead", field, given, range);
        check("max_concurrent", u64::from(self.max_concurrent), 1..=MAX_CALLS)?;
        check("max_weight", self.max_weight.unwrap_or(1), 1..=u64::MAX)?;
        check("max_waiting", u64::from(self.max_waiting), 0..=MAX_CALLS)?;
        check("max_wait_ms", self.max_wait_ms, 0..=MAX_WAIT_MS)
    }

    pub(super) fn limits(&self) -> TurnstileLimits {
        TurnstileLimits {
            places: u64::from(self.max_concurrent),
            weight: self.max_weight.unwrap_or(u64::MAX),
            waiting: usize::try_from(self.max_waiting).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn max_wait(&self) -> Duration {
        Duration::from_millis(self.max_wait_ms)
    }
}
