//! Policies that survive their process: breakers and retry budgets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use stanchion::{
    Activity, ActivityCtx, Builder, Failure, Status, System,
    clock::{Clock, ManualClock},
    error::Coded,
    ids::Timestamp,
    policies::{BreakerOrder, PolicyError, PolicyState, SavedPolicy},
    port::memory::MemoryStore,
    queue::{JobStatus, NewJob},
    resilience::{
        breaker::{Breaker, BreakerOptions, BreakerState, Cause, FailureClass, Outcome, StateName},
        budget::{RetryBudget, RetryBudgetOptions},
        limiter::{LimitKey, LimiterOptions, OnError},
    },
    task_agent::{AutoPause, TaskAgentConfig},
    workflow::{Definition, RunStatus, StartRun, Step, WaitingFor},
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_was_used_up_is_used_up_after_a_crash() {
    let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(at(0))));
    let system = builder(&clock).open_on(store.clone()).await.unwrap();
    let options = LimiterOptions::sliding(3, 60_000);
    let limiter = system.limiters().register("api", options.clone()).await.unwrap();
    let key = LimitKey::new("ann", "search");
    assert_eq!((0..5).filter(|_| limiter.acquire(key, 1, at(0)).is_ok()).count(), 3);
    system.breakers().flush().await.unwrap();
    let reopened = store.reopen();
    crash(system).await;
    clock.set(at(30));
    let system = builder(&clock).open_on(reopened).await.unwrap();
    let limiter = system.limiters().register("api", options.clone()).await.unwrap();
    let denied = limiter.acquire(key, 1, at(30)).unwrap_err();
    assert_eq!(denied.retry_after, Some(Duration::from_secs(30)), "the calls of the life before count");
    // The controls: another key, and another limiter.
    assert!(limiter.acquire(LimitKey::new("bob", "search"), 1, at(30)).is_ok());
    let fresh = system.limiters().register("other", options).await.unwrap();
    assert!(fresh.acquire(key, 1, at(30)).is_ok());
    assert_eq!(system.limiters().list().len(), 2);
    assert_eq!(system.limiters().find("nobody").unwrap_err().code(), "limiter.not_found");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limiter_too_large_to_keep_begins_as_it_says_for_state_that_cannot_be_read() {
    for (on_error, runs) in [(OnError::FailClosed, false), (OnError::FailOpen, true)] {
        let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(at(0))));
        let system = builder(&clock).open_on(store.clone()).await.unwrap();
        let options = LimiterOptions { on_error, ..LimiterOptions::sliding(1, 60_000) };
        let limiter = system.limiters().register("api", options.clone()).await.unwrap();
        for n in 0..8_000 {
            let agent = format!("agent-{n:0>40}");
            limiter.acquire(LimitKey::new(&agent, "search"), 1, at(0)).unwrap();
        }
        system.breakers().flush().await.unwrap();
        let reopened = store.reopen();
        crash(system).await;
        let system = builder(&clock).open_on(reopened).await.unwrap();
        let limiter = system.limiters().register("api", options).await.unwrap();
        assert_eq!(limiter.acquire(LimitKey::new("ann", "search"), 1, at(0)).is_ok(), runs, "{on_error:?}");
        stop(system).await;
    }
}

/// Calls through a breaker that it is given once it is registered.
#[derive(Clone)]
struct Pay {
    clock: Arc<ManualClock>,
    breaker: tokio::sync::watch::Sender<Option<Breaker>>,
    calls: Arc<AtomicU32>,
}

impl Activity for Pay {
    const NAME: &'static str = "pay";
    type Input = Value;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, _: Value) -> Result<Value, Failure> {
        let mut breaker = self.breaker.subscribe();
        let breaker = breaker.wait_for(Option::is_some).await.ok().and_then(|breaker| breaker.clone());
        let Some(breaker) = breaker else { return Err(Failure::permanent("no_breaker", "none is given")) };
        let permit = breaker.acquire(self.clock.now())?;
        self.calls.fetch_add(1, Ordering::SeqCst);
        permit.finish(Outcome::Success, self.clock.now());
        Ok(json!("paid"))
    }
}

/// What the lives of a program share: the clock and what was called.
struct World {
    clock: Arc<ManualClock>,
    calls: Arc<AtomicU32>,
}

impl World {
    fn new() -> Self {
        Self { clock: Arc::new(ManualClock::at(at(0))), calls: Arc::default() }
    }

    fn builder(&self) -> (Builder, Pay) {
        let (clock, calls) = (Arc::clone(&self.clock), Arc::clone(&self.calls));
        let pay = Pay { clock, breaker: tokio::sync::watch::Sender::new(None), calls };
        (builder(&self.clock).activity(pay.clone()), pay)
    }

