//! Applying facts: total and infallible. A fact that does not fit, such as a step out of range, changes
//! nothing.

use super::codes::StepCode;
use super::event::{RetryScope, RunEvent, SkipReason, StepError, WaitingFor};
use super::state::{ERRORS_KEPT_MAX, Phase, RunState, Trouble, Undoing};
use crate::workflow::definition::ValidDefinition;

impl RunState {
    /// Applies a fact. Only for recovery: [`RunState::advance`] has applied the events it gives out.
    pub fn evolve(&mut self, def: &ValidDefinition, event: &RunEvent) {
        match event {
            RunEvent::RunStarted { workers, at_us } => self.run_started(def, *workers, *at_us),
            RunEvent::RunRecovered { workers } => {
                self.kept.workers = *workers;
                self.requeue_running();
                if let Some(undoing) = &mut self.kept.undoing {
                    undoing.running = false;
                    undoing.awaiting = false;
                }
            }
            RunEvent::RunPaused => self.kept.phase = Phase::Paused,
            RunEvent::RunResumed { workers, retry, at_us } => {
                self.kept.workers = *workers;
                match retry {
                    None => self.kept.phase = Phase::Running,
                    Some(scope) => self.try_again(def, *scope, *at_us),
                }
            }
            RunEvent::RunTurned { cause } => {
                self.kept.phase = Phase::Undoing;
                self.kept.cause = Some(cause.clone());
                self.halt();
            }
            RunEvent::RunCompleted { .. } => self.end(Phase::Completed),
            RunEvent::RunFailed { error } => {
                self.kept.error = Some(error.clone());
                self.end(Phase::Failed);
            }
            RunEvent::RunCancelled => self.end(Phase::Cancelled),
            RunEvent::RunCompensated => self.end(Phase::Compensated),
            RunEvent::RunParked { reason } => self.park(reason),
            RunEvent::StepStarted { step, attempt, first_us } => {
                self.step_started(*step, *attempt, *first_us)
            }
            RunEvent::StepCompleted { step, .. } => self.step_completed(def, *step),
            RunEvent::StepFailed { step, error, ignored, .. } => {
                self.step_failed(def, *step, error, *ignored)
            }
            RunEvent::StepSkipped { step, reason } => self.step_skipped(def, *step, *reason),
            RunEvent::StepCancelled { step, .. } => {
                self.forget(*step);
                // The run ends: dependants are not to be decided any more.
                self.set_code(*step, StepCode::Cancelled);
            }
            RunEvent::RetryScheduled { step, at_us, delay_us, error, undo, waiting, .. } => {
                self.remember_error(*step, error);
                if let Some(trouble) = self.wait(*step, *at_us, *undo, *waiting) {
                    trouble.failures = trouble.failures.saturating_add(1);
                    trouble.last_delay_us = *delay_us;
                }
            }
            RunEvent::CapabilityAwaited { step, undo, .. } => self.await_capability(*step, *undo),
            RunEvent::RetryDue { step } => {
                self.kept.behind_breaker.remove(step);
                if self.kept.waiting.remove(step).is_some() | self.kept.awaiting.remove(step) {
                    self.set_code(*step, StepCode::Ready);
                    self.kept.ready.push_back(*step);
                }
            }
            RunEvent::CompensationStarted { step, attempt, first_us } => {
                self.undo_started(*step, *attempt, *first_us);
            }
            RunEvent::CompensationCompleted { step, .. } => self.undo_completed(*step),
            RunEvent::CompensationFailed { step, attempt, error } => self.undo_failed(*step, *attempt, error),
        }
    }

    fn undo_completed(&mut self, step: u32) {
        self.kept.undo.retain(|undo| *undo != step);
        self.kept.undoing = None;
        self.kept.errors.remove(&step);
        self.set_code(step, StepCode::Compensated);
    }

    fn step_started(&mut self, step: u32, attempt: u32, first_us: Option<i64>) {
        self.unqueue(step);
        self.set_code(step, StepCode::Running);
        if let Some(count) = self.kept.attempts.get_mut(step as usize) {
            self.derived.attempts_total += u64::from(attempt.saturating_sub(*count));
            *count = attempt;
        }
        if let Some(us) = first_us {
            self.kept.first_us.insert(step, us);
        }
    }

    fn step_completed(&mut self, def: &ValidDefinition, step: u32) {
        self.forget(step);
        self.kept.errors.remove(&step);
        self.settle_step(def, step, StepCode::Completed);
        if def.step(step).is_some_and(|s| s.compensation.is_some()) {
            self.kept.undo.push(step);
        }
    }

    fn step_failed(&mut self, def: &ValidDefinition, step: u32, error: &StepError, ignored: bool) {
        self.unqueue(step);
        self.forget(step);
        self.remember_error(step, error);
        if !ignored && self.kept.first_failed.is_none() {
            self.kept.first_failed = Some(step);
        }
        let code = if ignored { StepCode::FailedIgnored } else { StepCode::Failed };
        self.settle_step(def, step, code);
    }

    fn step_skipped(&mut self, def: &ValidDefinition, step: u32, reason: SkipReason) {
        self.unqueue(step);
        let code = match reason {
            SkipReason::Condition => StepCode::SkippedCondition,
            SkipReason::NeedFailed => StepCode::SkippedNeedFailed,
            SkipReason::NeedsSkipped => StepCode::SkippedNeedsSkipped,
        };
        self.settle_step(def, step, code);
    }

    fn undo_started(&mut self, step: u32, attempt: u32, first_us: Option<i64>) {
        let before = self.kept.undoing.take().filter(|undoing| undoing.step == step);
        let first_us = first_us.or(before.as_ref().and_then(|undoing| undoing.first_us));
        let trouble = before.map(|undoing| undoing.trouble).unwrap_or_default();
        self.kept.undoing = Some(Undoing { first_us, trouble, ..Undoing::begin(step, attempt, true) });
    }

