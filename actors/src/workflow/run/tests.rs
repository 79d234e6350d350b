//! The run engine: random lives against a naive judge, and whole decisions for each rule.

use super::model::{Belief, Plan, World, definition, judge};
use super::*;
use crate::resilience::retry::RetryPolicy;
use crate::workflow::definition::{Compensation, Definition, FailurePolicy, Join, Step, ValidDefinition};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

mod breaker;
mod capability;
mod rules;
mod snapshots;

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let shape = (proptest::collection::btree_set(0usize..14, 0..4), 0u8..4);
    let failures = (prop_oneof![3 => Just(0u32), 2 => 1u32..4], 1u32..4, 0u8..6);
    let extras = (any::<bool>(), proptest::bool::weighted(0.2));
    proptest::collection::vec((shape, failures, extras), 1..14).prop_map(|raw| {
        let numbered = raw.into_iter().enumerate();
        numbered
            .map(|(number, ((needs, join), (fails, max_attempts, policy), (undo, total_timeout)))| Plan {
                needs: needs.into_iter().filter(|&need| need < number).collect(),
                join,
                fails,
                max_attempts,
                policy,
                undo,
                total_timeout,
            })
            .collect()
    })
}

/// How each step ends when every failure is survived: straight from the plan, needs first.
fn expected(def: &ValidDefinition, plans: &[Plan]) -> Vec<Belief> {
    let mut ends: Vec<Belief> = Vec::new();
    for (number, plan) in plans.iter().enumerate() {
        let count = |belief| plan.needs.iter().filter(|&&need| ends[need] == belief).count();
        let (done, bad) = (count(Belief::Done), count(Belief::Bad));
        let runs = match def.step(number as u32).unwrap().quorum {
            Some(quorum) => done >= quorum as usize,
            None => bad == 0 && (done > 0 || plan.needs.is_empty()),
        };
        ends.push(match () {
            () if !runs && bad > 0 => Belief::Bad,
            () if !runs => Belief::Neutral,
            () if plan.fails < plan.max_attempts || plan.policy == 0 => Belief::Done,
            () => Belief::Bad,
        });
    }
    ends
}

/// Lets an attempt end as its plan says: it fails as often as planned, counted over reported failures.
struct Failures(Vec<u32>, BTreeSet<((u32, bool), u32)>);

impl Failures {
    fn end(&mut self, world: &mut World, plans: &[Plan], key: (u32, bool)) {
        let plan = &plans[key.0 as usize];
        // Each third attempt meets an open breaker, which no policy counts.
        if world.running[&key].0.is_multiple_of(3) {
            return world.refuse_attempt(key);
        }
        // Each fourth one meets no node that can run it, and half of these a crash while they wait.
        if world.running[&key].0 % 4 == 1 && self.1.insert((key, world.running[&key].0)) {
            return world.await_capability(key, key.0.is_multiple_of(2));
        }
        let fails = !key.1 && self.0[key.0 as usize] < plan.fails;
        if fails {
            self.0[key.0 as usize] += 1;
        }
        world.end_attempt(key, fails);
    }
}

