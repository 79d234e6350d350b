//! Scenarios R19 to R27, and what else a retrier promises (RT-1..RT-3, RT-6, RT-8).

use std::{sync::Arc, time::Duration};

use super::{law_tests::Draws, *};
use crate::{
    entity::Failure,
    error::{Coded, Family},
    ids::Timestamp,
    resilience::breaker::FailureClass,
};

const SECOND: i64 = 1_000_000;

fn broken() -> Failure {
    Failure::retryable("network", "connection reset")
}

fn start(policy: RetryPolicy) -> Retrier<Failure> {
    Retrier::new(policy, Timestamp(0)).unwrap()
}

/// Runs that fail at once, under virtual time: starts of the runs, and how it ended.
fn runs(mut retrier: Retrier<Failure>, most: usize) -> (Vec<i64>, Option<RetryError<Failure>>) {
    let (mut now, mut starts) = (Timestamp(0), Vec::new());
    while starts.len() < most {
        starts.push(now.0);
        match retrier.next(broken(), now, 0.5) {
            RetryStep::RetryIn(delay) => now = now.after(delay),
            RetryStep::GiveUp(error) => return (starts, Some(error)),
        }
    }
    (starts, None)
}

fn waits(policy: &RetryPolicy, count: usize) -> Vec<u64> {
    let policy = RetryPolicy { max_attempts: UNLIMITED_ATTEMPTS, ..policy.clone() };
    let (starts, error) = runs(start(policy), count + 1);
    assert_eq!(error, None);
    starts.windows(2).map(|pair| (pair[1] - pair[0]) as u64).collect()
}

fn given_up(step: RetryStep<Failure>) -> RetryError<Failure> {
    match step {
        RetryStep::GiveUp(error) => error,
        RetryStep::RetryIn(delay) => panic!("retries in {delay:?}"),
    }
}

#[test]
fn r19_the_defaults_of_temporal_double_up_to_a_hundred_seconds() {
    let seconds: Vec<u64> = waits(&RetryPolicy::default(), 10).iter().map(|us| us / 1_000_000).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 100, 100, 100]);
}

#[test]
fn r20_the_first_run_counts_as_an_attempt() {
    let (starts, error) = runs(start(RetryPolicy::default()), 100);
    let error = error.unwrap();
    assert_eq!((starts.len(), error.attempts, error.reason), (3, 3, GiveUpReason::AttemptsExhausted));
    assert_eq!(error.history.iter().filter(|attempt| attempt.delay.is_some()).count(), 2);
    assert_eq!(runs(start(RetryPolicy::once()), 100).0, [0]);
}

#[test]
fn r21_full_jitter_is_uniform_up_to_the_doubling_end() {
    let policy = RetryPolicy {
        jitter: Jitter::Full,
        maximum_interval_ms: Some(20_000),
        ..RetryPolicy::exponential(100)
    };
    let ends_ms = [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 20_000, 20_000];
    let mut draws = Draws(0x5EED);
    for (n, end_ms) in (1..).zip(ends_ms) {
        let end = end_ms * 1_000;
        assert_eq!((policy.delay_us(n, None, 0.0), policy.delay_us(n, None, 1.0)), (0, end));
        let drawn: Vec<u64> = (0..10_000).map(|_| policy.delay_us(n, None, draws.next())).collect();
        let mean = drawn.iter().sum::<u64>() as f64 / 10_000.0;
        let half = end as f64 / 2.0;
        assert!((mean - half).abs() <= half * 0.02, "retry {n}: mean {mean}, half {half}");
        assert!(drawn.iter().all(|us| *us <= end) && drawn.iter().any(|us| us * 10 < end), "retry {n}");
    }
}

#[test]
fn r22_equal_jitter_stays_in_the_upper_half_and_decorrelated_above_the_base() {
    let equal = RetryPolicy { jitter: Jitter::Equal, ..RetryPolicy::exponential(100) };
    let decorrelated = RetryPolicy {
        jitter: Jitter::Decorrelated,
        maximum_interval_ms: Some(20_000),
        ..RetryPolicy::exponential(100)
    };
    let mut draws = Draws(0x5EED);
    for _ in 0..1_000 {
        let mut previous = None;
        for (n, plain) in (1..).zip([100_000, 200_000, 400_000, 800_000]) {
            assert!((plain / 2..=plain).contains(&equal.delay_us(n, None, draws.next())));
        }
        for n in 1..20 {
            let delay = decorrelated.delay_us(n, previous, draws.next());
            let most = previous.map_or(100_000, |us: u64| (3 * us).min(20_000_000));
            assert!((100_000..=most).contains(&delay), "{delay} after {previous:?}");
            previous = Some(delay);
        }
    }
}

