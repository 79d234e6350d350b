//! One rule a test, whole decisions compared where they are short.

use super::*;

pub(super) fn start(step: u32, attempt: u32) -> RunEvent {
    RunEvent::StepStarted { step, attempt, first_us: None }
}

pub(super) fn done(step: u32, attempt: u32) -> RunEvent {
    RunEvent::StepCompleted { step, attempt, size: 0, crc32c: 0 }
}

fn kinds(decision: &Decision, def: &ValidDefinition) -> Vec<String> {
    let line = |event| HistoryLine::of(def, event, 1, 0);
    let text = |line: HistoryLine| match (line.step, line.attempt) {
        (Some(step), Some(attempt)) => format!("{} {step} {attempt}", line.kind),
        (Some(step), None) => format!("{} {step}", line.kind),
        (None, _) => line.kind.to_owned(),
    };
    decision.events.iter().filter_map(line).map(text).collect()
}

pub(super) struct Run {
    pub(super) def: ValidDefinition,
    pub(super) state: RunState,
    pub(super) now_us: i64,
}

impl Run {
    pub(super) fn new(definition: Definition, workers: u32, input: Value) -> (Self, Decision) {
        let mut run = Self { def: definition.validate().unwrap(), state: RunState::new(), now_us: 0 };
        let started = run.tell(RunInput::Start { input, workers }).unwrap();
        (run, started)
    }

    pub(super) fn tell(&mut self, input: RunInput) -> Result<Decision, RunRejection> {
        self.state.advance(&self.def, input, self.now_us, &mut || 0.5)
    }

    pub(super) fn end(&mut self, step: u32, attempt: u32, result: AttemptResult) -> Decision {
        self.tell(RunInput::AttemptEnded { attempt: AttemptId { step, attempt, undo: false }, result })
            .unwrap()
    }

    pub(super) fn complete(&mut self, step: u32, attempt: u32, output: Value) -> Decision {
        self.end(step, attempt, AttemptResult::Completed(output))
    }

    pub(super) fn fail(&mut self, step: u32, attempt: u32) -> Decision {
        self.end(step, attempt, AttemptResult::Failed(Failure::retryable("down", "no answer")))
    }

    pub(super) fn undo(&mut self, step: u32, attempt: u32, result: AttemptResult) -> Decision {
        self.tell(RunInput::AttemptEnded { attempt: AttemptId { step, attempt, undo: true }, result })
            .unwrap()
    }
}

pub(super) fn chain() -> crate::workflow::definition::DefinitionBuilder {
    Definition::builder("chain").step(Step::new("a")).step(Step::new("b").needs(["a"]))
}

#[test]
fn a_completion_and_all_newly_ready_steps_are_one_decision() {
    let fan = Definition::builder("fan")
        .step(Step::new("a"))
        .steps((0..3).map(|n| Step::new(format!("b{n}")).needs(["a"])));
    let (mut run, started) = Run::new(fan.build(), 2, Value::Null);
    assert_eq!(started.events, [RunEvent::RunStarted { workers: 2, at_us: 0 }, start(0, 1)]);
    let decision = run.complete(0, 1, Value::Null);
    assert_eq!(decision.events, [done(0, 1), start(1, 1), start(2, 1)]);
    assert_eq!(run.complete(2, 1, Value::Null).events, [done(2, 1), start(3, 1)]);
}

#[test]
fn outputs_are_rows_and_reach_the_steps_that_refer_to_them() {
    let definition = Definition::builder("x")
        .step(Step::new("pack"))
        .step(
            Step::new("ship")
                .needs(["pack"])
                .input(json!({"kg": "${steps.pack.output.weight}", "to": "${input.to}"})),
        )
        .output(json!("${steps.ship.output}"));
    let (mut run, _) = Run::new(definition.build(), 4, json!({"to": "Rome"}));
    let packed = run.complete(0, 1, json!({"weight": 2.5}));
    assert_eq!(packed.rows[0].key, RowKey::Step(0));
    assert_eq!(OutputRow::decode(&packed.rows[0].bytes).unwrap(), json!({"weight": 2.5}));
    let RunEffect::StartAttempt { input, .. } = &packed.effects[0] else { panic!("{packed:?}") };
    assert_eq!(*input, json!({"kg": 2.5, "to": "Rome"}));
    let shipped = run.complete(1, 1, json!("sent"));
    assert_eq!(shipped.rows.iter().map(|r| r.key).collect::<Vec<_>>(), [RowKey::Step(1), RowKey::Run]);
    assert_eq!(OutputRow::decode(&shipped.rows[1].bytes).unwrap(), json!("sent"));
    assert_eq!(run.state.status(), RunStatus::Completed);
}

