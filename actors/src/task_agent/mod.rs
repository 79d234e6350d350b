//! Task agents: workers that take jobs from a persistent queue and run activities for them.
//!
//! `record` is what is stored of an agent (its pause), `shared` what lives through all its lives in this process, `engine`
//! takes jobs, `job` runs one, `extend` keeps its lease, `settle` tells the queue; `dispatch` gives the jobs of a pool to
//! its agents. The actor owns all of it.

mod actor;
mod config;
mod dispatch;
mod engine;
mod extend;
mod handle;
mod job;
mod pool;
mod record;
mod settle;
mod shared;

pub use self::{
    actor::{TaskAgentActor, TaskAgentArgs, TaskAgentLife, TaskAgentMsg, TaskWork},
    config::{
        AutoPause, TASK_AGENT_CONCURRENCY_MAX, TASK_AGENT_LEASE_MIN_MS, TASK_TIMEOUT_MIN_MS, TaskAgentConfig,
        TaskAgentConfigError, TaskType,
    },
    handle::{TaskAgent, TaskAgentError, TaskAgentTable},
    job::{JOB_BREAKER_OPEN, JOB_DRAINED},
    pool::{PoolMember, PoolShared, TaskPoolConfig, TaskPoolTable},
    record::{PAUSE_TEXT_MAX_BYTES, Pause, TaskAgentCommand, TaskAgentRejection, TaskAgentState},
    shared::{RunningJob, Shared, TaskAgentActivity, TaskAgentCounts, TaskAgentStatus},
};
