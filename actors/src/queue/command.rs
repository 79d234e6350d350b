//! What is said to a partition, and what it answers: the wire schema of the kind `queue`.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    config::QueueConfig,
    job::{Job, JobState, NewJob},
    refusal::QueueRefusal,
};
use crate::{entity::Failure, resilience::retry::RetryPolicy};

/// Kind of the entities that are partitions of queues.
pub const QUEUE_KIND: &str = "queue";

/// A command to a partition. Lists have 1..=256 items; items of one list are judged one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum QueueCommand {
    /// Adds jobs: all of them, but for duplicates, or none.
    Enqueue {
        /// The jobs.
        jobs: Vec<NewJob>,
        /// Partitions of the queue, as the caller knows them.
        partitions: u16,
    },
    /// Leases jobs, and takes back what is overdue.
    Lease(LeaseRequest),
    /// The jobs are done.
    Ack(Vec<Ack>),
    /// The attempts failed.
    Nack(Vec<Nack>),
    /// Prolongs leases and notes progress.
    Extend(Vec<Extend>),
    /// Jobs are given back as they were: no attempt of them failed.
    Release(Vec<Release>),
    /// Cancels jobs; workers of leased ones are told at their next extension and lose the lease after the grace.
    Cancel {
        /// Numbers.
        jobs: Vec<u64>,
        /// Milliseconds.
        grace_ms: u64,
    },
    /// Dead letters and delayed jobs run again at once.
    Retry(Vec<u64>),
    /// Leases nothing until resumed.
    Pause,
    /// Ends pause and drain.
    Resume,
    /// Takes no more jobs.
    Drain,
    /// Sets the settings.
    Configure(QueueConfig),
    /// Takes back the leases that earlier lives of a worker hold.
    ReleaseWorker {
        /// The worker.
        worker: Arc<str>,
        /// Leases of lives below.
        before_incarnation: u64,
    },
    /// Changes a dead letter.
    DeadEdit(DeadEdit),
    /// Dead letters become pending, at most 256 at a time.
    DeadRequeue(DeadFilter),
    /// Forgets dead letters, at most 256 at a time.
    DeadPurge(DeadFilter),
}

/// Who wants work, and what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// Name of the worker: 1..=200 bytes.
    #[serde(rename = "w")]
    pub worker: Arc<str>,
    /// Its life; a later one is larger.
    #[serde(rename = "i", default)]
    pub incarnation: u64,
    /// Kinds of jobs it takes; empty: any.
    #[serde(rename = "k", default)]
    pub kinds: Vec<Arc<str>>,
    /// Most jobs: 1..=256.
    #[serde(rename = "n")]
    pub n: usize,
    /// How long the lease lasts: at least 1 ms.
    #[serde(rename = "ms")]
    pub lease_ms: u64,
}

/// A job is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Number.
    #[serde(rename = "i")]
    pub job: u64,
    /// Fence of the lease.
    #[serde(rename = "f")]
    pub fence: u64,
    /// Output, if it has one: at most 1 MiB, kept as long as the job.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Bytes>,
}

/// An attempt failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nack {
    /// Number.
    #[serde(rename = "i")]
    pub job: u64,
    /// Fence of the lease.
    #[serde(rename = "f")]
    pub fence: u64,
    /// Why, and whether another attempt may mend it.
    #[serde(rename = "y")]
    pub failure: Failure,
    /// What the worker does after failures of this kind of job; the job's own policy goes before it, the queue's after.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
}

/// A job is given back as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Number.
    #[serde(rename = "i")]
    pub job: u64,
    /// Fence of the lease.
    #[serde(rename = "f")]
    pub fence: u64,
    /// Why: one of the codes in docs/ERRORS.md, or the worker's own.
    #[serde(rename = "c")]
    pub code: String,
    /// Milliseconds until it may be leased again; 0: at once.
    #[serde(rename = "ms", default)]
    pub after_ms: u64,
}