#[test]
fn an_output_leaves_memory_with_its_last_reader() {
    let definition = Definition::builder("x")
        .step(Step::new("a"))
        .step(Step::new("b").needs(["a"]).input(json!("${steps.a.output}")))
        .step(Step::new("c").needs(["b"]));
    let (mut run, _) = Run::new(definition.build(), 4, Value::Null);
    run.complete(0, 1, json!(1));
    assert_eq!(run.state.memory.outputs.len(), 1);
    run.complete(1, 1, json!(2));
    assert!(run.state.memory.outputs.is_empty());
}

#[test]
fn an_output_over_the_row_limit_fails_the_step() {
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    let decision = run.complete(0, 1, json!("x".repeat(1 << 20)));
    assert_eq!(kinds(&decision, &run.def), ["step_failed a 1", "run_failed"]);
    assert!(decision.rows.is_empty());
    assert!(run.state.error().unwrap().message.contains("1 MiB"));
}

#[test]
fn a_missing_field_in_the_input_fails_the_step_before_its_first_attempt() {
    let (run, started) = Run::new(
        Definition::builder("x").step(Step::new("a").input(json!("${input.nope}"))).build(),
        1,
        json!({}),
    );
    assert_eq!(kinds(&started, &run.def), ["run_started", "step_failed a", "run_failed"]);
}

#[test]
fn a_failed_attempt_is_retried_by_a_durable_timer_and_frees_its_worker() {
    let retry = RetryPolicy { max_attempts: 2, initial_interval_ms: 100, ..RetryPolicy::default() };
    let definition = Definition::builder("x").step(Step::new("a").retry(retry)).step(Step::new("b"));
    let (mut run, _) = Run::new(definition.build(), 1, Value::Null);
    run.now_us = 50;
    let failed = run.fail(0, 1);
    assert_eq!(kinds(&failed, &run.def), ["retry_scheduled a 1", "step_started b 1"]);
    assert_eq!(failed.effects[0], RunEffect::SetTimer { timer: TimerId::Retry(0), due_us: 100_050 });
    assert_eq!(run.state.step_view(&run.def, 0).unwrap().retry_at_us, Some(100_050));
    run.complete(1, 1, Value::Null);
    assert_eq!(run.state.status(), RunStatus::Waiting);
    let due = run.tell(RunInput::TimerFired { timer: TimerId::Retry(0) }).unwrap();
    assert_eq!(kinds(&due, &run.def), ["step_started a 2"]);
    assert_eq!(run.tell(RunInput::TimerFired { timer: TimerId::Retry(0) }), Ok(Decision::default()));
    assert_eq!(kinds(&run.fail(0, 2), &run.def), ["step_failed a 2", "run_failed"]);
}

#[test]
fn codes_named_non_retryable_and_permanent_failures_are_final() {
    let retry = RetryPolicy { max_attempts: 5, non_retryable: vec!["down".into()], ..RetryPolicy::default() };
    let (mut run, _) =
        Run::new(Definition::builder("x").step(Step::new("a").retry(retry.clone())).build(), 1, Value::Null);
    assert_eq!(kinds(&run.fail(0, 1), &run.def), ["step_failed a 1", "run_failed"]);
    let (mut run, _) =
        Run::new(Definition::builder("x").step(Step::new("a").retry(retry)).build(), 1, Value::Null);
    let permanent = run.end(0, 1, AttemptResult::Failed(Failure::permanent("x", "y")));
    assert_eq!(kinds(&permanent, &run.def), ["step_failed a 1", "run_failed"]);
}

