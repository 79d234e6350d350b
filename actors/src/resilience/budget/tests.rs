//! Scenarios R28 to R30, and what else a budget promises (RT-5).

use super::*;
use crate::{
    entity::Failure,
    ids::Timestamp,
    resilience::retry::{Retrier, RetryError, RetryPolicy, RetryStep},
};

const SECOND: i64 = 1_000_000;

fn options(min_retries_per_second: u32, ratio: f64) -> RetryBudgetOptions {
    RetryBudgetOptions { min_retries_per_second, ratio, ..RetryBudgetOptions::default() }
}

fn budget(min_retries_per_second: u32, ratio: f64) -> RetryBudget {
    RetryBudget::new(options(min_retries_per_second, ratio)).unwrap()
}

fn spend(budget: &RetryBudget, now: Timestamp) -> u32 {
    (0..).take_while(|_| budget.try_withdraw(now).is_ok()).map(|_| 1).sum()
}

#[test]
fn r28_the_reserve_of_the_window_may_be_spent_at_once_and_calls_add_to_it() {
    let now = Timestamp(1_000 * SECOND);
    let idle = budget(10, 0.2);
    assert_eq!(idle.stats(now).available, 100);
    assert_eq!(spend(&idle, now), 100);
    let stats = idle.stats(now);
    assert_eq!((stats.withdrawals, stats.denied, stats.available), (100, 1, 0));
    let busy = budget(10, 0.2);
    (0..100).for_each(|_| busy.deposit(now));
    assert_eq!(spend(&busy, now), 120);
    // What was taken out is forgotten with the window.
    assert_eq!(spend(&busy, Timestamp(now.0 + 10 * SECOND)), 100);
}

#[test]
fn r29_ten_calls_earn_a_retry_until_the_window_is_over() {
    let now = Timestamp(0);
    let tenth = budget(0, 0.1);
    (0..9).for_each(|_| tenth.deposit(now));
    assert_eq!(tenth.try_withdraw(now), Err(RetryBudgetExhausted));
    tenth.deposit(now);
    assert_eq!((tenth.try_withdraw(now), tenth.try_withdraw(now)), (Ok(()), Err(RetryBudgetExhausted)));

    let storm = budget(0, 0.1);
    let retries = (0..10_000).filter(|_| {
        storm.deposit(now);
        storm.try_withdraw(now).is_ok()
    });
    assert_eq!(retries.count(), 1_000);
    assert_eq!(storm.stats(now).denied, 9_000);

    let old = budget(0, 0.1);
    (0..100).for_each(|_| old.deposit(now));
    assert_eq!(old.stats(Timestamp(10 * SECOND - 1)).available, 10);
    assert_eq!(old.stats(Timestamp(10 * SECOND)).available, 0);
}

