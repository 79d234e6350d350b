//! Places of instances: small numbers that indexes hold.

use std::sync::Arc;

use super::{
    Criteria, GoneReason, HealthLevel, LeaseState, LeaseTerms, NodeId, Registration, Seen, second_hand::Stamp,
};
use crate::{fast_hash::FastMap, ids::Timestamp};

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
}

/// What searches look at first, apart from the rest: a scan reads these in a row.
#[derive(Clone, Debug)]
pub(super) struct Brief {
    terms: LeaseTerms,
    pub(super) beat_at: Timestamp,
    pub(super) ended: Option<GoneReason>,
    pub(super) health: HealthLevel,
    via: Option<NodeId>,
}

impl Brief {
    fn of(entry: &Entry) -> Self {
        let Entry { terms, beat_at, ended, via, registration, .. } = entry;
        let health = registration.health;
        Self { terms: *terms, beat_at: *beat_at, ended: *ended, health, via: via.clone() }
    }

    /// As [`Entry::state`].
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

/// Most resources that have a column of their own.
const COLUMNS_MAX: usize = 16;

/// Entries by place; a place that is free is used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    entries: Vec<Option<Box<Entry>>>,
    /// Of each entry; what it says of a free place has no meaning.
    briefs: Vec<Brief>,
    /// Of the resources that came first: what each place has of it.
    columns: FastMap<Arc<str>, Vec<u64>>,
    free: Vec<Slot>,
}

/// An entry that may be changed; dropped, what searches look at follows.
pub(super) struct EntryMut<'a> {
    slots: &'a mut Slots,
    slot: Slot,
    entry: Option<Box<Entry>>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, entry: Entry) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.briefs.push(Brief::of(&entry));
            // `instances_max` is far below.
            u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
        });
        self.set(slot, Box::new(entry));
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Entry> {
        let entry = self.entries.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(*entry)
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<EntryMut<'_>> {
        let entry = self.entries.get_mut(slot as usize)?.take()?;
        Some(EntryMut { slots: self, slot, entry: Some(entry) })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten().map(|entry| &**entry)
    }

    /// Every place, in use or free.
    pub(super) fn places(&self) -> impl Iterator<Item = Slot> + use<> {
        0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// What searches look at first; `None`: the place is free.
    pub(super) fn brief(&self, slot: Slot) -> Option<&Brief> {
        self.entries.get(slot as usize)?.as_ref()?;
        self.briefs.get(slot as usize)
    }

    /// Whether the instance has free what is looked for.
    pub(super) fn has_free(&self, slot: Slot, criteria: &Criteria) -> bool {
        criteria.resources_min.iter().all(|(name, least)| {
            let free = match self.columns.get(name) {
                Some(column) => column.get(slot as usize).copied(),
                None if self.columns.len() < COLUMNS_MAX => None,
                None => self.get(slot).and_then(|entry| entry.registration.resources.get(name).copied()),
            };
            free.unwrap_or(0) >= *least
        })
    }

    /// Puts an entry in its place, with all that searches look at.
    fn set(&mut self, slot: Slot, entry: Box<Entry>) {
        let place = slot as usize;
        if let Some(brief) = self.briefs.get_mut(place) {
            *brief = Brief::of(&entry);
        }
        let resources = &entry.registration.resources;
        for name in resources.keys() {
            if self.columns.len() < COLUMNS_MAX && !self.columns.contains_key(name) {
                self.columns.insert(Arc::clone(name), Vec::new());
            }
        }
        for (name, column) in &mut self.columns {
            let free = resources.get(name).copied().unwrap_or(0);
            if free > 0 && column.len() <= place {
                column.resize(place + 1, 0);
            }
            if let Some(known) = column.get_mut(place) {
                *known = free;
            }
        }
        if let Some(stored) = self.entries.get_mut(place) {
            *stored = Some(entry);
        }
    }
}

impl std::ops::Deref for EntryMut<'_> {
    type Target = Entry;
    fn deref(&self) -> &Entry {
        let Some(entry) = &self.entry else { unreachable!("it is put back when this is dropped") };
        entry
    }
}

impl std::ops::DerefMut for EntryMut<'_> {
    fn deref_mut(&mut self) -> &mut Entry {
        let Some(entry) = &mut self.entry else { unreachable!("it is put back when this is dropped") };
        entry
    }
}

impl Drop for EntryMut<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            self.slots.set(self.slot, entry);
        }
    }
}