    /// Registers the breaker and gives it to the activity.
    async fn ready(&self, system: &System, pay: &Pay) -> Breaker {
        let options = BreakerOptions { wait_duration_in_open_state_ms: 60_000, ..options() };
        let breaker = system.breakers().register("payments", options).await.unwrap();
        pay.breaker.send_replace(Some(breaker.clone()));
        breaker
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Starts a run of one step without retries and waits until it is parked.
async fn parked(system: &System) {
    let definition = Definition::builder("order").step(Step::new("pay").activity("pay")).build();
    let definition = system.workflows().define(definition.validate().unwrap());
    system.workflows().start(StartRun::new("r", definition)).await.unwrap();
    until_async("it waits", || async { status_of(system).await.0 == RunStatus::Waiting }).await;
}

/// Status of the run; attempts, reason and next time of its step.
async fn status_of(system: &System) -> (RunStatus, u32, Option<WaitingFor>, Option<i64>) {
    let run = system.workflows().read("r").await.unwrap();
    let step = run.state.step_view(&run.definition, 0).unwrap();
    (run.state.status(), step.attempts, step.waiting_for, step.retry_at_us)
}

async fn pays_at_60(system: System, world: &World) {
    let waiting = (RunStatus::Waiting, 1, Some(WaitingFor::Breaker), Some(at(60).0));
    assert_eq!(status_of(&system).await, waiting, "number, reason and time as before");
    assert_eq!(world.calls(), 0);
    world.clock.set(at(60));
    let run = system.workflows().wait("r").await.unwrap();
    assert_eq!(run.state.status(), RunStatus::Completed);
    assert_eq!((status_of(&system).await.1, world.calls()), (2, 1));
    let mut lines = Vec::new();
    run.history(system.store().as_ref(), &mut |line| lines.push(line)).await.unwrap();
    let retries: Vec<_> = lines.iter().filter(|line| line.kind == "retry_scheduled").collect();
    let [retry] = retries[..] else { panic!("{lines:?}") };
    assert_eq!((&retry.details["waiting"], retry.attempt), (&json!("breaker"), Some(1)));
    assert_eq!(retry.details["error"]["code"], "breaker.open");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_behind_an_open_breaker_parks_survives_a_crash_and_resumes_by_itself() {
    let (world, store) = (World::new(), MemoryStore::new());
    let (builder, pay) = world.builder();
    let system = builder.open_on(store.clone()).await.unwrap();
    let breaker = world.ready(&system, &pay).await;
    fail(&breaker, 5, at(0));
    parked(&system).await;
    system.breakers().flush().await.unwrap();
    let reopened = store.reopen();
    crash(system).await;
    world.clock.set(at(30));
    let (builder, pay) = world.builder();
    let system = builder.open_on(reopened).await.unwrap();
    let breaker = world.ready(&system, &pay).await;
    assert_eq!(breaker.state(), BreakerState::Open { until: at(60) });
    pays_at_60(system, &world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_behind_an_open_breaker_waits_through_a_restart_on_disk() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let path = dir.path().join("store.redb");
    let (builder, pay) = world.builder();
    let system = builder.open(&path).await.unwrap();
    let breaker = world.ready(&system, &pay).await;
    fail(&breaker, 5, at(0));
    parked(&system).await;
    stop(system).await;
    world.clock.set(at(59));
    let (builder, pay) = world.builder();
    let system = builder.open(&path).await.unwrap();
    let breaker = world.ready(&system, &pay).await;
    assert_eq!(breaker.acquire(at(59)).unwrap_err().retry_after, Some(Duration::from_secs(1)));
    pays_at_60(system, &world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_activity_meets_an_open_breaker_goes_back_and_no_failure_is_counted() {
    let world = World::new();
    let (builder, pay) = world.builder();
    let system = builder.open_memory().await.unwrap();
    let breaker = world.ready(&system, &pay).await;
    fail(&breaker, 5, at(0));
    let config = TaskAgentConfig {
        auto_pause: Some(AutoPause { after_failures: 1, cool_down_ms: 60_000 }),
        ..TaskAgentConfig::new("a", "q", "pay")
    };
    let agent = system.task_agents().start(config).await.unwrap();
    let queue = system.queue("q").unwrap();
    let id = queue.enqueue(vec![NewJob::with_input("", &json!(null)).unwrap()]).await.unwrap()[0].id();
    until_async("it went back", || async {
        queue.job(id).await.is_ok_and(|view| view.status == JobStatus::Delayed)
    })
    .await;
    until("the agent has counted it", || agent.status().counts.released == 1).await;
    let status = agent.status();
    assert_eq!((status.counts.failed, status.failures_in_row, status.pause), (0, 0, None));
    assert_eq!(world.calls(), 0);
    world.clock.set(at(60));
    until_async("it is done", || async { queue.stats().await.is_ok_and(|stats| stats.done == 1) }).await;
    assert_eq!((world.calls(), queue.stats().await.unwrap().retried), (1, 0));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_behind_a_breaker_that_is_closed_by_hand_goes_on_at_once() {
    for order in [BreakerOrder::Close, BreakerOrder::Reset] {
        let (world, store) = (World::new(), MemoryStore::new());
        let (builder, pay) = world.builder();
        let system = builder.open_on(store.clone()).await.unwrap();
        world.ready(&system, &pay).await;
        system.breakers().order("payments", BreakerOrder::Open).await.unwrap();
        parked(&system).await;
        let reopened = store.reopen();
        crash(system).await;
        let (builder, pay) = world.builder();
        let system = builder.open_on(reopened).await.unwrap();
        let breaker = world.ready(&system, &pay).await;
        assert_eq!(breaker.state().name(), StateName::ForcedOpen);
        let waiting = (RunStatus::Waiting, 1, Some(WaitingFor::Breaker), Some(at(30).0));
        assert_eq!(status_of(&system).await, waiting);
        // The clock stands: without a word it would wait for ever.
        system.breakers().order("payments", order).await.unwrap();
        let run = system.workflows().wait("r").await.unwrap();
        assert_eq!((run.state.status(), world.calls()), (RunStatus::Completed, 1));
        stop(system).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_behind_a_breaker_that_is_disabled_goes_on_at_once() {
    let world = World::new();
    let (builder, pay) = world.builder();
    let system = builder.open_memory().await.unwrap();
    let breaker = world.ready(&system, &pay).await;
    fail(&breaker, 5, at(0));
    parked(&system).await;
    breaker.disable(at(0));
    let run = system.workflows().wait("r").await.unwrap();
    assert_eq!((run.state.status(), world.calls()), (RunStatus::Completed, 1));
    stop(system).await;
}
