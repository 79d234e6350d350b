//! Scenarios R01 to R18, each under its id, and the rules of classes, ramps and counters.

use std::time::Duration;

use super::*;
use crate::{error::Coded, ids::Timestamp};

const SECOND: i64 = 1_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * SECOND)
}

/// The breaker of scenarios R01 to R16.
fn setup() -> BreakerOptions {
    BreakerOptions {
        sliding_window_size: 5,
        minimum_number_of_calls: 5,
        wait_duration_in_open_state_ms: 5_000,
        permitted_number_of_calls_in_half_open_state: 4,
        slow_call_duration_threshold_ms: 4_000,
        slow_call_rate_threshold: 0.5,
        ..BreakerOptions::default()
    }
}

fn breaker() -> Breaker {
    Breaker::new("b", setup()).unwrap()
}

fn outcome(letter: char) -> Outcome {
    match letter {
        'S' => Outcome::Success,
        'F' => Outcome::Failure(FailureClass::Application),
        'T' => Outcome::Failure(FailureClass::Timeout),
        'I' => Outcome::Ignored,
        other => panic!("no outcome {other}"),
    }
}

/// Runs calls of these outcomes one after another at a time.
fn run(breaker: &Breaker, calls: &str, now: Timestamp) {
    for letter in calls.chars() {
        breaker.acquire(now).unwrap().finish(outcome(letter), now);
    }
}

fn is(breaker: &Breaker, name: StateName) -> bool {
    breaker.state().name() == name
}

/// A breaker that opened at second 0.
fn open() -> Breaker {
    let breaker = breaker();
    run(&breaker, "FFFFF", at(0));
    assert!(is(&breaker, StateName::Open));
    breaker
}

/// A breaker that is half-open at second 6, and the permits of its round.
fn half_open() -> (Breaker, Vec<BreakerPermit>) {
    let breaker = open();
    let permits = (0..4).map(|_| breaker.acquire(at(6)).unwrap()).collect();
    (breaker, permits)
}

#[test]
fn r01_the_rate_is_judged_from_the_minimum_on_and_a_success_may_be_what_opens() {
    let breaker = breaker();
    run(&breaker, "FFFS", at(0));
    assert!(is(&breaker, StateName::Closed));
    assert_eq!(breaker.stats(at(0)).failure_rate, None, "unknown, not 75 %");
    run(&breaker, "S", at(0));
    assert!(is(&breaker, StateName::Open), "3 of 5");
}

#[test]
fn r02_four_failures_of_five_calls_open_with_the_fifth_call() {
    let breaker = breaker();
    run(&breaker, "FFFF", at(0));
    assert!(is(&breaker, StateName::Closed));
    run(&breaker, "S", at(0));
    assert!(is(&breaker, StateName::Open));
}

#[test]
fn r03_the_window_slides() {
    let breaker = breaker();
    run(&breaker, "SSSFF", at(0));
    assert!(is(&breaker, StateName::Closed), "40 %");
    run(&breaker, "F", at(0));
    assert!(is(&breaker, StateName::Open), "60 %");
}

#[test]
fn r04_a_rate_at_the_threshold_opens() {
    let options = BreakerOptions { sliding_window_size: 4, minimum_number_of_calls: 4, ..setup() };
    let breaker = Breaker::new("b", options).unwrap();
    run(&breaker, "SSFF", at(0));
    assert!(is(&breaker, StateName::Open));
}

#[test]
fn r05_open_refuses_until_the_wait_is_over_and_then_probes_with_nothing_counted() {
    let breaker = open();
    let refused = breaker.acquire(at(3)).unwrap_err();
    assert_eq!((refused.until, refused.retry_after), (Some(at(5)), Some(Duration::from_secs(2))));
    assert_eq!(refused.code(), "breaker.open");
    let permit = breaker.acquire(at(6)).unwrap();
    assert!(is(&breaker, StateName::HalfOpen) && permit.is_probe());
    assert_eq!(breaker.stats(at(6)).window_calls, 0);
}

