//! A breaker, which counts calls that need no decision in lanes, against its own machine, which decides each of them.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    machine::{Machine, Report, State, Ticket},
    *,
};
use crate::ids::Timestamp;

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    /// Ends the call that has run for so many others; it took so many milliseconds.
    Finish(usize, Outcome, u64),
    Drop(usize),
    Wait(i64),
    Open,
    Disable,
    Reset,
    ClearCounts,
    Reconfigure(BreakerOptions),
    /// Compares everything that is stored.
    Look,
}

fn rule() -> impl Strategy<Value = ClassRule> {
    let threshold = prop_oneof![Just(0.1), Just(0.5), Just(1.0)];
    prop_oneof![
        (1..6_u32).prop_map(ClassRule::Count),
        (1..4_u32).prop_map(ClassRule::Consecutive),
        (threshold, 1..30_u32).prop_map(|(threshold, minimum_number_of_calls)| {
            ClassRule::Ratio { threshold, minimum_number_of_calls }
        }),
        Just(ClassRule::Never),
    ]
}

fn class() -> impl Strategy<Value = FailureClass> {
    prop::sample::select(FailureClass::ALL.to_vec())
}

fn options() -> impl Strategy<Value = BreakerOptions> {
    let window =
        prop_oneof![(Just(WindowType::CountBased), 1..40_u32), (Just(WindowType::TimeBased), 20..2_000_u32),];
    let rate = prop_oneof![Just(0.1), Just(0.5), Just(1.0)];
    (window, 1..40_u32, rate.clone(), rate, prop::collection::btree_map(class(), rule(), 0..3)).prop_map(
        |((sliding_window_type, sliding_window_size), minimum_number_of_calls, failures, slow, classes)| {
            BreakerOptions {
                sliding_window_type,
                sliding_window_size,
                minimum_number_of_calls,
                failure_rate_threshold: failures,
                slow_call_rate_threshold: slow,
                slow_call_duration_threshold_ms: 100,
                wait_duration_in_open_state_ms: 50,
                permitted_number_of_calls_in_half_open_state: 2,
                classes,
                ..BreakerOptions::default()
            }
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        30 => Just(Outcome::Success),
        2 => class().prop_map(Outcome::Failure),
        1 => Just(Outcome::Ignored),
    ];
    let took = prop_oneof![20 => Just(5_u64), 1 => Just(100), 1 => Just(101)];
    let step = prop_oneof![
        60 => Just(Step::Acquire),
        60 => (0..3_usize, outcome, took).prop_map(|(at, outcome, took)| Step::Finish(at, outcome, took)),
        2 => (0..3_usize).prop_map(Step::Drop),
        8 => (-20_000..200_000_i64).prop_map(Step::Wait),
        1 => Just(Step::Open),
        1 => Just(Step::Disable),
        2 => Just(Step::Reset),
        1 => Just(Step::ClearCounts),
        1 => options().prop_map(Step::Reconfigure),
        3 => Just(Step::Look),
    ];
    prop::collection::vec(step, 1..300)
}

fn looks_alike(breaker: &Breaker, machine: &mut Machine, now: Timestamp) {
    assert_eq!(breaker.stats(now), machine.stats(now));
    assert_eq!(breaker.snapshot(now), machine.snapshot(now));
    assert_eq!((breaker.mark(), breaker.transitions()), (machine.mark(), machine.transitions()));
}

fn cases() -> u32 {
    if std::env::var("STANCHION_CAMPAIGN").is_ok_and(|value| value == "1") { 100_000 } else { 1_000 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_breaker_decides_what_its_machine_would_that_sees_every_call(options in options(), steps in steps()) {
        let (breaker, mut machine) = (Breaker::new("b", options.clone()).unwrap(), Machine::new(options));
        let mut now = Timestamp(1_700_000_000_000_000);
        let mut running: Vec<(BreakerPermit, Ticket)> = Vec::new();
        for step in steps {
            match step {
                Step::Acquire => match (breaker.acquire(now), machine.admit(now)) {
                    (Ok(permit), Ok(ticket)) => {
                        assert_eq!((permit.epoch(), permit.is_probe()), (ticket.epoch, ticket.probe.is_some()));
                        running.push((permit, ticket));
                    }
                    (Err(open), Err(refused)) => {
                        assert_eq!((open.state, open.until), (refused.state, refused.until));
                    }
                    (real, machine) => panic!("{real:?} against {machine:?}"),
                },
                Step::Finish(at, outcome, took_ms) if at < running.len() => {
                    let ((permit, ticket), took) = (running.remove(at), Duration::from_millis(took_ms));
                    permit.finish_with(outcome, took, 0, now);
                    machine.record(ticket, Report { outcome, took, draw: 0, now });
                }
                Step::Drop(at) if at < running.len() => {
                    let (permit, ticket) = running.remove(at);
                    drop(permit);
                    machine.ignore(ticket);
                }
                Step::Finish(..) | Step::Drop(_) => {}
                Step::Wait(us) => now = Timestamp(now.0 + us),
                Step::Open => {
                    breaker.open(now);
                    machine.open(Cause::Opened, 0, now);
                }
                Step::Disable => {
                    breaker.disable(now);
                    machine.go(State::Disabled, Cause::Disabled, now);
                }
                Step::Reset => {
                    breaker.reset(now);
                    machine.close(Cause::Reset, now);
                }
                Step::ClearCounts => {
                    breaker.clear_counts();
                    machine.clear_counts();
                }
                Step::Reconfigure(options) => {
                    breaker.reconfigure(options.clone()).unwrap();
                    machine.reconfigure(options);
                }
                Step::Look => looks_alike(&breaker, &mut machine, now),
            }
            assert_eq!(breaker.state(), machine.state.shown());
        }
        looks_alike(&breaker, &mut machine, now);
    }
}

#[test]
fn threads_at_once_lose_no_call_and_the_failures_of_all_of_them_open() {
    let options = BreakerOptions { sliding_window_size: 1_000, ..BreakerOptions::default() };
    let breaker = Breaker::new("b", options).unwrap();
    let now = Timestamp(0);
    let call = |outcome| breaker.acquire(now).map(|permit| permit.finish(outcome, now));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..20_000 {
                    let outcome = match n % 100 {
                        0 => Outcome::Failure(FailureClass::Network),
                        _ => Outcome::Success,
                    };
                    call(outcome).unwrap();
                }
            });
        }
    });
    let stats = breaker.stats(now);
    assert_eq!((stats.allowed, stats.successes, stats.failures.total()), (80_000, 79_200, 800));
    assert_eq!((stats.window_calls, stats.in_flight, stats.stale), (1_000, 0, 0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..150).for_each(|_| drop(call(Outcome::Failure(FailureClass::Network)))));
        }
    });
    assert_eq!(
        breaker.state().name(),
        StateName::Open,
        "600 of the last 1 000 at most, 500 at least, failed"
    );
}
