//! Scenarios of limiters; R31 and R32 are the scenarios of the generic cell rate algorithm.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::*;
use crate::{
    clock::{Clock, ManualClock},
    error::{Coded, Family},
    health::Status,
    ids::Timestamp,
};

const START: i64 = 1_700_000_000_000_000;
const KEY: LimitKey<'static> = LimitKey::new("agent", "call");

fn ms(ms: i64) -> Timestamp {
    Timestamp(START + ms * 1_000)
}

fn us(us: i64) -> Timestamp {
    Timestamp(START + us)
}

fn limiter(options: LimiterOptions) -> Limiter {
    Limiter::new("test", options).unwrap()
}

fn gcra(period_ms: u64, tolerance_ms: u64) -> Limiter {
    let strategy = LimitStrategy::Gcra { period_us: period_ms * 1_000, tolerance_us: tolerance_ms * 1_000 };
    limiter(LimiterOptions::new(strategy))
}

/// 0 for allowed, else milliseconds until it would be.
fn waits(limiter: &Limiter, arrivals_ms: &[i64]) -> Vec<u128> {
    let wait = |at: &i64| match limiter.acquire(KEY, 1, ms(*at)) {
        Ok(()) => 0,
        Err(denied) => denied.retry_after.unwrap().as_millis(),
    };
    arrivals_ms.iter().map(wait).collect()
}

fn allowed(limiter: &Limiter, key: LimitKey<'_>, calls: usize, now: Timestamp) -> usize {
    (0..calls).filter(|_| limiter.acquire(key, 1, now).is_ok()).count()
}

#[test]
fn r31_gcra_gives_a_burst_of_four_and_refusals_move_nothing() {
    let arrivals = [0, 0, 0, 0, 0, 50, 100, 150, 200, 1_000, 1_000, 1_000, 1_000, 1_000];
    let expected = [0, 0, 0, 0, 100, 50, 0, 50, 0, 0, 0, 0, 0, 100];
    assert_eq!(waits(&gcra(100, 300), &arrivals), expected);
    let bucket = limiter(LimiterOptions::per_second(4, 10));
    assert_eq!(waits(&bucket, &arrivals), expected, "a token bucket is the same");
}

#[test]
fn r32_gcra_without_tolerance_never_gives_two_at_once() {
    let arrivals = [0, 50, 99, 100, 150, 200, 350];
    assert_eq!(waits(&gcra(100, 0), &arrivals), [0, 50, 1, 0, 50, 0, 0]);
}

#[test]
fn of_two_hundred_threads_at_once_exactly_the_limit_is_allowed() {
    for options in [LimiterOptions::sliding(100, 1_000), LimiterOptions::per_second(100, 100)] {
        let (limiter, start) = (Arc::new(limiter(options)), Arc::new(Barrier::new(200)));
        let caller = |_| {
            let (limiter, start) = (Arc::clone(&limiter), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                limiter.acquire(KEY, 1, ms(0)).is_ok()
            })
        };
        let callers: Vec<_> = (0..200).map(caller).collect();
        let allowed = callers.into_iter().map(|caller| caller.join().unwrap()).filter(|ok| *ok);
        assert_eq!(allowed.count(), 100);
        let status = limiter.status(KEY, ms(0));
        assert_eq!((status.allowed_total, status.denied_total, status.remaining), (100, 100, 0));
    }
}

#[test]
fn while_pressure_comes_and_goes_threads_never_get_more_than_the_limit() {
    for options in [LimiterOptions::sliding(1_000, 1_000), LimiterOptions::per_second(1_000, 1)] {
        let (limiter, got) = (Arc::new(limiter(options)), Arc::new(AtomicU64::new(0)));
        let caller = |_| {
            let (limiter, got) = (Arc::clone(&limiter), Arc::clone(&got));
            thread::spawn(move || {
                let ok = allowed(&limiter, KEY, 1_000, ms(0));
                got.fetch_add(ok as u64, Ordering::SeqCst);
            })
        };
        let callers: Vec<_> = (0..4).map(caller).collect();
        for pressure in [Pressure::Degraded, Pressure::Normal].into_iter().cycle().take(200) {
            limiter.set_pressure(pressure, ms(0));
        }
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert!(got.load(Ordering::SeqCst) <= 1_000);
        limiter.set_pressure(Pressure::Normal, ms(0));
        assert_eq!(limiter.status(KEY, ms(0)).allowed_total, got.load(Ordering::SeqCst));
    }
}

