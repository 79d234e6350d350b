//! Policies that survive their process: breakers and retry budgets.

use std::{sync::Arc, time::Duration};

use stanchion::{
    Builder, Status, System,
    clock::ManualClock,
    error::Coded,
    ids::Timestamp,
    policies::{BreakerOrder, PolicyError, PolicyState, SavedPolicy},
    port::memory::MemoryStore,
    resilience::{
        breaker::{Breaker, BreakerOptions, BreakerState, Cause, FailureClass, Outcome, StateName},
        budget::{RetryBudget, RetryBudgetOptions},
    },
};

use crate::kit::{crash, open, stop, task, until, until_async};

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_700_000_000_000_000 + seconds * 1_000_000)
}

/// Opens at the third failure of five calls, for five seconds.
fn options() -> BreakerOptions {
    BreakerOptions {
        sliding_window_size: 10,
        minimum_number_of_calls: 5,
        wait_duration_in_open_state_ms: 5_000,
        permitted_number_of_calls_in_half_open_state: 2,
        ..BreakerOptions::default()
    }
}

fn builder(clock: &Arc<ManualClock>) -> Builder {
    let clock: Arc<ManualClock> = Arc::clone(clock);
    System::builder().clock(clock)
}

fn call(breaker: &Breaker, outcome: Outcome, now: Timestamp) {
    breaker.acquire(now).unwrap().finish(outcome, now);
}

fn fail(breaker: &Breaker, times: usize, now: Timestamp) {
    (0..times).for_each(|_| call(breaker, Outcome::Failure(FailureClass::Network), now));
}

async fn stored(system: &System, name: &str) -> Option<SavedPolicy> {
    let address = system.agent::<PolicyState>(&format!("breaker/{name}")).unwrap();
    address.read(|state: &PolicyState| state.saved().cloned()).await.unwrap()
}

async fn stored_state(system: &System, name: &str) -> Option<StateName> {
    match stored(system, name).await {
        Some(SavedPolicy::Breaker(saved)) => Some(saved.state().name()),
        _ => None,
    }
}

fn status(system: &System) -> (Status, Option<String>) {
    let health = system.health().into_iter().find(|(name, _)| name == "policies").unwrap().1;
    (health.status, health.cause)
}

