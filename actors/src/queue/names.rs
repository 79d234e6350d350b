//! Jobs as those outside see them: by partition and number.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    command::{Enqueued, GrantedJob},
    refusal::QueueRefusal,
};

/// Identity of a job within its queue, written as `PARTITION-NUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId {
    /// Partition, from 0.
    pub partition: u16,
    /// Number within it, from 1.
    pub seq: u64,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.seq)
    }
}

impl FromStr for JobId {
    type Err = QueueRefusal;
    fn from_str(text: &str) -> Result<Self, QueueRefusal> {
        let parsed = text.split_once('-').and_then(|(partition, seq)| {
            Some(Self { partition: partition.parse().ok()?, seq: seq.parse().ok()? })
        });
        parsed.ok_or_else(|| QueueRefusal::BadConfig(format!("{text:?} is no job id, such as 0-17")))
    }
}

/// What became of a job that was enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobEnqueued {
    /// It has this id.
    New(JobId),
    /// There is one of its unique key already.
    Duplicate {
        /// Its id.
        existing: JobId,
    },
    /// The waiting one of its unique key was replaced.
    Replaced(JobId),
}

impl JobEnqueued {
    pub(super) fn of(partition: u16, outcome: Enqueued) -> Self {
        let id = |seq| JobId { partition, seq };
        match outcome {
            Enqueued::New(seq) => Self::New(id(seq)),
            Enqueued::Duplicate { existing } => Self::Duplicate { existing: id(existing) },
            Enqueued::Replaced(seq) => Self::Replaced(id(seq)),
        }
    }

    /// The job that will do it.
    #[must_use]
    pub fn id(self) -> JobId {
        match self {
            Self::New(id) | Self::Replaced(id) | Self::Duplicate { existing: id } => id,
        }
    }
}

/// A job leased, with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Its id.
    pub id: JobId,
    /// Names the same effect at every attempt.
    pub idempotency_key: String,
    /// The lease: fence, attempt, kind, key, priority, when it runs out.
    pub lease: GrantedJob,
    /// What was enqueued.
    pub payload: Bytes,
}