#[test]
fn a_token_bucket_is_within_one_token_after_an_hour() {
    for (burst, rate, per_ms) in
        [(2, 7, 1_000), (10, 3, 1_000), (5, 97, 60_000), (50, 333, 1_000), (3, 1, 7_000)]
    {
        let limiter = limiter(LimiterOptions::new(LimitStrategy::TokenBucket { burst, rate, per_ms }));
        let (mut got, mut at_us, mut step) = (0_u64, 0, 0);
        // Asked more often than tokens come, at uneven times.
        while at_us <= 3_600_000_000 {
            while limiter.acquire(KEY, 1, us(at_us)).is_ok() {
                got += 1;
            }
            step = (step + 617) % 1_000;
            at_us = if at_us == 3_600_000_000 { i64::MAX } else { (at_us + 1_100 + step).min(3_600_000_000) };
        }
        let expected = f64::from(burst) + f64::from(rate) * 3_600_000.0 / per_ms as f64;
        assert!((got as f64 - expected).abs() <= 1.0, "{got} of {expected} for {rate} in {per_ms} ms");
    }
}

#[test]
fn ten_thousand_keys_have_limits_of_their_own() {
    let limiter = limiter(LimiterOptions::per_second(2, 1));
    let names: Vec<String> = (0..100).map(|number| format!("agent-{number}")).collect();
    for (agent, operation) in names.iter().flat_map(|agent| names.iter().map(move |other| (agent, other))) {
        assert_eq!(allowed(&limiter, LimitKey::new(agent, operation), 3, ms(0)), 2);
    }
    let stats = limiter.stats();
    assert_eq!((stats.keys, stats.allowed_total, stats.denied_total), (10_000, 20_000, 10_000));
    assert_eq!(limiter.status(LimitKey::new("agent-3", "agent-4"), ms(0)).remaining, 0);
}

#[test]
fn what_costs_more_takes_more_and_what_costs_too_much_never_runs() {
    for options in [LimiterOptions::sliding(10, 1_000), LimiterOptions::per_second(10, 10)] {
        let limiter = limiter(options);
        limiter.acquire(KEY, 7, ms(0)).unwrap();
        limiter.acquire(KEY, 0, ms(0)).unwrap();
        let denied = limiter.acquire(KEY, 4, ms(0)).unwrap_err();
        assert_eq!((denied.remaining, denied.reason), (3, DenyReason::Limit));
        let denied = limiter.acquire(KEY, 11, ms(0)).unwrap_err();
        assert_eq!((denied.retry_after, denied.reason), (None, DenyReason::Cost));
        assert_eq!((denied.code(), denied.family()), ("limiter.cost", Family::Rejected));
        limiter.acquire(KEY, 3, ms(0)).unwrap();
    }
}

