//! Settings of a discovery.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DiscoveryOptionsError;

/// Bounds of a discovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoveryOptions {
    /// How long what is gone is remembered, in milliseconds: 0..=86 400 000; default 300 000. So long a heartbeat
    /// brings it back, and a search may ask for old knowledge.
    pub gone_kept_ms: u64,
    /// Instances known at most, own and others': 1..=10 000 000; default 1 000 000.
    pub instances_max: usize,
}

impl Default for DiscoveryOptions {
    fn default() -> Self {
        Self { gone_kept_ms: 300_000, instances_max: 1_000_000 }
    }
}

impl DiscoveryOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`DiscoveryOptionsError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), DiscoveryOptionsError> {
        if self.gone_kept_ms > 86_400_000 {
            let given = self.gone_kept_ms.to_string();
            return Err(DiscoveryOptionsError { field: "gone_kept_ms", given, allowed: "0..=86400000" });
        }
        if !(1..=10_000_000).contains(&self.instances_max) {
            let given = self.instances_max.to_string();
            return Err(DiscoveryOptionsError { field: "instances_max", given, allowed: "1..=10000000" });
        }
        Ok(())
    }

    pub(super) fn gone_kept(&self) -> Duration {
        Duration::from_millis(self.gone_kept_ms)
    }
}