#[test]
fn r06_half_open_runs_its_permits_and_one_more_for_each_given_back() {
    let (breaker, mut permits) = half_open();
    assert_eq!(breaker.acquire(at(6)).unwrap_err().state, StateName::HalfOpen);
    drop(permits.pop());
    let probe = breaker.acquire(at(6)).unwrap();
    assert!(breaker.acquire(at(6)).is_err());
    probe.finish(Outcome::Ignored, at(6));
    assert!(breaker.acquire(at(6)).is_ok());
}

fn finish(permits: Vec<BreakerPermit>, outcomes: &str) {
    for (permit, letter) in permits.into_iter().zip(outcomes.chars()) {
        permit.finish(outcome(letter), at(6));
    }
}

#[test]
fn r07_half_open_opens_again_at_the_threshold_and_closes_below_it_with_an_empty_window() {
    let (breaker, permits) = half_open();
    finish(permits, "SSFF");
    assert_eq!(breaker.state(), BreakerState::Open { until: at(11) }, "the wait begins anew");
    let (breaker, permits) = half_open();
    finish(permits, "SSSF");
    assert!(is(&breaker, StateName::Closed));
    assert_eq!(breaker.stats(at(6)).window_calls, 0);
}

#[test]
fn r08_half_open_is_judged_when_all_its_calls_have_an_outcome() {
    let (breaker, mut permits) = half_open();
    let last = permits.pop().unwrap();
    finish(permits, "FFF");
    assert!(is(&breaker, StateName::HalfOpen));
    last.finish(Outcome::Success, at(6));
    assert!(is(&breaker, StateName::Open), "75 %");
}

#[test]
fn r09_ignored_outcomes_count_as_neither() {
    let breaker = breaker();
    run(&breaker, "FIFIFS", at(0));
    assert!(is(&breaker, StateName::Closed));
    run(&breaker, "S", at(0));
    assert!(is(&breaker, StateName::Open), "3 of 5");
    assert_eq!(breaker.stats(at(0)).ignored, 2);
}

#[test]
fn r10_slow_calls_open_whatever_they_came_to() {
    let breaker = breaker();
    for (letter, ms) in [('S', 5_000), ('S', 5_000), ('F', 100), ('S', 100), ('S', 5_000)] {
        let permit = breaker.acquire(at(0)).unwrap();
        permit.finish_with(outcome(letter), Duration::from_millis(ms), 0, at(0));
    }
    assert!(is(&breaker, StateName::Open));
    assert_eq!(breaker.transitions().last().unwrap().cause, Cause::SlowCallRate);
}

#[test]
fn r11_calls_leave_a_window_of_time() {
    let options =
        BreakerOptions { sliding_window_type: WindowType::TimeBased, sliding_window_size: 5_000, ..setup() };
    let breaker = Breaker::new("b", options).unwrap();
    run(&breaker, "FFFF", at(0));
    run(&breaker, "F", at(6));
    assert!(is(&breaker, StateName::Closed));
    assert_eq!(breaker.stats(at(6)).window_calls, 1);
}

#[test]
fn r12_an_outcome_of_an_earlier_state_changes_nothing() {
    let breaker = breaker();
    let stale = breaker.acquire(at(0)).unwrap();
    run(&breaker, "FFFFF", at(0));
    stale.finish(outcome('F'), at(3));
    assert_eq!(breaker.state(), BreakerState::Open { until: at(5) });
    assert_eq!(breaker.stats(at(3)).stale, 1);
    let (breaker, permits) = half_open();
    breaker.reset(at(6));
    finish(permits, "FFFF");
    assert!(is(&breaker, StateName::Closed), "probes of a round that was ended by hand");
}

#[test]
fn r13_open_is_not_left_without_a_call() {
    let breaker = open();
    assert!(is(&breaker, StateName::Open));
    assert_eq!(breaker.stats(at(60)).state.name(), StateName::Open);
    drop(breaker.acquire(at(60)).unwrap());
    assert!(is(&breaker, StateName::HalfOpen));
}

#[test]
fn r14_forced_open_refuses_for_ever_and_disabled_judges_nothing() {
    let breaker = breaker();
    breaker.force_open(at(0));
    let refused = breaker.acquire(at(1_000_000)).unwrap_err();
    assert_eq!((refused.state, refused.until), (StateName::ForcedOpen, None));
    breaker.disable(at(0));
    run(&breaker, "FFFFFFFFFFFF", at(0));
    assert!(is(&breaker, StateName::Disabled));
    breaker.reset(at(0));
    run(&breaker, "F", at(0));
    assert_eq!(breaker.stats(at(0)).window_calls, 1, "nothing was recorded meanwhile");
}

