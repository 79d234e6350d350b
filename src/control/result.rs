//! What became of a run: the answer to whoever waits for its end, here or on another node.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stanchion_actors::{
    store::Store,
    workflow::{RunStatus, StoredRun},
};

use super::problem::Problem;

/// What became of a run so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Its id.
    pub run_id: String,
    /// Where it stands.
    pub status: String,
    /// Whether nothing more happens without a command: it has ended, or is parked.
    pub ended: bool,
    /// Steps of its definition.
    pub steps_total: u32,
    /// Of these, completed.
    pub steps_completed: u32,
    /// Failed.
    pub steps_failed: u32,
    /// Skipped.
    pub steps_skipped: u32,
    /// Attempts of steps begun.
    pub attempts: u64,
    /// Whether it was taken up again.
    pub resumed: bool,
    /// Most attempts at once.
    pub workers: u32,
    /// Seconds from the first start of a step to the last end of one.
    pub makespan_s: f64,
    /// Why it failed: `code`, `message` and `step`.
    pub error: Option<Value>,
    /// Its output; null before its end.
    pub output: Value,
}

impl RunResult {
    /// What the store says of a run.
    ///
    /// # Errors
    /// [`Problem`] when the store does not say.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn of(run: &StoredRun, store: &dyn Store) -> Result<Self, Problem> {
        let id = run.head.name.key.to_string();
        let mut past = Past::default();
        let read = run.history(store, &mut |line| past.line(line.kind, line.at_us)).await;
        read.map_err(|error| Problem::of_read(&error, &id))?;
        let output = run.output(store).await.map_err(|error| Problem::of_store(&error))?;
        let counts = run.state.counts(&run.definition);
        let status = run.state.status();
        Ok(Self {
            run_id: id,
            status: status.name().to_owned(),
            ended: status.is_terminal() || status == RunStatus::Parked,
            steps_total: counts.total,
            steps_completed: counts.completed,
            steps_failed: counts.failed,
            steps_skipped: counts.skipped,
            attempts: past.attempts,
            resumed: past.resumed,
            workers: run.state.workers(),
            makespan_s: past.makespan_s(),
            error: error(run),
            output,
        })
    }
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

fn error(run: &StoredRun) -> Option<Value> {
    if let Some(reason) = run.state.parked_reason() {
        return Some(json!({ "code": "parked", "message": reason, "step": null }));
    }
    let error = run.state.error()?;
    let step = error.step.map(|step| run.definition.step_id(step));
    Some(json!({ "code": error.code, "message": error.message, "step": step }))
}