/// A breaker that opened at t=0 for five seconds and whose process died at t=2, as it is at `back`.
async fn died_while_open(back: i64) -> (System, Breaker) {
    let clock = Arc::new(ManualClock::at(at(0)));
    let store = MemoryStore::new();
    let system = builder(&clock).open_on(store.clone()).await.unwrap();
    let breaker = system.breakers().register("payments", options()).await.unwrap();
    fail(&breaker, 5, at(0));
    assert_eq!(breaker.state(), BreakerState::Open { until: at(5) });
    // Nobody asks for it: the keeper hears of the change and stores it.
    until_async("it is stored as open", || async {
        stored_state(&system, "payments").await == Some(StateName::Open)
    })
    .await;
    clock.set(at(2));
    let reopened = store.reopen();
    crash(system).await;
    let clock = Arc::new(ManualClock::at(at(back)));
    let system = builder(&clock).open_on(reopened).await.unwrap();
    let breaker = system.breakers().register("payments", options()).await.unwrap();
    (system, breaker)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_a_breaker_that_died_open_is_open_until_its_original_time() {
    let (system, breaker) = died_while_open(4).await;
    assert_eq!(breaker.state(), BreakerState::Open { until: at(5) });
    assert_eq!(breaker.transitions().last().unwrap().cause, Cause::Restored);
    let refused = breaker.acquire(at(4)).unwrap_err();
    assert_eq!(refused.retry_after, Some(Duration::from_secs(1)), "until t=5 s, not t=9 s");
    assert!(breaker.acquire(at(5)).unwrap().is_probe());
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r16_a_breaker_that_comes_back_after_its_wait_probes_with_its_first_call() {
    let (system, breaker) = died_while_open(9).await;
    let probe = breaker.acquire(at(9)).unwrap();
    assert!(probe.is_probe());
    assert_eq!(breaker.state().name(), StateName::HalfOpen);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_survives_a_stop_in_order_and_a_crash_loses_at_most_a_second_of_it() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let now = system.env().now();
    let breaker = system.breakers().register("payments", options()).await.unwrap();
    fail(&breaker, 3, now);
    // Well within the second in which counts are stored: the stop stores them.
    stop(system).await;
    let store = store.reopen();
    let system = open(&store).await;
    let breaker = system.breakers().register("payments", options()).await.unwrap();
    assert_eq!(breaker.stats(now).window_calls, 3);
    fail(&breaker, 1, now);
    until_async("the count is stored", || async {
        matches!(stored(&system, "payments").await,
            Some(SavedPolicy::Breaker(saved)) if saved.stats.window_calls == 4)
    })
    .await;
    let reopened = store.reopen();
    crash(system).await;
    let system = open(&reopened).await;
    let breaker = system.breakers().register("payments", options()).await.unwrap();
    fail(&breaker, 1, now);
    assert_eq!(breaker.state().name(), StateName::Open, "the fifth failure over three lives");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_registered_twice_is_the_same_with_the_later_options() {
    let system = open(&MemoryStore::new()).await;
    let first = system.breakers().register("payments", options()).await.unwrap();
    first.force_open(system.env().now());
    let other = BreakerOptions { sliding_window_size: 7, ..options() };
    let second = system.breakers().register("payments", other).await.unwrap();
    assert_eq!(second.state().name(), StateName::ForcedOpen);
    assert_eq!(first.options().sliding_window_size, 7);
    assert_eq!(system.breakers().list().len(), 1);
    let wrong = BreakerOptions { sliding_window_size: 0, ..options() };
    let refused = system.breakers().register("other", wrong).await.unwrap_err();
    assert_eq!(refused.code(), "breaker.options");
    assert_eq!(system.breakers().find("other").unwrap_err().code(), "breaker.not_found");
    let no_name = system.breakers().register("\n", options()).await.unwrap_err();
    assert!(matches!(no_name, PolicyError::Address(_)), "{no_name}");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_opened_by_hand_is_forced_open_in_the_next_life_and_one_unknown_is_refused() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let unknown = system.breakers().order("payments", BreakerOrder::Open).await.unwrap_err();
    assert_eq!(unknown.code(), "policy.unknown");
    let breaker = system.breakers().register("payments", options()).await.unwrap();
    call(&breaker, Outcome::Success, system.env().now());
    system.breakers().order("payments", BreakerOrder::Open).await.unwrap();
    let reopened = store.reopen();
    crash(system).await;
    // Nobody uses it in this life: the order is for the next one.
    let system = open(&reopened).await;
    assert_eq!(stored_state(&system, "payments").await, Some(StateName::ForcedOpen));
    system.breakers().order("payments", BreakerOrder::Close).await.unwrap();
    system.breakers().order("payments", BreakerOrder::Open).await.unwrap();
    stop(system).await;
    let system = open(&reopened.reopen()).await;
    let breaker = system.breakers().register("payments", options()).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::ForcedOpen);
    system.breakers().order("payments", BreakerOrder::Reset).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(stored_state(&system, "payments").await, Some(StateName::Closed));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_is_killed_under_load_goes_on_where_it_ended() {
    let system = open(&MemoryStore::new()).await;
    let breakers: Vec<Breaker> = {
        let mut breakers = Vec::new();
        for n in 0..8 {
            breakers.push(system.breakers().register(&format!("b{n}"), options()).await.unwrap());
        }
        breakers
    };
    let (tell, told) = tokio::sync::watch::channel(false);
    let env = Arc::clone(system.env());
    let flapping = {
        let (breakers, env) = (breakers.clone(), Arc::clone(&env));
        task(async move {
            while !*told.borrow() {
                for breaker in &breakers {
                    breaker.force_open(env.now());
                    breaker.reset(env.now());
                }
                tokio::task::yield_now().await;
            }
        })
    };
    let place = || env.services().policies.actor().unwrap();
    for _ in 0..3 {
        let (before, actor) = (saves(&system), place());
        until("it saves", || saves(&system) > before + 10).await;
        actor.kill();
        until("there is a new one", || place().get_id() != actor.get_id()).await;
    }
    tell.send(true).unwrap();
    flapping.await.unwrap();
    breakers.iter().for_each(|breaker| breaker.force_open(env.now()));
    for n in 0..8 {
        until_async("the last change is stored", || async {
            stored_state(&system, &format!("b{n}")).await == Some(StateName::ForcedOpen)
        })
        .await;
    }
    assert_eq!(status(&system).0, Status::Up);
    stop(system).await;
}

fn saves(system: &System) -> u64 {
    let stats = system.stats().into_iter().find(|(name, _)| name == "policies").unwrap().1;
    stats.count("saved")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_degrades_the_keeper_and_holds_up_no_caller() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let now = system.env().now();
    let breaker = system.breakers().register("payments", options()).await.unwrap();
    system.breakers().flush().await.unwrap();
    store.faults().limit_queue(0);
    fail(&breaker, 5, now);
    assert_eq!(breaker.acquire(now).unwrap_err().state, StateName::Open, "it decides without the store");
    until("the keeper says so", || status(&system).0 == Status::Degraded).await;
    let why = status(&system).1.unwrap();
    assert!(why.contains("breaker/payments is not stored"), "{why}");
    let not_stored = system.breakers().order("payments", BreakerOrder::Open).await.unwrap_err();
    assert_eq!(not_stored.code(), "policy.not_stored");
    assert_eq!(breaker.state().name(), StateName::ForcedOpen, "it obeys all the same");
    store.faults().limit_queue(1_000);
    until("it is tried again", || status(&system).0 == Status::Up).await;
    assert_eq!(stored_state(&system, "payments").await, Some(StateName::ForcedOpen));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_budget_that_was_spent_is_spent_after_a_crash() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let now = system.env().now();
    let options = RetryBudgetOptions { min_retries_per_second: 1, ratio: 0.0, ..Default::default() };
    let budget: Arc<RetryBudget> = system.retry_budgets().register("api", options.clone()).await.unwrap();
    assert_eq!((0..20).filter(|_| budget.try_withdraw(now).is_ok()).count(), 10);
    let same = system.retry_budgets().register("api", options.clone()).await.unwrap();
    assert!(Arc::ptr_eq(&budget, &same));
    let other = RetryBudgetOptions { ratio: 0.5, ..options.clone() };
    assert_eq!(system.retry_budgets().register("api", other).await.unwrap_err().code(), "policy.differs");
    system.breakers().flush().await.unwrap();
    let reopened = store.reopen();
    crash(system).await;
    let system = open(&reopened).await;
    let budget = system.retry_budgets().register("api", options.clone()).await.unwrap();
    assert!(budget.try_withdraw(now).is_err(), "what was taken out stays so for the window");
    // The control: a budget of another name begins with what is free.
    let fresh = system.retry_budgets().register("other", options).await.unwrap();
    assert!(fresh.try_withdraw(now).is_ok());
    stop(system).await;
}
