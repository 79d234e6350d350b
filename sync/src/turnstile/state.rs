//! [`State`]: what a turnstile knows under its lock.

use super::{
    TurnstileLimits, TurnstileLoad,
    lane::{LENT_MAX, Lane},
};
use crate::padded::Padded;
use crate::planted::{Bug, planted};
use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

#[derive(Debug)]
pub(super) struct State {
    pub(super) limits: TurnstileLimits,
    /// Callers inside, and their weight, but for those that came by a lane.
    pub(super) inside: u64,
    weight: u64,
    /// Places lent to lanes: free ones, and those of callers that are inside by a lane.
    pub(super) lent: u64,
    /// Never while somebody waits.
    lanes_are_open: bool,
    next_ticket: u64,
    pub(super) waiting: BTreeMap<u64, Waiting>,
    /// Let in (already counted inside), not yet polled.
    pub(super) granted: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) weight: u64,
    pub(super) waker: Waker,
}

impl State {
    pub(super) fn new(limits: TurnstileLimits) -> Self {
        Self {
            limits,
            inside: 0,
            weight: 0,
            lent: 0,
            lanes_are_open: false,
            next_ticket: 0,
            waiting: BTreeMap::new(),
            granted: BTreeSet::new(),
        }
    }

    /// Whether there is room, once all places that are lent and free have been taken back if need be.
    pub(super) fn makes_room(&mut self, weight: u64, lanes: &[Padded<Lane>]) -> bool {
        if self.has_room(weight, lanes) {
            return true;
        }
        if !planted(Bug::TurnstileRefusesWithoutALook) {
            self.close(lanes);
        }
        self.has_room(weight, lanes)
    }

    /// While lanes are open, what is lent counts as taken.
    fn has_room(&self, weight: u64, lanes: &[Padded<Lane>]) -> bool {
        let by_lane: u64 = lanes.iter().map(|lane| lane.0.weight()).sum();
        let sum = self.weight.checked_add(by_lane).and_then(|sum| sum.checked_add(weight));
        sum.is_some_and(|sum| sum <= self.limits.weight) && self.taken() < self.limits.places
    }

    fn taken(&self) -> u64 {
        self.inside + self.lent
    }

    pub(super) fn count(&mut self, weight: u64) {
        self.inside += 1;
        self.weight += weight;
    }

    pub(super) fn discount(&mut self, weight: u64) {
        self.inside -= 1;
        self.weight -= weight;
    }

    pub(super) fn queue(&mut self, weight: u64, waker: Waker) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.insert(ticket, Waiting { weight, waker });
        ticket
    }

    /// Lets in, in turn, who has room; the wakers of these.
    pub(super) fn admit(&mut self, lanes: &[Padded<Lane>]) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            let weight = first.get().weight;
            if !self.has_room(weight, lanes) {
                break;
            }
            let Some((ticket, waiting)) = self.waiting.pop_first() else { break };
            self.count(weight);
            self.granted.insert(ticket);
            woken.push(waiting.waker);
        }
        self.open_if_calm(lanes);
        woken
    }

    /// Takes those out of the queue that are heavier than this; their wakers.
    pub(super) fn turn_away(&mut self, heavier_than: u64) -> Vec<Waker> {
        let heavy = self.waiting.iter().filter(|(_, one)| one.weight > heavier_than);
        let heavy: Vec<u64> = heavy.map(|(ticket, _)| *ticket).collect();
        heavy.iter().filter_map(|ticket| self.waiting.remove(ticket)).map(|one| one.waker).collect()
    }

    /// Closes the lanes: from here on until they are opened, whoever enters or leaves needs the lock.
    pub(super) fn close(&mut self, lanes: &[Padded<Lane>]) {
        if std::mem::take(&mut self.lanes_are_open) {
            self.lent -= lanes.iter().map(|lane| lane.0.close()).sum::<u64>();
        }
    }

    /// Opens the lanes when at least half of the places are free: nearer to the limit they would be closed again soon.
    pub(super) fn open_if_calm(&mut self, lanes: &[Padded<Lane>]) {
        let is_calm = self.waiting.is_empty() && self.taken() <= self.limits.places / 2;
        if is_calm && !self.lanes_are_open && lanes.len() > 1 && self.limits.weight == u64::MAX {
            lanes.iter().for_each(|lane| lane.0.open());
            self.lanes_are_open = true;
        }
    }

    /// Lends a lane its part of what is free.
    pub(super) fn lend(&mut self, lane: Option<&Lane>, lanes: usize) {
        let free = self.limits.places.saturating_sub(self.taken());
        let part = (free / (2 * lanes.max(1) as u64)).min(LENT_MAX.saturating_sub(self.lent));
        if let (true, Some(lane)) = (self.lanes_are_open && part > 0, lane) {
            lane.lend(part);
            self.lent += part;
        }
    }

    pub(super) fn load(&self, lanes: &[Padded<Lane>]) -> TurnstileLoad {
        let sum = |of: fn(&Lane) -> u64| lanes.iter().map(|lane| of(&lane.0)).sum::<u64>();
        TurnstileLoad {
            inside: self.taken().saturating_sub(sum(Lane::free)),
            weight: self.weight.saturating_add(sum(Lane::weight)),
            waiting: self.waiting.len(),
        }
    }
}