#[test]
fn r15_of_a_thousand_callers_at_once_exactly_the_permits_run() {
    let breaker = open();
    let start = std::sync::Barrier::new(10);
    let permits: Vec<BreakerPermit> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    (0..100).filter_map(|_| breaker.acquire(at(6)).ok()).collect::<Vec<_>>()
                })
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(permits.len(), 4);
    assert_eq!(breaker.stats(at(6)).rejected, 996);
}

#[test]
fn r16_a_breaker_that_died_open_stays_so_until_its_time() {
    let kept = serde_json::to_string(&open().snapshot(at(2))).unwrap();
    let kept: BreakerSnapshot = serde_json::from_str(&kept).unwrap();
    let early = breaker();
    early.restore(&kept, at(4));
    assert_eq!(early.acquire(at(4)).unwrap_err().until, Some(at(5)), "not 9");
    let late = breaker();
    late.restore(&kept, at(9));
    assert!(late.acquire(at(9)).unwrap().is_probe());
    assert!(is(&late, StateName::HalfOpen));
}

/// Defaults of Polly v8, as far as they can be said in these terms.
fn polly() -> BreakerOptions {
    BreakerOptions {
        sliding_window_type: WindowType::TimeBased,
        sliding_window_size: 30_000,
        minimum_number_of_calls: 100,
        failure_rate_threshold: 0.1,
        wait_duration_in_open_state_ms: 5_000,
        permitted_number_of_calls_in_half_open_state: 1,
        ..BreakerOptions::default()
    }
}

#[test]
fn r17_polly_opens_at_its_ratio_from_its_throughput_on() {
    for (failures, calls, state) in
        [(9, 100, StateName::Closed), (10, 100, StateName::Open), (50, 50, StateName::Closed)]
    {
        let breaker = Breaker::new("b", polly()).unwrap();
        for call in 0..calls {
            let now = Timestamp(call * 100_000);
            run(&breaker, if call < calls - failures { "S" } else { "F" }, now);
        }
        assert!(is(&breaker, state), "{failures} of {calls}");
    }
}

#[test]
fn r18_polly_has_one_probe() {
    for (letter, state) in [('S', BreakerState::Closed), ('F', BreakerState::Open { until: at(11) })] {
        let breaker = Breaker::new("b", polly()).unwrap();
        breaker.open(at(0));
        let probe = breaker.acquire(at(6)).unwrap();
        assert!(breaker.acquire(at(6)).is_err());
        probe.finish(outcome(letter), at(6));
        assert_eq!(breaker.state(), state);
    }
}

#[test]
fn classes_have_rules_of_their_own() {
    let mut options = BreakerOptions { sliding_window_size: 1_000, ..setup() };
    options.classes.insert(FailureClass::Timeout, ClassRule::Count(3));
    options.classes.insert(FailureClass::Application, ClassRule::Never);
    let breaker = Breaker::new("b", options).unwrap();
    run(&breaker, &"F".repeat(100), at(0));
    assert!(is(&breaker, StateName::Closed), "a hundred application errors alone do not open");
    run(&breaker, "TST", at(0));
    assert!(is(&breaker, StateName::Closed));
    run(&breaker, "T", at(0));
    assert_eq!(breaker.transitions().last().unwrap().cause, Cause::Class(FailureClass::Timeout));
    let failures = breaker.stats(at(0)).failures;
    assert_eq!((failures.timeout, failures.application), (3, 100));
}

#[test]
fn failures_in_a_row_are_ended_by_a_success() {
    let mut options = setup();
    options.classes.insert(FailureClass::Timeout, ClassRule::Consecutive(3));
    let breaker = Breaker::new("b", options).unwrap();
    run(&breaker, "TTSTT", at(0));
    assert!(is(&breaker, StateName::Closed));
    run(&breaker, "T", at(0));
    assert!(is(&breaker, StateName::Open));
}

