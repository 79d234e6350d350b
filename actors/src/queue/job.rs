//! A job: what is asked for, and what is stored of it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    config::{QueueConfig, check_retry},
    refusal::QueueRefusal,
};
use crate::{
    entity::Failure,
    resilience::retry::RetryPolicy,
    store::{CodecError, ROW_MAX_BYTES, encode},
};

/// Longest kind, key and unique key of a job, and longest name of a worker, in bytes.
pub const JOB_WORD_MAX_BYTES: usize = 200;
/// Attempts kept in a job's history; older ones are dropped.
pub const JOB_HISTORY_MAX: usize = 16;
/// Longest text kept of a failure or a note, in bytes.
pub const JOB_TEXT_MAX_BYTES: usize = 400;

/// Where a job stands, as counted and listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// May be leased.
    Pending,
    /// Waits for its time.
    Delayed,
    /// Leased.
    InFlight,
    /// Acknowledged.
    Done,
    /// Failed for good: a dead letter.
    Dead,
    /// Cancelled.
    Cancelled,
}

impl JobStatus {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delayed => "delayed",
            Self::InFlight => "in_flight",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// At most one job of a key, among those in some states and of some age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    /// What is unique within the partition: jobs without a `key` are spread by it.
    #[serde(rename = "k")]
    pub key: Arc<str>,
    /// Only jobs enqueued within this time count; 0: of any age.
    #[serde(rename = "p", default)]
    pub period_ms: u64,
    /// Jobs in these states count. Done and cancelled ones count as long as they are kept.
    #[serde(rename = "s")]
    pub states: Vec<JobStatus>,
    /// A job that still waits is replaced (payload, kind, priority, time) instead of refused.
    #[serde(rename = "r", default)]
    pub replace: bool,
}

impl Unique {
    /// Unique among jobs that are pending, delayed or in flight.
    #[must_use]
    pub fn while_live(key: impl Into<Arc<str>>) -> Self {
        let states = vec![JobStatus::Pending, JobStatus::Delayed, JobStatus::InFlight];
        Self { key: key.into(), period_ms: 0, states, replace: false }
    }
}

/// When a job may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunAt {
    /// At once.
    #[default]
    #[serde(rename = "n")]
    Now,
    /// This many milliseconds after it was enqueued.
    #[serde(rename = "d")]
    After(u64),
    /// At this time, in microseconds since the epoch; at once when it has passed.
    #[serde(rename = "t")]
    At(i64),
}

/// A job to be enqueued.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NewJob {
    /// Given to the worker: at most 1 MiB.
    #[serde(rename = "p")]
    pub payload: Bytes,
    /// What kind of work it is, for example an activity; workers say what they take.
    #[serde(rename = "k", default)]
    pub kind: Arc<str>,
    /// 0, the lowest, up to the queue's highest band.
    #[serde(rename = "pr", default)]
    pub priority: u8,
    /// Jobs of one key go to one partition, and share its limits.
    #[serde(rename = "key", default)]
    pub key: Option<Arc<str>>,
    /// When it may run.
    #[serde(rename = "at", default)]
    pub run_at: RunAt,
    /// At most one of a key.
    #[serde(rename = "u", default)]
    pub unique: Option<Unique>,
    /// What happens after a failure; `None`: as the queue says.
    #[serde(rename = "r", default)]
    pub retry: Option<RetryPolicy>,
    /// Longest attempt in milliseconds, whatever is extended; 0: no limit.
    #[serde(rename = "t", default)]
    pub timeout_ms: u64,
}

impl NewJob {
    /// A job of this kind with this payload.
    #[must_use]
    pub fn new(kind: impl Into<Arc<str>>, payload: impl Into<Bytes>) -> Self {
        Self { kind: kind.into(), payload: payload.into(), ..Self::default() }
    }

    /// A job of this kind; the payload is the MessagePack of `input`, which is what activities read.
    ///
    /// # Errors
    /// [`CodecError`] when it does not encode.
    pub fn with_input(kind: impl Into<Arc<str>>, input: &impl Serialize) -> Result<Self, CodecError> {
        Ok(Self::new(kind, encode(input)?))
    }