#[test]
fn a_refusal_says_who_why_and_when() {
    let limiter = limiter(LimiterOptions::per_second(1, 2));
    limiter.acquire(KEY, 1, ms(0)).unwrap();
    let denied = limiter.acquire(KEY, 1, ms(100)).unwrap_err();
    assert_eq!(denied.to_string(), r#"limiter "test" refuses: the limit is used up, retry in 400 ms"#);
    assert_eq!((denied.code(), denied.family()), ("limiter.limit", Family::Unavailable));
}

#[test]
fn under_pressure_seven_tenths_are_admitted() {
    let window = limiter(LimiterOptions::sliding(100, 1_000));
    window.set_pressure(Pressure::Degraded, ms(0));
    assert_eq!(window.status(KEY, ms(0)).limit, 70);
    assert_eq!(allowed(&window, KEY, 200, ms(0)), 70);
    window.set_pressure(Pressure::Normal, ms(1));
    assert_eq!(allowed(&window, KEY, 200, ms(1)), 30);

    let bucket = limiter(LimiterOptions::per_second(2, 100));
    bucket.set_pressure(Pressure::Degraded, ms(0));
    let got = (0..10_000).filter(|at| bucket.acquire(KEY, 1, ms(*at)).is_ok()).count();
    assert!((700..=702).contains(&got), "{got} in ten seconds");
}

#[test]
fn under_pressure_a_factor_of_zero_admits_nothing_and_takes_nothing() {
    let options = LimiterOptions { pressure_factor: 0.0, ..LimiterOptions::per_second(5, 1) };
    let limiter = limiter(options);
    limiter.acquire(KEY, 2, ms(0)).unwrap();
    limiter.set_pressure(Pressure::Degraded, ms(0));
    let denied = limiter.acquire(KEY, 1, ms(0)).unwrap_err();
    assert_eq!((denied.reason, denied.retry_after), (DenyReason::Pressure, None));
    assert_eq!(limiter.status(KEY, ms(0)).remaining, 0);
    limiter.set_pressure(Pressure::Normal, ms(0));
    assert_eq!(limiter.status(KEY, ms(0)).remaining, 3);
}

#[test]
fn under_pressure_a_small_window_admits_one() {
    let limiter = limiter(LimiterOptions::sliding(1, 1_000));
    limiter.set_pressure(Pressure::Degraded, ms(0));
    assert_eq!(allowed(&limiter, KEY, 3, ms(0)), 1);
}

#[test]
fn other_options_hold_from_the_next_check_on_and_keep_what_is_used() {
    let token = |burst| LimiterOptions::per_second(burst, 1);
    let cases = [
        (token(10), token(20), 13),
        (token(10), token(8), 1),
        (token(10), token(5), 0),
        (token(10), LimiterOptions::sliding(10, 1_000), 3),
        (token(10), LimiterOptions::sliding(6, 1_000), 0),
        (LimiterOptions::sliding(10, 1_000), LimiterOptions::sliding(12, 2_000), 5),
        (LimiterOptions::sliding(10, 1_000), LimiterOptions::sliding(4, 1_000), 0),
        (LimiterOptions::sliding(10, 1_000), token(9), 2),
        (LimiterOptions::sliding(10, 1_000), token(3), 0),
        (token(10), LimiterOptions::new(LimitStrategy::Gcra { period_us: 50, tolerance_us: 450 }), 3),
    ];
    for (before, after, left) in cases {
        let limiter = limiter(before.clone());
        limiter.acquire(KEY, 7, ms(0)).unwrap();
        limiter.reconfigure(after.clone(), ms(0)).unwrap();
        assert_eq!(limiter.status(KEY, ms(0)).remaining, left, "{before:?} to {after:?}");
        assert_eq!(allowed(&limiter, KEY, 30, ms(0)), usize::try_from(left).unwrap());
        assert_eq!(limiter.options(), after);
    }
}

#[test]
fn options_that_are_wrong_change_nothing() {
    let limiter = limiter(LimiterOptions::per_second(3, 1));
    let error = limiter.reconfigure(LimiterOptions::per_second(0, 1), ms(0)).unwrap_err();
    assert_eq!(error.to_string(), "limiter option strategy.token_bucket.burst is 0: use 1 or more");
    assert_eq!((allowed(&limiter, KEY, 9, ms(0)), error.code()), (3, "limiter.options"));
}

#[test]
fn a_clock_that_steps_back_admits_nothing_more() {
    for options in [LimiterOptions::sliding(3, 1_000), LimiterOptions::per_second(3, 3)] {
        let limiter = limiter(options);
        let got: usize = [0, -400, -900, 0, -200].map(|at| allowed(&limiter, KEY, 5, ms(at))).iter().sum();
        assert_eq!(got, 3);
    }
}

#[test]
fn after_a_clock_that_jumped_back_a_key_is_used_up_and_comes_back_in_time() {
    for options in [LimiterOptions::sliding(3, 1_000), LimiterOptions::per_second(3, 3)] {
        let limiter = limiter(options);
        assert_eq!(allowed(&limiter, KEY, 5, ms(0)), 3);
        let hour = -3_600_000;
        assert_eq!(allowed(&limiter, KEY, 5, ms(hour)), 0);
        let denied = limiter.acquire(KEY, 1, ms(hour)).unwrap_err();
        assert!(denied.retry_after.unwrap() <= Duration::from_secs(1), "{denied}");
        assert_eq!(limiter.status(KEY, ms(hour)).reset_at, ms(hour + 1_000));
        assert_eq!(allowed(&limiter, KEY, 5, ms(hour + 1_000)), 3);
    }
}

fn few_keys(on_error: OnError) -> Limiter {
    limiter(LimiterOptions { max_keys: 2, on_error, ..LimiterOptions::per_second(2, 1) })
}

#[test]
fn keys_that_have_their_whole_limit_again_make_room() {
    let limiter = few_keys(OnError::FailClosed);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|agent| LimitKey::new(agent, ""));
    assert_eq!((allowed(&limiter, a, 1, ms(0)), allowed(&limiter, b, 2, ms(0))), (1, 2));
    let denied = limiter.acquire(c, 1, ms(0)).unwrap_err();
    assert_eq!((denied.reason, denied.code()), (DenyReason::Uncounted, "limiter.uncounted"));
    assert_eq!(allowed(&limiter, c, 3, ms(1_000)), 2, "a has its limit again");
    assert!(limiter.acquire(d, 1, ms(1_500)).is_err());
    assert_eq!(limiter.status(b, ms(1_500)).allowed_total, 2, "b is known");
    let stats = limiter.stats();
    assert_eq!(
        (stats.keys, stats.allowed_total, stats.denied_total),
        (2, 5, 3),
        "nothing is forgotten in sums"
    );
}

