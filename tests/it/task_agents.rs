//! Task agents: workers of persistent queues.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use stanchion::{
    Activity, ActivityCtx, Builder, DistributeError, Enough, Failure, System,
    balance::Strategy,
    port::memory::MemoryStore,
    queue::{JobStatus, NewJob, Queue, QueueConfig},
    resilience::{
        breaker::{BreakerOptions, BreakerState},
        retry::RetryPolicy,
    },
    supervisors::{ChildStatus, Supervisor},
    task_agent::{
        AutoPause, TaskAgent, TaskAgentActivity, TaskAgentConfig, TaskAgentError, TaskAgentRejection,
        TaskPoolConfig, TaskType,
    },
};
use tokio::sync::Semaphore;

use crate::kit::{crash, stop, task, until, until_async};

/// What the activities of these tests share: what was done, and gates that hold them.
#[derive(Clone)]
struct World {
    done: Arc<Mutex<Vec<u64>>>,
    begun: Arc<AtomicU32>,
    gate: Arc<Semaphore>,
    fails: Arc<AtomicU32>,
}

impl World {
    fn new() -> Self {
        Self {
            done: Arc::default(),
            begun: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
            fails: Arc::default(),
        }
    }

    fn builder(&self) -> Builder {
        System::builder()
            .activity(Note(self.clone()))
            .activity(Wait(self.clone()))
            .activity(Shaky(self.clone()))
    }

    fn done(&self) -> Vec<u64> {
        self.done.lock().unwrap().clone()
    }

    fn begun(&self) -> u32 {
        self.begun.load(Ordering::SeqCst)
    }
}

/// Notes its number.
struct Note(World);

impl Activity for Note {
    const NAME: &'static str = "note";
    type Input = u64;
    type Output = u64;
    async fn run(&self, _: ActivityCtx, number: u64) -> Result<u64, Failure> {
        self.0.done.lock().unwrap().push(number);
        Ok(number)
    }
}

/// Waits at the gate, or until it is cancelled.
struct Wait(World);

impl Activity for Wait {
    const NAME: &'static str = "wait";
    type Input = u64;
    type Output = u64;
    async fn run(&self, ctx: ActivityCtx, number: u64) -> Result<u64, Failure> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        ctx.heartbeat("at the gate");
        tokio::select! {
            pass = self.0.gate.acquire() => pass.unwrap().forget(),
            () = ctx.cancel.cancelled() => return Err(Failure::retryable(Failure::CANCELLED, "told to stop")),
        }
        self.0.done.lock().unwrap().push(number);
        Ok(number)
    }
}

/// Fails as often as it was told to.
struct Shaky(World);

impl Activity for Shaky {
    const NAME: &'static str = "shaky";
    type Input = u64;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, number: u64) -> Result<Value, Failure> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        let left = self.0.fails.load(Ordering::SeqCst);
        if left > 0 {
            self.0.fails.store(left - 1, Ordering::SeqCst);
            return Err(Failure::retryable("shaky", "not this time"));
        }
        self.0.done.lock().unwrap().push(number);
        Ok(Value::Null)
    }
}

fn jobs(numbers: impl IntoIterator<Item = u64>) -> Vec<NewJob> {
    numbers.into_iter().map(|number| NewJob::with_input("", &number).unwrap()).collect()
}

async fn fast_retries(queue: &Queue, attempts: u32) {
    let retry = RetryPolicy {
        max_attempts: attempts,
        initial_interval_ms: 1,
        maximum_interval_ms: Some(1),
        ..RetryPolicy::default()
    };
    queue.configure(QueueConfig { retry, ..QueueConfig::default() }).await.unwrap();
}