#[test]
fn retries_stop_when_the_next_would_start_after_max_elapsed() {
    let retry = RetryPolicy {
        max_attempts: 9,
        initial_interval_ms: 400,
        backoff_coefficient: 1.0,
        max_elapsed_ms: Some(1_000),
        ..RetryPolicy::default()
    };
    let (mut run, _) =
        Run::new(Definition::builder("x").step(Step::new("a").retry(retry)).build(), 1, Value::Null);
    for attempt in 1..=2 {
        assert_eq!(kinds(&run.fail(0, attempt), &run.def).len(), 1);
        run.now_us += 400_000;
        run.tell(RunInput::TimerFired { timer: TimerId::Retry(0) }).unwrap();
    }
    assert_eq!(kinds(&run.fail(0, 3), &run.def), ["step_failed a 3", "run_failed"]);
}

#[test]
fn an_activity_may_ask_for_a_longer_wait() {
    let (mut run, _) = Run::new(
        Definition::builder("x").step(Step::new("a").retry(RetryPolicy::default())).build(),
        1,
        Value::Null,
    );
    let failure = Failure { retry_after_ms: Some(7_000), ..Failure::retryable("busy", "later") };
    let decision = run.end(0, 1, AttemptResult::Failed(failure));
    assert_eq!(decision.effects, [RunEffect::SetTimer { timer: TimerId::Retry(0), due_us: 7_000_000 }]);
}

#[test]
fn timeouts_panics_and_lost_attempts_are_failures_with_their_own_codes() {
    for (result, code) in [
        (AttemptResult::TimedOut, "timeout"),
        (AttemptResult::Panicked("boom".into()), "panic"),
        (AttemptResult::Cancelled, "cancelled"),
    ] {
        let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
        run.end(0, 1, result);
        assert_eq!(&*run.state.step_view(&run.def, 0).unwrap().last_error.unwrap().code, code);
    }
}

#[test]
fn a_crash_starts_running_attempts_anew_without_using_up_retries() {
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    for attempt in 2..10 {
        let recovered = run.tell(RunInput::Recovered { workers: Some(3) }).unwrap();
        assert_eq!(recovered.events, [RunEvent::RunRecovered { workers: 3 }, start(0, attempt)]);
    }
    assert_eq!(run.complete(0, 1, Value::Null), Decision::default());
    assert_eq!(run.complete(0, 9, Value::Null).events, [done(0, 9), start(1, 1)]);
    assert_eq!(run.state.counts(&run.def).attempts, 10);
}

#[test]
fn a_crash_during_back_off_keeps_attempt_number_and_time() {
    let retry = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
    let (mut run, _) =
        Run::new(Definition::builder("x").step(Step::new("a").retry(retry)).build(), 1, Value::Null);
    run.fail(0, 1);
    let recovered = run.tell(RunInput::Recovered { workers: None }).unwrap();
    assert_eq!(recovered.events, [RunEvent::RunRecovered { workers: 1 }]);
    assert_eq!(recovered.effects, [RunEffect::SetTimer { timer: TimerId::Retry(0), due_us: 1_000_000 }]);
    let due = run.tell(RunInput::TimerFired { timer: TimerId::Retry(0) }).unwrap();
    assert_eq!(due.events[1], start(0, 2));
    assert!(matches!(run.fail(0, 2).events[0], RunEvent::RetryScheduled { delay_us: 2_000_000, .. }));
}

#[test]
fn failing_fast_cancels_what_runs() {
    let definition =
        Definition::builder("x").step(Step::new("a")).step(Step::new("b")).step(Step::new("c").needs(["b"]));
    let (mut run, _) = Run::new(definition.build(), 5, Value::Null);
    let failed = run.fail(0, 1);
    assert_eq!(kinds(&failed, &run.def), ["step_failed a 1", "step_cancelled b 1", "run_failed"]);
    assert_eq!(failed.effects, [RunEffect::CancelAttempt(AttemptId { step: 1, attempt: 1, undo: false })]);
    assert_eq!(run.complete(1, 1, Value::Null), Decision::default());
    assert_eq!(run.state.error().unwrap().step, Some(0));
}

#[test]
fn continuing_runs_what_does_not_depend_on_the_failure() {
    let definition = Definition::builder("x")
        .on_failure(FailurePolicy::Continue)
        .step(Step::new("a"))
        .step(Step::new("b"))
        .step(Step::new("a2").needs(["a", "b"]))
        .step(Step::new("a3").needs(["a2"]))
        .step(Step::new("b2").needs(["b"]));
    let (mut run, _) = Run::new(definition.build(), 5, Value::Null);
    assert_eq!(kinds(&run.fail(0, 1), &run.def), ["step_failed a 1", "step_skipped a2", "step_skipped a3"]);
    run.complete(1, 1, Value::Null);
    assert_eq!(kinds(&run.complete(4, 1, Value::Null), &run.def), ["step_completed b2 1", "run_failed"]);
}

