//! Facts as lines of the history that users read. Kinds and field names are a contract.

use super::event::{RetryScope, RunError, RunEvent, StepError, WaitingFor};
use crate::workflow::definition::ValidDefinition;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// One line of a run's history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryLine {
    /// Version of the entry; lines of one entry share it.
    pub version: u64,
    /// When the entry was made, in Unix microseconds; informative.
    pub at_us: i64,
    /// What happened, such as `step_started`.
    pub kind: &'static str,
    /// Id of the step; `None` for what concerns the run.
    pub step: Option<String>,
    /// Number of the attempt, from 1.
    pub attempt: Option<u32>,
    /// More, depending on the kind.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

/// Kind, step, attempt and details of a line.
type Parts = (&'static str, Option<u32>, Option<u32>, Value);

impl HistoryLine {
    /// The line of a fact; `None` for the few that users are not shown (`RunTurned`, `RetryDue`).
    #[must_use]
    pub fn of(def: &ValidDefinition, event: &RunEvent, version: u64, at_us: i64) -> Option<Self> {
        let (kind, step, attempt, details) = run_parts(def, event).or_else(|| step_parts(event))?;
        let details = match details {
            Value::Object(map) => map,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Map::new()
            }
        };
        let attempt = attempt.filter(|&number| number > 0);
        Some(Self { version, at_us, kind, step: step.map(|s| def.step_id(s).to_owned()), attempt, details })
    }
}

fn run_parts(def: &ValidDefinition, event: &RunEvent) -> Option<Parts> {
    let run = |kind, details| Some((kind, None, None, details));
    match event {
        RunEvent::RunStarted { workers, .. } => run("run_started", json!({ "workers": workers })),
        RunEvent::RunRecovered { workers } => run("run_recovered", json!({ "workers": workers })),
        RunEvent::RunPaused => run("run_paused", Value::Null),
        RunEvent::RunResumed { workers, retry, .. } => {
            let details = match retry {
                None => json!({ "workers": workers }),
                Some(RetryScope::All) => json!({ "workers": workers, "retry": "all" }),
                Some(RetryScope::Step(step)) => {
                    json!({ "workers": workers, "retry": "step", "retry_step": def.step_id(*step) })
                }
            };
            run("run_resumed", details)
        }
        RunEvent::RunCompleted { size, .. } => run("run_completed", json!({ "output_bytes": size })),
        RunEvent::RunFailed { error } => run("run_failed", json!({ "error": run_error(def, error) })),
        RunEvent::RunCancelled => run("run_cancelled", Value::Null),
        RunEvent::RunCompensated => run("run_compensated", Value::Null),
        RunEvent::RunParked { reason } => run("run_parked", json!({ "reason": reason })),
        RunEvent::RunTurned { .. }
        | RunEvent::StepStarted { .. }
        | RunEvent::StepCompleted { .. }
        | RunEvent::StepFailed { .. }
        | RunEvent::StepSkipped { .. }
        | RunEvent::StepCancelled { .. }
        | RunEvent::RetryScheduled { .. }
        | RunEvent::CapabilityAwaited { .. }
        | RunEvent::RetryDue { .. }
        | RunEvent::CompensationStarted { .. }
        | RunEvent::CompensationCompleted { .. }
        | RunEvent::CompensationFailed { .. } => None,
    }
}

fn step_parts(event: &RunEvent) -> Option<Parts> {
    Some(match event {
        RunEvent::StepStarted { step, attempt, .. } => {
            ("step_started", Some(*step), Some(*attempt), Value::Null)
        }
        RunEvent::StepCompleted { step, attempt, size, .. } => {
            ("step_completed", Some(*step), Some(*attempt), json!({ "output_bytes": size }))
        }
        RunEvent::StepFailed { step, attempt, error, ignored } => {
            let details = json!({ "error": step_error(error), "ignored": ignored });
            ("step_failed", Some(*step), Some(*attempt), details)
        }
        RunEvent::StepSkipped { step, reason } => {
            ("step_skipped", Some(*step), None, json!({ "reason": reason }))
        }
        RunEvent::StepCancelled { step, attempt } => {
            ("step_cancelled", Some(*step), Some(*attempt), Value::Null)
        }
        RunEvent::RetryScheduled { step, attempt, at_us, error, undo, waiting, .. } => {
            let mut details =
                json!({ "retry_at_us": at_us, "error": step_error(error), "compensation": undo });
            if let (Some(waiting), Some(details)) = (waiting, details.as_object_mut()) {
                details.insert("waiting".to_owned(), json!(waiting.name()));
            }
            ("retry_scheduled", Some(*step), Some(*attempt), details)
        }
        RunEvent::CapabilityAwaited { step, attempt, undo } => {
            let details = json!({ "waiting": WaitingFor::Capability.name(), "compensation": undo });
            ("capability_awaited", Some(*step), Some(*attempt), details)
        }
        RunEvent::CompensationStarted { step, attempt, .. } => {
            ("compensation_started", Some(*step), Some(*attempt), Value::Null)
        }
        RunEvent::CompensationCompleted { step, attempt } => {
            ("compensation_completed", Some(*step), Some(*attempt), Value::Null)
        }
        RunEvent::CompensationFailed { step, attempt, error } => {
            ("compensation_failed", Some(*step), Some(*attempt), json!({ "error": step_error(error) }))
        }
        RunEvent::RunStarted { .. }
        | RunEvent::RunRecovered { .. }
        | RunEvent::RunPaused
        | RunEvent::RunResumed { .. }
        | RunEvent::RunTurned { .. }
        | RunEvent::RunCompleted { .. }
        | RunEvent::RunFailed { .. }
        | RunEvent::RunCancelled
        | RunEvent::RunCompensated
        | RunEvent::RunParked { .. }
        | RunEvent::RetryDue { .. } => return None,
    })
}

fn step_error(error: &StepError) -> Value {
    json!({ "code": error.code, "message": error.message })
}

fn run_error(def: &ValidDefinition, error: &RunError) -> Value {
    json!({ "code": error.code, "message": error.message, "step": error.step.map(|step| def.step_id(step)) })
}
