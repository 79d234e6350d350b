//! Deciding an input: which facts follow, and what is to be done about them.

use super::codes::StepCode;
use super::effect::{Decision, EVENTS_MAX, RowKey, RunEffect, TimerId};
use super::event::{EndCause, RunError, RunEvent, SkipReason, StepError};
use super::input::{AttemptId, RunInput, RunRejection};
use super::outputs::{RunScope, check_levels, encode_row};
use super::state::{Phase, RunState};
use crate::workflow::definition::{ValidDefinition, shown};
use serde_json::Value;

/// A decision is cut when the inputs of the attempts it starts reach this many bytes.
const INPUTS_MAX: usize = 512 * 1024;
/// Largest input of an attempt, in bytes.
const INPUT_BYTES_MAX: usize = 1 << 20;

/// One decision in the making.
pub(super) struct Turn<'a> {
    pub(super) state: &'a mut RunState,
    pub(super) def: &'a ValidDefinition,
    pub(super) now_us: i64,
    pub(super) draw: &'a mut dyn FnMut() -> f64,
    pub(super) out: Decision,
    /// Encoded inputs of the attempts started so far.
    pub(super) input_bytes: usize,
}

impl RunState {
    /// Decides an input, applies the facts to this state and gives them out with the rows to store in the same
    /// entry and the effects to perform after its commit.
    ///
    /// `draw` gives random numbers in `[0, 1)`, one per scheduled retry. The same state, input, time and draws
    /// give the same decision. Late reports (an attempt or timer the run no longer waits for) give an empty
    /// decision.
    ///
    /// # Errors
    /// [`RunRejection`]: the input is not allowed where the run stands; the state is unchanged.
    pub fn advance(
        &mut self,
        def: &ValidDefinition,
        input: RunInput,
        now_us: i64,
        draw: &mut dyn FnMut() -> f64,
    ) -> Result<Decision, RunRejection> {
        let mut turn = Turn { state: self, def, now_us, draw, out: Decision::default(), input_bytes: 0 };
        turn.input(input)?;
        turn.settle();
        turn.out.held_back = turn.is_held_back();
        Ok(turn.out)
    }

    /// As [`RunState::advance`], on a copy: O(number of steps), for checks and tools.
    ///
    /// # Errors
    /// As [`RunState::advance`].
    pub fn decide(
        &self,
        def: &ValidDefinition,
        input: RunInput,
        now_us: i64,
        draw: &mut dyn FnMut() -> f64,
    ) -> Result<Decision, RunRejection> {
        self.clone().advance(def, input, now_us, draw)
    }
}

