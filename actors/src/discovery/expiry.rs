//! Leases that run out, and what events tell of them.

use super::{
    Discovery, DiscoveryEvent, GoneReason, LeaseState,
    registry::gone,
    slots::{Entry, Slot},
};
use crate::ids::Timestamp;

impl Discovery {
    /// Tells what became of leases until `now`, and forgets what is gone for long.
    pub fn expire(&mut self, now: Timestamp) -> Vec<DiscoveryEvent> {
        let mut events = Vec::new();
        while let Some((_, slot)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            events.extend(self.wake(slot, now));
        }
        let kept = self.options.gone_kept();
        self.down.retain(|_, (_, since)| now.since(*since) < kept);
        events
    }

    /// When [`Self::expire`] has something to do next; `None`: nothing while nobody is registered.
    #[must_use]
    pub fn next_change_at(&self) -> Option<Timestamp> {
        self.wakes.first().map(|(at, _)| *at)
    }

    fn wake(&mut self, slot: Slot, now: Timestamp) -> Vec<DiscoveryEvent> {
        let Some(entry) = self.slots.get(slot) else { return Vec::new() };
        if entry.told == LeaseState::Gone && entry.state(now) == LeaseState::Gone {
            self.remove(slot);
            return Vec::new();
        }
        self.tell(slot, false, now)
    }

    /// Tells how the state differs from what was told, and sets when it is looked at next.
    pub(super) fn tell(&mut self, slot: Slot, is_changed: bool, now: Timestamp) -> Vec<DiscoveryEvent> {
        let kept = self.options.gone_kept();
        let Some(mut entry) = self.slots.get_mut(slot) else { return Vec::new() };
        let state = entry.state(now);
        let event = event(&entry, state, is_changed);
        let is_other = entry.told != state;
        entry.told = state;
        let next = match entry.terms.next_change(state) {
            Some(age) => entry.beat_at.after(age),
            None => now.after(kept),
        };
        // A heartbeat alone leaves the place in the queue as it is: too early is looked at again.
        if is_other || entry.wakes_at <= now || next < entry.wakes_at {
            // Past `now`, or one tick would look at it for ever.
            let next = next.max(Timestamp(now.0.saturating_add(1)));
            self.wakes.remove(&(entry.wakes_at, slot));
            entry.wakes_at = next;
            self.wakes.insert((next, slot));
        }
        event.into_iter().collect()
    }
}

fn event(entry: &Entry, state: LeaseState, is_changed: bool) -> Option<DiscoveryEvent> {
    let id = entry.registration.id.clone();
    match (entry.told, state) {
        (LeaseState::Gone, LeaseState::Live | LeaseState::Suspect) => {
            Some(DiscoveryEvent::Added { id, node: entry.registration.node.clone() })
        }
        (LeaseState::Live, LeaseState::Suspect) => Some(DiscoveryEvent::Suspect { id }),
        (LeaseState::Live | LeaseState::Suspect, LeaseState::Gone) => {
            gone(entry, entry.ended.unwrap_or(GoneReason::Expired))
        }
        (LeaseState::Suspect, LeaseState::Live) => Some(DiscoveryEvent::Changed { id }),
        (LeaseState::Live, LeaseState::Live)
        | (LeaseState::Suspect, LeaseState::Suspect)
        | (LeaseState::Gone, LeaseState::Gone) => is_changed.then_some(DiscoveryEvent::Changed { id }),
    }
}
