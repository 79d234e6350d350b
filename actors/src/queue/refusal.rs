//! Why a queue refuses a command, or an item of one.

use serde::{Deserialize, Serialize};

use crate::error::{Coded, Family};

/// Why a queue refuses a command, or an item of one; nothing of it changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum QueueRefusal {
    /// The batch does not fit; none of it was enqueued.
    #[error("queue is full: {size} of {max} jobs; let workers catch up, or raise its max")]
    QueueFull {
        /// Pending, delayed and leased jobs.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// The lease ran out, was taken back, or is another worker's.
    #[error("lease is lost: another attempt may run; do not use the result")]
    LeaseLost,
    /// Nothing was ever enqueued or set under this name.
    #[error("there is no such queue")]
    UnknownQueue,
    /// No such job, or it is no longer kept.
    #[error("there is no job {0} in this queue")]
    UnknownJob(u64),
    /// The job's state does not allow it.
    #[error("the job is {0}")]
    WrongState(String),
    /// The priority is outside the queue's bands.
    #[error("priority {priority} is unknown: the queue has 0..={highest}")]
    UnknownPriority {
        /// As asked for.
        priority: u8,
        /// The highest there is.
        highest: u8,
    },
    /// The job would run too far in the future.
    #[error("run-at lies beyond the horizon of {horizon_ms} ms")]
    BeyondHorizon {
        /// The queue's horizon.
        horizon_ms: u64,
    },
    /// The queue takes no jobs while it is drained.
    #[error("queue is draining: resume it to enqueue again")]
    Draining,
    /// A part of the command is too large.
    #[error("{what} has {size}, at most {limit} are allowed")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size, in bytes or items.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// A command without items.
    #[error("the batch is empty")]
    Empty,
    /// Settings outside their limits.
    #[error("bad settings: {0}")]
    BadConfig(String),
    /// The number of partitions cannot change while jobs are live.
    #[error("the queue holds {0} live jobs: drain it before its partitions change")]
    NotEmpty(u64),
    /// The queue has another number of partitions than the caller thought.
    #[error("the queue has {0} partitions")]
    Repartitioned(u16),
    /// What has effect on all dead letters has to say so.
    #[error("say which dead letters: a filter without a condition selects nothing (set `all`)")]
    NoFilter,
}

impl Coded for QueueRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::QueueFull { .. } => "queue.full",
            Self::LeaseLost => "queue.lease_lost",
            Self::UnknownQueue => "queue.unknown",
            Self::UnknownJob(_) => "queue.unknown_job",
            Self::WrongState(_) => "queue.wrong_state",
            Self::UnknownPriority { .. } => "queue.unknown_priority",
            Self::BeyondHorizon { .. } => "queue.beyond_horizon",
            Self::Draining => "queue.draining",
            Self::TooLarge { .. } => "queue.too_large",
            Self::Empty => "queue.empty_batch",
            Self::BadConfig(_) => "queue.bad_config",
            Self::NotEmpty(_) => "queue.not_empty",
            Self::Repartitioned(_) => "queue.repartitioned",
            Self::NoFilter => "queue.no_filter",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::QueueFull { .. } | Self::Draining | Self::Repartitioned(_) => Family::Unavailable,
            Self::LeaseLost
            | Self::UnknownQueue
            | Self::UnknownJob(_)
            | Self::WrongState(_)
            | Self::UnknownPriority { .. }
            | Self::BeyondHorizon { .. }
            | Self::TooLarge { .. }
            | Self::Empty
            | Self::BadConfig(_)
            | Self::NotEmpty(_)
            | Self::NoFilter => Family::Rejected,
        }
    }
}
