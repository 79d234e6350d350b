//! [`LayerTransition`]: when layers began to refuse, and when they admitted again.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use serde::Serialize;

use super::Layer;
use crate::{ids::Timestamp, resilience::breaker::Transition};

/// Changes remembered of a service, those of its breaker apart; the oldest go first.
pub const PROTECTED_LOG_SIZE: usize = 256;

/// One change of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LayerTransition {
    /// The layer.
    pub layer: Layer,
    /// What changed.
    pub change: LayerChange,
    /// When.
    pub at: Timestamp,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LayerChange {
    /// It refused, for the first time since it admitted; the code of the refusal.
    Refuses(&'static str),
    /// It admitted, for the first time since it refused.
    Admits,
    /// The breaker changed its state.
    Breaker(Transition),
    /// It has other options.
    Reconfigured,
    /// It was not there before.
    Added,
    /// It is not there any more; what it knew is lost.
    Removed,
}

/// The changes of one service. While nothing refuses, a look at it is one load.
#[derive(Debug, Default)]
pub(super) struct LayerLog {
    /// Layers whose last answer was a refusal, by their bits.
    refusing: AtomicU8,
    entries: Mutex<VecDeque<LayerTransition>>,
}

impl LayerLog {
    pub(super) fn refused(&self, layer: Layer, code: &'static str, at: Timestamp) {
        if self.refusing.fetch_or(layer.bit(), Ordering::Relaxed) & layer.bit() == 0 {
            self.push(LayerTransition { layer, change: LayerChange::Refuses(code), at });
        }
    }

    pub(super) fn admitted(&self, layer: Layer, at: Timestamp) {
        let bit = layer.bit();
        let refuses = self.refusing.load(Ordering::Relaxed) & bit != 0;
        if refuses && self.refusing.fetch_and(!bit, Ordering::Relaxed) & bit != 0 {
            self.push(LayerTransition { layer, change: LayerChange::Admits, at });
        }
    }

    pub(super) fn push(&self, transition: LayerTransition) {
        let mut entries = self.lock();
        if entries.len() >= PROTECTED_LOG_SIZE {
            entries.pop_front();
        }
        entries.push_back(transition);
    }

    /// Oldest first.
    pub(super) fn to_vec(&self) -> Vec<LayerTransition> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<LayerTransition>> {
        // Nothing in here panics half-way.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_logged_and_the_oldest_go_first() {
        let log = LayerLog::default();
        for at in 0..3 {
            log.admitted(Layer::Limiter, Timestamp(at));
        }
        assert_eq!(log.to_vec(), []);
        for at in 0..2 * PROTECTED_LOG_SIZE as i64 {
            log.refused(Layer::Limiter, "limiter.limit", Timestamp(at));
            log.refused(Layer::Limiter, "limiter.limit", Timestamp(at));
            log.admitted(Layer::Bulkhead, Timestamp(at));
            log.admitted(Layer::Limiter, Timestamp(at));
        }
        let entries = log.to_vec();
        assert_eq!(entries.len(), PROTECTED_LOG_SIZE);
        let newest = entries.last().unwrap();
        assert_eq!((newest.change, newest.at), (LayerChange::Admits, Timestamp(511)));
        assert!(entries.windows(2).all(|pair| pair[0].at <= pair[1].at && pair[0].change != pair[1].change));
    }
}
