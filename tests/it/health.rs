//! How services are and what they count, whatever else goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stanchion::{
    Activity, ActivityCtx, Failure, Health, Stats, Status, System,
    port::memory::MemoryStore,
    workflow::{Definition, RunStatus, StartRun, Step},
};
use stanchion_actors::entity::EffectsMsg;
use stanchion_actors::persistence::PersistenceMsg;
use tokio::sync::Semaphore;

use crate::kit::{Command, builder, kill, ledger, open, stop, until};

/// Runs until it is let go, as a call of a second does.
struct Slow {
    begun: Arc<AtomicU32>,
    go: Arc<Semaphore>,
}

impl Activity for Slow {
    const NAME: &'static str = "slow";
    type Input = Value;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, _: Value) -> Result<Value, Failure> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _place = self.go.acquire().await;
        Ok(json!(null))
    }
}

fn health(system: &System) -> BTreeMap<String, Health> {
    system.health().into_iter().collect()
}

fn stats(system: &System, name: &str) -> Stats {
    system.stats().into_iter().find(|(known, _)| known == name).unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_is_listed_and_up_and_drains_with_the_system() {
    let system = open(&MemoryStore::new()).await;
    let names: Vec<_> = health(&system).into_keys().filter(|name| !name.contains("-supervisor-")).collect();
    let services = [
        "coordinator",
        "outbox",
        "persistence",
        "policies",
        "task-supervisor",
        "timers",
        "volatile-supervisor",
    ];
    assert_eq!(names, services);
    assert_eq!(health(&system).len(), services.len() + 8, "and the shards of agents and runs");
    assert!(health(&system).values().all(|health| health.status == Status::Up && health.cause.is_none()));
    assert_eq!(system.stats().len(), health(&system).len());
    assert_eq!(system.drain(Duration::ZERO).await, 0);
    assert!(health(&system).values().all(|health| health.status == Status::Draining));
    let env = Arc::clone(system.env());
    stop(system).await;
    assert!(env.health().iter().all(|(_, health)| health.status == Status::Down), "{:?}", env.health());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_stats_answer_promptly_with_a_thousand_operations_in_flight() {
    const OPERATIONS: u32 = 1_000;
    let (begun, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let activity = Slow { begun: Arc::clone(&begun), go: Arc::clone(&go) };
    let system = builder().activity(activity).open_memory().await.unwrap();
    let steps = (0..OPERATIONS).map(|n| Step::new(format!("s{n}")).activity("slow"));
    let definition = steps.fold(Definition::builder("wide"), |builder, step| builder.step(step)).build();
    let mut start = StartRun::new("r", system.workflows().define(definition.validate().unwrap()));
    start.workers = OPERATIONS;
    system.workflows().start(start).await.unwrap();
    until("all are in flight", || begun.load(Ordering::SeqCst) == OPERATIONS).await;
    let effects = system.env().services().effects.actor().unwrap();
    let persistence = system.env().services().persistence.actor().unwrap();
    let mut took = Vec::new();
    for _ in 0..200 {
        let asked = Instant::now();
        assert!(system.health().iter().all(|(_, health)| health.status == Status::Up));
        assert_eq!(stats(&system, "task-supervisor").count("started"), u64::from(OPERATIONS));
        // Through their mailboxes, too.
        let running = ractor::call_t!(effects, EffectsMsg::Running, 60_000).unwrap();
        assert_eq!(running.len(), OPERATIONS as usize);
        let _stats = ractor::call_t!(persistence, PersistenceMsg::Stats, 60_000).unwrap();
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    assert!(took[197] < Duration::from_millis(50), "p99 {:?}", took[197]);
    go.add_permits(OPERATIONS as usize);
    assert_eq!(system.workflows().wait("r").await.unwrap().state.status(), RunStatus::Completed);
    let counted = stats(&system, "task-supervisor");
    let [started, succeeded, failed, cancelled] =
        ["started", "succeeded", "failed", "cancelled"].map(|name| counted.count(name));
    assert_eq!((started, succeeded, failed, cancelled), (OPERATIONS.into(), OPERATIONS.into(), 0, 0));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_killed_says_since_when_its_next_life_is_up() {
    let system = open(&MemoryStore::new()).await;
    let before = health(&system)["timers"].since;
    let place = || system.env().services().timers.actor().unwrap();
    let actor = place();
    actor.kill();
    until("there is a new one", || place().get_id() != actor.get_id()).await;
    until("it is up", || health(&system)["timers"].status == Status::Up).await;
    assert!(health(&system)["timers"].since > before);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_counts_its_children_and_is_degraded_while_one_is_blocked() {
    let system = open(&MemoryStore::new()).await;
    let from = ledger(&system, "from");
    from.call(Command::Add(1)).await.unwrap();
    for _ in 0..4 {
        kill(&from).await;
        from.untyped().cell().unwrap().wake();
        until("it is there, or blocked", || {
            from.untyped().cell().unwrap().is_active() || from.untyped().cell().unwrap().blocked().is_some()
        })
        .await;
    }
    let ill = || health(&system).into_iter().find(|(_, health)| health.status == Status::Degraded);
    until("its supervisor says so", || ill().is_some()).await;
    let (name, health) = ill().unwrap();
    assert!(name.starts_with("agent-supervisor-"), "{name}");
    assert!(health.cause.unwrap().contains("ledger/from"));
    let counted = stats(&system, &name);
    assert_eq!((counted.count("started"), counted.count("ended"), counted.count("crashed")), (4, 0, 4));
    until("it is forgiven", || ill().is_none()).await;
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_opened_anew_is_counted_and_up_again() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let from = ledger(&system, "from");
    from.call(Command::Add(1)).await.unwrap();
    store.faults().fail_next(1, stanchion::port::memory::Failure::UnknownLost);
    assert!(from.call(Command::Add(1)).await.is_err());
    until("it is opened anew", || stats(&system, "persistence").count("reopened") == 1).await;
    until("it is up", || health(&system)["persistence"].status == Status::Up).await;
    assert!(stats(&system, "persistence").counters.contains_key("commits"));
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_are_degraded_while_due_rows_cannot_be_read() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let now = || health(&system)["timers"].clone();
    store.faults().fail_reads(true);
    // The next life reads them anew.
    system.env().services().timers.actor().unwrap().kill();
    until("they say so", || now().status == Status::Degraded).await;
    assert!(now().cause.unwrap().contains("reads fail on purpose"));
    let since = now().since;
    store.faults().fail_reads(false);
    until("they are read again", || now().status == Status::Up).await;
    assert!(now().since >= since && now().cause.is_none());
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outbox_is_degraded_while_messages_do_not_arrive() {
    let store = MemoryStore::new();
    let system = open(&store).await;
    let (from, to) = (ledger(&system, "from"), ledger(&system, "to"));
    from.call(Command::Add(5)).await.unwrap();
    let now = || health(&system)["outbox"].clone();
    // The receiver sleeps, and what wakes it cannot be read.
    store.faults().fail_reads(true);
    from.call(Command::Transfer { to: "to".into(), amount: 5 }).await.unwrap();
    until("it says so", || now().status == Status::Degraded).await;
    assert!(now().cause.unwrap().contains("messages of 1 senders"));
    store.faults().fail_reads(false);
    until("they arrive", || now().status == Status::Up).await;
    assert_eq!(to.read(|to| to.balance).await, Ok(5));
    stop(system).await;
}

#[cfg(feature = "testing")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn persistence_is_degraded_while_the_store_does_not_open_anew() {
    use stanchion::store::{
        StoreFile,
        testing::{DiskCall, FaultyDisk},
    };
    let disk = FaultyDisk::new();
    let options = crate::support::small(&disk);
    let system = builder().store_options(options).open("memory.redb").await.unwrap();
    let from = ledger(&system, "from");
    from.call(Command::Add(1)).await.unwrap();
    let now = || health(&system)["persistence"].clone();
    for call in [DiskCall::Sync, DiskCall::Write] {
        disk.fail(StoreFile::Log, call, 0, std::io::ErrorKind::Other);
    }
    assert!(from.call(Command::Add(1)).await.is_err());
    until("it says so", || now().cause.is_some_and(|cause| cause.contains("does not open"))).await;
    assert_eq!(now().status, Status::Degraded);
    disk.heal();
    until("it is open", || now().status == Status::Up).await;
    assert!(from.read(|from| from.balance).await.unwrap() >= 1, "what was acknowledged is there");
    stop(system).await;
}
