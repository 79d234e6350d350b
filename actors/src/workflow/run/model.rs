//! A stupidly simple world around a run: it performs effects, crashes at will, and judges the history with
//! rules of its own that share no code with the engine.

use super::codes::StepCode;
use super::*;
use crate::resilience::{
    breaker::BreakerOpen,
    retry::{Jitter, RetryPolicy},
};
use crate::workflow::definition::{Definition, FailurePolicy, Join, Step, ValidDefinition};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One step of a random plan.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) needs: Vec<usize>,
    pub(super) join: u8,
    pub(super) fails: u32,
    pub(super) max_attempts: u32,
    pub(super) policy: u8,
    pub(super) undo: bool,
    pub(super) total_timeout: bool,
}

pub(super) fn id(step: usize) -> String {
    format!("s{step}")
}

pub(super) fn definition(plans: &[Plan], policy: FailurePolicy, cancel_undoes: bool) -> Definition {
    let steps = plans.iter().enumerate().map(|(number, plan)| {
        let inputs: Vec<Value> =
            plan.needs.iter().map(|&n| json!(format!("${{steps.{}.output}}", id(n)))).collect();
        let step = Step::new(id(number))
            .activity("work")
            .needs(plan.needs.iter().map(|&n| id(n)))
            .input(Value::Array(inputs))
            .join(match plan.join {
                _ if plan.needs.is_empty() => Join::All,
                0 | 1 => Join::All,
                2 => Join::Any,
                _ => Join::Quorum(plan.needs.len().div_ceil(2) as u32),
            })
            .retry(RetryPolicy {
                max_attempts: plan.max_attempts,
                jitter: Jitter::Full,
                max_elapsed_ms: plan.total_timeout.then_some(1_000_000_000),
                ..RetryPolicy::default()
            });
        let step = if plan.undo {
            step.compensation("undo", json!(format!("${{steps.{}.output}}", id(number))))
        } else {
            step
        };
        let step = if plan.total_timeout {
            step.total_timeout(std::time::Duration::from_secs(1_000_000))
        } else {
            step
        };
        match plan.policy {
            0 => step.on_failure(FailurePolicy::Ignore),
            _ => step,
        }
    });
    Definition::builder("random").steps(steps).on_failure(policy).compensate_on_cancel(cancel_undoes).build()
}

/// The world: what is running, which timers are set, what is durable.
pub(super) struct World {
    pub(super) def: ValidDefinition,
    pub(super) state: RunState,
    pub(super) entries: Vec<Vec<RunEvent>>,
    pub(super) rows: BTreeMap<RowKey, Value>,
    pub(super) running: BTreeMap<(u32, bool), (u32, Value)>,
    pub(super) timers: BTreeMap<TimerId, i64>,
    pub(super) now_us: i64,
    /// When the last attempt ended.
    told_us: i64,
    pub(super) most_running: usize,
    snapshot: (usize, Vec<u8>),
    seed: u64,
}

impl World {
    pub(super) fn new(def: ValidDefinition, workers: u32) -> Self {
        let mut world = Self {
            def,
            state: RunState::new(),
            entries: Vec::new(),
            rows: BTreeMap::new(),
            running: BTreeMap::new(),
            timers: BTreeMap::new(),
            now_us: 1_000_000,
            told_us: 0,
            most_running: 0,
            snapshot: (0, RunState::new().snapshot()),
            seed: 7,
        };
        world.tell(RunInput::Start { input: json!({"x": 1}), workers }).unwrap();
        world
    }