    fn undo_failed(&mut self, step: u32, attempt: u32, error: &StepError) {
        self.kept.undoing = Some(Undoing::begin(step, attempt, false));
        self.remember_error(step, error);
        self.set_code(step, StepCode::CompensationFailed);
    }

    fn run_started(&mut self, def: &ValidDefinition, workers: u32, at_us: i64) {
        self.kept.phase = Phase::Running;
        self.kept.workers = workers;
        self.kept.started_us = at_us;
        self.kept.clock_us = at_us;
        self.initialise(def);
    }

    /// Has a step, or its compensation, wait for its next attempt; answers where to count the failure, if it is one.
    fn wait(
        &mut self,
        step: u32,
        at_us: i64,
        undo: bool,
        waiting: Option<WaitingFor>,
    ) -> Option<&mut Trouble> {
        let behind_breaker = waiting == Some(WaitingFor::Breaker);
        if undo {
            let undoing = self.kept.undoing.as_mut()?;
            undoing.running = false;
            undoing.due_us = Some(at_us);
            undoing.behind_breaker = behind_breaker;
            return waiting.is_none().then_some(&mut undoing.trouble);
        }
        self.set_code(step, StepCode::Waiting);
        self.kept.waiting.insert(step, at_us);
        if behind_breaker {
            self.kept.behind_breaker.insert(step);
        }
        waiting.is_none().then(|| self.kept.trouble.entry(step).or_default())
    }

    /// Has the attempt of a step, or of its compensation, wait for a node that can run it.
    fn await_capability(&mut self, step: u32, undo: bool) {
        if undo {
            if let Some(undoing) = self.kept.undoing.as_mut() {
                undoing.running = false;
                undoing.awaiting = true;
            }
        } else if self.code(step) == StepCode::Running {
            self.set_code(step, StepCode::Waiting);
            self.kept.awaiting.insert(step);
        }
    }

    /// Takes a step out of the queues; it is at the front unless a stored log says otherwise.
    fn unqueue(&mut self, step: u32) {
        for queue in [&mut self.kept.ready, &mut self.kept.doomed] {
            if queue.front() == Some(&step) {
                queue.pop_front();
                return;
            }
        }
        if matches!(self.code(step), StepCode::Ready | StepCode::Pending) {
            self.kept.ready.retain(|&queued| queued != step);
            self.kept.doomed.retain(|&queued| queued != step);
        }
    }

    /// Drops what is kept of an open step only.
    fn forget(&mut self, step: u32) {
        self.kept.waiting.remove(&step);
        self.kept.awaiting.remove(&step);
        self.kept.behind_breaker.remove(&step);
        self.kept.first_us.remove(&step);
        self.kept.trouble.remove(&step);
    }

    fn remember_error(&mut self, step: u32, error: &StepError) {
        if self.kept.errors.len() < ERRORS_KEPT_MAX || self.kept.errors.contains_key(&step) {
            self.kept.errors.insert(step, error.clone());
        }
    }

    /// Attempts that were running are lost: their steps go to the front of the queue, ascending.
    fn requeue_running(&mut self) {
        if self.running() == 0 {
            return;
        }
        let steps = 0..self.kept.codes.len() as u32;
        for step in steps.rev().filter(|&step| self.code(step) == StepCode::Running).collect::<Vec<_>>() {
            self.set_code(step, StepCode::Ready);
            self.kept.ready.push_front(step);
        }
    }

    /// Nothing starts any more: queued steps are pending again.
    fn halt(&mut self) {
        for step in std::mem::take(&mut self.kept.ready) {
            self.set_code(step, StepCode::Pending);
        }
        self.kept.doomed.clear();
        self.kept.first_us.clear();
    }

    fn end(&mut self, phase: Phase) {
        self.kept.phase = phase;
        self.halt();
    }

    fn park(&mut self, reason: &str) {
        self.kept.phase = Phase::Parked;
        self.kept.parked = Some(reason.to_owned());
        self.requeue_running();
        self.kept.first_us.clear();
        if let Some(undoing) = &mut self.kept.undoing {
            undoing.running = false;
        }
    }

    /// Opens failed steps again, and with them what was skipped or cancelled because of a failure.
    fn try_again(&mut self, def: &ValidDefinition, scope: RetryScope, at_us: i64) {
        self.kept.parked = None;
        self.kept.error = None;
        self.kept.clock_us = at_us;
        if self.kept.cause.is_some() {
            return self.try_undo_again();
        }
        self.kept.phase = Phase::Running;
        self.kept.first_failed = None;
        for step in 0..def.step_count() {
            let code = self.code(step);
            let spared = matches!(scope, RetryScope::Step(one) if one != step) && code == StepCode::Failed;
            if spared {
                self.kept.first_failed = self.kept.first_failed.or(Some(step));
            } else if code.may_run_again() {
                self.set_code(step, StepCode::Pending);
                self.kept.errors.remove(&step);
                self.kept.trouble.remove(&step);
            }
        }
        self.derive(def);
        self.queue_pending(def);
    }

    fn try_undo_again(&mut self) {
        self.kept.phase = Phase::Undoing;
        if let Some(undoing) = &mut self.kept.undoing {
            undoing.trouble = Trouble::default();
            undoing.first_us = None;
            undoing.due_us = None;
            undoing.behind_breaker = false;
            undoing.awaiting = false;
            let step = undoing.step;
            if self.code(step) == StepCode::CompensationFailed {
                self.set_code(step, StepCode::Completed);
            }
        }
    }
}
