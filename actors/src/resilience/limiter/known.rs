//! [`Known`]: the keys that a thread has just asked for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    cell::Cell,
    key::{AsKey, LimitKey, OwnedKey},
    law::Law,
};
use crate::resilience::lane;

/// Keys that a lane knows at most.
const PLACES: usize = 64;

/// The keys that the threads of a lane have just asked for, each with its cell: whoever finds its key here goes past the
/// shards, where all threads meet.
///
/// A cell is used under the lane's lock only. So whoever has [forgotten](Known::forget) all keys, and lets none be
/// learnt meanwhile, is the only one who holds a cell.
#[derive(Debug)]
pub(super) struct Known {
    lanes: Box<[Lane]>,
}

/// A lane does not share a cache line with another.
#[derive(Debug)]
#[repr(align(128))]
struct Lane(Mutex<Vec<Option<Place>>>);

#[derive(Debug)]
struct Place {
    key: OwnedKey,
    cell: Arc<Cell>,
    law: Law,
}

impl Known {
    pub(super) fn new() -> Self {
        Self { lanes: (0..lane::lanes()).map(|_| Lane(Mutex::default())).collect() }
    }

    /// Uses the cell of a key, with the law of its limiter, if this thread's lane knows it.
    pub(super) fn with<R>(
        &self,
        key: LimitKey<'_>,
        hash: u64,
        then: impl FnOnce(&Cell, Law) -> R,
    ) -> Option<R> {
        let places = self.lane()?;
        let place = places.get(place_of(hash))?.as_ref()?;
        (place.key.key() == key).then(|| then(&place.cell, place.law))
    }

    /// Has this thread's lane know a key. Called with the key's shard locked.
    pub(super) fn learn(&self, key: LimitKey<'_>, hash: u64, cell: &Arc<Cell>, law: Law) {
        let Some(mut places) = self.lane() else { return };
        if places.is_empty() {
            places.resize_with(PLACES, || None);
        }
        if let Some(place) = places.get_mut(place_of(hash)) {
            *place = Some(Place { key: key.into(), cell: Arc::clone(cell), law });
        }
    }

    /// Forgets every key.
    pub(super) fn forget(&self) {
        self.lanes.iter().for_each(|lane| lane.lock().clear());
    }

    fn lane(&self) -> Option<MutexGuard<'_, Vec<Option<Place>>>> {
        self.lanes.get(lane::lane_of_thread() % self.lanes.len().max(1)).map(Lane::lock)
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Place>>> {
        // Nothing in here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Other bits than those that choose the shard.
fn place_of(hash: u64) -> usize {
    usize::try_from(hash >> 32).unwrap_or(0) % PLACES
}
