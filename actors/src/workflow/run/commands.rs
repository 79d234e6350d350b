//! Which inputs are allowed where, and what commands do.

use super::advance::Turn;
use super::codes::StepCode;
use super::effect::{EVENTS_MAX, RunEffect, TimerId};
use super::event::{EndCause, RetryScope, RunError, RunEvent, clipped};
use super::input::{AttemptId, IllegalTransition, RunInput, RunRejection};
use super::state::{Phase, RunState};
use crate::workflow::definition::{FailurePolicy, ValidDefinition};

/// Longest reason kept of a parked run, in bytes.
const REASON_MAX: usize = 512;

impl Turn<'_> {
    pub(super) fn input(&mut self, input: RunInput) -> Result<(), RunRejection> {
        self.check(&input)?;
        match input {
            RunInput::Start { input, workers } => {
                self.state.memory.input = input;
                self.apply(RunEvent::RunStarted { workers: workers.max(1), at_us: self.now_us });
                self.set_run_deadline();
            }
            RunInput::Recovered { workers } => self.recovered(workers),
            RunInput::Continue => {}
            RunInput::AttemptEnded { attempt, result } if attempt.undo => self.undo_ended(attempt, result),
            RunInput::AttemptEnded { attempt, result } => self.attempt_ended(attempt, result),
            RunInput::CapabilityAwaited { attempt } => self.capability_awaited(attempt),
            RunInput::CapabilityFound { attempt } => self.capability_found(attempt),
            RunInput::TimerFired { timer } => self.timer_fired(timer),
            RunInput::Pause => self.apply(RunEvent::RunPaused),
            RunInput::Resume { workers } => {
                let workers = self.new_workers(workers);
                self.apply(RunEvent::RunResumed { workers, retry: None, at_us: self.now_us });
            }
            RunInput::LookAgain => self.look_again(),
            RunInput::Cancel => {
                let undo = self.def.compensates_on_cancel() && self.is_live();
                self.end(EndCause::Cancelled, undo);
            }
            RunInput::Retry { step } => self.retry(step)?,
            RunInput::CrashLooped { reason } => self.park(&reason),
        }
        Ok(())
    }

    /// Refuses what is not allowed; afterwards nothing can fail but a retry that names a wrong step.
    fn check(&self, input: &RunInput) -> Result<(), RunRejection> {
        let phase = self.state.kept.phase;
        let live = matches!(phase, Phase::Running | Phase::Paused | Phase::Undoing);
        let allowed = match input {
            RunInput::Continue
            | RunInput::AttemptEnded { .. }
            | RunInput::CapabilityAwaited { .. }
            | RunInput::CapabilityFound { .. }
            | RunInput::TimerFired { .. }
            | RunInput::LookAgain => return Ok(()),
            RunInput::Start { .. } => phase == Phase::Pending,
            RunInput::Recovered { .. } | RunInput::CrashLooped { .. } => live,
            RunInput::Pause => phase == Phase::Running,
            RunInput::Resume { .. } => phase == Phase::Paused,
            RunInput::Cancel => {
                matches!(phase, Phase::Pending | Phase::Running | Phase::Paused | Phase::Parked)
            }
            RunInput::Retry { .. } => matches!(phase, Phase::Failed | Phase::Parked),
        };
        let from = self.state.status();
        if allowed {
            Ok(())
        } else if from.is_terminal() {
            Err(RunRejection::AlreadyTerminal { status: from })
        } else {
            Err(IllegalTransition { from, command: input.name() }.into())
        }
    }

    fn is_live(&self) -> bool {
        matches!(self.state.kept.phase, Phase::Running | Phase::Paused)
    }

    fn new_workers(&self, workers: Option<u32>) -> u32 {
        workers.unwrap_or(self.state.kept.workers).max(1)
    }

    fn set_run_deadline(&mut self) {
        if let Some(limit) = self.def.total_timeout_us() {
            let due_us = self.state.kept.clock_us.saturating_add(limit);
            self.effect(RunEffect::SetTimer { timer: TimerId::RunDeadline, due_us });
        }
    }

    /// Arms every timer again; lost attempts are started anew by what follows.
    fn recovered(&mut self, workers: Option<u32>) {
        let workers = self.new_workers(workers);
        // The lost attempts are over for the shell, too: what starts again starts as another attempt.
        self.cancel_running();
        self.cancel_awaiting();
        for (timer, due_us) in self.state.timers(self.def) {
            self.effect(RunEffect::SetTimer { timer, due_us });
        }
        self.apply(RunEvent::RunRecovered { workers });
        // Whether a node can run them is looked at anew.
        for step in self.state.kept.awaiting.clone() {
            self.apply(RunEvent::RetryDue { step });
        }
        if self.state.kept.phase == Phase::Undoing && self.undo_is_idle() {
            self.undo_next();
        }
    }

    fn retry(&mut self, step: Option<u32>) -> Result<(), RunRejection> {
        let scope = match step {
            None => RetryScope::All,
            Some(number) => {
                let failed = match self.state.code(number) {
                    StepCode::Failed => self.state.kept.cause.is_none(),
                    StepCode::CompensationFailed => true,
                    // A parked run has no failed step to name but the ones that crashed it.
                    StepCode::Ready => self.state.kept.phase == Phase::Parked,
                    StepCode::Pending
                    | StepCode::Running
                    | StepCode::Waiting
                    | StepCode::Completed
                    | StepCode::FailedIgnored
                    | StepCode::SkippedCondition
                    | StepCode::SkippedNeedFailed
                    | StepCode::SkippedNeedsSkipped
                    | StepCode::Cancelled
                    | StepCode::Compensated => false,
                };
                if !failed {
                    return Err(RunRejection::StepNotFailed { step: self.def.step_id(number).to_owned() });
                }
                RetryScope::Step(number)
            }
        };
        let workers = self.new_workers(None);
        self.apply(RunEvent::RunResumed { workers, retry: Some(scope), at_us: self.now_us });
        if self.state.kept.phase == Phase::Undoing {
            self.undo_next();
        } else {
            self.set_run_deadline();
        }
        Ok(())
    }

    /// Asks the shell to stop every running attempt.
    fn cancel_running(&mut self) {
        for step in 0..self.def.step_count() {
            if self.state.code(step) == StepCode::Running {
                let attempt = self.state.attempts(step);
                self.effect(RunEffect::CancelAttempt(AttemptId { step, attempt, undo: false }));
            }
        }
        if let Some(undoing) = self.state.kept.undoing.as_ref().filter(|undoing| undoing.running) {
            let attempt = AttemptId { step: undoing.step, attempt: undoing.attempt, undo: true };
            self.effect(RunEffect::CancelAttempt(attempt));
        }
    }

    /// Asks the shell to look for a node no longer.
    fn cancel_awaiting(&mut self) {
        for step in self.state.kept.awaiting.clone() {
            let attempt = self.state.attempts(step);
            self.effect(RunEffect::CancelAttempt(AttemptId { step, attempt, undo: false }));
        }
        if let Some(undoing) = self.state.kept.undoing.as_ref().filter(|undoing| undoing.awaiting) {
            let attempt = AttemptId { step: undoing.step, attempt: undoing.attempt, undo: true };
            self.effect(RunEffect::CancelAttempt(attempt));
        }
    }

    /// Sets the run aside: what runs is cancelled, retry timers stay, limits on total time stop.
    fn park(&mut self, reason: &str) {
        self.cancel_running();
        for (timer, _) in self.state.timers(self.def) {
            match timer {
                TimerId::RunDeadline | TimerId::StepDeadline(_) => self.effect(RunEffect::ClearTimer(timer)),
                TimerId::Retry(_) | TimerId::UndoRetry(_) => {}
            }
        }
        self.apply(RunEvent::RunParked { reason: clipped(reason, REASON_MAX).to_owned() });
    }

    /// The timers of what waits for a breaker are due, as many as a decision holds; those of the others stay.
    fn look_again(&mut self) {
        let waiting: Vec<u32> = self.state.kept.behind_breaker.iter().copied().take(EVENTS_MAX).collect();
        for step in waiting {
            self.effect(RunEffect::ClearTimer(TimerId::Retry(step)));
            self.timer_fired(TimerId::Retry(step));
        }
        let undoing = self.state.kept.undoing.as_ref().filter(|undoing| undoing.behind_breaker);
        if let Some(step) = undoing.map(|undoing| undoing.step) {
            self.effect(RunEffect::ClearTimer(TimerId::UndoRetry(step)));
            self.timer_fired(TimerId::UndoRetry(step));
        }
    }

    fn timer_fired(&mut self, timer: TimerId) {
        match timer {
            TimerId::Retry(step) => {
                let awaited = self.state.kept.waiting.contains_key(&step);
                if awaited && (self.is_live() || self.state.kept.phase == Phase::Parked) {
                    self.apply(RunEvent::RetryDue { step });
                }
            }
            TimerId::UndoRetry(step) => {
                let awaited =
                    |undoing: &super::state::Undoing| undoing.step == step && undoing.due_us.is_some();
                if self.state.kept.phase == Phase::Undoing
                    && self.state.kept.undoing.as_ref().is_some_and(awaited)
                {
                    self.undo_next();
                }
            }
            TimerId::StepDeadline(step) => self.step_deadline(step),
            TimerId::RunDeadline => {
                if self.is_live() && self.def.total_timeout_us().is_some() {
                    let error =
                        RunError::new("run_timeout", "the run took longer than its total timeout", None);
                    let undo = self.def.on_failure() == FailurePolicy::Compensate;
                    self.end(EndCause::Failed(error), undo);
                }
            }
        }
    }
}

impl RunState {
    /// Every timer the run waits for, and when it is due in Unix microseconds.
    #[must_use]
    pub fn timers(&self, def: &ValidDefinition) -> Vec<(TimerId, i64)> {
        let mut timers = Vec::new();
        let live = matches!(self.kept.phase, Phase::Running | Phase::Paused);
        if let (true, Some(limit)) = (live, def.total_timeout_us()) {
            timers.push((TimerId::RunDeadline, self.kept.clock_us.saturating_add(limit)));
        }
        timers.extend(self.kept.waiting.iter().map(|(&step, &due)| (TimerId::Retry(step), due)));
        for (&step, &first_us) in &self.kept.first_us {
            if let Some(limit) = def.step(step).and_then(|plan| plan.total_timeout_us) {
                timers.push((TimerId::StepDeadline(step), first_us.saturating_add(limit)));
            }
        }
        let undo = self.kept.undoing.as_ref();
        timers.extend(undo.and_then(|u| u.due_us.map(|due| (TimerId::UndoRetry(u.step), due))));
        timers
    }
}