#[test]
fn r23_the_back_off_of_grpc_may_exceed_its_longest_by_a_fifth() {
    let grpc = RetryPolicy {
        backoff_coefficient: 1.6,
        maximum_interval_ms: Some(120_000),
        jitter: Jitter::Around(0.2),
        ..RetryPolicy::exponential(1_000)
    };
    let waits: Vec<u64> = (1..=13).map(|n| grpc.delay_us(n, None, 0.5)).collect();
    assert_eq!(waits[..5], [1_000_000, 1_600_000, 2_560_000, 4_096_000, 6_553_600]);
    assert_eq!(waits[10..], [109_951_163, 120_000_000, 120_000_000]);
    assert_eq!((grpc.delay_us(20, None, 0.0), grpc.delay_us(20, None, 1.0)), (96_000_000, 144_000_000));
    assert_eq!(grpc.longest_us(), 144_000_000);
}

#[test]
fn r24_a_late_attempt_waits_the_longest_and_overflows_nothing() {
    let policy = RetryPolicy { maximum_interval_ms: Some(60_000), ..RetryPolicy::exponential(1_000) };
    for n in [2_000, 1_000_000, u32::MAX] {
        assert_eq!(policy.delay_us(n, None, 0.5), 60_000_000);
        let linear = RetryPolicy { growth: Growth::Linear, ..policy.clone() };
        assert_eq!(linear.delay_us(n, None, 0.5), 60_000_000);
    }
    let unlimited = RetryPolicy { max_attempts: UNLIMITED_ATTEMPTS, ..policy };
    let state = RetryState { failures: u32::MAX, ..RetryState::default() };
    let decision = unlimited.decide(&state, &broken(), Timestamp(i64::MAX), || 0.5);
    assert_eq!(decision, RetryDecision::After { at: Timestamp(i64::MAX), delay_us: 60_000_000 });
}

#[test]
fn r25_retry_after_makes_a_wait_longer_and_never_shorter() {
    // 1994-11-06T08:49:34Z, three seconds before the date of the three forms.
    let now = Timestamp(784_111_774 * SECOND);
    let three = Some(Duration::from_secs(3));
    for form in
        ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", " 3 "]
    {
        assert_eq!(retry_after(form, now), three, "{form}");
    }
    let later = now.after(Duration::from_secs(3));
    let none = ["0", "", "-3", "+3", "3.5", "3 s", "soon", "Sun, 06 Nov 1994", "\u{0663}", &"1".repeat(65)];
    assert!(none.iter().all(|value| retry_after(value, now).is_none()));
    assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", later), None);
    assert_eq!(retry_after(&"9".repeat(40), now), Some(Duration::from_millis(TEN_YEARS_MS)));

    let wait = |header: &str| {
        let asked = retry_after(header, now).and_then(|wait| u64::try_from(wait.as_millis()).ok());
        let failure = Failure { retry_after_ms: asked, ..broken() };
        match start(RetryPolicy::default()).next(failure, Timestamp(0), 0.5) {
            RetryStep::RetryIn(delay) => delay.as_secs(),
            RetryStep::GiveUp(error) => panic!("{error}"),
        }
    };
    assert_eq!((wait("3"), wait("0"), wait("soon"), wait("Sun, 06 Nov 1994 08:49:33 GMT")), (3, 1, 1, 1));
}

#[test]
fn r26_a_start_after_the_deadline_is_given_up_at_once_with_the_last_failure() {
    let policy = RetryPolicy { max_attempts: UNLIMITED_ATTEMPTS, ..RetryPolicy::default() };
    let (starts, error) = runs(start(policy.clone()).deadline(Timestamp(10 * SECOND)), 100);
    assert_eq!(starts, [0, SECOND, 3 * SECOND, 7 * SECOND]);
    let error = error.unwrap();
    assert_eq!((error.reason, error.attempts), (GiveUpReason::Deadline, 4));
    assert_eq!((error.elapsed, &error.last), (Duration::from_secs(7), &broken()));
    // Exactly at the deadline is not past it; `max_elapsed_ms` says the same of the whole.
    assert_eq!(runs(start(policy.clone()).deadline(Timestamp(7 * SECOND)), 100).0.len(), 4);
    let (starts, error) = runs(start(RetryPolicy { max_elapsed_ms: Some(6_999), ..policy }), 100);
    assert_eq!((starts.len(), error.unwrap().reason), (3, GiveUpReason::MaxElapsed));
}

