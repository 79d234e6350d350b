//! Places of instances: small numbers that indexes hold.

use super::{GoneReason, LeaseState, LeaseTerms, NodeId, Registration, Seen, second_hand::Stamp};
use crate::ids::Timestamp;

/// Place of an instance.
pub(super) type Slot = u32;

/// One instance with its lease.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) registration: Registration,
    pub(super) terms: LeaseTerms,
    /// Number of its lease; of no use to others.
    pub(super) number: u64,
    /// Which word of its node it is known by.
    pub(super) stamp: Stamp,
    pub(super) beat_at: Timestamp,
    pub(super) via: Option<NodeId>,
    /// Its end, when it is known to have ended before its lease did.
    pub(super) ended: Option<GoneReason>,
    /// The state that events have told.
    pub(super) told: LeaseState,
    /// Its place in the queue of changes.
    pub(super) wakes_at: Timestamp,
}

impl Entry {
    /// Whether it lives, by its lease at `now`.
    pub(super) fn state(&self, now: Timestamp) -> LeaseState {
        match self.ended {
            Some(_) => LeaseState::Gone,
            None => self.terms.state(now.since(self.beat_at)),
        }
    }

    pub(super) fn seen(&self, now: Timestamp) -> Seen {
        Seen { at: self.beat_at, age: now.since(self.beat_at), via: self.via.clone() }
    }
}

/// Entries by place; a place that is free is used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    entries: Vec<Option<Entry>>,
    free: Vec<Slot>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, entry: Entry) -> Slot {
        if let Some(slot) = self.free.pop() {
            if let Some(place) = self.entries.get_mut(slot as usize) {
                *place = Some(entry);
            }
            return slot;
        }
        self.entries.push(Some(entry));
        // `instances_max` is far below.
        u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Entry> {
        let entry = self.entries.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(entry)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten()
    }
}
