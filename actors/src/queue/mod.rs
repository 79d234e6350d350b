//! Persistent queues: a partition is an entity, a job is a row of it.
//!
//! Knows no activity and no worker's code. `partition` and `ready` are the state, `decide`, `lease` and `dead` what is
//! decided on it, all of it pure; `machine` puts it behind an entity, [`Queue`] is the handle,
//! [`Taker`] what workers take jobs with.

mod bells;
mod command;
mod config;
mod control;
mod dead;
mod decide;
mod enqueue;
mod error;
mod gather;
mod handle;
mod histogram;
mod job;
mod lease;
mod look;
mod machine;
mod meter;
mod names;
mod partition;
mod ready;
mod refusal;
mod rows;
mod stats;
mod taker;
#[cfg(test)]
mod tests;

pub use self::{
    bells::{Bell, Bells},
    command::{
        Ack, DeadEdit, DeadFilter, Enqueued, Extend, Granted, GrantedJob, LeaseRequest, Nack, QUEUE_KIND,
        QueueCommand, QueueReply, Release, Settled,
    },
    config::{QUEUE_BATCH_MAX, QUEUE_JOBS_MAX, QUEUE_PARTITIONS_MAX, QueueConfig, Rate},
    error::QueueError,
    handle::Queue,
    histogram::TimeHistogram,
    job::{
        Happening, JOB_HISTORY_MAX, JOB_TEXT_MAX_BYTES, JOB_WORD_MAX_BYTES, Job, JobState, JobStatus, Lease,
        NewJob, RunAt, Unique,
    },
    lease::{LEASE_EXPIRED, LEASE_RELEASED},
    look::JobView,
    machine::queue_kind,
    meter::{Flow, QUEUE_KEYS_COUNTED, QUEUE_RATE_SECONDS, QueueFlow},
    names::{JobEnqueued, JobId, Work},
    partition::{Partition, Tally},
    refusal::QueueRefusal,
    stats::{QueueMetrics, QueueStats},
    taker::Taker,
};
