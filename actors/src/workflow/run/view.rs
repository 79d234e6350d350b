//! What people see of a run.

use super::codes::StepCode;
use super::event::{EndCause, RunError, StepError, WaitingFor};
use super::state::RunState;
use crate::workflow::definition::ValidDefinition;

/// How many steps stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunCounts {
    /// All steps.
    pub total: u32,
    /// Completed, undone ones included.
    pub completed: u32,
    /// Failed for good, ignored failures included.
    pub failed: u32,
    /// Skipped.
    pub skipped: u32,
    /// Given up because the run ended.
    pub cancelled: u32,
    /// Running.
    pub running: u32,
    /// Waiting for their next attempt.
    pub waiting: u32,
    /// Attempts of steps begun, over all steps.
    pub attempts: u64,
}

/// One step as shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepView<'a> {
    /// Id of the step.
    pub id: &'a str,
    /// `pending`, `ready`, `running`, `waiting`, `completed`, `failed`, `skipped`, `cancelled`, `compensated`
    /// or `compensation_failed`.
    pub status: &'static str,
    /// Attempts begun.
    pub attempts: u32,
    /// Last error, kept for the first 64 steps in trouble.
    pub last_error: Option<&'a StepError>,
    /// When the next attempt is due, in Unix microseconds.
    pub retry_at_us: Option<i64>,
    /// What lets the next attempt run, beside the time or instead of it.
    pub waiting_for: Option<WaitingFor>,
}

impl RunState {
    /// How many steps stand where.
    #[must_use]
    pub fn counts(&self, def: &ValidDefinition) -> RunCounts {
        let sum = |codes: &[StepCode]| codes.iter().map(|&code| self.count(code)).sum();
        RunCounts {
            total: def.step_count(),
            completed: sum(&[StepCode::Completed, StepCode::Compensated, StepCode::CompensationFailed]),
            failed: sum(&[StepCode::Failed, StepCode::FailedIgnored]),
            skipped: sum(&[
                StepCode::SkippedCondition,
                StepCode::SkippedNeedFailed,
                StepCode::SkippedNeedsSkipped,
            ]),
            cancelled: self.count(StepCode::Cancelled),
            running: self.running(),
            waiting: self.count(StepCode::Waiting),
            attempts: self.derived.attempts_total,
        }
    }

    /// One step as shown to people; `None` for a number out of range.
    #[must_use]
    pub fn step_view<'a>(&'a self, def: &'a ValidDefinition, step: u32) -> Option<StepView<'a>> {
        let plan = def.step(step)?;
        let undoing = self.kept.undoing.as_ref().filter(|undoing| undoing.step == step);
        let undo_due = undoing.and_then(|undoing| undoing.due_us);
        let undo_waits = undo_due.is_some() && undoing.is_some_and(|undoing| undoing.behind_breaker);
        let behind_breaker = undo_waits || self.kept.behind_breaker.contains(&step);
        let awaiting = self.kept.awaiting.contains(&step) || undoing.is_some_and(|undoing| undoing.awaiting);
        let waiting_for = match (behind_breaker, awaiting) {
            (true, _) => Some(WaitingFor::Breaker),
            (false, true) => Some(WaitingFor::Capability),
            (false, false) => None,
        };
        Some(StepView {
            id: &plan.id,
            status: self.code(step).name(),
            attempts: self.attempts(step),
            last_error: self.kept.errors.get(&step),
            retry_at_us: self.kept.waiting.get(&step).copied().or(undo_due),
            waiting_for,
        })
    }

    /// All steps in document order.
    pub fn steps<'a>(&'a self, def: &'a ValidDefinition) -> impl Iterator<Item = StepView<'a>> {
        (0..def.step_count()).filter_map(|step| self.step_view(def, step))
    }

    /// Why the run failed or is being undone.
    #[must_use]
    pub fn error(&self) -> Option<&RunError> {
        let cause = match &self.kept.cause {
            Some(EndCause::Failed(error)) => Some(error),
            Some(EndCause::Cancelled) | None => None,
        };
        self.kept.error.as_ref().or(cause)
    }

    /// Why the run is parked.
    #[must_use]
    pub fn parked_reason(&self) -> Option<&str> {
        self.kept.parked.as_deref()
    }

    /// When the run started, in Unix microseconds; 0 before.
    #[must_use]
    pub fn started_us(&self) -> i64 {
        self.kept.started_us
    }

    /// Most attempts at once, as asked for by the last start, resume or recovery.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.kept.workers
    }
}