#[test]
fn an_ignored_failure_counts_as_completed_with_output_null() {
    let definition = Definition::builder("x")
        .step(Step::new("a").on_failure(FailurePolicy::Ignore))
        .step(Step::new("b").needs(["a"]).input(json!(["${steps.a.output.x}", "${steps.a.status}"])));
    let (mut run, _) = Run::new(definition.build(), 5, Value::Null);
    let failed = run.fail(0, 1);
    assert!(
        matches!(&failed.effects[0], RunEffect::StartAttempt { input, .. } if *input == json!([null, "failed"]))
    );
    run.complete(1, 1, Value::Null);
    assert_eq!(run.state.status(), RunStatus::Completed);
}

#[test]
fn joins_start_at_their_quorum_and_give_up_when_it_is_out_of_reach() {
    let fan = |join| {
        Definition::builder("x")
            .on_failure(FailurePolicy::Continue)
            .steps((0..3).map(|n| Step::new(format!("n{n}"))))
            .step(Step::new("end").needs(["n0", "n1", "n2"]).join(join))
            .build()
    };
    let (mut run, _) = Run::new(fan(Join::Any), 5, Value::Null);
    run.fail(0, 1);
    assert_eq!(
        kinds(&run.complete(1, 1, Value::Null), &run.def),
        ["step_completed n1 1", "step_started end 1"]
    );
    assert_eq!(kinds(&run.complete(2, 1, Value::Null), &run.def), ["step_completed n2 1"]);
    let (mut run, _) = Run::new(fan(Join::Quorum(2)), 5, Value::Null);
    run.fail(0, 1);
    assert_eq!(kinds(&run.fail(1, 1), &run.def), ["step_failed n1 1", "step_skipped end"]);
}

#[cfg(feature = "conditions")]
#[test]
fn a_false_condition_skips_and_a_step_runs_while_one_need_ran() {
    let definition = Definition::builder("x")
        .step(Step::new("a").when("input.n > 1"))
        .step(Step::new("b").when("input.n > 2"))
        .step(Step::new("only_b").needs(["b"]))
        .step(Step::new("both").needs(["a", "b"]))
        .step(Step::new("below").needs(["only_b"]).when("true"));
    let (mut run, started) = Run::new(definition.build(), 5, json!({"n": 2}));
    assert_eq!(
        kinds(&started, &run.def),
        ["run_started", "step_started a 1", "step_skipped b", "step_skipped only_b", "step_skipped below"]
    );
    assert_eq!(
        kinds(&run.complete(0, 1, Value::Null), &run.def),
        ["step_completed a 1", "step_started both 1"]
    );
    run.complete(3, 1, Value::Null);
    assert_eq!(run.state.status(), RunStatus::Completed);
    assert_eq!(run.state.counts(&run.def).skipped, 3);
}

#[cfg(feature = "conditions")]
#[test]
fn a_condition_without_an_answer_fails_the_step() {
    let (run, started) =
        Run::new(Definition::builder("x").step(Step::new("a").when("input.n")).build(), 5, json!({"n": 2}));
    assert_eq!(kinds(&started, &run.def), ["run_started", "step_failed a", "run_failed"]);
}

fn saga(cancel: bool) -> Definition {
    let undo = Compensation {
        activity: "undo".into(),
        input: json!("${steps.a.output}"),
        retry: Some(RetryPolicy { max_attempts: 2, ..RetryPolicy::default() }),
        attempt_timeout_ms: None,
    };
    Definition::builder("saga")
        .on_failure(FailurePolicy::Compensate)
        .compensate_on_cancel(cancel)
        .step(Step::new("a").compensate_with(undo.clone()))
        .step(Step::new("b").needs(["a"]))
        .step(Step::new("c").needs(["b"]).compensate_with(undo))
        .step(Step::new("d").needs(["c"]))
        .build()
}

fn saga_at_d(cancel: bool) -> Run {
    let (mut run, _) = Run::new(saga(cancel), 5, Value::Null);
    (0..3).for_each(|step| drop(run.complete(step, 1, json!(step))));
    run
}