    /// When it may run, if asked for at `now`.
    pub(super) fn due(&self, now: i64) -> i64 {
        match self.run_at {
            RunAt::Now => now,
            RunAt::After(ms) => later(now, ms),
            RunAt::At(at) => at.max(now),
        }
    }

    /// Checks it against the queue's settings.
    pub(super) fn check(&self, config: &QueueConfig, now: i64) -> Result<(), QueueRefusal> {
        check_size("payload", self.payload.len(), ROW_MAX_BYTES)?;
        check_size("kind", self.kind.len(), JOB_WORD_MAX_BYTES)?;
        check_size("key", self.key.as_ref().map_or(0, |key| key.len()), JOB_WORD_MAX_BYTES)?;
        if let Some(unique) = &self.unique {
            check_size("unique key", unique.key.len(), JOB_WORD_MAX_BYTES)?;
            check_size("unique states", unique.states.len(), 6)?;
        }
        let highest = config.priorities.saturating_sub(1);
        if self.priority > highest {
            return Err(QueueRefusal::UnknownPriority { priority: self.priority, highest });
        }
        if self.due(now) > later(now, config.horizon_ms) {
            return Err(QueueRefusal::BeyondHorizon { horizon_ms: config.horizon_ms });
        }
        self.retry.as_ref().map_or(Ok(()), check_retry)
    }
}

/// `ms` milliseconds after `now`.
pub(super) fn later(now: i64, ms: u64) -> i64 {
    now.saturating_add(i64::try_from(ms.saturating_mul(1_000)).unwrap_or(i64::MAX))
}

pub(super) fn check_size(what: &str, size: usize, limit: usize) -> Result<(), QueueRefusal> {
    if size > limit {
        return Err(QueueRefusal::TooLarge { what: what.to_owned(), size, limit });
    }
    Ok(())
}

/// The text, cut to what is kept.
pub(super) fn cut(text: &str) -> String {
    let mut end = text.len().min(JOB_TEXT_MAX_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// A lease: who works on a job, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who.
    #[serde(rename = "w")]
    pub worker: Arc<str>,
    /// Which life of the worker; a later one is larger.
    #[serde(rename = "i")]
    pub incarnation: u64,
    /// Number of the lease: unique in the partition, ascending.
    #[serde(rename = "f")]
    pub fence: u64,
    /// Since when.
    #[serde(rename = "s")]
    pub since: i64,
    /// Until when, in microseconds since the epoch.
    #[serde(rename = "e")]
    pub expires: i64,
    /// Cancelled: the worker is told, and loses the lease at this time.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub cancel_by: Option<i64>,
}

/// Where a job stands, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Waits until this time, then to be leased.
    #[serde(rename = "w")]
    Waiting(i64),
    /// Leased.
    #[serde(rename = "l")]
    Leased(Lease),
    /// A dead letter.
    #[serde(rename = "x")]
    Dead {
        /// Since when.
        #[serde(rename = "a")]
        at: i64,
        /// Code of the last failure.
        #[serde(rename = "c")]
        code: String,
        /// Its text.
        #[serde(rename = "m")]
        message: String,
    },
    /// Acknowledged at this time.
    #[serde(rename = "d")]
    Done(i64),
    /// Cancelled at this time.
    #[serde(rename = "c")]
    Cancelled(i64),
}