#[test]
fn r27_a_failure_that_is_final_ends_the_second_of_five_runs() {
    let policy = RetryPolicy { max_attempts: 5, ..RetryPolicy::default() };
    let coded = RetryPolicy { non_retryable: vec!["invalid_input".into()], ..policy.clone() };
    for (policy, failure) in [
        (policy, Failure::permanent("gone", "no such page")),
        (coded, Failure::retryable("invalid_input", "-")),
    ] {
        let mut retrier = start(policy);
        assert!(matches!(retrier.next(broken(), Timestamp(0), 0.5), RetryStep::RetryIn(_)));
        let error = given_up(retrier.next(failure.clone(), Timestamp(SECOND), 0.5));
        assert_eq!((error.reason, error.attempts, &error.last), (GiveUpReason::NotRetryable, 2, &failure));
        let codes: Vec<&str> = error.history.iter().map(|attempt| attempt.code.as_str()).collect();
        assert_eq!(codes, ["network", failure.code.as_str()]);
    }
}

#[test]
fn a_class_has_its_own_rule() {
    let timeout = || Failure::retryable(Failure::TIMED_OUT, "too slow");
    let with = |rule| {
        let classes = [(FailureClass::Timeout, rule)].into();
        RetryPolicy { max_attempts: 5, classes, ..RetryPolicy::default() }
    };
    let error = given_up(start(with(RetryRule::Never)).next(timeout(), Timestamp(0), 0.5));
    assert_eq!((error.reason, error.attempts), (GiveUpReason::NotRetryable, 1));
    let step = start(with(RetryRule::AfterMs(7_000))).next(timeout(), Timestamp(0), 0.5);
    assert_eq!(step, RetryStep::RetryIn(Duration::from_secs(7)));
    let mut retrier = start(with(RetryRule::MaxAttempts(2)));
    assert_eq!(retrier.next(broken(), Timestamp(0), 0.5), RetryStep::RetryIn(Duration::from_secs(1)));
    let error = given_up(retrier.next(timeout(), Timestamp(SECOND), 0.5));
    assert_eq!(error.reason, GiveUpReason::AttemptsExhausted);
    // Other classes go on as the policy says.
    let step = start(with(RetryRule::Never)).next(broken(), Timestamp(0), 0.5);
    assert_eq!(step, RetryStep::RetryIn(Duration::from_secs(1)));
}

#[test]
fn a_call_without_progress_is_given_up_and_one_that_gets_on_is_not() {
    let policy = RetryPolicy {
        max_attempts: UNLIMITED_ATTEMPTS,
        progress_timeout_ms: Some(2_500),
        ..RetryPolicy::fixed(1_000)
    };
    let (starts, error) = runs(start(policy.clone()), 100);
    assert_eq!((starts.len(), error.unwrap().reason), (3, GiveUpReason::NoProgress));
    let mut retrier = start(policy);
    for second in 0..50 {
        let now = Timestamp(second * SECOND);
        retrier.progress(now);
        assert_eq!(retrier.next(broken(), now, 0.5), RetryStep::RetryIn(Duration::from_secs(1)));
    }
}

#[test]
fn a_condition_sees_attempt_time_and_delay() {
    let mut retrier = start(RetryPolicy { max_attempts: 9, ..RetryPolicy::fixed(1_000) });
    let mut seen = Vec::new();
    let error = (0..).find_map(|second| {
        let step = retrier.next_if(broken(), Timestamp(second * SECOND), 0.5, |failure, now| {
            assert_eq!((failure, now.delay), (&broken(), Duration::from_secs(1)));
            seen.push((now.attempt, now.elapsed.as_secs()));
            if now.attempt < 3 { Ok(()) } else { Err(GiveUpReason::Condition) }
        });
        if let RetryStep::GiveUp(error) = step { Some(error) } else { None }
    });
    assert_eq!(seen, [(1, 0), (2, 1), (3, 2)]);
    assert_eq!(error.unwrap().reason, GiveUpReason::Condition);
}