    pub(super) fn tell(&mut self, input: RunInput) -> Result<Decision, RunRejection> {
        self.now_us += 10;
        let seed = self.seed;
        let draws = |start: u64| {
            let mut seed = start;
            move || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 11) as f64 / (1u64 << 53) as f64
            }
        };
        self.seed = seed.wrapping_add(1);
        let before = self.state.clone();
        let again = before.decide(&self.def, input.clone(), self.now_us, &mut draws(seed));
        let decision = self.state.advance(&self.def, input, self.now_us, &mut draws(seed));
        assert_eq!(decision, again, "the same state and input decide the same");
        let decision =
            decision.inspect_err(|_| assert_eq!(self.state, before, "a refusal changes nothing"))?;
        self.perform(&decision);
        Ok(decision)
    }

    fn perform(&mut self, decision: &Decision) {
        if !decision.events.is_empty() {
            // Through the stored form, as a shell would keep it.
            let bytes = rmp_serde::to_vec_named(&decision.events).unwrap();
            let stored: Vec<RunEvent> = rmp_serde::from_slice(&bytes).unwrap();
            assert_eq!(stored, decision.events);
            self.entries.push(stored);
        }
        for row in &decision.rows {
            assert!(
                self.rows.insert(row.key, OutputRow::decode(&row.bytes).unwrap()).is_none(),
                "a row is written once"
            );
        }
        let recovering = decision.events.iter().any(|event| matches!(event, RunEvent::RunRecovered { .. }));
        for effect in &decision.effects {
            match effect {
                RunEffect::StartAttempt { attempt, input, .. } => {
                    let new =
                        self.running.insert((attempt.step, attempt.undo), (attempt.attempt, input.clone()));
                    assert!(new.is_none(), "one attempt of a step at a time");
                    if !attempt.undo {
                        self.check_input(attempt.step, input);
                    }
                }
                RunEffect::CancelAttempt(attempt) => {
                    let old = self.running.remove(&(attempt.step, attempt.undo));
                    let lost = old.is_none() && recovering;
                    assert!(
                        lost || old.map(|(number, _)| number) == Some(attempt.attempt),
                        "what is cancelled was running, or was lost with the process"
                    );
                }
                RunEffect::SetTimer { timer, due_us } => {
                    assert_eq!(TimerId::from_u64(timer.to_u64()), Some(*timer));
                    self.timers.insert(*timer, *due_us);
                }
                RunEffect::ClearTimer(timer) => {
                    self.timers.remove(timer);
                }
            }
        }
        let runs = |step: &u32| self.state.code(*step) == StepCode::Running;
        let steps_running = self.running.keys().filter(|(step, undo)| !undo && runs(step)).count();
        self.most_running = self.most_running.max(steps_running);
        let expected: BTreeMap<TimerId, i64> = self.state.timers(&self.def).into_iter().collect();
        for (timer, due) in &expected {
            assert_eq!(self.timers.get(timer), Some(due), "every timer waited for is set");
        }
    }

    /// The input holds what the needs gave: their number, or null.
    fn check_input(&self, step: u32, input: &Value) {
        let needs = self.def.graph().needs(step);
        let expected: Vec<Value> = needs
            .iter()
            .map(|&need| self.rows.get(&RowKey::Step(need)).cloned().unwrap_or_default())
            .collect();
        assert_eq!(*input, Value::Array(expected));
    }

    /// Ends the attempt of this step as its plan says.
    pub(super) fn end_attempt(&mut self, key: (u32, bool), fails: bool) {
        self.end_with(
            key,
            if fails {
                AttemptResult::Failed(Failure::retryable("no", "not yet"))
            } else {
                AttemptResult::Completed(json!(key.0))
            },
        );
    }

    /// A breaker does not let the attempt run.
    pub(super) fn refuse_attempt(&mut self, key: (u32, bool)) {
        let failure = Failure::retryable(BreakerOpen::CODE, "open");
        self.end_with(key, AttemptResult::Failed(Failure { retry_after_ms: Some(70), ..failure }));
        let step = self.state.step_view(&self.def, key.0).unwrap();
        assert_eq!(
            (step.waiting_for, step.retry_at_us),
            (Some(WaitingFor::Breaker), Some(self.told_us + 70_000))
        );
    }

    /// No node can run the attempt for a while, and then one can.
    pub(super) fn await_capability(&mut self, key: (u32, bool), crash: bool) {
        let (attempt, _) = self.running[&key];
        let attempt = AttemptId { step: key.0, attempt, undo: key.1 };
        self.tell(RunInput::CapabilityAwaited { attempt }).unwrap();
        let step = self.state.step_view(&self.def, key.0).unwrap();
        assert_eq!((step.waiting_for, step.retry_at_us), (Some(WaitingFor::Capability), None));
        assert_eq!(self.tell(RunInput::CapabilityAwaited { attempt }).unwrap(), Decision::default(), "once");
        if crash {
            return self.crash(true);
        }
        // The shell is told that the attempt is over.
        self.running.remove(&key);
        self.tell(RunInput::CapabilityFound { attempt }).unwrap();
        assert_eq!(self.tell(RunInput::CapabilityFound { attempt }).unwrap(), Decision::default(), "once");
    }

    fn end_with(&mut self, key: (u32, bool), result: AttemptResult) {
        let (attempt, _) = self.running.remove(&key).unwrap();
        let attempt = AttemptId { step: key.0, attempt, undo: key.1 };
        self.tell(RunInput::AttemptEnded { attempt, result: result.clone() }).unwrap();
        self.told_us = self.now_us;
        // The same report once more comes too late.
        let late = self.tell(RunInput::AttemptEnded { attempt, result }).unwrap();
        assert_eq!(late, Decision::default());
    }

    pub(super) fn fire(&mut self, timer: TimerId) {
        let due = self.timers.remove(&timer).unwrap();
        self.now_us = self.now_us.max(due);
        self.tell(RunInput::TimerFired { timer }).unwrap();
    }

    /// The process dies: memory is gone, the state comes back from a snapshot and the entries after it.
    pub(super) fn crash(&mut self, tell_it: bool) {
        let (from, bytes) = &self.snapshot;
        let mut state = RunState::from_snapshot(&self.def, bytes).unwrap();
        for event in self.entries[*from..].iter().flatten() {
            state.evolve(&self.def, event);
        }
        assert_eq!(state.kept, self.state.kept, "snapshot and tail give the state");
        assert_eq!(state.derived, self.state.derived, "counters follow from the state");
        let mut whole = RunState::new();
        self.entries.iter().flatten().for_each(|event| whole.evolve(&self.def, event));
        assert_eq!(
            (whole.kept, whole.derived),
            (state.kept.clone(), state.derived.clone()),
            "the full fold gives the state"
        );
        for step in state.outputs_needed(&self.def) {
            state.restore_output(step, self.rows.get(&RowKey::Step(step)).cloned().unwrap_or_default());
        }
        state.restore_input(json!({"x": 1}));
        assert_eq!(state.memory, self.state.memory, "memory holds what is needed, no more");
        self.state = state;
        if tell_it && self.tell_recovered() {}
    }

    fn tell_recovered(&mut self) -> bool {
        self.running.clear();
        let recovered = self.tell(RunInput::Recovered { workers: None });
        assert_eq!(
            recovered.is_ok(),
            !self.state.status().is_terminal() && self.state.status() != RunStatus::Parked
        );
        recovered.is_ok()
    }

    pub(super) fn take_snapshot(&mut self) {
        self.snapshot = (self.entries.len(), self.state.snapshot());
    }
}

