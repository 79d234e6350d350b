//! Undoing completed steps: one at a time, in reverse order of completion.

use super::advance::Turn;
use super::effect::{RunEffect, TimerId};
use super::event::{EndCause, RunError, RunEvent, StepError};
use super::failures::{NextTry, failure_of, next_try};
use super::input::{AttemptId, AttemptResult, Failure};
use super::outputs::RunScope;
use super::state::Undoing;
use crate::workflow::definition::shown;

impl Turn<'_> {
    /// Whether no compensation runs and none waits for its time or for a node.
    pub(super) fn undo_is_idle(&self) -> bool {
        let is_idle = |undoing: &Undoing| !undoing.running && !undoing.awaiting && undoing.due_us.is_none();
        self.state.kept.undoing.as_ref().is_none_or(is_idle)
    }

    /// Starts the next attempt of the compensation on top, unless the run is held, or ends the run when all is
    /// undone.
    pub(super) fn undo_next(&mut self) {
        let Some(&step) = self.state.kept.undo.last() else { return self.all_undone() };
        if self.state.memory.held {
            return;
        }
        let Some(plan) = self.def.step(step).and_then(|plan| plan.compensation.as_ref()) else { return };
        let before = self.state.kept.undoing.as_ref().filter(|undoing| undoing.step == step);
        let attempt = before.map_or(0, |undoing| undoing.attempt).saturating_add(1);
        let first =
            plan.retry.max_elapsed_ms.is_some() && before.is_none_or(|undoing| undoing.first_us.is_none());
        let scope = RunScope { def: self.def, state: self.state };
        let rendered =
            plan.input.render(&scope).map_err(|e| StepError::new("input_template", &e.to_string()));
        let measured = rendered.and_then(|input| match self.measure(&input) {
            Ok(()) => Ok(input),
            Err(message) => Err(StepError::new("input_too_large", &message)),
        });
        match measured {
            Err(error) => self.undo_failed(step, attempt - 1, error),
            Ok(input) => {
                let first_us = first.then_some(self.now_us);
                self.apply(RunEvent::CompensationStarted { step, attempt, first_us });
                let attempt = AttemptId { step, attempt, undo: true };
                let (activity, timeout) = (plan.activity.clone(), plan.attempt_timeout);
                let requires = Vec::new();
                self.effect(RunEffect::StartAttempt { attempt, activity, input, timeout, requires });
            }
        }
    }

    fn all_undone(&mut self) {
        match &self.state.kept.cause {
            Some(EndCause::Cancelled) => self.apply(RunEvent::RunCancelled),
            Some(EndCause::Failed(_)) | None => self.apply(RunEvent::RunCompensated),
        }
    }

    pub(super) fn undo_ended(&mut self, id: AttemptId, result: AttemptResult) {
        let AttemptId { step, attempt, undo: _ } = id;
        let current = self.state.kept.undoing.as_ref();
        if !current.is_some_and(|u| u.running && u.step == step && u.attempt == attempt) {
            return;
        }
        match failure_of(result) {
            Ok(_output) => {
                self.apply(RunEvent::CompensationCompleted { step, attempt });
                self.undo_next();
            }
            Err(failure) => self.undo_attempt_failed(step, attempt, &failure),
        }
    }

    fn undo_attempt_failed(&mut self, step: u32, attempt: u32, failure: &Failure) {
        let Some(plan) = self.def.step(step).and_then(|plan| plan.compensation.as_ref()) else { return };
        let Some(undoing) = self.state.kept.undoing.as_ref() else { return };
        let (trouble, first_us) = (undoing.trouble, undoing.first_us);
        let error = StepError::new(&failure.code, &failure.message);
        match next_try(&plan.retry, trouble, failure, first_us, self.now_us, self.draw) {
            NextTry::Never => self.undo_failed(step, attempt, error),
            NextTry::After { at_us, delay_us, waiting } => {
                let undo = true;
                self.apply(RunEvent::RetryScheduled { step, attempt, at_us, delay_us, error, undo, waiting });
                self.effect(RunEffect::SetTimer { timer: TimerId::UndoRetry(step), due_us: at_us });
            }
        }
    }

    fn undo_failed(&mut self, step: u32, attempt: u32, error: StepError) {
        let id = shown(self.def.step_id(step));
        let message = format!("step \"{id}\" could not be undone: {} ({})", error.message, error.code);
        self.apply(RunEvent::CompensationFailed { step, attempt, error });
        self.apply(RunEvent::RunFailed { error: RunError::new("compensation_failed", &message, Some(step)) });
    }
}
