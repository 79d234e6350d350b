//! The state of one partition: what is stored whole in every entry, and the index of jobs rebuilt from rows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    config::QueueConfig,
    job::{Job, JobState},
    meter::{Meter, QueueFlow},
    ready::Ready,
    rows::Changes,
};

/// Counts since the queue began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Jobs accepted.
    #[serde(rename = "e")]
    pub enqueued: u64,
    /// Jobs acknowledged.
    #[serde(rename = "d")]
    pub done: u64,
    /// Jobs cancelled.
    #[serde(rename = "c")]
    pub cancelled: u64,
    /// Dead letters purged, by hand or to keep within their limits.
    #[serde(rename = "p")]
    pub purged: u64,
    /// Of these, to keep within their limits.
    #[serde(rename = "v")]
    pub evicted: u64,
    /// Attempts begun.
    #[serde(rename = "l")]
    pub leased: u64,
    /// Failures that are retried.
    #[serde(rename = "r")]
    pub retried: u64,
    /// Leases lost.
    #[serde(rename = "x")]
    pub lost: u64,
}

/// What every entry of a partition holds whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Fixed {
    /// Set once anything was enqueued or set.
    #[serde(rename = "x")]
    pub(super) exists: bool,
    #[serde(rename = "c")]
    pub(super) config: QueueConfig,
    #[serde(rename = "t")]
    pub(super) tally: Tally,
    /// Number of the last job.
    #[serde(rename = "s")]
    pub(super) last_seq: u64,
    /// Number of the last lease.
    #[serde(rename = "f")]
    pub(super) last_fence: u64,
    #[serde(rename = "p")]
    pub(super) paused: bool,
    #[serde(rename = "dr")]
    pub(super) draining: bool,
    /// When the durable timer is set to.
    #[serde(rename = "a")]
    pub(super) armed: Option<i64>,
    /// Arrival time of the queue's rate.
    #[serde(rename = "r")]
    pub(super) arrival: i64,
}

/// What is remembered of an ended job.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) enqueued_at: i64,
    pub(super) unique: Option<Arc<str>>,
    pub(super) cancelled: bool,
    pub(super) has_output: bool,
}

/// One partition of a queue.
#[derive(Debug, Default)]
pub struct Partition {
    pub(super) fixed: Fixed,
    /// Live and dead jobs.
    pub(super) jobs: HashMap<u64, Job>,
    pub(super) ready: Ready,
    /// By the time they wait for.
    pub(super) delayed: BTreeSet<(i64, u64)>,
    /// By the time their lease runs out.
    pub(super) leases: BTreeSet<(i64, u64)>,
    /// By the time they died.
    pub(super) dead: BTreeSet<(i64, u64)>,
    pub(super) ended: HashMap<u64, Ended>,
    /// By the time they ended.
    pub(super) ended_order: BTreeSet<(i64, u64)>,
    pub(super) unique: HashMap<Arc<str>, BTreeSet<u64>>,
    pub(super) leased_of_key: HashMap<Arc<str>, u32>,
    /// Jobs of a key that have run and wait to run again.
    pub(super) held_of_key: HashMap<Arc<str>, u32>,
    /// Arrival times of keys' rates.
    pub(super) arrivals: BTreeMap<Arc<str>, i64>,
    pub(super) changes: Changes,
    /// Shared by all partitions of the queue.
    pub(super) meter: Arc<Meter>,
}

fn count(counts: &mut HashMap<Arc<str>, u32>, key: &Option<Arc<str>>, up: bool) {
    let Some(key) = key else { return };
    let now = counts.entry(Arc::clone(key)).or_default();
    *now = if up { *now + 1 } else { now.saturating_sub(1) };
    if *now == 0 {
        counts.remove(key);
    }
}