#[test]
fn a_key_without_a_place_is_refused_or_runs_uncounted_as_is_set() {
    for (on_error, runs) in [(OnError::FailClosed, 0), (OnError::FailOpen, 9)] {
        let limiter = few_keys(on_error);
        for agent in ["a", "b"] {
            assert_eq!(allowed(&limiter, LimitKey::new(agent, ""), 3, ms(0)), 2);
        }
        assert_eq!(allowed(&limiter, LimitKey::new("c", ""), 9, ms(0)), runs);
        assert_eq!(limiter.stats().unchecked_total, runs as u64);
        assert!(limiter.acquire(LimitKey::new("a", ""), 1, ms(0)).is_err(), "a known key is counted");
        let long = "x".repeat(LIMIT_KEY_MAX_BYTES + 1);
        assert_eq!(
            limiter.acquire(LimitKey::new(&long, ""), 1, ms(0)).is_ok(),
            on_error == OnError::FailOpen
        );
    }
}

#[test]
fn threads_that_look_for_a_place_at_once_all_find_the_one_there_is() {
    let options = LimiterOptions { max_keys: 64, ..LimiterOptions::per_second(1, 1) };
    let (limiter, start) = (Arc::new(limiter(options)), Arc::new(Barrier::new(4)));
    for round in 0..20 {
        let caller = |thread: usize| {
            let (limiter, start) = (Arc::clone(&limiter), Arc::clone(&start));
            thread::spawn(move || {
                let names: Vec<String> = (0..16).map(|number| format!("{round} {thread} {number}")).collect();
                start.wait();
                let ok = |name: &String| allowed(&limiter, LimitKey::new(name, ""), 2, ms(round * 10_000));
                names.iter().map(ok).sum::<usize>()
            })
        };
        let callers: Vec<_> = (0..4).map(caller).collect();
        let got: usize = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
        assert_eq!((got, limiter.stats().keys), (64, 64), "round {round}");
    }
}

