//! [`CacheOptions`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stanchion_sync::ShelfLimits;

use crate::resilience::OptionsError;

/// Most entries.
const MAX_ENTRIES: u64 = 10_000_000;
/// Longest life of an entry: a year.
const MAX_TTL_MS: u64 = 31_536_000_000;

/// What a cache holds, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheOptions {
    /// Entries: 1..=10 000 000; default 10 000.
    pub max_entries: u32,
    /// Weight of all entries, in the unit of the cache's weigher: at least 1; default no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_weight: Option<u64>,
    /// Life of an entry from its put on: 1..=31 536 000 000; default 60 000.
    pub ttl_ms: u64,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { max_entries: 10_000, max_weight: None, ttl_ms: 60_000 }
    }
}

impl CacheOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`OptionsError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let check = |field, given, range| OptionsError::check("cache", field, given, range);
        check("max_entries", u64::from(self.max_entries), 1..=MAX_ENTRIES)?;
        check("max_weight", self.max_weight.unwrap_or(1), 1..=u64::MAX)?;
        check("ttl_ms", self.ttl_ms, 1..=MAX_TTL_MS)
    }

    pub(super) fn limits(&self) -> ShelfLimits {
        ShelfLimits {
            entries: usize::try_from(self.max_entries).unwrap_or(usize::MAX),
            weight: self.max_weight.unwrap_or(u64::MAX),
        }
    }

    pub(super) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }
}
