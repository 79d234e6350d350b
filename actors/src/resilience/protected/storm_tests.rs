//! The retry storm: a dependency that fails always, and ten thousand who call it.

use std::cell::Cell;

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::{
    Layer, Protected, ProtectedCtx,
    tests::{Paused, down, ms, options},
};
use crate::{entity::Failure, resilience::breaker::StateName};

const CALLS: u64 = 10_000;
const RETRY: &str = r#""retry": {"max_attempts": 4, "initial_interval_ms": 10, "jitter": "full"}"#;

struct Dependency {
    asked: Cell<u64>,
    retries: Cell<u64>,
}

/// Calls a dependency that is down, a call each 100 µs, and waits for all of them.
async fn storm(service: &Protected) -> Dependency {
    let dependency = Dependency { asked: Cell::new(0), retries: Cell::new(0) };
    let begun = Instant::now();
    let call = async |number: u64| {
        tokio::time::sleep_until(begun + std::time::Duration::from_micros(100 * number)).await;
        let ctx = ProtectedCtx::default();
        let ended = service.call(&ctx, async |attempt| {
            dependency.asked.set(dependency.asked.get() + 1);
            dependency.retries.set(dependency.retries.get() + u64::from(attempt.number > 1));
            sleep(ms(1)).await;
            Err::<(), Failure>(down())
        });
        assert!(ended.await.is_err());
    };
    stream::iter(0..CALLS).for_each_concurrent(None, call).await;
    dependency
}

fn service(document: &str) -> Protected {
    Protected::new("down", options(document), Paused::clock()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_fails_always_gets_the_retries_of_the_budget_and_no_more() {
    let budget = r#""budget": {"ttl_ms": 10000, "ratio": 0.1, "min_retries_per_second": 10}"#;
    let storming = service(&format!("{{{RETRY}, {budget}}}"));
    let dependency = storm(&storming).await;
    assert_eq!(dependency.asked.get(), CALLS + dependency.retries.get());
    // A tenth of the calls, and ten a second over the window.
    let most = CALLS / 10 + 100;
    assert!(dependency.retries.get() <= most, "{} retries, at most {most}", dependency.retries.get());
    assert!(dependency.retries.get() > most / 2, "the budget was not used: {}", dependency.retries.get());
    let stats = storming.stats();
    let spent = stats.budget.unwrap();
    assert_eq!((spent.deposits, spent.withdrawals), (CALLS, dependency.retries.get()));
    assert_eq!(stats.ended_by(Layer::Budget), spent.denied);
    assert!(spent.denied > CALLS / 2);
}

/// The check above can fail: without a budget the dependency is stormed.
#[tokio::test(start_paused = true)]
async fn without_a_budget_every_call_brings_all_its_retries() {
    let dependency = storm(&service(&format!("{{{RETRY}}}"))).await;
    assert_eq!((dependency.asked.get(), dependency.retries.get()), (4 * CALLS, 3 * CALLS));
}

#[tokio::test(start_paused = true)]
async fn with_the_breaker_open_a_dependency_that_is_down_gets_probes_only() {
    let breaker = r#""breaker": {"sliding_window_size": 20, "minimum_number_of_calls": 20,
        "wait_duration_in_open_state_ms": 100, "permitted_number_of_calls_in_half_open_state": 3}"#;
    let broken = service(&format!(r#"{{{RETRY}, "budget": {{}}, {breaker}}}"#));
    let dependency = storm(&broken).await;
    let stats = broken.stats();
    let rounds = broken.transitions().into_iter().filter(|entry| {
        matches!(entry.change, super::LayerChange::Breaker(change) if change.to == StateName::HalfOpen)
    });
    let rounds = rounds.count() as u64;
    assert!(rounds >= 5, "{rounds}");
    // What ran when it opened: 20 that opened it, what was in flight with them, three probes a round.
    let in_flight_at_opening = 40;
    assert!(
        dependency.asked.get() <= 20 + in_flight_at_opening + 3 * rounds,
        "{} attempts in {rounds} rounds",
        dependency.asked.get()
    );
    assert_eq!(stats.ended_by(Layer::Breaker) + stats.ended_by(Layer::Retry), CALLS);
    assert!(stats.ended_by(Layer::Breaker) > CALLS * 9 / 10);
}
