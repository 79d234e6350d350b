//! The result of a run. Field names and their order are a contract.

use serde::Serialize;
use serde_json::Value;
use stanchion::{
    control::{Problem, RunResult},
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

impl Report {
    /// The result of a run as it stands.
    pub(crate) async fn of(
        run: &StoredRun,
        store: &dyn Store,
        prepared: &Prepared,
        resumed: bool,
        elapsed_s: f64,
    ) -> Result<Self, Problem> {
        let result = RunResult::of(run, store).await?;
        Ok(Self::of_result(result, prepared, resumed, elapsed_s))
    }

    /// The result of a run, wherever it is.
    pub(crate) fn of_result(result: RunResult, prepared: &Prepared, resumed: bool, elapsed_s: f64) -> Self {
        let resumed = resumed || result.resumed;
        let bounds: Option<Bounds> = prepared.bounds(result.workers).filter(|_| !resumed);
        Self {
            run_id: result.run_id,
            status: if result.ended { named(&result.status) } else { "interrupted" },
            steps_total: result.steps_total,
            steps_completed: result.steps_completed,
            steps_failed: result.steps_failed,
            steps_skipped: result.steps_skipped,
            attempts: result.attempts,
            resumed,
            elapsed_s: to_us(elapsed_s),
            makespan_s: result.makespan_s,
            lower_bound_s: bounds.map(|bounds| to_us(bounds.lower_s)),
            upper_bound_s: bounds.map(|bounds| to_us(bounds.upper_s)),
            error: result.error,
            output: result.output,
        }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self.status {
            "completed" => COMPLETED,
            "interrupted" => INTERRUPTED,
            _ => OTHERWISE,
        }
    }
}

/// Seconds to the microsecond.
fn to_us(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

/// The word for a status; a run that this process leaves before its end was interrupted.
fn named(status: &str) -> &'static str {
    RunStatus::from_name(status).map_or("interrupted", RunStatus::name)
}