/// What became of an attempt, or was done to the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// The attempt.
    #[serde(rename = "n")]
    pub attempt: u32,
    /// When.
    #[serde(rename = "a")]
    pub at: i64,
    /// The worker, if one had it.
    #[serde(rename = "w", default)]
    pub worker: Arc<str>,
    /// `done`, `requeued`, `edited`, or a code of failure.
    #[serde(rename = "c")]
    pub code: String,
    /// Text of the failure.
    #[serde(rename = "m", default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What is stored of a job beside its payload and output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Number within the partition, ascending.
    #[serde(rename = "i")]
    pub seq: u64,
    /// Kind of work.
    #[serde(rename = "k")]
    pub kind: Arc<str>,
    /// Priority.
    #[serde(rename = "pr", default)]
    pub priority: u8,
    /// Key, if it has one.
    #[serde(rename = "key", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// When it was enqueued.
    #[serde(rename = "e")]
    pub enqueued_at: i64,
    /// Uniqueness, if asked for.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// Its own retry policy.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// Longest attempt in milliseconds; 0: no limit.
    #[serde(rename = "t", default)]
    pub timeout_ms: u64,
    /// Where it stands.
    #[serde(rename = "s")]
    pub state: JobState,
    /// Attempts begun.
    #[serde(rename = "n", default)]
    pub attempt: u32,
    /// Attempts failed since it was enqueued or requeued.
    #[serde(rename = "f", default)]
    pub failures: u32,
    /// Leases lost since it was enqueued or requeued.
    #[serde(rename = "l", default)]
    pub lost: u32,
    /// When the first attempt began.
    #[serde(rename = "fs", default, skip_serializing_if = "Option::is_none")]
    pub first_started: Option<i64>,
    /// Delay before the last retry, in microseconds.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub last_delay_us: Option<u64>,
    /// What happened to it, the last last.
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Happening>,
    /// Percent done, as its worker said.
    #[serde(rename = "pg", default)]
    pub progress: u8,
    /// What its worker said beside.
    #[serde(rename = "nt", default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Whether an output is stored.
    #[serde(rename = "o", default)]
    pub has_output: bool,
}

impl Job {
    pub(super) fn new(seq: u64, new: &NewJob, now: i64) -> Self {
        Self {
            seq,
            kind: Arc::clone(&new.kind),
            priority: new.priority,
            key: new.key.clone(),
            enqueued_at: now,
            unique: new.unique.clone(),
            retry: new.retry.clone(),
            timeout_ms: new.timeout_ms,
            state: JobState::Waiting(new.due(now)),
            attempt: 0,
            failures: 0,
            lost: 0,
            first_started: None,
            last_delay_us: None,
            history: Vec::new(),
            progress: 0,
            note: String::new(),
            has_output: false,
        }
    }

    /// Where it stands at `now`.
    #[must_use]
    pub fn status(&self, now: i64) -> JobStatus {
        match &self.state {
            JobState::Waiting(at) if *at > now => JobStatus::Delayed,
            JobState::Waiting(_) => JobStatus::Pending,
            JobState::Leased(_) => JobStatus::InFlight,
            JobState::Dead { .. } => JobStatus::Dead,
            JobState::Done(_) => JobStatus::Done,
            JobState::Cancelled(_) => JobStatus::Cancelled,
        }
    }

    /// Whether an attempt of it was begun.
    pub(super) fn has_run(&self) -> bool {
        self.attempt > 0
    }

    /// The lease, if `fence` names it and it has not run out.
    pub(super) fn lease(&self, fence: u64, now: i64) -> Option<&Lease> {
        match &self.state {
            JobState::Leased(lease) if lease.fence == fence && lease.expires > now => Some(lease),
            _ => None,
        }
    }

    /// The latest time of the attempt that began at `since`.
    pub(super) fn attempt_ends(&self, since: i64) -> i64 {
        if self.timeout_ms == 0 { i64::MAX } else { later(since, self.timeout_ms) }
    }

    /// Remembers what happened, by whom it was leased.
    pub(super) fn happened(&mut self, code: &str, message: &str, now: i64) {
        let worker = match &self.state {
            JobState::Leased(lease) => Arc::clone(&lease.worker),
            _ => Arc::from(""),
        };
        if self.history.len() >= JOB_HISTORY_MAX {
            self.history.remove(0);
        }
        let (code, message) = (cut(code), cut(message));
        self.history.push(Happening { attempt: self.attempt, at: now, worker, code, message });
    }

    /// Becomes a dead letter.
    pub(super) fn die(&mut self, failure: &Failure, now: i64) {
        self.state = JobState::Dead { at: now, code: cut(&failure.code), message: cut(&failure.message) };
    }
}
