//! The order in which jobs are leased: bands of priority, within a band lanes of keys that take turns, within a lane
//! first in, first out; and beside it the order by age.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::job::Job;

/// Jobs without a key share one lane.
pub(super) type LaneKey = Option<Arc<str>>;

#[derive(Debug, Default)]
struct Band {
    /// Whose turn it is: the lowest first.
    turns: BTreeMap<u64, LaneKey>,
    lanes: HashMap<LaneKey, Lane>,
}

#[derive(Debug)]
struct Lane {
    turn: u64,
    jobs: BTreeSet<u64>,
}

/// Jobs that may be leased.
#[derive(Debug, Default)]
pub(super) struct Ready {
    bands: BTreeMap<u8, Band>,
    by_age: BTreeSet<(i64, u64)>,
    next_turn: u64,
}

impl Ready {
    pub(super) fn len(&self) -> u64 {
        self.by_age.len() as u64
    }

    /// Adds a job that may run since `since`.
    pub(super) fn insert(&mut self, job: &Job, since: i64) {
        self.by_age.insert((since, job.seq));
        let band = self.bands.entry(job.priority).or_default();
        let lane = band.lanes.entry(job.key.clone()).or_insert_with(|| {
            self.next_turn += 1;
            band.turns.insert(self.next_turn, job.key.clone());
            Lane { turn: self.next_turn, jobs: BTreeSet::new() }
        });
        lane.jobs.insert(job.seq);
    }

    /// Removes a job; `false` when it is not there.
    pub(super) fn remove(&mut self, job: &Job, since: i64) -> bool {
        if !self.by_age.remove(&(since, job.seq)) {
            return false;
        }
        let Some(band) = self.bands.get_mut(&job.priority) else { return true };
        if let Some(lane) = band.lanes.get_mut(&job.key) {
            lane.jobs.remove(&job.seq);
            if lane.jobs.is_empty() {
                band.turns.remove(&lane.turn);
                band.lanes.remove(&job.key);
            }
        }
        if band.lanes.is_empty() {
            self.bands.remove(&job.priority);
        }
        true
    }

    /// The lane of this priority and key has had its turn.
    pub(super) fn had_turn(&mut self, priority: u8, key: &LaneKey) {
        self.next_turn += 1;
        let next = self.next_turn;
        let Some(band) = self.bands.get_mut(&priority) else { return };
        if let Some(lane) = band.lanes.get_mut(key) {
            band.turns.remove(&lane.turn);
            band.turns.insert(next, key.clone());
            lane.turn = next;
        }
    }

    /// Jobs by age, the oldest first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = (i64, u64)> {
        self.by_age.iter().copied()
    }

    /// Since when the oldest may run.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.by_age.first().map(|(since, _)| *since)
    }

    /// Lanes in the order of priority and turn, with their jobs in order.
    pub(super) fn lanes(&self) -> impl Iterator<Item = (&LaneKey, &BTreeSet<u64>)> {
        self.bands.values().rev().flat_map(|band| {
            band.turns.values().filter_map(|key| band.lanes.get(key).map(|lane| (key, &lane.jobs)))
        })
    }

    /// Whether the job is the first of its lane.
    pub(super) fn is_first(&self, job: &Job) -> bool {
        let lane = self.bands.get(&job.priority).and_then(|band| band.lanes.get(&job.key));
        lane.is_some_and(|lane| lane.jobs.first() == Some(&job.seq))
    }
}