#[test]
fn r29_options_outside_their_range_are_refused_by_name() {
    let with = |ttl_ms, ratio| RetryBudgetOptions { ttl_ms, ratio, ..RetryBudgetOptions::default() };
    let table = [
        (with(999, 0.2), "ttl_ms"),
        (with(60_001, 0.2), "ttl_ms"),
        (with(0, 0.2), "ttl_ms"),
        (with(10_000, -0.1), "ratio"),
        (with(10_000, f64::NAN), "ratio"),
        (with(10_000, 1_000.1), "ratio"),
        (options(1_000_001, 0.2), "min_retries_per_second"),
    ];
    for (options, field) in table {
        let error = RetryBudget::new(options).unwrap_err();
        assert_eq!((error.field, error.code()), (field, "budget.options"));
    }
    assert!(RetryBudget::new(with(1_000, 0.0)).is_ok() && RetryBudget::new(with(60_000, 1_000.0)).is_ok());
    let read = |document| serde_json::from_str::<RetryBudgetOptions>(document).map_err(|e| e.to_string());
    assert_eq!(read("{}"), Ok(RetryBudgetOptions::default()));
    assert!(read(r#"{"min_retries_per_second": -1}"#).is_err_and(|error| error.contains("integer `-1`")));
    assert!(read(r#"{"ration": 0.1}"#).is_err_and(|error| error.contains("ration")));
}

#[test]
fn r30_failures_stop_retries_at_half_and_successes_start_them_again() {
    let throttle = || RetryThrottle::new(RetryThrottleOptions::default()).unwrap();
    let five = throttle();
    (0..4).for_each(|_| five.failed());
    assert_eq!((five.milli_tokens(), five.try_withdraw()), (6_000, Ok(())));
    five.failed();
    assert_eq!((five.milli_tokens(), five.try_withdraw()), (5_000, Err(RetryBudgetExhausted)));
    five.succeeded();
    assert_eq!((five.milli_tokens(), five.try_withdraw()), (5_100, Ok(())));

    let six = throttle();
    (0..6).for_each(|_| six.failed());
    let needed = (1..).find(|_| {
        six.succeeded();
        six.try_withdraw().is_ok()
    });
    assert_eq!((needed, six.milli_tokens()), (Some(11), 5_100));

    (0..100).for_each(|_| six.failed());
    assert_eq!(six.milli_tokens(), 0);
    (0..1_000).for_each(|_| six.succeeded());
    assert_eq!((six.milli_tokens(), six.stats().available), (10_000, 5));
}

#[test]
fn a_throttle_refuses_options_by_name_and_takes_ratios_to_three_places() {
    let with = |max_tokens, token_ratio| RetryThrottle::new(RetryThrottleOptions { max_tokens, token_ratio });
    for (max, ratio, field) in [
        (0, 0.1, "max_tokens"),
        (1_001, 0.1, "max_tokens"),
        (10, 0.0, "token_ratio"),
        (10, f64::NAN, "token_ratio"),
    ] {
        assert_eq!(with(max, ratio).unwrap_err().field, field);
    }
    for (ratio, milli) in [(0.57, 570), (0.29, 290), (0.5578, 557), (0.001, 1)] {
        let throttle = with(10, ratio).unwrap();
        (0..10).for_each(|_| throttle.failed());
        throttle.succeeded();
        assert_eq!(throttle.milli_tokens(), milli, "{ratio}");
    }
}

#[test]
fn a_budget_goes_on_from_its_snapshot() {
    let now = Timestamp(77 * SECOND);
    let before = budget(1, 0.5);
    (0..10).for_each(|_| before.deposit(now));
    assert!(before.try_withdraw(now).is_ok());
    let snapshot: BudgetSnapshot =
        serde_json::from_str(&serde_json::to_string(&before.snapshot()).unwrap()).unwrap();
    let after = RetryBudget::restore(options(1, 0.5), &snapshot).unwrap();
    assert_eq!((before.stats(now).available, after.stats(now).available), (14, 14));
    assert_eq!(after.stats(Timestamp(now.0 + 20 * SECOND)).available, 10);
    let other = RetryBudgetOptions { ttl_ms: 20_000, ..options(1, 0.5) };
    assert_eq!(RetryBudget::restore(other, &snapshot).unwrap().stats(now).available, 20);

    let throttle = RetryThrottle::new(RetryThrottleOptions::default()).unwrap();
    throttle.failed();
    let small = RetryThrottleOptions { max_tokens: 4, ..RetryThrottleOptions::default() };
    let same = RetryThrottle::restore(RetryThrottleOptions::default(), throttle.snapshot()).unwrap();
    assert_eq!(same.milli_tokens(), 9_000);
    assert_eq!(RetryThrottle::restore(small, throttle.snapshot()).unwrap().milli_tokens(), 4_000);
}

#[test]
fn a_clock_that_jumps_neither_earns_nor_freezes_retries() {
    let now = Timestamp(1_000 * SECOND);
    let budget = budget(0, 1.0);
    budget.deposit(now);
    // A little back: what was paid in is still there, and no more than that.
    assert_eq!(budget.stats(Timestamp(now.0 - 5 * SECOND)).available, 1);
    // Far back: a new window, in which time runs on.
    let past = Timestamp(100 * SECOND);
    assert_eq!(budget.stats(past).available, 0);
    budget.deposit(past);
    assert_eq!(budget.stats(past).available, 1);
    assert_eq!(budget.stats(Timestamp(past.0 + 10 * SECOND)).available, 0);
    for edge in [Timestamp(i64::MIN), Timestamp(i64::MAX), Timestamp(-1)] {
        budget.deposit(edge);
        assert_eq!(budget.stats(edge).available, 1);
    }
}

#[test]
fn of_threads_that_spend_at_once_exactly_the_budget_gets_through() {
    let (budget, now) = (budget(10, 0.2), Timestamp(0));
    let spent: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| spend(&budget, now))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((spent, budget.stats(now).denied), (100, 8));
}

fn broken() -> Failure {
    Failure::retryable("network", "connection reset")
}

fn start(policy: RetryPolicy) -> Retrier<Failure> {
    Retrier::new(policy, Timestamp(0)).unwrap()
}

fn given_up(step: RetryStep<Failure>) -> RetryError<Failure> {
    match step {
        RetryStep::GiveUp(error) => error,
        RetryStep::RetryIn(delay) => panic!("retries in {delay:?}"),
    }
}

#[test]
fn a_spent_budget_ends_a_call_with_its_last_failure_and_is_asked_for_retries_alone() {
    let options =
        RetryBudgetOptions { min_retries_per_second: 0, ratio: 1.0, ..RetryBudgetOptions::default() };
    let (budget, now) = (RetryBudget::new(options).unwrap(), Timestamp(0));
    budget.deposit(now);
    let mut retrier = start(RetryPolicy::default());
    let mut next = |failure| {
        retrier.next_if(failure, now, 0.5, |_, _| budget.try_withdraw(now).map_err(GiveUpReason::from))
    };
    assert!(matches!(next(broken()), RetryStep::RetryIn(_)));
    let error = given_up(next(broken()));
    assert_eq!((error.reason, error.attempts, &error.last), (GiveUpReason::BudgetExhausted, 2, &broken()));
    // The call has ended: nobody asks the budget again, the answer stays.
    assert_eq!(given_up(next(broken())).reason, GiveUpReason::BudgetExhausted);
    assert_eq!(budget.stats(now).denied, 1);
    let permanent = Failure::permanent("gone", "-");
    let asked =
        start(RetryPolicy::default()).next_if(permanent, now, 0.5, |_, _| panic!("asked for no retry"));
    assert_eq!(given_up(asked).reason, GiveUpReason::NotRetryable);
}
