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

/// Nanoseconds of a call: of `check` on one thread, on each of two threads that share what it checks, and on each of
/// two that have one of their own.
struct Times {
    one: f64,
    shared: f64,
    apart: f64,
}

impl Times {
    fn of<C: Fn() + Sync>(make: impl Fn() -> C) -> Self {
        let (first, second) = (make(), make());
        let one = |check: &C| {
            let began = Instant::now();
            for _ in 0..CALLS {
                check();
            }
            began.elapsed().as_nanos() as f64 / CALLS as f64
        };
        let two = |other: &C| {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| one(other));
                (one(&first) + other.join().expect("no panic")) / 2.0
            })
        };
        let mut rounds: [Vec<f64>; 3] = Default::default();
        for _ in 0..ROUNDS {
            let round = [one(&first), two(&first), two(&second)];
            rounds.iter_mut().zip(round).for_each(|(values, value)| values.push(value));
        }
        let [one, shared, apart] = rounds.map(median);
        Self { one, shared, apart }
    }

    /// Calls that two threads do against one: with a policy for both, and with one each, which is what the machine
    /// gives.
    fn raw(&self) -> [(&'static str, f64); 4] {
        let (one, shared, apart) = (self.one, self.shared, self.apart);
        [
            ("two_threads_ns", shared),
            ("scaling", 2.0 * one / shared),
            ("two_threads_apart_ns", apart),
            ("scaling_apart", 2.0 * one / apart),
        ]
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn check<C: Fn() + Sync>(lab: &Lab, name: &str, bare: f64, make: impl Fn() -> C) {
    if !lab.wants(name) {
        return;
    }
    let times = Times::of(make);
    let raw = [&[("bare_ns", bare)], times.raw().as_slice()].concat();
    lab.report.at_most(name, times.one, CHECK_NS, &raw);
}

fn checks(lab: &Lab) {
    let bare = Times::of(|| {
        || {
            black_box(black_box(1) + 1);
        }
    });
    check(lab, "policy_breaker_ns", bare.one, || {
        let breaker = Breaker::new("bench", BreakerOptions::default()).expect("valid");
        move || {
            let permit = breaker.acquire(SystemClock.now()).expect("closed");
            black_box(black_box(1) + 1);
            permit.finish(Outcome::Success, SystemClock.now());
        }
    });
    check(lab, "policy_limiter_ns", bare.one, || {
        let limiter = Limiter::new("bench", wide_limit()).expect("valid");
        move || {
            let _ = black_box(limiter.acquire(LimitKey::new("agent", "operation"), 1, SystemClock.now()));
        }
    });
    check(lab, "policy_bulkhead_ns", bare.one, || {
        let bulkhead = Bulkhead::new("bench", BulkheadOptions::default()).expect("valid");
        move || {
            let place = bulkhead.try_acquire(1);
            black_box(black_box(1) + 1);
            drop(black_box(place));
        }
    });
    governors(lab);
}

/// The limiter's peer, with one key and with keys.
fn governors(lab: &Lab) {
    let quota = Quota::per_second(NonZeroU32::new(1_000_000).expect("not 0"));
    if !lab.wants("policy_governor_ns") {
        return;
    }
    let direct = Times::of(|| {
        let governor = RateLimiter::direct(quota);
        move || {
            let _ = black_box(governor.check());
        }
    });
    let keyed = Times::of(|| {
        let governor = RateLimiter::keyed(quota);
        move || {
            let _ = black_box(governor.check_key(&"agent"));
        }
    });
    let keyed_raw = [
        ("keyed_ns", keyed.one),
        ("keyed_two_threads_ns", keyed.shared),
        ("keyed_scaling", 2.0 * keyed.one / keyed.shared),
    ];
    let raw = [&[("ns", direct.one)], direct.raw().as_slice(), keyed_raw.as_slice()].concat();
    lab.report.figure("policy_governor_ns", &raw);
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