async fn done(queue: &Queue, count: u64) {
    until_async("the jobs are done", || async {
        queue.stats().await.is_ok_and(|stats| stats.done == count && stats.live() == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_do_what_is_enqueued_and_their_status_counts_it() {
    let world = World::new();
    let system = world.builder().open_memory().await.unwrap();
    let queue = system.queue("mail").unwrap();
    let config =
        |name: &str| TaskAgentConfig { concurrency: 8, ..TaskAgentConfig::new(name, "mail", "note") };
    let first = system.task_agents().start(config("a")).await.unwrap();
    let second = system.task_agents().start(config("b")).await.unwrap();
    assert_eq!(first.status().activity, TaskAgentActivity::Idle);
    queue.enqueue(jobs(0..500)).await.unwrap();
    done(&queue, 500).await;
    let mut all = world.done();
    all.sort_unstable();
    assert_eq!(all, (0..500).collect::<Vec<_>>(), "each once");
    until("both have counted", || first.status().counts.done + second.status().counts.done == 500).await;
    let view = queue.job(queue.enqueue(jobs([7])).await.unwrap()[0].id()).await.unwrap();
    done(&queue, 501).await;
    let view = queue.job(view.id).await.unwrap();
    assert_eq!(view.output.as_deref(), Some(&[7u8][..]), "the output is kept as the activity gave it");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_agent_is_still_paused_after_a_crash_and_then_works_by_priority() {
    let (world, store) = (World::new(), MemoryStore::new());
    let system = world.builder().open_on(store.clone()).await.unwrap();
    let agent = system.task_agents().start(TaskAgentConfig::new("a", "q", "note")).await.unwrap();
    agent.pause("ann", "maintenance").await.unwrap();
    let queue = system.queue("q").unwrap();
    let mut expected = Vec::new();
    for number in 0..100u64 {
        let priority = u8::try_from(number % 10).unwrap();
        let job = NewJob { priority, ..jobs([number]).remove(0) };
        queue.enqueue(vec![job]).await.unwrap();
        expected.push((std::cmp::Reverse(priority), number));
    }
    let reopened = store.reopen();
    crash(system).await;

    let system = world.builder().open_on(reopened).await.unwrap();
    let queue = system.queue("q").unwrap();
    let agent = system.task_agents().start(TaskAgentConfig::new("a", "q", "note")).await.unwrap();
    until("it has learned that it is paused", || agent.status().activity == TaskAgentActivity::Paused).await;
    let status = agent.status();
    let pause = status.pause.unwrap();
    assert_eq!((pause.by.as_str(), pause.reason.as_str()), ("ann", "maintenance"));
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.pending, stats.leased), (100, 0));
    agent.resume().await.unwrap();
    done(&queue, 100).await;
    expected.sort();
    let expected: Vec<u64> = expected.into_iter().map(|(_, number)| number).collect();
    assert_eq!(world.done(), expected);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_and_status_answer_at_once_while_a_thousand_jobs_run_and_a_pause_lets_them_end() {
    let world = World::new();
    let system = world.builder().open_memory().await.unwrap();
    let config = TaskAgentConfig { concurrency: 1_000, ..TaskAgentConfig::new("a", "q", "wait") };
    let agent = system.task_agents().start(config).await.unwrap();
    let queue = system.queue("q").unwrap();
    queue.configure(QueueConfig { max: 2_000, ..QueueConfig::default() }).await.unwrap();
    queue.enqueue(jobs(0..1_500)).await.unwrap();
    until("a thousand wait at the gate", || world.begun() == 1_000).await;
    let status = agent.status();
    assert_eq!((status.activity, status.running.len()), (TaskAgentActivity::Processing, 1_000));
    assert_eq!(status.running[0].note.as_deref(), Some("at the gate"));
    assert_eq!(agent.status().counts, status.counts, "looking changes no count");
    agent.pause("ann", "").await.unwrap();
    world.gate.add_permits(1_000);
    until_async("what ran has ended", || async { queue.stats().await.unwrap().done == 1_000 }).await;
    assert_eq!(world.begun(), 1_000, "nothing was leased while it was paused");
    assert_eq!(agent.status().activity, TaskAgentActivity::Paused);
    agent.resume().await.unwrap();
    world.gate.add_permits(500);
    done(&queue, 1_500).await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_runs_is_cancelled_at_once_and_one_that_runs_over_its_limit_fails() {
    let world = World::new();
    let system = world.builder().open_memory().await.unwrap();
    let queue = system.queue("q").unwrap();
    fast_retries(&queue, 2).await;
    let agent = system.task_agents().start(TaskAgentConfig::new("a", "q", "wait")).await.unwrap();
    let id = queue.enqueue(jobs([1])).await.unwrap()[0].id();
    until("it runs", || world.begun() == 1).await;
    queue.cancel(id, Duration::from_secs(60)).await.unwrap();
    until_async("it is cancelled", || async { queue.job(id).await.unwrap().status == JobStatus::Cancelled })
        .await;
    until("that is counted", || agent.status().counts.cancelled == 1).await;
    let slow = NewJob { timeout_ms: 20, ..jobs([2]).remove(0) };
    let id = queue.enqueue(vec![slow]).await.unwrap()[0].id();
    until_async("it is dead", || async { queue.job(id).await.unwrap().status == JobStatus::Dead }).await;
    let view = queue.job(id).await.unwrap();
    assert!(view.job.history.iter().all(|happening| happening.code == Failure::TIMED_OUT), "{view:?}");
    assert_eq!(view.job.failures, 2);
    assert_eq!(world.done(), [] as [u64; 0]);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_run_of_failures_an_agent_pauses_and_goes_on_when_a_trial_succeeds() {
    let (world, store) = (World::new(), MemoryStore::new());
    let system = world.builder().open_on(store.clone()).await.unwrap();
    let queue = system.queue("q").unwrap();
    fast_retries(&queue, 100).await;
    world.fails.store(4, Ordering::SeqCst);
    let auto_pause = Some(AutoPause { after_failures: 3, cool_down_ms: 50 });
    let config = TaskAgentConfig { auto_pause, ..TaskAgentConfig::new("a", "q", "shaky") };
    let agent = system.task_agents().start(config).await.unwrap();
    queue.enqueue(jobs([1, 2, 3])).await.unwrap();
    until("it has paused itself", || agent.status().activity == TaskAgentActivity::Error).await;
    let pause = agent.status().pause.unwrap();
    assert!(pause.reason.contains("3 failures in a row") && pause.probe_at.is_some(), "{pause:?}");
    done(&queue, 3).await;
    until("it goes on", || agent.status().activity == TaskAgentActivity::Idle).await;
    assert_eq!(world.begun(), 4 + 3, "three failures, one trial that failed, then each job once");
    assert_eq!(agent.status().failures_in_row, 0);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_breaker_is_open_jobs_of_its_kind_wait_and_others_run() {
    let world = World::new();
    let system = world.builder().open_memory().await.unwrap();
    let queue = system.queue("q").unwrap();
    fast_retries(&queue, 100).await;
    world.fails.store(2, Ordering::SeqCst);
    let breaker = BreakerOptions {
        minimum_number_of_calls: 2,
        sliding_window_size: 2,
        wait_duration_in_open_state_ms: 3_600_000,
        ..BreakerOptions::default()
    };
    let task = |kind: &str, activity: &str, breaker| TaskType {
        kind: Some(kind.into()),
        activity: activity.into(),
        timeout_ms: 0,
        retry: None,
        breaker,
    };
    let types = vec![task("call", "shaky", Some(breaker)), task("note", "note", None)];
    let config = TaskAgentConfig { types, ..TaskAgentConfig::new("a", "q", "note") };
    let agent = system.task_agents().start(config).await.unwrap();
    let call = NewJob::with_input("call", &1u64).unwrap();
    let id = queue.enqueue(vec![call]).await.unwrap()[0].id();
    let is_open = || matches!(agent.status().breakers[0].1, BreakerState::Open { .. });
    until("the breaker has opened", is_open).await;
    assert_eq!(agent.status().breakers[0].0, "call");
    queue.enqueue(vec![NewJob::with_input("note", &9u64).unwrap()]).await.unwrap();
    until_async("the other one is done", || async { queue.stats().await.unwrap().done == 1 }).await;
    let view = queue.job(id).await.unwrap();
    assert_eq!((view.job.attempt, world.begun()), (2, 2), "no attempt was used up");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_is_started_anew_and_its_jobs_come_back_after_their_lease() {
    let world = World::new();
    let system = world.builder().open_memory().await.unwrap();
    let queue = system.queue("q").unwrap();
    let config = TaskAgentConfig { lease_ms: 300, concurrency: 4, ..TaskAgentConfig::new("a", "q", "wait") };
    let agent = system.task_agents().start(config).await.unwrap();
    queue.enqueue(jobs(0..4)).await.unwrap();
    until("four run", || world.begun() == 4).await;
    let actor = Supervisor::find(&system.env().actor_name("task-agents")).unwrap();
    let child = actor.which_children().await.unwrap().remove(0);
    let ChildStatus::Running(child) = child.status else { panic!("{child:?}") };
    child.kill();
    until("they run again", || world.begun() == 8).await;
    world.gate.add_permits(8);
    done(&queue, 4).await;
    assert_eq!(world.done().len(), 4, "what ran when it was killed did not go on");
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.lost, stats.is_conserved()), (4, true));
    until("the handle reaches the new life", || agent.status().counts.done == 4).await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_agent_gives_back_what_did_not_end_and_a_restart_takes_leases_back_at_once() {
    let (world, store) = (World::new(), MemoryStore::new());
    let system = world.builder().open_on(store.clone()).await.unwrap();
    let queue = system.queue("q").unwrap();
    let config = TaskAgentConfig { concurrency: 2, ..TaskAgentConfig::new("a", "q", "wait") };
    system.task_agents().start(config.clone()).await.unwrap();
    queue.enqueue(jobs([1, 2])).await.unwrap();
    until("both run", || world.begun() == 2).await;
    assert_eq!(system.task_agents().stop("a", Duration::ZERO).await.unwrap(), 2);
    let stats = queue.stats().await.unwrap();
    assert_eq!((stats.pending, stats.in_flight), (2, 0), "at once, and no retry used up");
    assert!(matches!(system.task_agents().find("a"), Err(TaskAgentError::NotFound(_))));
    system.task_agents().start(config.clone()).await.unwrap();
    until("both run again", || world.begun() == 4).await;
    let reopened = store.reopen();
    crash(system).await;
    let system = world.builder().open_on(reopened).await.unwrap();
    system.task_agents().start(config).await.unwrap();
    until("they are leased again although the lease lasts half a minute", || world.begun() == 6).await;
    world.gate.add_permits(2);
    done(&system.queue("q").unwrap(), 2).await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_task_agent_is_refused_by_name() {
    let world = World::new();
    let system = world.builder().open_memory().await.unwrap();
    let agents = system.task_agents();
    let good = || TaskAgentConfig::new("a", "q", "note");
    let with = |change: fn(&mut TaskAgentConfig)| {
        let mut config = good();
        change(&mut config);
        config
    };
    for (field, config) in [
        ("name", with(|config| config.name.clear())),
        ("concurrency", with(|config| config.concurrency = 0)),
        ("lease_ms", with(|config| config.lease_ms = 99)),
        ("types", with(|config| config.types.clear())),
        ("types.timeout_ms", with(|config| config.types[0].timeout_ms = 9)),
        ("types.kind", with(|config| config.types.push(config.types[0].clone()))),
        (
            "types.retry",
            with(|config| {
                config.types[0].retry =
                    Some(RetryPolicy { backoff_coefficient: 0.5, ..RetryPolicy::default() })
            }),
        ),
        (
            "auto_pause.after_failures",
            with(|config| config.auto_pause = Some(AutoPause { after_failures: 0, cool_down_ms: 1 })),
        ),
    ] {
        match agents.start(config).await {
            Err(TaskAgentError::Config(error)) => assert_eq!(error.field, field, "{error}"),
            other => panic!("{field}: {other:?}"),
        }
    }
    let unknown = agents.start(TaskAgentConfig::new("a", "q", "nobody")).await;
    assert!(matches!(unknown, Err(TaskAgentError::UnknownActivity(name)) if name == "nobody"));
    let queue = agents.start(TaskAgentConfig::new("a", "a/b", "note")).await;
    assert!(matches!(queue, Err(TaskAgentError::Queue(_))));
    let agent = agents.start(good()).await.unwrap();
    assert!(matches!(agents.start(good()).await, Err(TaskAgentError::AlreadyExists(_))));
    let long = agent.pause("ann", &"x".repeat(401)).await;
    let Err(TaskAgentError::Call(stanchion::error::CallError::Rejected(TaskAgentRejection::TooLong {
        what,
        ..
    }))) = long
    else {
        panic!("{long:?}")
    };
    assert_eq!((what.as_str(), agent.status().pause), ("reason", None));
    let document = json!({ "name": "a", "queue": "q", "types": [], "speed": 9 });
    let error = serde_json::from_value::<TaskAgentConfig>(document).unwrap_err();
    assert!(error.to_string().contains("speed"), "{error}");
    for negative in [
        json!({ "name": "a", "queue": "q", "types": [], "concurrency": -1 }),
        json!({ "name": "a", "queue": "q", "types": [{ "activity": "note", "retry": { "max_attempts": -1 } }] }),
        json!({ "name": "a", "queue": "q", "types": [{ "activity": "note", "timeout_ms": -1 }] }),
    ] {
        let error = serde_json::from_value::<TaskAgentConfig>(negative).unwrap_err();
        assert!(error.to_string().contains("-1"), "{error}");
    }
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_kind_that_nobody_does_become_dead_letters_and_say_so() {
    let world = World::new();
    let system = world.builder().open_memory().await.unwrap();
    let queue = system.queue("q").unwrap();
    let mut config = TaskAgentConfig::new("a", "q", "note");
    system.task_agents().start(config.clone()).await.unwrap();
    let bad = NewJob::with_input("", &"no number").unwrap();
    let id = queue.enqueue(vec![bad]).await.unwrap()[0].id();
    until_async("it is dead", || async { queue.job(id).await.unwrap().status == JobStatus::Dead }).await;
    assert_eq!(queue.job(id).await.unwrap().job.history[0].code, "activity.bad_input");
    config.name = "b".into();
    let waiting = task(async move { system.stop(Duration::from_secs(5)).await.unwrap() });
    assert_eq!(waiting.await.unwrap().left_over, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_spreads_jobs_by_its_strategy_and_gives_a_paused_agent_none() {
    let world = World::new();
    let system = world.builder().open_memory().await.unwrap();
    let queue = system.queue("q").unwrap();
    let per_key_limit = 0;
    queue.configure(QueueConfig { max: 5_000, per_key_limit, ..QueueConfig::default() }).await.unwrap();
    let mut config = TaskPoolConfig::new("p", "q", "note", 8, Strategy::RoundRobin);
    config.members.iter_mut().for_each(|member| member.concurrency = 1_000);
    let agents = system.task_agents().start_pool(config).await.unwrap();
    queue.enqueue(jobs(0..1_000)).await.unwrap();
    done(&queue, 1_000).await;
    let counts = || agents.iter().map(|agent| agent.status().counts.done).collect::<Vec<_>>();
    until("all have counted", || counts().iter().sum::<u64>() == 1_000).await;
    assert!(counts().iter().all(|count| (124..=126).contains(count)), "{:?}", counts());
    agents[3].pause("ann", "").await.unwrap();
    let before = counts();
    queue.enqueue(jobs(0..700)).await.unwrap();
    done(&queue, 1_700).await;
    until("all have counted", || counts().iter().sum::<u64>() == 1_700).await;
    let got: Vec<u64> = counts().iter().zip(before).map(|(now, before)| now - before).collect();
    assert_eq!(got[3], 0);
    assert!(got.iter().enumerate().all(|(place, count)| place == 3 || (99..=101).contains(count)), "{got:?}");
    assert_eq!(system.task_agents().stop_pool("p", Duration::from_secs(5)).await.unwrap(), 0);
    assert!(system.task_agents().list().is_empty());

    let mut config = TaskPoolConfig::new("h", "q", "note", 8, Strategy::ConsistentHash);
    config.members.iter_mut().for_each(|member| member.concurrency = 1_000);
    let agents = system.task_agents().start_pool(config).await.unwrap();
    let keyed = jobs(0..100).into_iter().map(|job| NewJob { key: Some(Arc::from("ann")), ..job }).collect();
    queue.enqueue(keyed).await.unwrap();
    done(&queue, 1_800).await;
    let counts = || agents.iter().map(|agent| agent.status().counts.done).collect::<Vec<_>>();
    until("all have counted", || counts().iter().sum::<u64>() == 100).await;
    assert_eq!(counts().into_iter().max(), Some(100), "one key, one agent");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_an_agent_of_a_pool_dies_the_others_do_its_jobs_after_their_lease() {
    let world = World::new();
    let system = world.builder().open_memory().await.unwrap();
    let queue = system.queue("q").unwrap();
    let mut config = TaskPoolConfig::new("p", "q", "wait", 4, Strategy::PowerOfTwoChoices);
    config.lease_ms = 300;
    config.members.iter_mut().for_each(|member| member.concurrency = 2);
    let agents = system.task_agents().start_pool(config).await.unwrap();
    queue.enqueue(jobs(0..16)).await.unwrap();
    until("all places are taken", || world.begun() == 8).await;
    let supervisor = Supervisor::find(&system.env().actor_name("task-agents")).unwrap();
    let children = supervisor.which_children().await.unwrap();
    let child = children.into_iter().find(|child| &*child.id == "p-2").unwrap();
    let ChildStatus::Running(actor) = child.status else { panic!("{child:?}") };
    actor.kill();
    until("its two jobs are taken up again", || world.begun() >= 10).await;
    world.gate.add_permits(100);
    done(&queue, 16).await;
    let mut numbers = world.done();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..16).collect::<Vec<_>>(), "each to its end once");
    let stats = queue.stats().await.unwrap();
    assert!(stats.is_conserved() && stats.lost == 2, "{stats:?}");
    until("all have counted", || agents.iter().map(|agent| agent.status().counts.done).sum::<u64>() == 16)
        .await;
    let twice =
        system.task_agents().start_pool(TaskPoolConfig::new("p", "q", "wait", 1, Strategy::RoundRobin)).await;
    assert!(matches!(twice, Err(TaskAgentError::AlreadyExists(_))));
    let taken = TaskPoolConfig::new("p", "q", "wait", 1, Strategy::RoundRobin);
    let taken = TaskPoolConfig { name: "other".into(), ..taken };
    assert!(
        matches!(system.task_agents().start_pool(taken).await, Err(TaskAgentError::AlreadyExists(name)) if name == "p-1")
    );
    let empty =
        TaskPoolConfig { members: vec![], ..TaskPoolConfig::new("x", "q", "wait", 1, Strategy::Sticky) };
    assert!(
        matches!(system.task_agents().start_pool(empty).await, Err(TaskAgentError::Config(error)) if error.field == "members")
    );
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_handed_out_by_kind_and_its_results_are_gathered() {
    let (world, store) = (World::new(), MemoryStore::new());
    let system = world.builder().open_on(store.clone()).await.unwrap();
    let agents = system.task_agents();
    let nobody = agents.distribute("note", jobs([1])).await;
    assert!(matches!(nobody, Err(DistributeError::NobodyCan(kind)) if kind == "note"));
    let of = |name: &str, queue: &str, activity: &str, kind: Option<&str>| {
        let mut config = TaskAgentConfig::new(name, queue, activity);
        config.types[0].kind = kind.map(str::to_owned);
        config
    };
    agents.start(of("any", "any", "wait", None)).await.unwrap();
    agents.start(of("notes", "notes", "note", Some("note"))).await.unwrap();
    let work = agents.distribute("note", jobs(0..5)).await.unwrap();
    assert_eq!(work.queue, "notes", "who names the kind goes before who does every kind");
    let all = agents.aggregate(&work, Enough::All, Duration::from_secs(30)).await.unwrap();
    assert_eq!((all.done.len(), all.failed.len(), all.missing.len()), (5, 0, 0));
    assert_eq!(all.done[3], (3, Some(vec![3u8].into())));

    let held = agents.distribute("other", jobs(0..3)).await.unwrap();
    let none = agents.aggregate(&held, Enough::Quorum(1), Duration::ZERO).await.unwrap();
    assert_eq!((none.done.len(), none.missing), (0, vec![0, 1, 2]), "what there is at the deadline");
    assert!(matches!(
        agents.aggregate(&held, Enough::Quorum(4), Duration::ZERO).await,
        Err(DistributeError::Quorum { wanted: 4, jobs: 3 })
    ));
    let reopened = store.reopen();
    crash(system).await;
    let system = world.builder().open_on(reopened).await.unwrap();
    let agents = system.task_agents();
    agents.start(of("any", "any", "wait", None)).await.unwrap();
    world.gate.add_permits(2);
    let some = agents.aggregate(&held, Enough::Quorum(2), Duration::from_secs(30)).await.unwrap();
    assert_eq!((some.done.len(), some.missing.len()), (2, 1), "after a crash, from what names them");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_of_an_agent_that_died_open_is_open_in_the_next_life() {
    let (world, store) = (World::new(), MemoryStore::new());
    let breaker = BreakerOptions {
        minimum_number_of_calls: 2,
        sliding_window_size: 2,
        wait_duration_in_open_state_ms: 3_600_000,
        ..BreakerOptions::default()
    };
    let task = TaskType {
        kind: Some("call".into()),
        activity: "shaky".into(),
        timeout_ms: 0,
        retry: None,
        breaker: Some(breaker),
    };
    let config = TaskAgentConfig { types: vec![task], ..TaskAgentConfig::new("a", "q", "note") };
    let system = world.builder().open_on(store.clone()).await.unwrap();
    let queue = system.queue("q").unwrap();
    fast_retries(&queue, 100).await;
    world.fails.store(2, Ordering::SeqCst);
    let agent = system.task_agents().start(config.clone()).await.unwrap();
    queue.enqueue(vec![NewJob::with_input("call", &1u64).unwrap()]).await.unwrap();
    let open = |agent: &TaskAgent| match agent.status().breakers[0].1 {
        BreakerState::Open { until } => Some(until),
        _ => None,
    };
    until("the breaker has opened", || open(&agent).is_some()).await;
    let opened = open(&agent);
    system.breakers().flush().await.unwrap();
    let reopened = store.reopen();
    crash(system).await;
    let system = world.builder().open_on(reopened).await.unwrap();
    let agent = system.task_agents().start(config.clone()).await.unwrap();
    assert_eq!(open(&agent), opened, "until its original time");
    // Stopped and started anew within a life, it goes on likewise.
    system.task_agents().stop("a", Duration::ZERO).await.unwrap();
    let agent = system.task_agents().start(config).await.unwrap();
    assert_eq!(open(&agent), opened);
    assert_eq!(world.begun(), 2, "no call while it is open");
    stop(system).await;
}
