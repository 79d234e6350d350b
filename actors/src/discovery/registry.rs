//! [`Discovery`]: registrations under leases.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    DiscoveryEvent, DiscoveryOptions, DiscoveryOptionsError, GoneReason, HealthLevel, Lease, LeaseError,
    LeaseState, LeaseTerms, NodeId, RegisterError, Registration, Report,
    index::Index,
    second_hand::{ReportBody, Stamp},
    slots::{Entry, Slot, Slots},
};
use crate::{balance::InstanceId, fast_hash::FastMap, ids::Timestamp};

/// Who is there, what it can do, and whether it still lives: as one node knows it.
///
/// Call [`expire`](Self::expire) when [`next_change_at`](Self::next_change_at) has come, for the events; a search
/// goes by the leases as they are at its time, whether or not that was done.
#[derive(Clone, Debug)]
pub struct Discovery {
    pub(super) options: DiscoveryOptions,
    pub(super) slots: Slots,
    pub(super) by_id: FastMap<InstanceId, Slot>,
    pub(super) index: Index,
    /// When which instance is looked at next; never later than its state changes.
    pub(super) wakes: BTreeSet<(Timestamp, Slot)>,
    /// Nodes that are down: their last life, and since when.
    pub(super) down: BTreeMap<NodeId, (u64, Timestamp)>,
    /// Counts registrations and heartbeats: numbers of leases, order of reports.
    pub(super) count: u64,
}

/// What a heartbeat says; the default says: as before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// How well the instance is.
    pub health: Option<HealthLevel>,
    /// Whether it finishes what it has and wants no more.
    pub draining: Option<bool>,
    /// What it has free, of the resources it registered; others are ignored.
    pub resources: BTreeMap<Arc<str>, u64>,
}

/// How many instances are known, by the state that events have told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscoveryStats {
    /// Alive.
    pub live: usize,
    /// Heartbeats are missing.
    pub suspect: usize,
    /// Gone and remembered.
    pub gone: usize,
    /// Of all of them, those heard of through other nodes.
    pub second_hand: usize,
}

impl Discovery {
    /// A discovery that knows nobody.
    ///
    /// # Errors
    /// [`DiscoveryOptionsError`] when an option is outside its range.
    pub fn new(options: DiscoveryOptions) -> Result<Self, DiscoveryOptionsError> {
        options.validate()?;
        Ok(Self {
            options,
            slots: Slots::default(),
            by_id: FastMap::default(),
            index: Index::default(),
            wakes: BTreeSet::new(),
            down: BTreeMap::new(),
            count: 0,
        })
    }

    /// Registers an instance of this node. Its lease begins now.
    ///
    /// An id whose instance is gone may be taken by anybody; one that lives only by a later life of its node.
    ///
    /// # Errors
    /// [`RegisterError`]: the id is taken, the node is down, or there are too many.
    pub fn register(
        &mut self,
        registration: Registration,
        terms: LeaseTerms,
        now: Timestamp,
    ) -> Result<(Lease, Vec<DiscoveryEvent>), RegisterError> {
        self.admit(&registration, now)?;
        self.count += 1;
        let stamp = Stamp { incarnation: registration.incarnation, revision: self.count };
        let lease = Lease { id: registration.id.clone(), number: self.count };
        let events = self.put(registration, terms, stamp, now, None);
        Ok((lease, events))
    }

    /// Renews a lease; an instance that was gone is back.
    ///
    /// # Errors
    /// [`LeaseError`] when the lease is not held: register anew.
    pub fn heartbeat(
        &mut self,
        lease: &Lease,
        beat: &Beat,
        now: Timestamp,
    ) -> Result<Vec<DiscoveryEvent>, LeaseError> {
        let slot = self.held(lease)?;
        self.count += 1;
        let revision = self.count;
        let Some(mut entry) = self.slots.get_mut(slot) else { return Ok(Vec::new()) };
        let is_changed = beat.apply(&mut entry.registration);
        entry.beat_at = now;
        entry.ended = None;
        entry.stamp.revision = revision;
        drop(entry);
        Ok(self.tell(slot, is_changed, now))
    }

    /// Takes an instance out. The report is for the other nodes.
    ///
    /// # Errors
    /// [`LeaseError`] when the lease is not held: nothing is left to do.
    pub fn deregister(&mut self, lease: &Lease) -> Result<(Report, Vec<DiscoveryEvent>), LeaseError> {
        let slot = self.held(lease)?;
        let Some(entry) = self.remove(slot) else { return Err(LeaseError::NotHeld { lease: lease.clone() }) };
        self.count += 1;
        let stamp = Stamp { incarnation: entry.registration.incarnation, revision: self.count };
        let body = ReportBody::Withdrawn { id: lease.id.clone() };
        let events = gone(&entry, GoneReason::Deregistered).into_iter().collect();
        let report = Report { node: entry.registration.node, stamp, age: Duration::ZERO, body };
        Ok((report, events))
    }

