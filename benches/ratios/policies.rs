//! Policies against a bare call: what each check costs, on one thread and on two; all of them together against tower's
//! layers and governor. Nanoseconds a call, the median of rounds in turns.

use std::{hint::black_box, num::NonZeroU32, sync::Arc, time::Instant};

use governor::{Quota, RateLimiter};
use stanchion::{
    Failure,
    clock::{Clock, SystemClock},
    resilience::{
        breaker::{Breaker, BreakerOptions, Outcome},
        bulkhead::{Bulkhead, BulkheadOptions},
        limiter::{LimitKey, Limiter, LimiterOptions},
        protected::{Protected, ProtectedCtx},
    },
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::Lab;

const ROUNDS: usize = 9;
const CALLS: u64 = 50_000;
/// What no row may cost on one thread, in nanoseconds.
const CHECK_NS: f64 = 1_000.0;
const EVERYTHING: &str = r#"{
    "timeout": {"total_ms": 60000, "attempt_ms": 60000}, "retry": {}, "budget": {}, "breaker": {},
    "limiter": {"strategy": {"token_bucket": {"burst": 1000000, "rate": 1000000, "per_ms": 1000}}},
    "bulkhead": {"max_concurrent": 1000}
}"#;

fn wide_limit() -> LimiterOptions {
    LimiterOptions::per_second(1_000_000, 1_000_000)
}

/// Nanoseconds of `check` on one thread, and on each of two that share what it checks.
fn both(check: impl Fn() + Sync) -> (f64, f64) {
    let one = || {
        let began = Instant::now();
        for _ in 0..CALLS {
            check();
        }
        began.elapsed().as_nanos() as f64 / CALLS as f64
    };
    let alone = median((0..ROUNDS).map(|_| one()).collect());
    let two = || {
        std::thread::scope(|scope| {
            let other = scope.spawn(one);
            (one() + other.join().expect("no panic")) / 2.0
        })
    };
    (alone, median((0..ROUNDS).map(|_| two()).collect()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn check(lab: &Lab, name: &str, bare: f64, check: impl Fn() + Sync) {
    if !lab.wants(name) {
        return;
    }
    let (one, two) = both(check);
    let calls_per_s = |ns: f64, threads: f64| threads * 1e9 / ns;
    let scaling = calls_per_s(two, 2.0) / calls_per_s(one, 1.0);
    let raw = [("bare_ns", bare), ("two_threads_ns", two), ("scaling", scaling)];
    lab.report.at_most(name, one, CHECK_NS, &raw);
}

fn checks(lab: &Lab) {
    let clock = SystemClock;
    let (bare, _) = both(|| {
        black_box(black_box(1) + 1);
    });
    let breaker = Breaker::new("bench", BreakerOptions::default()).expect("valid");
    check(lab, "policy_breaker_ns", bare, || {
        let permit = breaker.acquire(clock.now()).expect("closed");
        black_box(black_box(1) + 1);
        permit.finish(Outcome::Success, clock.now());
    });
    let limiter = Limiter::new("bench", wide_limit()).expect("valid");
    check(lab, "policy_limiter_ns", bare, || {
        let _ = black_box(limiter.acquire(LimitKey::new("agent", "operation"), 1, clock.now()));
    });
    let bulkhead = Bulkhead::new("bench", BulkheadOptions::default()).expect("valid");
    check(lab, "policy_bulkhead_ns", bare, || {
        let place = bulkhead.try_acquire(1);
        black_box(black_box(1) + 1);
        drop(black_box(place));
    });
    let quota = Quota::per_second(NonZeroU32::new(1_000_000).expect("not 0"));
    let governor = RateLimiter::direct(quota);
    let keyed = RateLimiter::keyed(quota);
    if lab.wants("policy_governor_ns") {
        let (one, two) = both(|| {
            let _ = black_box(governor.check());
        });
        let (keyed_one, keyed_two) = both(|| {
            let _ = black_box(keyed.check_key(&"agent"));
        });
        let raw = [
            ("ns", one),
            ("two_threads_ns", two),
            ("keyed_ns", keyed_one),
            ("keyed_two_threads_ns", keyed_two),
        ];
        lab.report.figure("policy_governor_ns", &raw);
    }
}

async fn work(number: u64) -> Result<u64, Failure> {
    Ok(black_box(number) + 1)
}

/// Nanoseconds of each of [`CALLS`] calls.
async fn timed<F: Future>(mut call: impl FnMut(u64) -> F) -> f64 {
    let began = Instant::now();
    for number in 0..CALLS {
        black_box(call(number).await);
    }
    began.elapsed().as_nanos() as f64 / CALLS as f64
}

async fn bare() -> f64 {
    timed(work).await
}

async fn protected(protected: &Protected) -> f64 {
    let ctx = ProtectedCtx::new("agent", "operation");
    timed(|number| protected.call(&ctx, move |_| work(number))).await
}

/// tower's own: a limit of time, of the rate (by a buffer-less layer) and of concurrency.
async fn towers() -> f64 {
    let second = std::time::Duration::from_secs(1);
    let mut service = ServiceBuilder::new()
        .timeout(60 * second)
        .rate_limit(1_000_000_000, second)
        .concurrency_limit(1_000)
        .service(service_fn(work));
    let began = Instant::now();
    for number in 0..CALLS {
        let _ = black_box(service.ready().await.expect("ready").call(number).await);
    }
    began.elapsed().as_nanos() as f64 / CALLS as f64
}

async fn pipelines(lab: &Lab) {
    if !lab.wants("protected_call_ns") {
        return;
    }
    let service = |options: &str| {
        let options = serde_json::from_str(options).expect("options");
        Protected::new("bench", options, Arc::new(SystemClock)).expect("valid")
    };
    let (all, none) = (service(EVERYTHING), service("{}"));
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let round = [bare().await, protected(&all).await, protected(&none).await, towers().await];
        for (values, value) in rounds.iter_mut().zip(round) {
            values.push(value);
        }
    }
    let [bare, all_ns, none_ns, tower_ns] = rounds.map(median);
    let stats = all.stats();
    let refused = stats.failed as f64 / stats.calls as f64;
    let raw = [
        ("bare_ns", bare),
        ("no_layer_ns", none_ns),
        ("tower_three_layers_ns", tower_ns),
        ("refused", refused),
    ];
    lab.report.figure("protected_call_ns", &[&[("ns", all_ns)], raw.as_slice()].concat());
}

/// All rows.
pub async fn run(lab: &Lab) {
    tokio::task::block_in_place(|| checks(lab));
    pipelines(lab).await;
}
