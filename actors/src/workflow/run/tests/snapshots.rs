//! Snapshots: small, and read without trust. And the engine's speed.

use super::*;

fn layered(layers: usize, width: usize) -> ValidDefinition {
    let steps = (0..layers * width).map(|n| {
        let step = Step::new(format!("step-{n}"));
        let above = std::collections::BTreeSet::from([n.wrapping_sub(width), n.wrapping_sub(n % width + 1)]);
        if n < width { step } else { step.needs(above.iter().map(|need| format!("step-{need}"))) }
    });
    Definition::builder("layers").steps(steps).validate().unwrap()
}

/// Runs to the end, or to half of it.
fn drive(def: &ValidDefinition, workers: u32, stop_after: u32) -> RunState {
    let mut state = RunState::new();
    let started = state.advance(
        def,
        RunInput::Start { input: Value::Null, workers },
        1_790_000_000_000_000,
        &mut || 0.5,
    );
    let started = started.unwrap();
    let mut more = started.more;
    let mut open: std::collections::VecDeque<RunEffect> = started.effects.into();
    let rest = |state: &mut RunState, open: &mut std::collections::VecDeque<RunEffect>, more: &mut bool| {
        while std::mem::take(more) {
            let decision =
                state.advance(def, RunInput::Continue, 1_790_000_000_000_000, &mut || 0.5).unwrap();
            *more = decision.more;
            open.extend(decision.effects);
        }
    };
    rest(&mut state, &mut open, &mut more);
    let mut ended = 0;
    while let Some(effect) = open.pop_front() {
        let RunEffect::StartAttempt { attempt, .. } = effect else { continue };
        if ended == stop_after {
            break;
        }
        ended += 1;
        let input = RunInput::AttemptEnded { attempt, result: AttemptResult::Completed(Value::Null) };
        let decision = state.advance(def, input, 1_790_000_000_000_000, &mut || 0.5).unwrap();
        more = decision.more;
        open.extend(decision.effects);
        rest(&mut state, &mut open, &mut more);
    }
    state
}

#[test]
fn snapshots_of_large_runs_stay_small() {
    for (layers, kib) in [(20, 64), (200, 1024)] {
        let def = layered(layers, 500);
        let n = def.step_count();
        for stop in [0, n / 2, n] {
            let bytes = drive(&def, 64, stop).snapshot();
            assert!(bytes.len() <= kib * 1024, "{} bytes at {stop} of {n}", bytes.len());
        }
    }
}

#[test]
fn a_wide_run_with_everything_queued_stays_small_too() {
    let steps = (0..10_000).map(|n| Step::new(format!("s{n}")).compensation("undo", Value::Null));
    let def = Definition::builder("wide").steps(steps).validate().unwrap();
    assert!(drive(&def, 64, 0).snapshot().len() <= 64 * 1024);
    assert!(drive(&def, 64, 5_000).snapshot().len() <= 64 * 1024);
    assert_eq!(drive(&def, 64, 10_000).status(), RunStatus::Completed);
}

/// Prints the time per step; the bound is far above it, for busy machines and debug builds.
#[test]
fn a_step_of_a_large_run_costs_microseconds() {
    let def = layered(20, 500);
    let clock = std::time::Instant::now();
    let state = drive(&def, 1_024, u32::MAX);
    let per_step = clock.elapsed() / def.step_count();
    println!("{per_step:?} per step of {}", def.step_count());
    assert_eq!(state.status(), RunStatus::Completed);
    assert!(per_step < Duration::from_micros(100), "{per_step:?}");
}

#[test]
fn a_snapshot_of_another_definition_is_refused() {
    let two = layered(1, 2);
    let three = layered(1, 3);
    let bytes = drive(&two, 1, 1).snapshot();
    assert!(RunState::from_snapshot(&two, &bytes).is_ok());
    assert!(matches!(RunState::from_snapshot(&three, &bytes), Err(SnapshotError::Inconsistent(_))));
}

proptest! {
    #[test]
    fn bytes_that_are_no_snapshot_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let def = layered(2, 3);
        let _ = RunState::from_snapshot(&def, &bytes);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_still_sound(
        stop in 0u32..6, flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), step in 0u32..6,
    ) {
        let def = layered(2, 3);
        let mut bytes = drive(&def, 2, stop).snapshot();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(mut state) = RunState::from_snapshot(&def, &bytes) {
            let _ = state.advance(&def, RunInput::Recovered { workers: None }, 5, &mut || 0.5);
            let attempt = AttemptId { step, attempt: 1, undo: false };
            let _ = state.advance(&def, RunInput::AttemptEnded { attempt, result: AttemptResult::TimedOut }, 5, &mut || 0.5);
            let _ = state.advance(&def, RunInput::Cancel, 5, &mut || 0.5);
        }
    }

    #[test]
    fn any_events_fold_without_a_panic(steps in proptest::collection::vec((0u32..8, 0u8..17), 0..40)) {
        let def = layered(2, 3);
        let error = StepError::new("a", "b");
        let mut state = RunState::new();
        for (step, kind) in steps {
            let event = match kind {
                0 | 1 => RunEvent::RunStarted { workers: 2, at_us: 1 },
                2 => RunEvent::RunRecovered { workers: 1 },
                3 => RunEvent::RunResumed { workers: 1, retry: Some(RetryScope::Step(step)), at_us: 5 },
                4 | 5 => RunEvent::StepStarted { step, attempt: step, first_us: Some(3) },
                6 | 7 => RunEvent::StepCompleted { step, attempt: 1, size: 0, crc32c: 0 },
                8 => RunEvent::StepFailed { step, attempt: 1, error: error.clone(), ignored: false },
                9 => RunEvent::StepSkipped { step, reason: SkipReason::Condition },
                10 => RunEvent::StepCancelled { step, attempt: 1 },
                11 => RunEvent::RetryScheduled { step, attempt: 1, at_us: 9, delay_us: 2, error: error.clone(), undo: step > 4, waiting: (step % 2 == 1).then_some(WaitingFor::Breaker) },
                12 => RunEvent::RetryDue { step },
                13 => RunEvent::CompensationStarted { step, attempt: 1, first_us: None },
                14 => RunEvent::CompensationFailed { step, attempt: 1, error: error.clone() },
                15 => RunEvent::CapabilityAwaited { step, attempt: 1, undo: step > 4 },
                _ => RunEvent::RunParked { reason: "x".into() },
            };
            state.evolve(&def, &event);
        }
        let _ = RunState::from_snapshot(&def, &state.snapshot());
    }
}