#[test]
fn a_place_is_found_after_the_clock_went_back() {
    let limiter = few_keys(OnError::FailClosed);
    for agent in ["a", "b", "c"] {
        let _ = limiter.acquire(LimitKey::new(agent, ""), 1, ms(0));
    }
    let long_ago = ms(-86_400_000);
    // The first search finds keys of the future; they come back in the time they take to fill.
    assert!(limiter.acquire(LimitKey::new("c", ""), 1, long_ago).is_err());
    assert!(limiter.acquire(LimitKey::new("a", ""), 1, long_ago).is_err());
    assert!(limiter.acquire(LimitKey::new("c", ""), 1, ms(-86_390_000)).is_ok());
}

fn there_and_back(snapshot: &LimiterSnapshot) -> LimiterSnapshot {
    let bytes = rmp_serde::to_vec_named(snapshot).unwrap();
    let text = serde_json::to_string(&rmp_serde::from_slice::<LimiterSnapshot>(&bytes).unwrap()).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn what_is_used_outlives_the_process() {
    for options in [LimiterOptions::sliding(10, 60_000), LimiterOptions::per_second(10, 1)] {
        let before = limiter(options.clone());
        let full = LimitKey::new("full", "again");
        before.acquire(KEY, 7, ms(0)).unwrap();
        before.acquire(KEY, 7, ms(1)).unwrap_err();
        before.acquire(full, 0, ms(0)).unwrap();
        let snapshot = before.snapshot(ms(2));
        assert_eq!(snapshot.keys(), 1, "a key that is full is not kept");
        let after = Limiter::restore("test", options, &there_and_back(&snapshot), ms(2)).unwrap();
        assert_eq!(after.status(KEY, ms(2)), before.status(KEY, ms(2)));
        let fewer = LimiterOptions::sliding(8, 60_000);
        let after = Limiter::restore("test", fewer, &snapshot, ms(2)).unwrap();
        assert_eq!(after.status(KEY, ms(2)).remaining, 1, "under other options it stays used");
    }
}

#[test]
fn state_that_cannot_be_read_is_used_up_or_whole_as_is_set() {
    for (on_error, given) in [(OnError::FailClosed, 0), (OnError::FailOpen, 4)] {
        for options in [LimiterOptions::sliding(4, 1_000), LimiterOptions::per_second(4, 4)] {
            let options = LimiterOptions { on_error, ..options };
            let limiter = Limiter::restore_unreadable("test", options.clone(), ms(0)).unwrap();
            assert_eq!(limiter.status(KEY, ms(0)).remaining, given);
            assert_eq!(allowed(&limiter, KEY, 9, ms(0)), usize::try_from(given).unwrap());
            let kept = there_and_back(&limiter.snapshot(ms(0)));
            let again = Limiter::restore("test", options, &kept, ms(0)).unwrap();
            let other = LimitKey::new("other", "");
            assert_eq!(again.status(other, ms(0)).remaining, given, "the next life knows it too");
            assert_eq!(allowed(&limiter, KEY, 9, ms(1_000)), 4);
            assert_eq!(allowed(&limiter, other, 9, ms(1_000)), 4);
        }
    }
}

#[test]
fn a_snapshot_that_does_not_agree_with_itself_cannot_be_read() {
    let before = limiter(LimiterOptions::sliding(4, 1_000));
    before.acquire(KEY, 1, ms(0)).unwrap();
    let text = serde_json::to_string(&before.snapshot(ms(0))).unwrap();
    let other = r#"{"token_bucket":{"burst":4,"rate":4,"per_ms":1000}}"#;
    for forged in [
        text.replace(r#"{"sliding_window":{"limit":4,"window_ms":1000}}"#, other),
        text.replace(r#""limit":4"#, r#""limit":0"#),
    ] {
        assert_ne!(forged, text);
        let forged: LimiterSnapshot = serde_json::from_str(&forged).unwrap();
        let after = Limiter::restore("test", before.options(), &forged, ms(0)).unwrap();
        assert_eq!(after.status(KEY, ms(0)).remaining, 0);
    }
    assert!(serde_json::from_str::<LimiterSnapshot>(&text.replace("keys", "kees")).is_err());
}

fn token(burst: u32, rate: u32, per_ms: u64) -> LimiterOptions {
    LimiterOptions::new(LimitStrategy::TokenBucket { burst, rate, per_ms })
}

#[test]
fn what_is_outside_its_range_is_refused_by_name() {
    let good = || LimiterOptions::per_second(1, 1);
    let alert = |ratio, window_ms, min_calls| LimiterOptions {
        alert: Some(DenyAlertOptions { ratio, window_ms, min_calls }),
        ..good()
    };
    let cases = [
        (token(0, 1, 1), "strategy.token_bucket.burst"),
        (token(1, 0, 1), "strategy.token_bucket.rate"),
        (token(1, 1, 0), "strategy.token_bucket.per_ms"),
        (token(1, 1_001, 1), "strategy.token_bucket.rate"),
        (token(u32::MAX, 1, 1_000_000), "strategy.token_bucket.burst"),
        (
            LimiterOptions::new(LimitStrategy::Gcra { period_us: 0, tolerance_us: 0 }),
            "strategy.gcra.period_us",
        ),
        (
            LimiterOptions::new(LimitStrategy::Gcra { period_us: 1, tolerance_us: u64::MAX }),
            "strategy.gcra.tolerance_us",
        ),
        (LimiterOptions::sliding(0, 1_000), "strategy.sliding_window.limit"),
        (LimiterOptions::sliding(SLIDING_LIMIT_MAX + 1, 1_000), "strategy.sliding_window.limit"),
        (LimiterOptions::sliding(1, 0), "strategy.sliding_window.window_ms"),
        (LimiterOptions { max_keys: 1_001, ..LimiterOptions::sliding(100_000, 1) }, "max_keys"),
        (LimiterOptions { pressure_factor: f64::NAN, ..good() }, "pressure_factor"),
        (LimiterOptions { pressure_factor: 1.01, ..good() }, "pressure_factor"),
        (LimiterOptions { pressure_factor: -0.1, ..good() }, "pressure_factor"),
        (LimiterOptions { max_keys: 0, ..good() }, "max_keys"),
        (LimiterOptions { max_waiting: usize::MAX, ..good() }, "max_waiting"),
        (alert(f64::NAN, 1_000, 1), "alert.ratio"),
        (alert(1.0, 1_000, 1), "alert.ratio"),
        (alert(0.5, 0, 1), "alert.window_ms"),
        (alert(0.5, 1_000, 0), "alert.min_calls"),
    ];
    for (options, field) in cases {
        let error = Limiter::new("test", options.clone()).unwrap_err();
        assert_eq!(error.field, field, "{options:?}");
        assert!(!error.hint.is_empty() && !error.given.is_empty());
    }
    for extreme in [token(1, 1, LIMIT_REFILL_MAX_MS), token(u32::MAX, u32::MAX, 4_294_968)] {
        assert_eq!(allowed(&limiter(extreme), KEY, 1, ms(0)), 1);
    }
}

#[test]
fn a_document_with_what_is_not_known_is_refused() {
    let read = |text: &str| serde_json::from_str::<LimiterOptions>(text).map_err(|error| error.to_string());
    assert_eq!(
        read(r#"{"strategy": {"sliding_window": {"limit": 5, "window_ms": 10}}}"#),
        Ok(LimiterOptions::sliding(5, 10))
    );
    for (text, why) in [
        (r#"{"strategy": {"leaky_bucket": {"limit": 5}}}"#, "unknown variant `leaky_bucket`"),
        (
            r#"{"strategy": {"gcra": {"period_us": 5, "tolerance_us": 1, "burst": 2}}}"#,
            "unknown field `burst`",
        ),
        (r#"{"strategy": {"gcra": {"period_us": -5, "tolerance_us": 1}}}"#, "invalid value: integer `-5`"),
        (
            r#"{"strategy": {"gcra": {"period_us": 5, "tolerance_us": 1}}, "onerror": 1}"#,
            "unknown field `onerror`",
        ),
        (r#"{"pressure_factor": 0.5}"#, "missing field `strategy`"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_limiter_that_nobody_set_never_allows() {
    let limiters = Limiters::new();
    let error = limiters.acquire("serach", KEY, 1, ms(0)).unwrap_err();
    assert_eq!(error.to_string(), r#"no limiter is named "serach": set it first"#);
    assert_eq!((error.code(), error.family()), ("limiter.not_found", Family::Rejected));
    limiters.set("search", LimiterOptions::per_second(1, 1), ms(0)).unwrap();
    limiters.acquire("search", KEY, 1, ms(0)).unwrap();
    assert_eq!(limiters.acquire("search", KEY, 1, ms(0)).unwrap_err().code(), "limiter.limit");
}

#[test]
fn to_set_a_limiter_again_keeps_what_is_used() {
    let limiters = Limiters::new();
    let first = limiters.set("search", LimiterOptions::per_second(5, 1), ms(0)).unwrap();
    assert_eq!(allowed(&first, KEY, 3, ms(0)), 3);
    let second = limiters.set("search", LimiterOptions::per_second(6, 1), ms(0)).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(allowed(&limiters.get("search").unwrap(), KEY, 9, ms(0)), 3);
    let [(listed, stats)] = limiters.list().try_into().unwrap();
    assert_eq!((&**listed.name(), stats.allowed_total, stats.denied_total, stats.keys), ("search", 6, 6, 1));
}

#[test]
fn pressure_holds_for_limiters_that_come_later_too() {
    let limiters = Limiters::new();
    limiters.set_pressure(Pressure::Degraded, ms(0));
    let set = limiters.set("set", LimiterOptions::sliding(10, 1_000), ms(0)).unwrap();
    let put = limiters.insert(limiter(LimiterOptions::sliding(10, 1_000)), ms(0)).unwrap();
    assert_eq!((allowed(&set, KEY, 20, ms(0)), allowed(&put, KEY, 20, ms(0))), (7, 7));
    limiters.set_pressure(Pressure::Normal, ms(0));
    assert_eq!(set.stats().pressure, Pressure::Normal);
    assert_eq!(allowed(&set, KEY, 20, ms(0)), 3);
}

#[test]
fn a_service_that_is_degraded_or_down_is_under_pressure() {
    let pressure = [Status::Up, Status::Draining, Status::Degraded, Status::Down].map(Pressure::from);
    assert_eq!(pressure, [Pressure::Normal, Pressure::Normal, Pressure::Degraded, Pressure::Degraded]);
}

#[test]
fn a_name_that_is_none_and_too_many_limiters_are_refused() {
    let limiters = Limiters::new();
    let set = |name: &str| limiters.set(name, LimiterOptions::per_second(1, 1), ms(0)).map(drop);
    assert_eq!(set("").unwrap_err().code(), "limiter.name");
    assert_eq!(set(&"x".repeat(65)).unwrap_err().code(), "limiter.name");
    (0..LIMITERS_MAX).for_each(|number| set(&number.to_string()).unwrap());
    assert_eq!(set("one more").unwrap_err(), LimitersError::Full);
    set("7").unwrap();
    let more = Limiter::new("another", LimiterOptions::per_second(1, 1)).unwrap();
    assert_eq!(limiters.insert(more, ms(0)).unwrap_err(), LimitersError::Full);
}

#[test]
fn a_document_of_limiters_names_the_place_of_its_fault() {
    let read = |text: &str| serde_json::from_str::<LimiterSettings>(text).map_err(|error| error.to_string());
    let gcra =
        |period: i32| format!(r#"{{"strategy": {{"gcra": {{"period_us": {period}, "tolerance_us": 0}}}}}}"#);
    let good = format!("{{\n\"a\": {},\n\"b\": {}\n}}", gcra(1), gcra(2));
    let settings = read(&good).unwrap();
    assert_eq!(settings.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(read(&serde_json::to_string(&settings).unwrap()), Ok(settings));
    let error = read(&good.replace(&gcra(2), &gcra(0))).unwrap_err();
    assert!(error.contains(r#"limiter "b": limiter option strategy.gcra.period_us is 0"#), "{error}");
    assert!(error.contains("line 3"), "{error}");
    let error = read(&good.replace("\"b\"", "\"a\"")).unwrap_err();
    assert!(error.contains(r#"two limiters are named "a""#), "{error}");
}

/// The runtime's paused time as wall time.
#[derive(Debug)]
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        ms(0).after(self.0.elapsed())
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_wait_is_allowed_when_the_limit_is_there() {
    let (limiter, clock) = (limiter(LimiterOptions::per_second(1, 10)), Paused(tokio::time::Instant::now()));
    for expected in [0, 100, 200] {
        limiter.until_allowed(KEY, 1, &clock, ms(1_000)).await.unwrap();
        assert_eq!(clock.now(), ms(expected));
    }
    assert_eq!(limiter.stats().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn who_would_be_allowed_after_the_deadline_is_refused_at_once() {
    let (limiter, clock) = (limiter(LimiterOptions::per_second(1, 10)), Paused(tokio::time::Instant::now()));
    limiter.until_allowed(KEY, 1, &clock, ms(0)).await.unwrap();
    let denied = limiter.until_allowed(KEY, 1, &clock, ms(99)).await.unwrap_err();
    assert_eq!((denied.reason, denied.retry_after), (DenyReason::Limit, Some(Duration::from_millis(100))));
    assert_eq!(clock.now(), ms(0));
    assert_eq!(limiter.until_allowed(KEY, 2, &clock, ms(99)).await.unwrap_err().reason, DenyReason::Cost);
}

#[tokio::test(start_paused = true)]
async fn waiters_share_what_comes_and_the_last_ones_run_out_of_time() {
    let (limiter, clock) = (limiter(LimiterOptions::per_second(1, 10)), Paused(tokio::time::Instant::now()));
    let waiting = (0..8).map(|_| limiter.until_allowed(KEY, 1, &clock, ms(400)));
    let ended = futures_util::future::join_all(waiting).await;
    assert_eq!(ended.iter().filter(|end| end.is_ok()).count(), 5);
    assert_eq!((clock.now(), limiter.stats().waiting), (ms(400), 0));
}

#[tokio::test(start_paused = true)]
async fn more_waiters_than_may_are_refused_and_a_dropped_one_gives_its_place_back() {
    let options = LimiterOptions { max_waiting: 1, ..LimiterOptions::per_second(1, 10) };
    let (limiter, clock) = (limiter(options), Paused(tokio::time::Instant::now()));
    limiter.acquire(KEY, 1, clock.now()).unwrap();
    let mut waiter = Box::pin(limiter.until_allowed(KEY, 1, &clock, ms(1_000)));
    assert!(futures_util::poll!(&mut waiter).is_pending());
    assert_eq!(limiter.stats().waiting, 1);
    let denied = limiter.until_allowed(KEY, 1, &clock, ms(1_000)).await.unwrap_err();
    assert_eq!((denied.reason, denied.code()), (DenyReason::Waiting, "limiter.waiting"));
    drop(waiter);
    assert_eq!(limiter.stats().waiting, 0);
    limiter.until_allowed(KEY, 1, &clock, ms(1_000)).await.unwrap();
}

#[test]
fn a_manual_clock_is_as_good_as_any() {
    let (limiter, clock) = (limiter(LimiterOptions::sliding(1, 10)), ManualClock::at(ms(0)));
    assert!(limiter.acquire(KEY, 1, clock.now()).is_ok());
    clock.advance(Duration::from_micros(9_999));
    assert!(limiter.acquire(KEY, 1, clock.now()).is_err());
    clock.advance(Duration::from_micros(1));
    assert!(limiter.acquire(KEY, 1, clock.now()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_stands_still_makes_nobody_wait_beyond_the_deadline() {
    let (limiter, clock) = (limiter(LimiterOptions::per_second(1, 10)), ManualClock::at(ms(0)));
    limiter.acquire(KEY, 1, ms(0)).unwrap();
    let begun = tokio::time::Instant::now();
    let denied = limiter.until_allowed(KEY, 1, &clock, ms(350)).await.unwrap_err();
    assert_eq!((denied.reason, begun.elapsed()), (DenyReason::Limit, Duration::from_millis(300)));
}