#[test]
fn a_call_that_waits_is_cancelled_with_its_last_failure() {
    let mut retrier = start(RetryPolicy::default());
    assert_eq!(retrier.give_up(GiveUpReason::Cancelled, Timestamp(0)), None);
    let _ = retrier.next(broken(), Timestamp(0), 0.5);
    let error = retrier.give_up(GiveUpReason::Cancelled, Timestamp(5)).unwrap();
    assert_eq!((error.reason, error.attempts, error.last), (GiveUpReason::Cancelled, 1, broken()));
    assert_eq!((error.history.len(), error.history[0].delay), (1, None));
    assert_eq!(retrier.give_up(GiveUpReason::Cancelled, Timestamp(6)), None);
}

#[test]
fn the_history_keeps_the_last_attempts() {
    let (_, error) = runs(start(RetryPolicy { max_attempts: 100, ..RetryPolicy::fixed(1) }), 1_000);
    let error = error.unwrap();
    let numbers: Vec<u32> = error.history.iter().map(|attempt| attempt.attempt).collect();
    assert_eq!((error.attempts, numbers), (100, (69..=100).collect()));
}

#[test]
fn a_policy_that_is_not_valid_names_its_field_before_the_first_attempt() {
    let policy = RetryPolicy::default;
    let jitter = |jitter| RetryPolicy { jitter, ..policy() };
    let classes = |rule| RetryPolicy { classes: [(FailureClass::Network, rule)].into(), ..policy() };
    let table = [
        (RetryPolicy { max_attempts: 0, ..policy() }, "max_attempts"),
        (RetryPolicy { initial_interval_ms: 0, ..policy() }, "initial_interval_ms"),
        (RetryPolicy { initial_interval_ms: TEN_YEARS_MS + 1, ..policy() }, "initial_interval_ms"),
        (RetryPolicy { maximum_interval_ms: Some(999), ..policy() }, "maximum_interval_ms"),
        (RetryPolicy { maximum_interval_ms: Some(0), ..policy() }, "maximum_interval_ms"),
        (RetryPolicy { backoff_coefficient: 0.9, ..policy() }, "backoff_coefficient"),
        (RetryPolicy { backoff_coefficient: f64::NAN, ..policy() }, "backoff_coefficient"),
        (RetryPolicy { max_elapsed_ms: Some(0), ..policy() }, "max_elapsed_ms"),
        (RetryPolicy { progress_timeout_ms: Some(0), ..policy() }, "progress_timeout_ms"),
        (jitter(Jitter::Fraction(1.1)), "jitter"),
        (jitter(Jitter::Around(-0.1)), "jitter"),
        (jitter(Jitter::Around(f64::NAN)), "jitter"),
        (classes(RetryRule::AfterMs(0)), "classes.network"),
        (classes(RetryRule::MaxAttempts(0)), "classes.network"),
    ];
    for (policy, field) in table {
        let error = Retrier::<Failure>::new(policy, Timestamp(0)).unwrap_err();
        assert_eq!((error.field, error.code()), (field, "retry.policy"));
        assert!(error.to_string().contains(field), "{error}");
    }
    assert_eq!(jitter(Jitter::Around(1.0)).validate(), Ok(()));
}

#[test]
fn a_policy_from_a_document_decides_as_the_one_from_code() {
    let document = r#"{
        "payments": {
            "max_attempts": 4, "initial_interval_ms": 200, "growth": "linear", "jitter": {"around": 0.25},
            "non_retryable": ["card_declined"], "classes": {"timeout": {"after_ms": 900}, "slow": "never"}
        }
    }"#;
    let read: RetryPolicies = serde_json::from_str(document).unwrap();
    let mut written = RetryPolicies::default();
    let classes =
        [(FailureClass::Timeout, RetryRule::AfterMs(900)), (FailureClass::Slow, RetryRule::Never)].into();
    let policy = RetryPolicy {
        max_attempts: 4,
        jitter: Jitter::Around(0.25),
        non_retryable: vec!["card_declined".into()],
        classes,
        ..RetryPolicy::linear(200)
    };
    written.insert("payments", policy).unwrap();
    assert_eq!(read, written);
    let decisions = |policies: &RetryPolicies| {
        let (mut draws, mut retrier) = (Draws(7), policies.retrier("payments", Timestamp(0)).unwrap());
        let failures = [broken(), Failure::retryable(Failure::TIMED_OUT, "-"), broken(), broken()];
        failures.map(|failure| retrier.next(failure, Timestamp(0), draws.next()))
    };
    assert_eq!(decisions(&read), decisions(&written));
    let again: RetryPolicies = serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
    assert_eq!(again, written);
}

