//! Steps that no node can run: they wait for one, without a worker and without using up an attempt of their policy.

use super::rules::{Run, chain, done, start};
use super::*;

fn id(step: u32, attempt: u32, undo: bool) -> AttemptId {
    AttemptId { step, attempt, undo }
}

fn awaited(run: &mut Run, attempt: AttemptId) -> Decision {
    run.tell(RunInput::CapabilityAwaited { attempt }).unwrap()
}

fn found(run: &mut Run, attempt: AttemptId) -> Decision {
    run.tell(RunInput::CapabilityFound { attempt }).unwrap()
}

fn view(run: &Run, step: u32) -> (&'static str, u32, Option<WaitingFor>) {
    let step = run.state.step_view(&run.def, step).unwrap();
    (step.status, step.attempts, step.waiting_for)
}

#[test]
fn a_run_is_waiting_while_no_node_can_run_its_step_and_running_when_one_can() {
    // No retries at all: one failed attempt is the end of the step.
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    for attempt in 1..=3 {
        let decision = awaited(&mut run, id(0, attempt, false));
        let told = RunEvent::CapabilityAwaited { step: 0, attempt, undo: false };
        assert_eq!((decision.events.as_slice(), decision.effects.len()), ([told].as_slice(), 0));
        let line = HistoryLine::of(&run.def, &decision.events[0], 1, 0).unwrap();
        assert_eq!((line.kind, &line.details["waiting"]), ("capability_awaited", &json!("capability")));
        assert_eq!(view(&run, 0), ("waiting", attempt, Some(WaitingFor::Capability)));
        assert_eq!(run.state.status(), RunStatus::Waiting);
        run.state = RunState::from_snapshot(&run.def, &run.state.snapshot()).unwrap();
        assert_eq!(view(&run, 0), ("waiting", attempt, Some(WaitingFor::Capability)));
        let decision = found(&mut run, id(0, attempt, false));
        assert_eq!(decision.events, [RunEvent::RetryDue { step: 0 }, start(0, attempt + 1)]);
        assert_eq!(view(&run, 0), ("running", attempt + 1, None));
        assert_eq!(run.state.status(), RunStatus::Running);
    }
    assert!(matches!(run.fail(0, 4).events[0], RunEvent::StepFailed { attempt: 4, .. }), "the first failure");
}

#[test]
fn an_attempt_that_waits_gives_its_worker_to_another_step_and_queues_for_one_again() {
    let definition = Definition::builder("x").step(Step::new("a")).step(Step::new("b"));
    let (mut run, _) = Run::new(definition.build(), 1, Value::Null);
    assert_eq!(awaited(&mut run, id(0, 1, false)).events[1], start(1, 1));
    assert_eq!(run.state.status(), RunStatus::Running);
    assert_eq!(found(&mut run, id(0, 1, false)).events, [RunEvent::RetryDue { step: 0 }]);
    assert_eq!(view(&run, 0).0, "ready");
    assert_eq!(run.complete(1, 1, Value::Null).events, [done(1, 1), start(0, 2)]);
}

#[test]
fn a_node_found_before_the_wait_was_told_is_both() {
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    let decision = found(&mut run, id(0, 1, false));
    let told = RunEvent::CapabilityAwaited { step: 0, attempt: 1, undo: false };
    assert_eq!(decision.events, [told, RunEvent::RetryDue { step: 0 }, start(0, 2)]);
    assert_eq!(awaited(&mut run, id(0, 1, false)), Decision::default(), "too late");
}

#[test]
fn a_wait_ends_with_a_cancelled_run_and_with_the_total_time_of_its_step() {
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    awaited(&mut run, id(0, 1, false));
    let cancelled = run.tell(RunInput::Cancel).unwrap();
    assert_eq!(cancelled.effects, [RunEffect::CancelAttempt(id(0, 1, false))]);
    assert_eq!(run.state.status(), RunStatus::Cancelled);
    assert_eq!(found(&mut run, id(0, 1, false)), Decision::default());
    let step = Step::new("a").total_timeout(Duration::from_secs(1));
    let (mut run, _) = Run::new(Definition::builder("x").step(step).build(), 1, Value::Null);
    awaited(&mut run, id(0, 1, false));
    let late = run.tell(RunInput::TimerFired { timer: TimerId::StepDeadline(0) }).unwrap();
    assert!(late.effects.contains(&RunEffect::CancelAttempt(id(0, 1, false))), "{late:?}");
    assert!(matches!(&late.events[0], RunEvent::StepFailed { error, .. } if &*error.code == "total_timeout"));
}

#[test]
fn a_paused_run_notes_the_node_and_starts_the_step_when_it_goes_on() {
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    awaited(&mut run, id(0, 1, false));
    run.tell(RunInput::Pause).unwrap();
    assert_eq!(found(&mut run, id(0, 1, false)).events, [RunEvent::RetryDue { step: 0 }]);
    assert_eq!(run.state.status(), RunStatus::Paused);
    assert_eq!(run.tell(RunInput::Resume { workers: None }).unwrap().events[1], start(0, 2));
}

#[test]
fn after_a_crash_every_waiting_attempt_looks_for_a_node_anew() {
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    awaited(&mut run, id(0, 1, false));
    run.state = RunState::from_snapshot(&run.def, &run.state.snapshot()).unwrap();
    assert!(run.state.awaits_capability());
    let recovered = run.tell(RunInput::Recovered { workers: None }).unwrap();
    assert_eq!(recovered.effects[0], RunEffect::CancelAttempt(id(0, 1, false)));
    assert_eq!(recovered.events[1..], [RunEvent::RetryDue { step: 0 }, start(0, 2)]);
    assert_eq!(found(&mut run, id(0, 1, false)), Decision::default(), "of the life before");
}

#[test]
fn a_compensation_that_no_node_can_run_waits_for_one_too() {
    let definition = Definition::builder("x")
        .on_failure(FailurePolicy::Compensate)
        .step(Step::new("a").compensation("undo", json!(null)))
        .step(Step::new("b").needs(["a"]));
    let (mut run, _) = Run::new(definition.build(), 1, Value::Null);
    run.complete(0, 1, Value::Null);
    run.fail(1, 1);
    awaited(&mut run, id(0, 1, true));
    run.state = RunState::from_snapshot(&run.def, &run.state.snapshot()).unwrap();
    assert_eq!(view(&run, 0).2, Some(WaitingFor::Capability));
    let recovered = run.tell(RunInput::Recovered { workers: None }).unwrap();
    assert!(
        matches!(recovered.events[..], [_, RunEvent::CompensationStarted { attempt: 2, .. }]),
        "{recovered:?}"
    );
    awaited(&mut run, id(0, 2, true));
    let again = found(&mut run, id(0, 2, true));
    assert!(matches!(again.events[..], [RunEvent::CompensationStarted { attempt: 3, .. }]), "{again:?}");
    assert_eq!(view(&run, 0).2, None);
    run.undo(0, 3, AttemptResult::Completed(Value::Null));
    assert_eq!(run.state.status(), RunStatus::Compensated);
}