#[test]
fn a_ramp_lets_its_shares_through_and_a_failure_doubles_the_wait() {
    let options = BreakerOptions { half_open: HalfOpenMode::ramp(3, 0.5), ..setup() };
    let breaker = Breaker::new("b", options).unwrap();
    breaker.open(at(0));
    let mut shares = Vec::new();
    let (mut calls, mut runs) = (0_u32, 0_u32);
    while !is(&breaker, StateName::Closed) {
        calls += 1;
        if let Ok(permit) = breaker.acquire(at(6)) {
            runs += 1;
            if let BreakerState::HalfOpen { share: Some(share) } = breaker.state() {
                shares.push(share);
            }
            permit.finish(Outcome::Success, at(6));
        }
        assert!(calls < 1_000, "it closes");
    }
    shares.dedup();
    assert_eq!((shares, runs), (RAMP_STAGES.to_vec(), 15));
    assert!(calls > 250, "three calls at 1 % take two hundred callers: {calls}");
    breaker.open(at(10));
    for wait in [10, 20, 40, 50, 50] {
        let until = match breaker.state() {
            BreakerState::Open { until } => until,
            other => panic!("{other:?}"),
        };
        // Two errors of three: at the rate that opens.
        for _ in 0..2 {
            let permit = (0..200).find_map(|_| breaker.acquire(until).ok()).unwrap();
            permit.finish(outcome('F'), until);
        }
        assert_eq!(breaker.state(), BreakerState::Open { until: until.after(Duration::from_secs(wait)) });
    }
}

#[test]
fn ignored_outcomes_never_open_and_free_their_place() {
    let breaker = breaker();
    run(&breaker, &"I".repeat(1_000), at(0));
    assert!(is(&breaker, StateName::Closed));
    let breaker = open();
    for _ in 0..100 {
        breaker.acquire(at(6)).unwrap().finish(Outcome::Ignored, at(6));
    }
    assert!(is(&breaker, StateName::HalfOpen));
}

#[test]
fn other_options_keep_the_state_and_what_the_window_still_holds() {
    let breaker = breaker();
    run(&breaker, "SSFF", at(0));
    breaker
        .reconfigure(BreakerOptions { sliding_window_size: 4, minimum_number_of_calls: 4, ..setup() })
        .unwrap();
    run(&breaker, "F", at(0));
    assert!(is(&breaker, StateName::Open), "S F F F");
    let wrong = BreakerOptions { failure_rate_threshold: 0.0, ..setup() };
    assert_eq!(breaker.reconfigure(wrong).unwrap_err().field, "failure_rate_threshold");
    assert_eq!(breaker.options().sliding_window_size, 4, "refused options change nothing");
}

#[test]
fn a_clock_that_is_set_back_makes_no_wait_longer() {
    let breaker = open();
    assert_eq!(breaker.acquire(at(-3_600)).unwrap_err().retry_after, Some(Duration::from_secs(5)));
    assert!(breaker.acquire(at(-3_594)).is_ok());
}