/// Lives a run to its end by random choices, then by plain progress.
fn live(plans: &[Plan], policy: FailurePolicy, workers: u32, choices: &[u8], disturb: bool) -> World {
    let def = definition(plans, policy, true).validate().unwrap();
    let mut world = World::new(def, workers);
    let mut failures = Failures(vec![0; plans.len()], BTreeSet::new());
    for &choice in choices {
        let pick = usize::from(choice >> 3);
        match choice & 7 {
            0 if disturb => world.crash(true),
            1 => world.take_snapshot(),
            2 if disturb => drop(world.tell(RunInput::Pause)),
            3 => drop(world.tell(RunInput::Resume { workers: None })),
            4 if disturb && choice & 0xF8 == 0x40 => {
                drop(world.tell(RunInput::CrashLooped { reason: "often".into() }));
                let failed: Vec<usize> = world
                    .state
                    .steps(&world.def)
                    .enumerate()
                    .filter(|(_, s)| s.status == "failed")
                    .map(|(n, _)| n)
                    .collect();
                if world.tell(RunInput::Retry { step: None }).is_ok() {
                    failed.into_iter().for_each(|step| failures.0[step] = 0);
                }
            }
            4 => {
                if let Some(timer) =
                    world.timers.keys().nth(pick).copied().filter(|t| !matches!(t, TimerId::StepDeadline(_)))
                {
                    world.fire(timer);
                }
            }
            _ => {
                let keys: Vec<_> = world.running.keys().copied().collect();
                if !keys.is_empty() {
                    failures.end(&mut world, plans, keys[pick % keys.len()]);
                }
            }
        }
    }
    for _ in 0..1_000 {
        if world.state.status().is_terminal() {
            return world;
        }
        drop(world.tell(RunInput::Resume { workers: None }));
        let timer = world.timers.keys().find(|t| !matches!(t, TimerId::StepDeadline(_))).copied();
        if let Some(&key) = world.running.keys().next() {
            failures.end(&mut world, plans, key);
        } else if let Some(timer) = timer {
            world.fire(timer);
        }
    }
    panic!("the run does not end: {:?}", world.state);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000), ..ProptestConfig::default() })]

    #[test]
    fn a_run_that_survives_failures_ends_as_its_plan_says(
        plans in plans(), workers in 1u32..5, choices in proptest::collection::vec(any::<u8>(), 0..120), disturb in any::<bool>(),
    ) {
        let mut world = live(&plans, FailurePolicy::Continue, workers, &choices, disturb);
        let ends = judge(&world.def, &world.entries, workers as usize);
        prop_assert_eq!(ends, Ok(expected(&world.def, &plans)));
        let failed = plans.iter().enumerate().any(|(n, p)| p.policy != 0 && p.fails >= p.max_attempts && world.state.attempts(n as u32) > 0);
        let status = if failed { RunStatus::Failed } else { RunStatus::Completed };
        prop_assert_eq!(world.state.status(), status);
        prop_assert!(world.most_running <= workers as usize);
        world.crash(false);
    }

    #[test]
    fn a_run_that_stops_at_a_failure_keeps_every_rule(
        plans in plans(), workers in 1u32..5, choices in proptest::collection::vec(any::<u8>(), 0..120),
        undo in any::<bool>(), cancel_at in proptest::option::of(0usize..60),
    ) {
        let policy = if undo { FailurePolicy::Compensate } else { FailurePolicy::FailFast };
        let mut world = live(&plans, policy, workers, &choices, true);
        prop_assert!(judge(&world.def, &world.entries, workers as usize).is_ok(), "{:?}", judge(&world.def, &world.entries, workers as usize));
        world.crash(false);
        prop_assert!(world.running.is_empty());
        if let Some(at) = cancel_at {
            let def = definition(&plans, policy, undo).validate().unwrap();
            let mut world = World::new(def, workers);
            let mut failures = Failures(vec![0; plans.len()], BTreeSet::new());
            for _ in 0..at {
                if let Some(&key) = world.running.keys().next() {
                    failures.end(&mut world, &plans, key);
                }
            }
            let cancelled = world.tell(RunInput::Cancel).is_ok();
            while let Some(&key) = world.running.keys().next() {
                world.end_attempt(key, false);
            }
            if cancelled {
                prop_assert_eq!(world.state.status(), RunStatus::Cancelled);
            }
            prop_assert!(judge(&world.def, &world.entries, workers as usize).is_ok());
            world.crash(false);
        }
    }

    #[test]
    fn a_failed_run_retried_often_enough_completes(
        plans in plans(), workers in 1u32..5, choices in proptest::collection::vec(any::<u8>(), 0..60), go_on in any::<bool>(),
    ) {
        let policy = if go_on { FailurePolicy::Continue } else { FailurePolicy::FailFast };
        let mut world = live(&plans, policy, workers, &choices, true);
        for _ in 0..200 {
            if world.state.status() == RunStatus::Completed {
                break;
            }
            if world.state.status() == RunStatus::Failed {
                world.crash(false);
                world.tell(RunInput::Retry { step: None }).unwrap();
            } else if let Some(&key) = world.running.keys().next() {
                world.end_attempt(key, false);
            }
        }
        prop_assert_eq!(world.state.status(), RunStatus::Completed);
        prop_assert!(judge(&world.def, &world.entries, workers as usize).is_ok());
        world.crash(false);
    }
}

#[test]
fn the_judge_rejects_planted_faults() {
    let def =
        Definition::builder("x").step(Step::new("a")).step(Step::new("b").needs(["a"])).validate().unwrap();
    let start = |step, attempt| RunEvent::StepStarted { step, attempt, first_us: None };
    let done = |step| RunEvent::StepCompleted { step, attempt: 1, size: 0, crc32c: 0 };
    let judged = |events: Vec<RunEvent>| judge(&def, &[events], 1).map(drop);
    assert_eq!(judged(vec![start(0, 1), done(0), start(1, 1), done(1)]), Ok(()));
    assert!(judged(vec![start(1, 1)]).unwrap_err().contains("before its needs"));
    assert!(judged(vec![start(0, 2)]).unwrap_err().contains("skips an attempt"));
    assert!(judged(vec![start(0, 1), done(0), done(0)]).unwrap_err().contains("without running"));
    assert!(judged(vec![start(0, 1), done(0), start(0, 2)]).unwrap_err().contains("after its end"));
    let loose = Definition::builder("x").step(Step::new("a")).step(Step::new("b")).validate().unwrap();
    assert!(judge(&loose, &[vec![start(0, 1), start(1, 1)]], 1).unwrap_err().contains("at once"));
    assert!(judged(vec![start(0, 1), RunEvent::RunCancelled]).unwrap_err().contains("while steps run"));
}