impl Turn<'_> {
    pub(super) fn apply(&mut self, event: RunEvent) {
        self.state.evolve(self.def, &event);
        self.out.events.push(event);
    }

    pub(super) fn effect(&mut self, effect: RunEffect) {
        self.out.effects.push(effect);
    }

    /// Skips what can no longer run, starts what may start, ends the run when nothing is left.
    fn settle(&mut self) {
        loop {
            if !matches!(self.state.kept.phase, Phase::Running | Phase::Paused) {
                return;
            }
            if (self.out.events.len() >= EVENTS_MAX || self.input_bytes >= INPUTS_MAX) && self.has_work() {
                self.out.more = true;
                return;
            }
            if let Some(&step) = self.state.kept.doomed.front() {
                self.skip_doomed(step);
                continue;
            }
            match self.state.kept.ready.front() {
                Some(&step) if self.may_start() => self.try_start(step),
                Some(_) | None => break,
            }
        }
        if self.state.unsettled() == 0 {
            self.finish();
        }
    }

    fn has_work(&self) -> bool {
        let kept = &self.state.kept;
        !kept.doomed.is_empty() || (!kept.ready.is_empty() && self.may_start())
    }

    fn may_start(&self) -> bool {
        !self.state.memory.held && self.is_startable()
    }

    fn is_startable(&self) -> bool {
        self.state.kept.phase == Phase::Running && self.state.running() < self.workers()
    }

    /// Whether something would start, were the run not held.
    fn is_held_back(&self) -> bool {
        let kept = &self.state.kept;
        let steps = !kept.ready.is_empty() && self.is_startable();
        let undo = kept.phase == Phase::Undoing && !kept.undo.is_empty() && self.undo_is_idle();
        self.state.memory.held && (steps || undo)
    }

    fn workers(&self) -> u32 {
        self.state.kept.workers.min(self.def.workers().unwrap_or(u32::MAX)).max(1)
    }

    fn skip_doomed(&mut self, step: u32) {
        let failed = self.state.derived.needs.get(step as usize).is_some_and(|counts| counts.bad > 0);
        let reason = if failed { SkipReason::NeedFailed } else { SkipReason::NeedsSkipped };
        self.apply(RunEvent::StepSkipped { step, reason });
    }

    /// Answers the condition of the first ready step and fills in its input.
    fn try_start(&mut self, step: u32) {
        let Some(plan) = self.def.step(step) else { return };
        let scope = RunScope { def: self.def, state: self.state };
        // A step that has been started once has passed its condition.
        let first = self.state.attempts(step) == 0;
        let wanted = match &plan.when {
            Some(condition) if first => condition.evaluate(&scope),
            Some(_) | None => Ok(true),
        };
        match wanted {
            Err(error) => self.fail_step(step, StepError::new("condition", &error.to_string())),
            Ok(false) => self.apply(RunEvent::StepSkipped { step, reason: SkipReason::Condition }),
            Ok(true) => match plan.input.render(&scope) {
                Err(error) => self.fail_step(step, StepError::new("input_template", &error.to_string())),
                Ok(input) => match self.measure(&input) {
                    Err(message) => self.fail_step(step, StepError::new("input_too_large", &message)),
                    Ok(()) => self.start(step, input),
                },
            },
        }
    }

    /// Counts an input against what one entry may carry.
    ///
    /// # Errors
    /// When it is over the limit of an input.
    pub(super) fn measure(&mut self, input: &Value) -> Result<(), String> {
        check_levels(input)?;
        let bytes = rmp_serde::to_vec_named(input).map_err(|e| e.to_string())?.len();
        if bytes > INPUT_BYTES_MAX {
            return Err(format!("the input has {bytes} bytes, over the limit of 1 MiB"));
        }
        self.input_bytes += bytes;
        Ok(())
    }

    fn start(&mut self, step: u32, input: Value) {
        let Some(plan) = self.def.step(step) else { return };
        let clocked = plan.total_timeout_us.is_some() || plan.retry.max_elapsed_ms.is_some();
        let first = clocked && !self.state.kept.first_us.contains_key(&step);
        let attempt = self.state.attempts(step).saturating_add(1);
        self.apply(RunEvent::StepStarted { step, attempt, first_us: first.then_some(self.now_us) });
        if let (true, Some(limit)) = (first, plan.total_timeout_us) {
            let due_us = self.now_us.saturating_add(limit);
            self.effect(RunEffect::SetTimer { timer: TimerId::StepDeadline(step), due_us });
        }
        let attempt = AttemptId { step, attempt, undo: false };
        let (activity, timeout) = (plan.activity.clone(), plan.attempt_timeout);
        let requires = plan.requires.to_vec();
        self.effect(RunEffect::StartAttempt { attempt, activity, input, timeout, requires });
    }

    /// Every step has ended.
    fn finish(&mut self) {
        if let Some(step) = self.state.kept.first_failed {
            let error = self.step_failed_error(step);
            return self.end(EndCause::Failed(error), false);
        }
        let scope = RunScope { def: self.def, state: self.state };
        let rendered = self.def.output().map_or(Ok(Value::Null), |template| template.render(&scope));
        let output = match rendered {
            Ok(output) => output,
            Err(error) => {
                let error = RunError::new("output_template", &error.to_string(), None);
                return self.end(EndCause::Failed(error), false);
            }
        };
        match encode_row(RowKey::Run, &output) {
            Err(message) => {
                let error = RunError::new("output_too_large", &message, None);
                self.end(EndCause::Failed(error), false);
            }
            Ok(row) => {
                self.clear_run_deadline();
                let (size, crc32c) = row.as_ref().map_or((0, 0), |(crc, row)| (row.bytes.len() as u32, *crc));
                self.out.rows.extend(row.map(|(_, row)| row));
                self.apply(RunEvent::RunCompleted { size, crc32c });
            }
        }
    }

    pub(super) fn step_failed_error(&self, step: u32) -> RunError {
        let id = shown(self.def.step_id(step));
        let message = match self.state.kept.errors.get(&step) {
            Some(error) => format!("step \"{id}\" failed: {} ({})", error.message, error.code),
            None => format!("step \"{id}\" failed"),
        };
        RunError::new("step_failed", &message, Some(step))
    }

    /// Ends the run, or turns to undoing its completed steps.
    pub(super) fn end(&mut self, cause: EndCause, compensate: bool) {
        self.cancel_open_steps();
        self.clear_run_deadline();
        if compensate {
            self.apply(RunEvent::RunTurned { cause });
            return self.undo_next();
        }
        match cause {
            EndCause::Failed(error) => self.apply(RunEvent::RunFailed { error }),
            EndCause::Cancelled => self.apply(RunEvent::RunCancelled),
        }
    }

    fn clear_run_deadline(&mut self) {
        if self.def.total_timeout_us().is_some() {
            self.effect(RunEffect::ClearTimer(TimerId::RunDeadline));
        }
    }

    /// Gives up running and waiting steps, ascending, and their timers.
    fn cancel_open_steps(&mut self) {
        for step in self.state.kept.first_us.keys().copied().collect::<Vec<_>>() {
            self.clear_step_deadline(step);
        }
        if self.state.running() + self.state.count(StepCode::Waiting) == 0 {
            return;
        }
        for step in 0..self.def.step_count() {
            let attempt = self.state.attempts(step);
            match self.state.code(step) {
                StepCode::Running => {
                    self.effect(RunEffect::CancelAttempt(AttemptId { step, attempt, undo: false }));
                    self.apply(RunEvent::StepCancelled { step, attempt });
                }
                StepCode::Waiting => {
                    self.end_wait(step, attempt);
                    self.apply(RunEvent::StepCancelled { step, attempt });
                }
                StepCode::Pending
                | StepCode::Ready
                | StepCode::Completed
                | StepCode::Failed
                | StepCode::FailedIgnored
                | StepCode::SkippedCondition
                | StepCode::SkippedNeedFailed
                | StepCode::SkippedNeedsSkipped
                | StepCode::Cancelled
                | StepCode::Compensated
                | StepCode::CompensationFailed => {}
            }
        }
    }

    /// Gives up what a waiting step waits for: its time, or a node.
    pub(super) fn end_wait(&mut self, step: u32, attempt: u32) {
        if self.state.kept.awaiting.contains(&step) {
            self.effect(RunEffect::CancelAttempt(AttemptId { step, attempt, undo: false }));
        } else {
            self.effect(RunEffect::ClearTimer(TimerId::Retry(step)));
        }
    }

    /// Clears the timer of a step's total time, if it has one.
    pub(super) fn clear_step_deadline(&mut self, step: u32) {
        if self.def.step(step).is_some_and(|plan| plan.total_timeout_us.is_some()) {
            self.effect(RunEffect::ClearTimer(TimerId::StepDeadline(step)));
        }
    }
}