/// A worker still works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extend {
    /// Number.
    #[serde(rename = "i")]
    pub job: u64,
    /// Fence of the lease.
    #[serde(rename = "f")]
    pub fence: u64,
    /// The lease lasts this long from here on; 0: as it is.
    #[serde(rename = "ms")]
    pub by_ms: u64,
    /// Percent done: 0..=100.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<u8>,
    /// A note: at most 400 bytes are kept.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What to change of a dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadEdit {
    /// Number.
    #[serde(rename = "i")]
    pub job: u64,
    /// New payload.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Bytes>,
    /// New kind.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Arc<str>>,
    /// New priority.
    #[serde(rename = "pr", default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

/// Which dead letters: those that meet every condition given. Without a condition, none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadFilter {
    /// All of them.
    #[serde(rename = "a", default)]
    pub all: bool,
    /// With these numbers; empty: any.
    #[serde(rename = "i", default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<u64>,
    /// Of this kind.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Arc<str>>,
    /// With this code of failure.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Dead since before this time, in microseconds since the epoch.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
}

impl DeadFilter {
    /// Whether it has a condition.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        self.all
            || !self.jobs.is_empty()
            || self.kind.is_some()
            || self.code.is_some()
            || self.before.is_some()
    }

    /// Whether this dead letter is meant.
    #[must_use]
    pub fn selects(&self, job: &Job) -> bool {
        let JobState::Dead { at, code, .. } = &job.state else { return false };
        self.is_explicit()
            && (self.jobs.is_empty() || self.jobs.contains(&job.seq))
            && self.kind.as_ref().is_none_or(|kind| *kind == job.kind)
            && self.code.as_ref().is_none_or(|wanted| wanted == code)
            && self.before.is_none_or(|before| *at < before)
    }
}

/// What a partition answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum QueueReply {
    /// One for each job, in order.
    Enqueued(Vec<Enqueued>),
    /// Jobs leased, in the order to work on them.
    Leased(Granted),
    /// One for each item, in order.
    Settled(Vec<Result<Settled, QueueRefusal>>),
    /// How many were meant, and whether more are left.
    Count {
        /// Number.
        count: u64,
        /// Whether more are left.
        more: bool,
    },
    /// It is so.
    Done,
}

/// What became of a job that was to be enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Enqueued {
    /// It has this number.
    #[serde(rename = "n")]
    New(u64),
    /// There is one of its unique key already.
    #[serde(rename = "d")]
    Duplicate {
        /// Its number.
        #[serde(rename = "i")]
        existing: u64,
    },
    /// The waiting one of its unique key was replaced, and keeps its number.
    #[serde(rename = "r")]
    Replaced(u64),
}

/// Jobs leased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The jobs.
    #[serde(rename = "j")]
    pub jobs: Vec<GrantedJob>,
    /// When fewer than asked for: asking again before this time is in vain, unless jobs are added or settled.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub next_us: Option<i64>,
}

/// A job leased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedJob {
    /// Number.
    #[serde(rename = "i")]
    pub seq: u64,
    /// Fence of the lease.
    #[serde(rename = "f")]
    pub fence: u64,
    /// Number of the attempt, from 1.
    #[serde(rename = "n")]
    pub attempt: u32,
    /// Kind.
    #[serde(rename = "k")]
    pub kind: Arc<str>,
    /// Key.
    #[serde(rename = "key", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// Priority.
    #[serde(rename = "p")]
    pub priority: u8,
    /// When the lease runs out.
    #[serde(rename = "e")]
    pub expires: i64,
    /// Longest time of an attempt in milliseconds; 0: none.
    #[serde(rename = "t", default)]
    pub timeout_ms: u64,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Settled {
    /// The job is done.
    #[serde(rename = "d")]
    Done,
    /// It runs again at this time.
    #[serde(rename = "w")]
    Waits(i64),
    /// It is a dead letter.
    #[serde(rename = "x")]
    Dead,
    /// It is cancelled.
    #[serde(rename = "c")]
    Cancelled,
    /// The lease lasts until then; with `cancel`, the worker shall stop.
    #[serde(rename = "l")]
    Leased {
        /// When it runs out.
        #[serde(rename = "e")]
        expires: i64,
        /// Whether the job is being cancelled.
        #[serde(rename = "c")]
        cancel: bool,
    },
}
