//! The result of a run. Field names and their order are a contract.

use serde::Serialize;
use serde_json::{Value, json};
use stanchion::{
    control::Problem,
    documents::Bounds,
    port::Store,
    workflow::{RunStatus, StoredRun},
};

use super::prepare::Prepared;

/// Exit code of a run that was completed.
const COMPLETED: u8 = 0;
/// Exit code of a run that ended otherwise.
const OTHERWISE: u8 = 1;
/// Exit code of a run that was interrupted.
pub(crate) const INTERRUPTED: u8 = 4;

/// The result of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) run_id: String,
    pub(crate) status: &'static str,
    pub(crate) steps_total: u32,
    pub(crate) steps_completed: u32,
    pub(crate) steps_failed: u32,
    pub(crate) steps_skipped: u32,
    pub(crate) attempts: u64,
    pub(crate) resumed: bool,
    pub(crate) elapsed_s: f64,
    pub(crate) makespan_s: f64,
    pub(crate) lower_bound_s: Option<f64>,
    pub(crate) upper_bound_s: Option<f64>,
    pub(crate) error: Option<Value>,
    pub(crate) output: Value,
}

/// What the history says.
#[derive(Default)]
struct Past {
    attempts: u64,
    first_us: Option<i64>,
    last_us: Option<i64>,
    resumed: bool,
}

impl Past {
    fn line(&mut self, kind: &str, at_us: i64) {
        match kind {
            "step_started" => {
                self.attempts += 1;
                self.first_us = self.first_us.or(Some(at_us));
            }
            "step_completed" | "step_failed" | "step_cancelled" | "retry_scheduled" => {
                self.last_us = self.last_us.max(Some(at_us));
            }
            "run_recovered" | "run_resumed" => self.resumed = true,
            _ => {}
        }
    }

    fn makespan_s(&self) -> f64 {
        match (self.first_us, self.last_us) {
            (Some(first), Some(last)) => last.saturating_sub(first).max(0) as f64 / 1e6,
            _ => 0.0,
        }
    }
}

impl Report {
    /// The result of a run as it stands.
    pub(crate) async fn of(
        run: &StoredRun,
        store: &dyn Store,
        prepared: &Prepared,
        resumed: bool,
        elapsed_s: f64,
    ) -> Result<Self, Problem> {
        let id = &prepared.start.id;
        let mut past = Past::default();
        let read = run.history(store, &mut |line| past.line(line.kind, line.at_us)).await;
        read.map_err(|error| Problem::of_read(&error, id))?;
        let output = run.output(store).await.map_err(|error| Problem::of_store(&error))?;
        let counts = run.state.counts(&run.definition);
        let resumed = resumed || past.resumed;
        let bounds: Option<Bounds> = prepared.bounds(run.state.workers()).filter(|_| !resumed);
        Ok(Self {
            run_id: id.clone(),
            status: status(run.state.status()),
            steps_total: counts.total,
            steps_completed: counts.completed,
            steps_failed: counts.failed,
            steps_skipped: counts.skipped,
            attempts: past.attempts,
            resumed,
            elapsed_s: (elapsed_s * 1e6).round() / 1e6,
            makespan_s: past.makespan_s(),
            lower_bound_s: bounds.map(|bounds| bounds.lower_s),
            upper_bound_s: bounds.map(|bounds| bounds.upper_s),
            error: error(run),
            output,
        })
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self.status {
            "completed" => COMPLETED,
            "interrupted" => INTERRUPTED,
            _ => OTHERWISE,
        }
    }
}

fn error(run: &StoredRun) -> Option<Value> {
    if let Some(reason) = run.state.parked_reason() {
        return Some(json!({ "code": "parked", "message": reason, "step": null }));
    }
    let error = run.state.error()?;
    let step = error.step.map(|step| run.definition.step_id(step));
    Some(json!({ "code": error.code, "message": error.message, "step": step }))
}

/// A run that this process leaves before its end was interrupted.
fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Completed
        | RunStatus::Failed
        | RunStatus::Cancelled
        | RunStatus::Compensated
        | RunStatus::Parked => status.name(),
        RunStatus::Pending
        | RunStatus::Running
        | RunStatus::Waiting
        | RunStatus::Paused
        | RunStatus::Compensating
        | RunStatus::Cancelling => "interrupted",
    }
}