#[test]
fn completed_steps_are_undone_in_reverse_order_each_once() {
    let mut run = saga_at_d(false);
    let failed = run.fail(3, 1);
    assert_eq!(kinds(&failed, &run.def), ["step_failed d 1", "compensation_started c 1"]);
    assert!(
        matches!(&failed.effects[0], RunEffect::StartAttempt { attempt: AttemptId { step: 2, attempt: 1, undo: true }, input, .. } if *input == json!(0))
    );
    assert_eq!(run.state.status(), RunStatus::Compensating);
    assert_eq!(kinds(&run.undo(2, 1, AttemptResult::TimedOut), &run.def), ["retry_scheduled c 1"]);
    let due = run.tell(RunInput::TimerFired { timer: TimerId::UndoRetry(2) }).unwrap();
    assert_eq!(kinds(&due, &run.def), ["compensation_started c 2"]);
    let ok = || AttemptResult::Completed(Value::Null);
    assert_eq!(
        kinds(&run.undo(2, 2, ok()), &run.def),
        ["compensation_completed c 2", "compensation_started a 1"]
    );
    assert_eq!(
        kinds(&run.tell(RunInput::Recovered { workers: None }).unwrap(), &run.def),
        ["run_recovered", "compensation_started a 2"]
    );
    assert_eq!(kinds(&run.undo(0, 2, ok()), &run.def), ["compensation_completed a 2", "run_compensated"]);
    assert_eq!(
        run.tell(RunInput::Retry { step: None }),
        Err(RunRejection::AlreadyTerminal { status: RunStatus::Compensated })
    );
    assert_eq!(run.state.error().unwrap().step, Some(3));
}

#[test]
fn a_step_that_cannot_be_undone_fails_the_run_and_a_retry_goes_on_undoing() {
    let mut run = saga_at_d(false);
    run.fail(3, 1);
    let permanent = AttemptResult::Failed(Failure::permanent("x", "y"));
    assert_eq!(kinds(&run.undo(2, 1, permanent), &run.def), ["compensation_failed c 1", "run_failed"]);
    assert_eq!(&*run.state.error().unwrap().code, "compensation_failed");
    assert_eq!(
        kinds(&run.tell(RunInput::Retry { step: None }).unwrap(), &run.def),
        ["run_resumed", "compensation_started c 2"]
    );
    run.undo(2, 2, AttemptResult::Completed(Value::Null));
    run.undo(0, 1, AttemptResult::Completed(Value::Null));
    assert_eq!(run.state.status(), RunStatus::Compensated);
}

#[test]
fn a_cancelled_run_is_undone_only_if_the_definition_says_so() {
    let mut run = saga_at_d(false);
    assert_eq!(
        kinds(&run.tell(RunInput::Cancel).unwrap(), &run.def),
        ["step_cancelled d 1", "run_cancelled"]
    );
    let mut run = saga_at_d(true);
    assert_eq!(
        kinds(&run.tell(RunInput::Cancel).unwrap(), &run.def),
        ["step_cancelled d 1", "compensation_started c 1"]
    );
    assert_eq!(run.state.status(), RunStatus::Cancelling);
    run.undo(2, 1, AttemptResult::Completed(Value::Null));
    assert_eq!(
        kinds(&run.undo(0, 1, AttemptResult::Completed(Value::Null)), &run.def),
        ["compensation_completed a 1", "run_cancelled"]
    );
}

#[test]
fn a_paused_run_starts_nothing_and_lets_running_steps_finish() {
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    assert_eq!(kinds(&run.tell(RunInput::Pause).unwrap(), &run.def), ["run_paused"]);
    assert_eq!(run.complete(0, 1, Value::Null).events, [done(0, 1)]);
    assert_eq!(run.state.status(), RunStatus::Paused);
    assert_eq!(
        kinds(&run.tell(RunInput::Resume { workers: Some(2) }).unwrap(), &run.def),
        ["run_resumed", "step_started b 1"]
    );
}

