//! [`LimiterSnapshot`]: what of a limiter outlives its process.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    cell::Cell,
    law::Law,
    options::{LimiterOptions, Pressure},
};
use crate::ids::Timestamp;

/// What every key of a limiter has used, and what that is counted by. Calls after it are not in it: a limiter that is
/// restored from it admits them once more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimiterSnapshot {
    /// What the keys are counted by.
    pub(super) options: LimiterOptions,
    /// At what rate.
    pub(super) pressure: Pressure,
    /// When every key that is not here had used up its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) spent_at: Option<Timestamp>,
    /// The keys that do not have their whole limit.
    pub(super) keys: Vec<SavedKey>,
}

/// A key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedKey {
    pub(super) agent: Arc<str>,
    pub(super) operation: Arc<str>,
    pub(super) used: SavedUse,
    pub(super) allowed: u64,
    pub(super) denied: u64,
}

/// What a key used, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SavedUse {
    /// The theoretical arrival time, in ticks of the law.
    Bucket { arrival: u64 },
    /// Instants and what was admitted at them, oldest first.
    Window { taken: Vec<(Timestamp, u32)> },
}

impl LimiterSnapshot {
    /// Number of keys kept.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// The law that it was counted by and its cells; `None` when it does not agree with itself.
    pub(super) fn cells(&self) -> Option<(Law, Vec<(&SavedKey, Cell)>)> {
        self.options.validate().ok()?;
        let law = Law::of(&self.options, self.pressure);
        let cells: Option<Vec<_>> = self
            .keys
            .iter()
            .map(|key| {
                let mut cell = Cell::restored(law.count, &key.used)?;
                (*cell.allowed.get_mut(), *cell.denied.get_mut()) = (key.allowed, key.denied);
                Some((key, cell))
            })
            .collect();
        Some((law, cells?))
    }
}
