//! Settings of a task agent and their limits.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Coded, Family},
    queue::JOB_WORD_MAX_BYTES,
    resilience::{
        breaker::BreakerOptions,
        retry::{RetryPolicy, TEN_YEARS_MS},
    },
};

/// Most jobs a task agent runs at once.
pub const TASK_AGENT_CONCURRENCY_MAX: u32 = 1_024;
/// Shortest lease, in milliseconds: it is extended at a third of its time.
pub const TASK_AGENT_LEASE_MIN_MS: u64 = 100;
/// Shortest limit of an attempt, in milliseconds.
pub const TASK_TIMEOUT_MIN_MS: u64 = 10;

/// Settings of a task agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskAgentConfig {
    /// Its name, unique in the system: 1..=128 visible characters without `/`. Its leases carry it.
    pub name: String,
    /// The queue it takes jobs from.
    pub queue: String,
    /// What it can do: at least one.
    pub types: Vec<TaskType>,
    /// Most jobs at once: 1..=1 024; default 1.
    #[serde(default = "one")]
    pub concurrency: u32,
    /// Milliseconds a lease lasts, extended while a job runs: 100 to ten years; default 30 000. The jobs of a process
    /// that died come back after it, unless the agent is started again.
    #[serde(default = "lease")]
    pub lease_ms: u64,
    /// Pauses by itself after a run of failures; default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_pause: Option<AutoPause>,
}

fn one() -> u32 {
    1
}

fn lease() -> u64 {
    30_000
}

/// One kind of job, and what is done with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskType {
    /// Kind of the jobs; none: every kind that no other type names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The activity that does them, as it was registered.
    pub activity: String,
    /// Longest time of an attempt in milliseconds: 10 to ten years; 0: none. A job's own limit holds, too.
    #[serde(default)]
    pub timeout_ms: u64,
    /// What happens after a failure, for jobs that say nothing else; default: what the queue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// A circuit breaker around the activity; default: none. While it is open, jobs wait and no attempt is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerOptions>,
}

/// When a task agent pauses by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoPause {
    /// Failures in a row: at least 1.
    pub after_failures: u32,
    /// Milliseconds until one job is tried: 1 to ten years. It goes on when that one succeeds.
    pub cool_down_ms: u64,
}

/// Settings that are refused: which, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: {right}")]
pub struct TaskAgentConfigError {
    /// The field.
    pub field: &'static str,
    /// What it holds.
    pub value: String,
    /// What would be right.
    pub right: String,
}

impl Coded for TaskAgentConfigError {
    fn code(&self) -> &'static str {
        "task_agent.bad_config"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl TaskAgentConfig {
    /// Settings for one activity that does jobs of any kind.
    #[must_use]
    pub fn new(name: impl Into<String>, queue: impl Into<String>, activity: impl Into<String>) -> Self {
        let activity = activity.into();
        let any = TaskType { kind: None, activity, timeout_ms: 0, retry: None, breaker: None };
        Self {
            name: name.into(),
            queue: queue.into(),
            types: vec![any],
            concurrency: one(),
            lease_ms: lease(),
            auto_pause: None,
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The first fault.
    pub fn validate(&self) -> Result<(), TaskAgentConfigError> {
        let name = &self.name;
        let visible = !name.chars().any(|c| c.is_control() || c.is_whitespace() || c == '/');
        check(
            "name",
            name,
            visible && (1..=128).contains(&name.len()),
            "use 1 to 128 visible characters without /",
        )?;
        let concurrency = (1..=TASK_AGENT_CONCURRENCY_MAX).contains(&self.concurrency);
        check("concurrency", self.concurrency, concurrency, "use 1 to 1024")?;
        let lease = (TASK_AGENT_LEASE_MIN_MS..=TEN_YEARS_MS).contains(&self.lease_ms);
        check("lease_ms", self.lease_ms, lease, "use 100 ms to ten years")?;
        check("types", "empty", !self.types.is_empty(), "name at least one activity")?;
        if let Some(AutoPause { after_failures, cool_down_ms }) = self.auto_pause {
            check("auto_pause.after_failures", after_failures, after_failures > 0, "use at least 1")?;
            let cool = (1..=TEN_YEARS_MS).contains(&cool_down_ms);
            check("auto_pause.cool_down_ms", cool_down_ms, cool, "use 1 ms to ten years")?;
        }
        let mut kinds = BTreeSet::new();
        for task in &self.types {
            let kind = task.kind.as_deref().unwrap_or("any kind");
            check("types.kind", kind, kinds.insert(&task.kind), "name each kind once")?;
            task.validate()?;
        }
        Ok(())
    }
}

impl TaskType {
    fn validate(&self) -> Result<(), TaskAgentConfigError> {
        let kind = self.kind.as_deref().unwrap_or_default();
        check("types.kind", kind.len(), kind.len() <= JOB_WORD_MAX_BYTES, "use at most 200 bytes")?;
        check("types.activity", "empty", !self.activity.is_empty(), "name an activity")?;
        let timeout = self.timeout_ms == 0 || (TASK_TIMEOUT_MIN_MS..=TEN_YEARS_MS).contains(&self.timeout_ms);
        check("types.timeout_ms", self.timeout_ms, timeout, "use 10 ms to ten years, or 0 for none")?;
        let fault =
            |field, error: String| TaskAgentConfigError { field, value: "not valid".into(), right: error };
        if let Some(retry) = &self.retry {
            retry.validate().map_err(|error| fault("types.retry", error.to_string()))?;
        }
        if let Some(breaker) = &self.breaker {
            breaker.validate().map_err(|error| fault("types.breaker", error.to_string()))?;
        }
        Ok(())
    }
}

fn check(
    field: &'static str,
    value: impl ToString,
    holds: bool,
    right: &str,
) -> Result<(), TaskAgentConfigError> {
    if holds {
        return Ok(());
    }
    Err(TaskAgentConfigError { field, value: value.to_string(), right: right.to_owned() })
}
