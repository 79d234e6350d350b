//! Steps whose breaker is open: they wait for it, and no policy counts that.

use super::rules::{Run, chain, done, start};
use super::*;
use crate::resilience::breaker::BreakerOpen;

fn refused(retry_after_ms: Option<u64>) -> AttemptResult {
    let failure = Failure::retryable(BreakerOpen::CODE, "breaker \"pay\" is open");
    AttemptResult::Failed(Failure { retry_after_ms, ..failure })
}

fn view(run: &Run) -> (&'static str, u32, Option<WaitingFor>, Option<i64>) {
    let step = run.state.step_view(&run.def, 0).unwrap();
    (step.status, step.attempts, step.waiting_for, step.retry_at_us)
}

#[test]
fn a_step_behind_an_open_breaker_waits_and_uses_up_no_attempts() {
    // No retries at all: one failed attempt is the end of the step.
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    for attempt in 1..=5 {
        let decision = run.end(0, attempt, refused(Some(5_000)));
        let at_us = run.now_us + 5_000_000;
        let RunEvent::RetryScheduled { waiting, delay_us, .. } = &decision.events[0] else {
            panic!("{decision:?}")
        };
        assert_eq!((*waiting, *delay_us), (Some(WaitingFor::Breaker), 5_000_000));
        assert_eq!(decision.effects, [RunEffect::SetTimer { timer: TimerId::Retry(0), due_us: at_us }]);
        let line = HistoryLine::of(&run.def, &decision.events[0], 1, 0).unwrap();
        assert_eq!((line.kind, &line.details["waiting"]), ("retry_scheduled", &json!("breaker")));
        assert_eq!(view(&run), ("waiting", attempt, Some(WaitingFor::Breaker), Some(at_us)));
        assert_eq!(run.state.status(), RunStatus::Waiting);
        // The process dies: number, time and reason come back.
        run.state = RunState::from_snapshot(&run.def, &run.state.snapshot()).unwrap();
        run.tell(RunInput::Recovered { workers: None }).unwrap();
        assert_eq!(view(&run), ("waiting", attempt, Some(WaitingFor::Breaker), Some(at_us)));
        run.now_us = at_us;
        let due = run.tell(RunInput::TimerFired { timer: TimerId::Retry(0) }).unwrap();
        assert_eq!(due.events[1], start(0, attempt + 1));
        assert_eq!(view(&run), ("running", attempt + 1, None, None));
    }
    let state = run.state.clone();
    assert_eq!(run.complete(0, 6, Value::Null).events, [done(0, 6), start(1, 1)]);
    let mut failing = Run { state, ..run };
    assert!(
        matches!(failing.fail(0, 6).events[0], RunEvent::StepFailed { attempt: 6, .. }),
        "the first failure"
    );
}

#[test]
fn a_back_off_after_a_breaker_goes_on_where_it_was() {
    let retry = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
    let definition = Definition::builder("x").step(Step::new("a").retry(retry));
    let (mut run, _) = Run::new(definition.build(), 1, Value::Null);
    assert!(matches!(run.fail(0, 1).events[0], RunEvent::RetryScheduled { delay_us: 1_000_000, .. }));
    run.tell(RunInput::TimerFired { timer: TimerId::Retry(0) }).unwrap();
    run.end(0, 2, refused(Some(1)));
    run.tell(RunInput::TimerFired { timer: TimerId::Retry(0) }).unwrap();
    let again = run.fail(0, 3);
    let RunEvent::RetryScheduled { delay_us: 2_000_000, waiting: None, .. } = again.events[0] else {
        panic!("{again:?}")
    };
    assert_eq!(view(&run).2, None);
}

#[test]
fn a_breaker_that_is_forced_open_is_looked_at_every_thirty_seconds_and_no_wait_is_none() {
    for (asked, delay) in [(None, 30_000_000), (Some(0), 10_000)] {
        let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
        let decision = run.end(0, 1, refused(asked));
        assert!(
            matches!(decision.events[0], RunEvent::RetryScheduled { delay_us, .. } if delay_us == delay),
            "{decision:?}"
        );
    }
}

#[test]
fn an_open_breaker_fails_a_step_whose_policy_says_so() {
    let retry = RetryPolicy {
        max_attempts: 9,
        non_retryable: vec![BreakerOpen::CODE.to_owned()],
        ..RetryPolicy::default()
    };
    let definition = Definition::builder("x").step(Step::new("a").retry(retry));
    let (mut run, _) = Run::new(definition.build(), 1, Value::Null);
    assert!(matches!(run.end(0, 1, refused(Some(5))).events[0], RunEvent::StepFailed { .. }));
}

#[test]
fn a_compensation_behind_an_open_breaker_waits_for_it_too() {
    let definition = Definition::builder("x")
        .on_failure(FailurePolicy::Compensate)
        .step(Step::new("a").compensation("undo", json!(null)))
        .step(Step::new("b").needs(["a"]));
    let (mut run, _) = Run::new(definition.build(), 1, Value::Null);
    run.complete(0, 1, Value::Null);
    run.fail(1, 1);
    for attempt in 1..=3 {
        run.undo(0, attempt, refused(Some(5)));
        run.state = RunState::from_snapshot(&run.def, &run.state.snapshot()).unwrap();
        assert_eq!(view(&run).2, Some(WaitingFor::Breaker));
        run.tell(RunInput::TimerFired { timer: TimerId::UndoRetry(0) }).unwrap();
        assert_eq!(view(&run).2, None);
    }
    run.undo(0, 4, AttemptResult::Completed(Value::Null));
    assert_eq!(run.state.status(), RunStatus::Compensated);
}

#[test]
fn a_step_that_is_told_that_a_breaker_is_closed_looks_at_once() {
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    assert_eq!(run.tell(RunInput::LookAgain).unwrap(), Decision::default(), "nothing waits");
    run.end(0, 1, refused(Some(60_000)));
    let told = run.tell(RunInput::LookAgain).unwrap();
    assert_eq!(told.effects[0], RunEffect::ClearTimer(TimerId::Retry(0)));
    assert_eq!(told.events, [RunEvent::RetryDue { step: 0 }, start(0, 2)]);
    assert_eq!(run.tell(RunInput::TimerFired { timer: TimerId::Retry(0) }).unwrap(), Decision::default());
    // A back-off of its own is none of the breaker's business.
    let retry = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
    let (mut run, _) =
        Run::new(Definition::builder("x").step(Step::new("a").retry(retry)).build(), 1, Value::Null);
    run.fail(0, 1);
    assert_eq!(run.tell(RunInput::LookAgain).unwrap(), Decision::default());
}