/// What a naive reader of the history believes about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belief {
    Open,
    Done,
    Bad,
    Neutral,
}

/// Judges a history line by line; the error says which rule is broken.
pub(super) fn judge(
    def: &ValidDefinition,
    entries: &[Vec<RunEvent>],
    workers: usize,
) -> Result<Vec<Belief>, String> {
    let n = def.step_count() as usize;
    let mut belief = vec![Belief::Open; n];
    let mut attempts = vec![0u32; n];
    let mut running: BTreeSet<u32> = BTreeSet::new();
    let mut completed: Vec<u32> = Vec::new();
    let mut undone: Vec<u32> = Vec::new();
    let mut ended = false;
    for event in entries.iter().flatten() {
        match event {
            RunEvent::RunResumed { retry: Some(_), .. } => {
                ended = false;
                belief.iter_mut().filter(|b| **b == Belief::Bad).for_each(|b| *b = Belief::Open);
            }
            _ if ended => return Err(format!("{event:?} after the end")),
            RunEvent::StepStarted { step, attempt, .. } => {
                let needs: Vec<Belief> =
                    def.graph().needs(*step).iter().map(|&need| belief[need as usize]).collect();
                let done = needs.iter().filter(|b| **b == Belief::Done).count();
                let satisfied = match def.step(*step).unwrap().quorum {
                    Some(quorum) => done >= quorum as usize,
                    None => {
                        needs.iter().all(|b| matches!(b, Belief::Done | Belief::Neutral))
                            && (done > 0 || needs.is_empty())
                    }
                };
                // A need may have failed again after a retry opened it; attempts before that are legal.
                if !satisfied && *attempt == 1 {
                    return Err(format!("step {step} starts before its needs"));
                }
                attempts[*step as usize] += 1;
                if attempts[*step as usize] != *attempt {
                    return Err(format!("step {step} skips an attempt number"));
                }
                if belief[*step as usize] != Belief::Open {
                    return Err(format!("step {step} starts after its end"));
                }
                running.insert(*step);
                if running.len() > workers {
                    return Err(format!("{} steps run at once", running.len()));
                }
            }
            RunEvent::StepCompleted { step, .. } => {
                if !running.remove(step) || belief[*step as usize] == Belief::Done {
                    return Err(format!("step {step} completes without running"));
                }
                belief[*step as usize] = Belief::Done;
                completed.push(*step);
            }
            RunEvent::StepFailed { step, ignored, .. } => {
                running.remove(step);
                belief[*step as usize] = if *ignored { Belief::Done } else { Belief::Bad };
            }
            RunEvent::StepSkipped { step, reason } => {
                belief[*step as usize] =
                    if *reason == SkipReason::NeedFailed { Belief::Bad } else { Belief::Neutral };
            }
            RunEvent::StepCancelled { step, .. } => {
                running.remove(step);
            }
            RunEvent::RetryScheduled { step, undo: false, .. }
            | RunEvent::CapabilityAwaited { step, undo: false, .. } => {
                running.remove(step);
            }
            RunEvent::RunRecovered { .. } | RunEvent::RunParked { .. } => running.clear(),
            RunEvent::CompensationCompleted { step, .. } => {
                let to_undo = |s: &&u32| def.step(**s).unwrap().compensation.is_some() && !undone.contains(s);
                if completed.iter().rev().find(to_undo) != Some(step) {
                    return Err(format!("step {step} is undone out of order"));
                }
                undone.push(*step);
            }
            RunEvent::RunCompleted { .. }
            | RunEvent::RunFailed { .. }
            | RunEvent::RunCancelled
            | RunEvent::RunCompensated => {
                if !running.is_empty() {
                    return Err("the run ends while steps run".into());
                }
                let left = completed
                    .iter()
                    .any(|s| def.step(*s).unwrap().compensation.is_some() && !undone.contains(s));
                if matches!(event, RunEvent::RunCompensated) && left {
                    return Err("a completed step was not undone".into());
                }
                ended = true;
            }
            _ => {}
        }
    }
    Ok(belief)
}