#[test]
fn total_timeouts_are_durable_timers() {
    let definition = Definition::builder("x")
        .total_timeout(Duration::from_secs(9))
        .on_failure(FailurePolicy::Continue)
        .step(Step::new("a").total_timeout(Duration::from_secs(2)))
        .step(Step::new("b"));
    let (mut run, started) = Run::new(definition.build(), 5, Value::Null);
    assert_eq!(started.effects[0], RunEffect::SetTimer { timer: TimerId::RunDeadline, due_us: 9_000_000 });
    assert_eq!(
        started.effects[1],
        RunEffect::SetTimer { timer: TimerId::StepDeadline(0), due_us: 2_000_000 }
    );
    let over = run.tell(RunInput::TimerFired { timer: TimerId::StepDeadline(0) }).unwrap();
    assert_eq!(kinds(&over, &run.def), ["step_failed a 1"]);
    assert_eq!(over.effects[0], RunEffect::CancelAttempt(AttemptId { step: 0, attempt: 1, undo: false }));
    let over = run.tell(RunInput::TimerFired { timer: TimerId::RunDeadline }).unwrap();
    assert_eq!(kinds(&over, &run.def), ["step_cancelled b 1", "run_failed"]);
    assert_eq!(&*run.state.error().unwrap().code, "run_timeout");
}

#[test]
fn a_crashing_run_is_parked_and_goes_on_after_a_retry() {
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    let parked = run.tell(RunInput::CrashLooped { reason: "4 in 5 s".into() }).unwrap();
    assert_eq!(parked.events, [RunEvent::RunParked { reason: "4 in 5 s".into() }]);
    assert_eq!(parked.effects, [RunEffect::CancelAttempt(AttemptId { step: 0, attempt: 1, undo: false })]);
    assert_eq!((run.state.status(), run.state.parked_reason()), (RunStatus::Parked, Some("4 in 5 s")));
    assert!(matches!(
        run.tell(RunInput::Recovered { workers: None }),
        Err(RunRejection::IllegalTransition(_))
    ));
    assert_eq!(
        kinds(&run.tell(RunInput::Retry { step: Some(0) }).unwrap(), &run.def),
        ["run_resumed", "step_started a 2"]
    );
}

#[test]
fn a_retry_of_one_step_leaves_other_failures_alone() {
    let definition = Definition::builder("x")
        .on_failure(FailurePolicy::Continue)
        .step(Step::new("a"))
        .step(Step::new("b"))
        .step(Step::new("c").needs(["a"]))
        .step(Step::new("d").needs(["b"]));
    let (mut run, _) = Run::new(definition.build(), 5, Value::Null);
    run.fail(0, 1);
    run.fail(1, 1);
    assert_eq!(run.state.status(), RunStatus::Failed);
    assert_eq!(
        run.tell(RunInput::Retry { step: Some(2) }),
        Err(RunRejection::StepNotFailed { step: "c".into() })
    );
    assert_eq!(
        kinds(&run.tell(RunInput::Retry { step: Some(0) }).unwrap(), &run.def),
        ["run_resumed", "step_skipped d", "step_started a 2"]
    );
    run.complete(0, 2, Value::Null);
    assert_eq!(kinds(&run.complete(2, 1, Value::Null), &run.def), ["step_completed c 1", "run_failed"]);
    assert_eq!(run.state.error().unwrap().step, Some(1));
}

#[test]
fn commands_a_status_does_not_allow_are_refused_by_name() {
    let (mut run, _) = Run::new(chain().build(), 1, Value::Null);
    let refused = run.tell(RunInput::Resume { workers: None }).unwrap_err();
    assert_eq!(refused, IllegalTransition { from: RunStatus::Running, command: "resume" }.into());
    assert_eq!(refused.to_string(), "cannot resume a run that is running");
    assert!(run.tell(RunInput::Start { input: Value::Null, workers: 1 }).is_err());
    assert!(run.tell(RunInput::Retry { step: None }).is_err());
    run.tell(RunInput::Cancel).unwrap();
    for input in [
        RunInput::Cancel,
        RunInput::Pause,
        RunInput::Retry { step: None },
        RunInput::Recovered { workers: None },
    ] {
        assert_eq!(run.tell(input), Err(RunRejection::AlreadyTerminal { status: RunStatus::Cancelled }));
    }
    let def = chain().validate().unwrap();
    let mut unstarted = RunState::new();
    assert!(unstarted.advance(&def, RunInput::Pause, 0, &mut || 0.0).is_err());
    assert!(unstarted.advance(&def, RunInput::Cancel, 0, &mut || 0.0).is_ok());
    assert!(RunState::from_snapshot(&def, &unstarted.snapshot()).is_ok());
}

