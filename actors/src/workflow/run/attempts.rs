//! How attempts of steps end: completion, another try, failure.

use super::advance::Turn;
use super::codes::StepCode;
use super::effect::{RowKey, RunEffect, TimerId};
use super::event::{EndCause, RunEvent, StepError};
use super::failures::{NextTry, failure_of, next_try};
use super::input::{AttemptId, AttemptResult, Failure};
use super::outputs::encode_row;
use super::state::{Phase, Undoing};
use crate::workflow::definition::FailurePolicy;
use serde_json::Value;

impl Turn<'_> {
    pub(super) fn attempt_ended(&mut self, id: AttemptId, result: AttemptResult) {
        let AttemptId { step, attempt, undo: _ } = id;
        // A report about an attempt that was cancelled, timed out or lost in a crash comes too late.
        if !self.is_running(id) {
            return;
        }
        match failure_of(result) {
            Ok(output) => self.completed(step, attempt, output),
            Err(failure) => self.attempt_failed(step, attempt, &failure),
        }
    }

    fn completed(&mut self, step: u32, attempt: u32, output: Value) {
        let row = match encode_row(RowKey::Step(step), &output) {
            Ok(row) => row,
            Err(message) => {
                let failure = Failure::permanent("output_too_large", message);
                return self.attempt_failed(step, attempt, &failure);
            }
        };
        let (size, crc32c) = row.as_ref().map_or((0, 0), |(crc, row)| (row.bytes.len() as u32, *crc));
        self.out.rows.extend(row.map(|(_, row)| row));
        self.step_deadline_over(step);
        self.state.keep_output(self.def, step, output);
        self.apply(RunEvent::StepCompleted { step, attempt, size, crc32c });
    }

    fn attempt_failed(&mut self, step: u32, attempt: u32, failure: &Failure) {
        let Some(plan) = self.def.step(step) else { return };
        let trouble = self.state.kept.trouble.get(&step).copied().unwrap_or_default();
        let first_us = self.state.kept.first_us.get(&step).copied();
        let error = StepError::new(&failure.code, &failure.message);
        match next_try(&plan.retry, trouble, failure, first_us, self.now_us, self.draw) {
            NextTry::Never => self.fail_step(step, error),
            NextTry::After { at_us, delay_us, waiting } => {
                let undo = false;
                self.apply(RunEvent::RetryScheduled { step, attempt, at_us, delay_us, error, undo, waiting });
                self.effect(RunEffect::SetTimer { timer: TimerId::Retry(step), due_us: at_us });
            }
        }
    }

    /// No node can run the attempt: it gives its worker back and waits.
    pub(super) fn capability_awaited(&mut self, id: AttemptId) {
        let AttemptId { step, attempt, undo } = id;
        if self.is_running(id) {
            self.apply(RunEvent::CapabilityAwaited { step, attempt, undo });
        }
    }

    /// A node was found: the step is queued, or the compensation tried, as another attempt.
    pub(super) fn capability_found(&mut self, id: AttemptId) {
        // It may be found before the wait was told.
        self.capability_awaited(id);
        let AttemptId { step, attempt, undo } = id;
        if undo {
            let awaits =
                |undoing: &Undoing| undoing.awaiting && (undoing.step, undoing.attempt) == (step, attempt);
            if self.state.kept.phase == Phase::Undoing && self.state.kept.undoing.as_ref().is_some_and(awaits)
            {
                self.undo_next();
            }
        } else if self.state.kept.awaiting.contains(&step) && self.state.attempts(step) == attempt {
            self.apply(RunEvent::RetryDue { step });
        }
    }

    fn is_running(&self, id: AttemptId) -> bool {
        let AttemptId { step, attempt, undo } = id;
        if undo {
            let running =
                |undoing: &Undoing| undoing.running && (undoing.step, undoing.attempt) == (step, attempt);
            return self.state.kept.undoing.as_ref().is_some_and(running);
        }
        self.state.code(step) == StepCode::Running && self.state.attempts(step) == attempt
    }

    /// The step has failed for good: its policy says what becomes of the run.
    pub(super) fn fail_step(&mut self, step: u32, error: StepError) {
        let policy = self.def.step(step).map_or(FailurePolicy::FailFast, |plan| plan.on_failure);
        let attempt = self.state.attempts(step);
        self.step_deadline_over(step);
        let ignored = policy == FailurePolicy::Ignore;
        self.apply(RunEvent::StepFailed { step, attempt, error, ignored });
        match policy {
            FailurePolicy::Continue | FailurePolicy::Ignore => {}
            FailurePolicy::FailFast | FailurePolicy::Compensate => {
                let cause = EndCause::Failed(self.step_failed_error(step));
                self.end(cause, policy == FailurePolicy::Compensate);
            }
        }
    }

    /// The total time of a step is over.
    pub(super) fn step_deadline(&mut self, step: u32) {
        if !self.state.kept.first_us.contains_key(&step) {
            return;
        }
        let attempt = self.state.attempts(step);
        match self.state.code(step) {
            StepCode::Running => {
                self.effect(RunEffect::CancelAttempt(AttemptId { step, attempt, undo: false }))
            }
            StepCode::Waiting => self.end_wait(step, attempt),
            StepCode::Ready => {}
            StepCode::Pending
            | StepCode::Completed
            | StepCode::Failed
            | StepCode::FailedIgnored
            | StepCode::SkippedCondition
            | StepCode::SkippedNeedFailed
            | StepCode::SkippedNeedsSkipped
            | StepCode::Cancelled
            | StepCode::Compensated
            | StepCode::CompensationFailed => return,
        }
        self.fail_step(step, StepError::new("total_timeout", "the step took longer than its total timeout"));
    }

    fn step_deadline_over(&mut self, step: u32) {
        if self.state.kept.first_us.contains_key(&step) {
            self.clear_step_deadline(step);
        }
    }
}