#[test]
fn a_fault_of_a_document_names_line_and_field() {
    let fault = |document: &str| serde_json::from_str::<RetryPolicies>(document).unwrap_err().to_string();
    let table = [
        ("{\n\"a\": {},\n\"b\": {\"initial_interval_ms\": 0}\n}", ["initial_interval_ms is 0", "line 3"]),
        ("{\n\"a\": {\n\"max_atempts\": 3}}", ["max_atempts", "line 3"]),
        ("{\n\"a\": {\"max_attempts\": -1}}", ["integer `-1`", "line 2"]),
        ("{\n\"a\": {\"classes\": {\"weather\": \"never\"}}}", ["weather", "line 2"]),
        ("{\n\"a\": {},\n\"a\": {}}", ["two retry policies are named \"a\"", "line 3"]),
        ("{\n\"\": {}}", ["no name of a retry policy", "line 2"]),
    ];
    for (document, parts) in table {
        let fault = fault(document);
        assert!(parts.iter().all(|part| fault.contains(part)), "{fault}");
    }
}

#[test]
fn an_unknown_policy_is_refused_before_the_first_attempt() {
    let error = RetryPolicies::default().retrier::<Failure>("payments", Timestamp(0)).unwrap_err();
    assert_eq!((error.code(), error.family()), ("retry.not_found", Family::Rejected));
}

#[test]
fn the_stored_form_of_a_policy_has_no_new_fields_until_they_are_used() {
    let json = serde_json::to_string(&RetryPolicy::default()).unwrap();
    let fields = r#"{"max_attempts":3,"initial_interval_ms":1000,"backoff_coefficient":2.0,"jitter":"none"}"#;
    assert_eq!(json, fields);
}

#[test]
fn counts_are_those_of_all_calls() {
    let (stats, mut draws) = (Arc::new(RetryStats::default()), Draws(0xC0DE));
    let mut truth = RetryCounts::default();
    for _ in 0..1_000 {
        let policy = RetryPolicy { max_attempts: 6, jitter: Jitter::Full, ..RetryPolicy::exponential(5) };
        let mut retrier = start(policy).counted_in(stats.clone());
        let attempts = loop {
            if draws.next() < 0.3 {
                truth.succeeded += 1;
                break retrier.succeeded();
            }
            match retrier.next(broken(), Timestamp(0), draws.next()) {
                RetryStep::RetryIn(delay) => {
                    let bucket =
                        DELAY_BUCKETS_MS.iter().position(|ms| delay.as_micros() <= u128::from(ms * 1_000));
                    truth.delays_by[bucket.unwrap_or(7)] += 1;
                }
                RetryStep::GiveUp(error) => {
                    truth.gave_up[error.reason as usize] += 1;
                    break error.attempts;
                }
            }
        };
        truth.attempts += u64::from(attempts);
        truth.attempts_by[ATTEMPT_BUCKETS.iter().position(|most| attempts <= *most).unwrap_or(7)] += 1;
    }
    assert_eq!(stats.counts(), truth);
    assert_eq!(truth.succeeded + truth.given_up(GiveUpReason::AttemptsExhausted), 1_000);
    assert!(GiveUpReason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
}

/// A failure of a caller's own.
#[derive(Debug, thiserror::Error)]
#[error("busy")]
struct Busy;

impl RetryCause for Busy {
    fn cause_code(&self) -> &str {
        self.code()
    }
    fn may_retry(&self) -> bool {
        self.retryable()
    }
}

impl Coded for Busy {
    fn code(&self) -> &'static str {
        "call.mailbox_full"
    }
    fn family(&self) -> Family {
        Family::Unknown
    }
}

#[test]
fn a_call_that_was_given_up_has_the_family_of_its_last_failure() {
    let mut retrier = Retrier::new(RetryPolicy::once(), Timestamp(0)).unwrap();
    let RetryStep::GiveUp(error) = retrier.next(Busy, Timestamp(0), 0.5) else { panic!("retries") };
    assert_eq!((error.code(), error.family()), ("retry.attempts_exhausted", Family::Unknown));
    assert_eq!(error.to_string(), "gave up after 1 attempts (attempts_exhausted): busy");
}
