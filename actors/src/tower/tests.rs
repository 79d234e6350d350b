use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ::tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use futures_util::{FutureExt, future::BoxFuture, future::join_all};
use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    clock::Clock,
    entity::Failure,
    ids::Timestamp,
    resilience::{
        breaker::{Breaker, BreakerOptions, StateName},
        budget::{RetryBudget, RetryBudgetOptions},
        bulkhead::{Bulkhead, BulkheadOptions},
        limiter::{LimitKey, Limiter, LimiterOptions},
        protected::{Protected, Refusal},
        retry::{GiveUpReason, RetryPolicy},
        timeout::TimeoutOptions,
    },
};

/// The runtime's paused time as wall time.
#[derive(Debug)]
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp(0).after(self.0.elapsed())
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(Paused(Instant::now()))
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Takes so long, and fails when it is asked for 0.
fn half(number: u32) -> BoxFuture<'static, Result<u32, Failure>> {
    async move {
        sleep(ms(100)).await;
        if number == 0 { Err(Failure::retryable("zero", "asked for 0")) } else { Ok(number / 2) }
    }
    .boxed()
}

fn no_chance() -> f64 {
    0.5
}

#[tokio::test(start_paused = true)]
async fn a_breaker_as_a_layer_opens_and_says_until_when() {
    let options =
        BreakerOptions { minimum_number_of_calls: 1, sliding_window_size: 1, ..BreakerOptions::default() };
    let breaker = Breaker::new("half", options).unwrap();
    let mut service = BreakerLayer::new(breaker.clone(), clock()).layer(service_fn(half));
    assert_eq!(service.ready().await.unwrap().call(8).await, Ok(4));
    let failed = service.ready().await.unwrap().call(0).await.unwrap_err();
    assert!(matches!(failed, PolicyError::Inner(_)));
    assert_eq!(breaker.state().name(), StateName::Open);
    let Err(PolicyError::Refused(refusal)) = service.oneshot(8).await else { panic!() };
    assert_eq!(refusal.retry_after(), Some(ms(60_000)));
}

#[tokio::test(start_paused = true)]
async fn a_limiter_as_a_layer_refuses_or_waits() {
    let limiter = Arc::new(Limiter::new("half", LimiterOptions::per_second(1, 10)).unwrap());
    let layer = LimiterLayer::new(Arc::clone(&limiter), LimitKey::new("a", "o"), clock());
    let service = layer.clone().layer(service_fn(half));
    assert_eq!(service.clone().oneshot(8).await, Ok(4));
    assert_eq!(service.clone().oneshot(8).await, Ok(4));
    let both = join_all([service.clone().oneshot(8), service.oneshot(8)]).await;
    let Err(PolicyError::Refused(refusal)) = &both[1] else { panic!("{both:?}") };
    assert!(matches!(**refusal, Refusal::Limiter(_)));
    let begun = Instant::now();
    let waits = layer.wait(ms(1_000)).layer(service_fn(half));
    assert!(join_all((0..3).map(|_| waits.clone().oneshot(8))).await.iter().all(Result::is_ok));
    assert!(begun.elapsed() >= ms(300), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_as_a_layer_bounds_what_runs_at_once() {
    let options = BulkheadOptions { max_concurrent: 2, max_waiting: 1, ..BulkheadOptions::default() };
    let bulkhead = Bulkhead::new("half", options).unwrap();
    let service = BulkheadLayer::new(bulkhead.clone()).weight(3).layer(service_fn(half));
    let calls = join_all((0..4).map(|_| service.clone().oneshot(8)));
    let look = async {
        sleep(ms(50)).await;
        bulkhead.status()
    };
    let (ended, status) = tokio::join!(calls, look);
    assert_eq!((status.in_use, status.weight_in_use, status.waiting), (2, 6, 1));
    assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), 3);
    // Ready, and no place is held by that.
    let mut idle = service.clone();
    idle.ready().await.unwrap();
    assert_eq!(bulkhead.status().in_use, 0);
}

#[tokio::test(start_paused = true)]
async fn retries_as_a_layer_stay_within_the_budget_and_see_inner_layers() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let options =
        RetryBudgetOptions { ratio: 0.5, min_retries_per_second: 0, ..RetryBudgetOptions::default() };
    let budget = Arc::new(RetryBudget::new(options).unwrap());
    let retry =
        RetryLayer::new(RetryPolicy { max_attempts: 3, ..RetryPolicy::fixed(10) }, clock(), no_chance);
    let retry = retry.unwrap().budget(budget);
    let attempt = TimeoutLayer::new(TimeoutOptions { total_ms: None, attempt_ms: Some(50) }).unwrap();
    let slow = service_fn(move |()| {
        count.fetch_add(1, Ordering::Relaxed);
        pending::<Result<(), Failure>>()
    });
    let service = ServiceBuilder::new().layer(retry.clone()).layer(attempt).service(slow);
    let mut reasons = Vec::new();
    for _ in 0..4 {
        let error = service.clone().oneshot(()).await.unwrap_err();
        assert!(matches!(error.last, PolicyError::TimedOut(_)));
        reasons.push((error.reason, error.attempts));
    }
    let spent = GiveUpReason::BudgetExhausted;
    // Each call pays half of a retry.
    assert_eq!(reasons, [(spent, 1), (spent, 2), (spent, 1), (spent, 2)]);
    assert_eq!((asked.load(Ordering::Relaxed), retry.stats().counts().given_up(spent)), (6, 4));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_within_retries_ends_them() {
    let breaker = Breaker::new("half", BreakerOptions::default()).unwrap();
    breaker.force_open(Timestamp(0));
    let retry = RetryLayer::new(RetryPolicy::fixed(10), clock(), no_chance).unwrap();
    let layers = ServiceBuilder::new().layer(retry).layer(BreakerLayer::new(breaker, clock()));
    let error = layers.service(service_fn(half)).oneshot(8).await.unwrap_err();
    assert_eq!((error.reason, error.attempts), (GiveUpReason::NotRetryable, 1));
}

#[tokio::test(start_paused = true)]
async fn all_layers_as_one_stand_among_those_of_tower() {
    let options = serde_json::from_str(
        r#"{"retry": {"max_attempts": 2, "initial_interval_ms": 1}, "breaker": {}, "bulkhead": {},
        "timeout": {"attempt_ms": 1000}}"#,
    );
    let protected = Protected::new("half", options.unwrap(), clock()).unwrap();
    let layer = ProtectedLayer::new(protected.clone(), "a", "o");
    let service = ServiceBuilder::new()
        .map_response(|half: crate::resilience::protected::ProtectedValue<u32>| half.value);
    let service = service.layer(layer).service(service_fn(half));
    assert_eq!(service.clone().oneshot(8).await, Ok(4));
    let error = service.oneshot(0).await.unwrap_err();
    assert_eq!((error.attempts, protected.stats().attempts), (2, 3));
}
