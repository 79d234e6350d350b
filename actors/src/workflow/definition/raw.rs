//! The definition as it is written: serde types, one to one with the document.

use super::object;
use crate::discovery::Requirement;
use crate::resilience::retry::RetryPolicy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A workflow definition as written by a user: a document or the Rust builder.
///
/// Nothing is checked yet; [`Definition::validate`] does that and lists every fault at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Name of the workflow; 1..=1024 bytes of visible characters.
    pub name: String,
    /// What it is for; free text, no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Most attempts running at once, whatever the caller asks for; absent: only the caller's number counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    /// What a step that fails for good does to the run.
    #[serde(default)]
    pub on_failure: FailurePolicy,
    /// Whether a cancelled run undoes its completed steps before it ends.
    #[serde(default)]
    pub compensate_on_cancel: bool,
    /// Longest time from start to end of the run, in milliseconds; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_timeout_ms: Option<u64>,
    /// When a crashing run is parked.
    #[serde(default, deserialize_with = "object::one")]
    pub crash_loop: CrashLoopPolicy,
    /// The steps; 1..=100 000, ids unique, order without meaning but as a tie-break.
    #[serde(deserialize_with = "object::list")]
    pub steps: Vec<Step>,
    /// Template of the run's output, rendered when the run completes; absent: the output is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
}

/// One step of a [`Definition`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique id of the step; 1..=1024 bytes of visible characters.
    pub id: String,
    /// Name of the registered activity that does the work.
    pub activity: String,
    /// What the node that runs the step has to have beside the activity; all of it.
    #[serde(default, deserialize_with = "object::list", skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Requirement>,
    /// Template of the activity's input; absent: null.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// Ids of the steps this one waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Condition in the Common Expression Language; when false, the step is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// How many of the needs must complete before the step starts.
    #[serde(default)]
    pub join: Join,
    /// What happens after a failed attempt; absent: one attempt only.
    #[serde(default, deserialize_with = "object::optional", skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// Longest time of one attempt, in milliseconds; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_timeout_ms: Option<u64>,
    /// Longest time from the first attempt's start over all attempts and waits, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_timeout_ms: Option<u64>,
    /// What undoes the step once it has completed.
    #[serde(default, deserialize_with = "object::optional", skip_serializing_if = "Option::is_none")]
    pub compensation: Option<Compensation>,
    /// Overrides the definition's `on_failure` for this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<FailurePolicy>,
}

/// What undoes a completed step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compensation {
    /// Name of the registered activity that undoes the work.
    pub activity: String,
    /// Template of its input; may use the outputs of the step itself and of the steps before it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// What happens after a failed attempt; absent: one attempt only.
    #[serde(default, deserialize_with = "object::optional", skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// Longest time of one attempt, in milliseconds; absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_timeout_ms: Option<u64>,
}

/// How many of a step's needs must complete before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// Every need is settled, none failed, and at least one was not skipped.
    #[default]
    All,
    /// The first completed need is enough.
    Any,
    /// This many completed needs are enough; 1..=number of needs.
    Quorum(u32),
}

/// What a step that fails for good does to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailurePolicy {
    /// Running steps are cancelled and the run fails at once.
    #[default]
    FailFast,
    /// Steps that do not depend on the failed one go on; then the run fails.
    Continue,
    /// Running steps are cancelled, completed ones are undone in reverse order of completion.
    Compensate,
    /// The run and the dependants go on as if the step had completed with output null.
    Ignore,
}

/// When a run that keeps crashing is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashLoopPolicy {
    /// Crashes tolerated within the window; one more parks the run. Default 3.
    #[serde(default = "CrashLoopPolicy::default_max_crashes")]
    pub max_crashes: u32,
    /// Length of the window in milliseconds; default 5 000.
    #[serde(default = "CrashLoopPolicy::default_within_ms")]
    pub within_ms: u64,
}

impl CrashLoopPolicy {
    const fn default_max_crashes() -> u32 {
        3
    }

    const fn default_within_ms() -> u64 {
        5_000
    }
}

impl Default for CrashLoopPolicy {
    fn default() -> Self {
        Self { max_crashes: Self::default_max_crashes(), within_ms: Self::default_within_ms() }
    }
}