impl Partition {
    /// Pending, delayed and leased jobs.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.ready.len() + (self.delayed.len() + self.leases.len()) as u64
    }

    /// What the queue did since the system was opened, in all partitions.
    #[must_use]
    pub fn flow(&self, now: i64) -> QueueFlow {
        self.meter.flow(now)
    }

    /// Settings in force.
    #[must_use]
    pub fn config(&self) -> &QueueConfig {
        &self.fixed.config
    }

    /// Whether anything was ever enqueued or set.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.fixed.exists
    }

    /// Adds a job to the index. One that waits is delayed until it is promoted.
    pub(super) fn index(&mut self, job: &Job) {
        match &job.state {
            JobState::Waiting(at) => {
                self.delayed.insert((*at, job.seq));
                if job.has_run() {
                    count(&mut self.held_of_key, &job.key, true);
                }
            }
            JobState::Leased(lease) => {
                self.leases.insert((lease.expires, job.seq));
                count(&mut self.leased_of_key, &job.key, true);
            }
            JobState::Dead { at, .. } => {
                self.dead.insert((*at, job.seq));
            }
            JobState::Done(_) | JobState::Cancelled(_) => {}
        }
    }

    fn unindex(&mut self, job: &Job) {
        match &job.state {
            JobState::Waiting(at) => {
                if self.delayed.remove(&(*at, job.seq)) {
                    if job.has_run() {
                        count(&mut self.held_of_key, &job.key, false);
                    }
                } else {
                    self.ready.remove(job, *at);
                }
            }
            JobState::Leased(lease) => {
                self.leases.remove(&(lease.expires, job.seq));
                count(&mut self.leased_of_key, &job.key, false);
            }
            JobState::Dead { at, .. } => {
                self.dead.remove(&(*at, job.seq));
            }
            JobState::Done(_) | JobState::Cancelled(_) => {}
        }
    }

    /// Moves what waits no longer to what may be leased.
    pub(super) fn promote(&mut self, now: i64) {
        while let Some((at, seq)) = self.delayed.first().copied() {
            if at > now {
                break;
            }
            self.delayed.remove(&(at, seq));
            if let Some(job) = self.jobs.get(&seq) {
                if job.has_run() {
                    count(&mut self.held_of_key, &job.key, false);
                }
                self.ready.insert(job, at);
            }
        }
    }

    /// Takes in a new job.
    pub(super) fn add(&mut self, job: Job, payload: Bytes) {
        self.changes.payload(job.seq, Some(payload));
        self.changes.job(job.seq);
        if let Some(unique) = &job.unique {
            self.unique.entry(Arc::clone(&unique.key)).or_default().insert(job.seq);
        }
        self.index(&job);
        self.jobs.insert(job.seq, job);
    }

    /// Changes a job that is live or dead; it stays one of these.
    pub(super) fn change<R>(&mut self, seq: u64, how: impl FnOnce(&mut Job) -> R) -> Option<R> {
        let mut job = self.jobs.remove(&seq)?;
        self.unindex(&job);
        let said = how(&mut job);
        self.index(&job);
        self.changes.job(seq);
        self.jobs.insert(seq, job);
        Some(said)
    }

    /// Ends a job: it is kept for looking at as long as there is room.
    pub(super) fn end(&mut self, seq: u64, state: JobState, at: i64) {
        let Some(mut job) = self.jobs.remove(&seq) else { return };
        self.unindex(&job);
        job.state = state;
        let cancelled = matches!(job.state, JobState::Cancelled(_));
        let tally = &mut self.fixed.tally;
        *(if cancelled { &mut tally.cancelled } else { &mut tally.done }) += 1;
        self.changes.payload(seq, None);
        self.changes.ended(&job);
        self.remember_ended(&job, at, cancelled);
        while self.ended.len() > self.fixed.config.keep_ended as usize && self.forget_oldest_ended() {}
    }

    pub(super) fn remember_ended(&mut self, job: &Job, at: i64, cancelled: bool) {
        let unique = job.unique.as_ref().map(|unique| Arc::clone(&unique.key));
        let (enqueued_at, has_output) = (job.enqueued_at, job.has_output);
        self.ended_order.insert((at, job.seq));
        self.ended.insert(job.seq, Ended { enqueued_at, unique, cancelled, has_output });
    }

    /// Forgets the ended job that ended first; `false`: there is none.
    pub(super) fn forget_oldest_ended(&mut self) -> bool {
        let Some((_, seq)) = self.ended_order.pop_first() else { return false };
        if let Some(ended) = self.ended.remove(&seq) {
            self.forget_unique(ended.unique.as_ref(), seq);
            self.changes.forget(seq, false, ended.has_output);
        }
        true
    }

    /// Forgets a dead letter.
    pub(super) fn purge(&mut self, seq: u64) {
        let Some(job) = self.jobs.remove(&seq) else { return };
        self.unindex(&job);
        self.fixed.tally.purged += 1;
        self.forget_unique(job.unique.as_ref().map(|unique| &unique.key), seq);
        self.changes.forget(seq, true, false);
    }

    fn forget_unique(&mut self, key: Option<&Arc<str>>, seq: u64) {
        let Some(key) = key else { return };
        if let Some(jobs) = self.unique.get_mut(key) {
            jobs.remove(&seq);
            if jobs.is_empty() {
                self.unique.remove(key);
            }
        }
    }

    /// Dead letters over their limit make room, the oldest first.
    pub(super) fn bound_dead(&mut self) {
        while self.dead.len() > self.fixed.config.dead_max as usize {
            let Some((_, seq)) = self.dead.first().copied() else { break };
            self.purge(seq);
            self.fixed.tally.evicted += 1;
        }
    }
}