#[test]
fn the_definition_caps_the_workers() {
    let definition = Definition::builder("x").workers(2).steps((0..5).map(|n| Step::new(n.to_string())));
    let (_, started) = Run::new(definition.build(), 100, Value::Null);
    assert_eq!(started.effects.len(), 2);
}

#[test]
fn a_history_line_is_flat_json_with_contracted_names() {
    let def = chain().validate().unwrap();
    let event = RunEvent::StepFailed {
        step: 1,
        attempt: 2,
        error: StepError::new("down", "no answer"),
        ignored: false,
    };
    let line = HistoryLine::of(&def, &event, 7, 99).unwrap();
    let expected = json!({"version": 7, "at_us": 99, "kind": "step_failed", "step": "b", "attempt": 2,
        "error": {"code": "down", "message": "no answer"}, "ignored": false});
    assert_eq!(serde_json::to_value(line).unwrap(), expected);
    let line = HistoryLine::of(&def, &RunEvent::RunPaused, 8, 99).unwrap();
    assert_eq!(
        serde_json::to_value(line).unwrap(),
        json!({"version": 8, "at_us": 99, "kind": "run_paused", "step": null, "attempt": null})
    );
}

#[test]
fn idempotency_keys_name_run_and_step() {
    assert_eq!(idempotency_key("r7", "pack", false), "r7/pack");
    assert_eq!(idempotency_key("r7", "pack", true), "r7/pack/undo");
}

#[test]
fn a_long_cascade_is_cut_into_entries_of_bounded_size() {
    let chain = (1..5_000).map(|n| Step::new(n.to_string()).needs([(n - 1).to_string()]));
    let definition =
        Definition::builder("x").on_failure(FailurePolicy::Continue).step(Step::new("0")).steps(chain);
    let (mut run, _) = Run::new(definition.build(), 1, Value::Null);
    let mut decision = run.fail(0, 1);
    let mut entries = 1;
    while decision.more {
        assert_eq!(decision.events.len(), EVENTS_MAX);
        assert_eq!(run.state.status(), RunStatus::Running);
        // A crash in between goes on from the same place.
        let mut restored = RunState::from_snapshot(&run.def, &run.state.snapshot()).unwrap();
        let recovered =
            restored.advance(&run.def, RunInput::Recovered { workers: None }, 0, &mut || 0.5).unwrap();
        let first = |decision: &Decision| {
            decision.events.iter().find(|e| matches!(e, RunEvent::StepSkipped { .. })).cloned()
        };
        decision = run.tell(RunInput::Continue).unwrap();
        assert_eq!(first(&recovered), first(&decision));
        entries += 1;
    }
    assert_eq!(
        (entries, run.state.status(), run.state.counts(&run.def).skipped),
        (5, RunStatus::Failed, 4_999)
    );
    assert_eq!(run.tell(RunInput::Continue), Ok(Decision::default()));
}

#[test]
fn a_held_run_starts_nothing_and_goes_on_when_it_is_taken_up() {
    let mut run = Run { def: chain().build().validate().unwrap(), state: RunState::new(), now_us: 0 };
    run.state.hold(true);
    let started = run.tell(RunInput::Start { input: Value::Null, workers: 1 }).unwrap();
    assert_eq!(kinds(&started, &run.def), ["run_started"]);
    assert!(started.held_back && started.effects.is_empty() && !started.more);
    run.state.hold(false);
    let taken_up = run.tell(RunInput::Continue).unwrap();
    assert_eq!(kinds(&taken_up, &run.def), ["step_started a 1"]);
    assert!(!taken_up.held_back);
}

#[test]
fn a_held_run_undoes_nothing_and_goes_on_when_it_is_taken_up() {
    let mut run = saga_at_d(false);
    run.state.hold(true);
    let failed = run.fail(3, 1);
    assert_eq!(kinds(&failed, &run.def), ["step_failed d 1"]);
    assert!(failed.held_back);
    assert_eq!(run.state.status(), RunStatus::Compensating);
    run.state.hold(false);
    let taken_up = run.tell(RunInput::Recovered { workers: None }).unwrap();
    assert_eq!(kinds(&taken_up, &run.def), ["run_recovered", "compensation_started c 1"]);
}