#[test]
fn options_outside_their_range_are_refused_by_field() {
    let mut strict = BreakerOptions { strict: true, ..setup() };
    strict.classes.insert(FailureClass::Network, ClassRule::Count(1));
    let ramp = |stages: &[u8], rate| HalfOpenMode::Ramp {
        stages: stages.to_vec(),
        successes_per_stage: 1,
        max_error_rate: rate,
    };
    let class = |rule| BreakerOptions { classes: [(FailureClass::Timeout, rule)].into(), ..setup() };
    let ratio = |threshold, minimum_number_of_calls| ClassRule::Ratio { threshold, minimum_number_of_calls };
    for (field, options) in [
        ("sliding_window_size", BreakerOptions { sliding_window_size: 0, ..setup() }),
        ("minimum_number_of_calls", BreakerOptions { minimum_number_of_calls: 0, ..setup() }),
        ("failure_rate_threshold", BreakerOptions { failure_rate_threshold: 1.1, ..setup() }),
        ("failure_rate_threshold", BreakerOptions { failure_rate_threshold: f64::NAN, ..setup() }),
        ("slow_call_rate_threshold", BreakerOptions { slow_call_rate_threshold: 0.0, ..setup() }),
        ("wait_duration_in_open_state_ms", BreakerOptions { wait_duration_in_open_state_ms: 0, ..setup() }),
        (
            "max_wait_duration_in_open_state_ms",
            BreakerOptions { max_wait_duration_in_open_state_ms: Some(4_999), ..setup() },
        ),
        ("wait_jitter", BreakerOptions { wait_jitter: 1.5, ..setup() }),
        ("wait_multiplier", BreakerOptions { wait_multiplier: Some(0.5), ..setup() }),
        (
            "permitted_number_of_calls_in_half_open_state",
            BreakerOptions { permitted_number_of_calls_in_half_open_state: 0, ..setup() },
        ),
        ("half_open.ramp.stages", BreakerOptions { half_open: ramp(&[5, 1, 100], 0.5), ..setup() }),
        ("half_open.ramp.stages", BreakerOptions { half_open: ramp(&[1, 50], 0.5), ..setup() }),
        ("half_open.ramp.max_error_rate", BreakerOptions { half_open: ramp(&[100], 0.0), ..setup() }),
        ("classes.timeout.count", class(ClassRule::Count(0))),
        ("classes.timeout.consecutive", class(ClassRule::Consecutive(0))),
        ("classes.timeout.ratio.threshold", class(ratio(0.0, 1))),
        ("classes.timeout.ratio.minimum_number_of_calls", class(ratio(0.5, 0))),
        ("classes.timeout", strict),
    ] {
        let refused = Breaker::new("b", options).unwrap_err();
        assert_eq!(refused.field, field, "{refused}");
        assert_eq!(refused.code(), "breaker.options");
    }
    let unknown = serde_json::from_str::<BreakerOptions>(r#"{"sliding_window": 5}"#).unwrap_err();
    assert!(unknown.to_string().contains("sliding_window"), "{unknown}");
}

#[test]
fn breakers_are_found_by_name_and_a_name_that_is_not_there_is_refused() {
    let breakers = Breakers::new();
    let made = breakers.register("pay", setup()).unwrap();
    made.force_open(at(0));
    assert!(is(&breakers.find("pay").unwrap(), StateName::ForcedOpen), "the same breaker");
    assert_eq!(breakers.find("nobody").unwrap_err().code(), "breaker.not_found");
    assert_eq!(breakers.list().len(), 1);
}

#[test]
fn an_observer_hears_of_each_change_of_state_and_may_ask_the_breaker() {
    let breaker = breaker();
    let (tell, told) = std::sync::mpsc::channel();
    let seen = breaker.clone();
    // It asks the breaker: it is called without its lock.
    assert!(breaker.observe(move || tell.send(seen.state().name()).unwrap()));
    assert!(!breaker.observe(|| panic!("the first one stays")));
    run(&breaker, "SSFF", at(0));
    assert!(told.try_recv().is_err(), "outcomes alone are no change");
    run(&breaker, "F", at(0));
    assert!(breaker.acquire(at(0)).is_err());
    drop(breaker.acquire(at(6)).unwrap());
    breaker.force_open(at(6));
    breaker.reset(at(6));
    breaker.clear_counts();
    let heard: Vec<_> = told.try_iter().collect();
    assert_eq!(heard, [StateName::Open, StateName::HalfOpen, StateName::ForcedOpen, StateName::Closed]);
    let stats = breaker.stats(at(6));
    assert_eq!((stats.allowed, stats.failures.total(), stats.rejected), (0, 0, 0));
}

#[test]
fn a_refusal_says_as_a_failure_how_long_to_wait() {
    use crate::entity::Failure;
    let breaker = open();
    let early = Timestamp(at(0).0 + 1);
    let failure = Failure::from(breaker.acquire(early).unwrap_err());
    assert_eq!(failure.code, "breaker.open");
    assert_eq!((failure.retryable, failure.retry_after_ms), (true, Some(5_000)), "rounded up");
    breaker.force_open(at(0));
    assert_eq!(Failure::from(breaker.acquire(at(0)).unwrap_err()).retry_after_ms, Some(30_000));
    let breaker = open();
    let _probes: Vec<_> = std::iter::from_fn(|| breaker.acquire(at(6)).ok()).collect();
    assert_eq!(Failure::from(breaker.acquire(at(6)).unwrap_err()).retry_after_ms, Some(200));
}
