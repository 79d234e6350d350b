//! [`BulkheadError`]: why a call is not let in.

use std::{sync::Arc, time::Duration};

use crate::error::{Coded, Family};

/// The bulkhead does not let the call run: nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BulkheadError {
    /// No place or no weight is free and the call may not wait: ask again later.
    #[error("bulkhead {bulkhead:?} is full: {in_use} calls of weight {weight_in_use} inside, {waiting} wait")]
    Full {
        /// The bulkhead.
        bulkhead: Arc<str>,
        /// Calls inside.
        in_use: u64,
        /// Their weight.
        weight_in_use: u64,
        /// Calls that wait.
        waiting: usize,
    },
    /// Heavier than all calls together may be. It would wait for ever: split it, or raise `max_weight`.
    #[error("bulkhead {bulkhead:?} admits a weight of {max_weight} in all, the call weighs {weight}")]
    TooHeavy {
        /// The bulkhead.
        bulkhead: Arc<str>,
        /// What the call weighs.
        weight: u64,
        /// The limit.
        max_weight: u64,
    },
    /// It waited as long as it may: ask again later.
    #[error("no place in bulkhead {bulkhead:?} within {} ms", .waited.as_millis())]
    TimedOut {
        /// The bulkhead.
        bulkhead: Arc<str>,
        /// How long it waited.
        waited: Duration,
    },
    /// The dependency asked to be left alone for longer than the call may wait.
    #[error("bulkhead {bulkhead:?} lets nobody in for another {} ms", .retry_after.as_millis())]
    BackingOff {
        /// The bulkhead.
        bulkhead: Arc<str>,
        /// For how long.
        retry_after: Duration,
    },
}

impl BulkheadError {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::TooHeavy { .. } => "too_heavy",
            Self::TimedOut { .. } => "timed_out",
            Self::BackingOff { .. } => "backing_off",
        }
    }
}

impl Coded for BulkheadError {
    fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "bulkhead.full",
            Self::TooHeavy { .. } => "bulkhead.too_heavy",
            Self::TimedOut { .. } => "bulkhead.timed_out",
            Self::BackingOff { .. } => "bulkhead.backing_off",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::TooHeavy { .. } => Family::Rejected,
            Self::Full { .. } | Self::TimedOut { .. } | Self::BackingOff { .. } => Family::Unavailable,
        }
    }
}