    /// A node is down, in this life and those before: its instances are gone, and nobody registers for it.
    pub fn node_down(&mut self, node: &NodeId, incarnation: u64, now: Timestamp) -> Vec<DiscoveryEvent> {
        let known = self.down.get(node).map_or(0, |(incarnation, _)| *incarnation);
        self.down.insert(node.clone(), (incarnation.max(known), now));
        let key = super::IndexedBy::Node(node.clone());
        let slots: Vec<Slot> = self.index.places(&key).into_iter().flatten().copied().collect();
        let mut events = Vec::new();
        for slot in slots {
            let Some(mut entry) = self.slots.get_mut(slot) else { continue };
            if entry.registration.incarnation <= incarnation && entry.ended.is_none() {
                entry.ended = Some(GoneReason::NodeDown);
                drop(entry);
                events.extend(self.tell(slot, false, now));
            }
        }
        events
    }

    /// A node that was taken for down is not: its instances are back with their next word.
    pub fn node_up(&mut self, node: &NodeId) {
        self.down.remove(node);
    }

    /// How many instances are known.
    #[must_use]
    pub fn stats(&self) -> DiscoveryStats {
        let mut stats = DiscoveryStats::default();
        for entry in self.slots.iter() {
            match entry.told {
                LeaseState::Live => stats.live += 1,
                LeaseState::Suspect => stats.suspect += 1,
                LeaseState::Gone => stats.gone += 1,
            }
            stats.second_hand += usize::from(entry.via.is_some());
        }
        stats
    }

    /// Whether the registration may take its place.
    pub(super) fn admit(&self, registration: &Registration, now: Timestamp) -> Result<(), RegisterError> {
        let (id, node) = (&registration.id, &registration.node);
        if self.down.get(node).is_some_and(|(incarnation, _)| registration.incarnation <= *incarnation) {
            return Err(RegisterError::NotAlive { id: id.clone(), node: node.clone() });
        }
        let Some(holder) = self.by_id.get(id).and_then(|slot| self.slots.get(*slot)) else {
            let limit = self.options.instances_max;
            return if self.slots.len() < limit { Ok(()) } else { Err(RegisterError::Full { limit }) };
        };
        let owner = &holder.registration.node;
        let is_later_life = owner == node && holder.registration.incarnation < registration.incarnation;
        if is_later_life || holder.state(now) == LeaseState::Gone {
            Ok(())
        } else {
            Err(RegisterError::AlreadyRegistered { id: id.clone(), owner: owner.clone() })
        }
    }

    /// Puts an admitted registration into its place, which whoever had it leaves.
    pub(super) fn put(
        &mut self,
        registration: Registration,
        terms: LeaseTerms,
        stamp: Stamp,
        beat_at: Timestamp,
        via: Option<NodeId>,
    ) -> Vec<DiscoveryEvent> {
        let before = self.by_id.get(&registration.id).copied().and_then(|slot| self.remove(slot));
        let mut events: Vec<_> =
            before.iter().filter_map(|entry| gone(entry, GoneReason::Replaced)).collect();
        let (id, node) = (registration.id.clone(), registration.node.clone());
        let wakes_at = terms.next_change(LeaseState::Live).map_or(beat_at, |age| beat_at.after(age));
        let told = LeaseState::Live;
        let (number, ended) = (stamp.revision, None);
        let entry = Entry { registration, terms, number, stamp, beat_at, via, ended, told, wakes_at };
        let slot = self.slots.insert(entry);
        if let Some(entry) = self.slots.get(slot) {
            self.index.insert(slot, &entry.registration);
        }
        self.by_id.insert(id.clone(), slot);
        self.wakes.insert((wakes_at, slot));
        events.push(DiscoveryEvent::Added { id, node });
        events
    }

    /// Takes an instance out of everything.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<Entry> {
        let entry = self.slots.remove(slot)?;
        self.index.remove(slot, &entry.registration);
        self.by_id.remove(&entry.registration.id);
        self.wakes.remove(&(entry.wakes_at, slot));
        Some(entry)
    }

    /// The place of an instance whose lease is held.
    fn held(&self, lease: &Lease) -> Result<Slot, LeaseError> {
        let slot = self.by_id.get(&lease.id).copied();
        match slot.and_then(|slot| Some((slot, self.slots.get(slot)?))) {
            None => Err(LeaseError::NotHeld { lease: lease.clone() }),
            Some((slot, entry)) if entry.number == lease.number && entry.via.is_none() => Ok(slot),
            Some((_, entry)) => {
                Err(LeaseError::TakenOver { lease: lease.clone(), owner: entry.registration.node.clone() })
            }
        }
    }
}

impl Beat {
    /// Answers whether anything is other than before.
    fn apply(&self, registration: &mut Registration) -> bool {
        let mut is_changed = false;
        let mut set = |is_other: bool| is_changed |= is_other;
        if let Some(health) = self.health {
            set(std::mem::replace(&mut registration.health, health) != health);
        }
        if let Some(draining) = self.draining {
            set(std::mem::replace(&mut registration.draining, draining) != draining);
        }
        for (name, free) in &self.resources {
            if let Some(known) = registration.resources.get_mut(name) {
                set(std::mem::replace(known, *free) != *free);
            }
        }
        is_changed
    }
}

/// The event of an end, unless it was told before.
pub(super) fn gone(entry: &Entry, reason: GoneReason) -> Option<DiscoveryEvent> {
    let (id, node) = (entry.registration.id.clone(), entry.registration.node.clone());
    (entry.told != LeaseState::Gone).then_some(DiscoveryEvent::Gone { id, node, reason })
}
