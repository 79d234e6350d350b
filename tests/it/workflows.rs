//! Workflow runs through the whole system.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    error::Coded,
    port::memory::MemoryStore,
    workflow::{Definition, ReadError, RunError, RunRefusal, RunStatus, StartRun, Step, StoredRun},
};
use tokio::sync::Semaphore;

use crate::kit::{stop, until};

/// Waits for a permit, then fails as often as it is told to.
struct Gated {
    go: Arc<Semaphore>,
    begun: Arc<AtomicU32>,
    failures: Arc<AtomicU32>,
}

impl Activity for Gated {
    const NAME: &'static str = "gated";
    type Input = Value;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, _: Value) -> Result<Value, Failure> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let Ok(permit) = self.go.acquire().await else { return Err(Failure::permanent("closed", "closed")) };
        permit.forget();
        let fails = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if fails.is_ok() { Err(Failure::permanent("down", "as told")) } else { Ok(json!("done")) }
    }
}

/// What a test tells the steps of its runs.
struct World {
    store: MemoryStore,
    go: Arc<Semaphore>,
    begun: Arc<AtomicU32>,
    failures: Arc<AtomicU32>,
}

impl World {
    /// The first attempts fail.
    fn new(failures: u32) -> Self {
        Self {
            store: MemoryStore::new(),
            go: Arc::new(Semaphore::new(0)),
            begun: Arc::default(),
            failures: Arc::new(AtomicU32::new(failures)),
        }
    }

    /// A system on what the last one left.
    async fn open(&mut self, wake: bool) -> System {
        self.store = self.store.reopen();
        let (go, begun, failures) =
            (Arc::clone(&self.go), Arc::clone(&self.begun), Arc::clone(&self.failures));
        let builder = System::builder().wake(wake).activity(Gated { go, begun, failures });
        builder.open_on(self.store.clone()).await.unwrap()
    }

    fn begun(&self) -> u32 {
        self.begun.load(Ordering::SeqCst)
    }
}

/// Two steps, one after the other.
fn two_steps() -> Definition {
    let (a, b) = (Step::new("a").activity("gated"), Step::new("b").activity("gated").needs(["a"]));
    Definition::builder("two").step(a).step(b).build()
}

async fn begin(system: &System, id: &str) {
    let definition = system.workflows().define(two_steps().validate().unwrap());
    let started = system.workflows().start(StartRun::new(id, definition)).await.unwrap();
    assert!(!started.known);
}

async fn wait(system: &System, id: &str) -> StoredRun {
    tokio::time::timeout(Duration::from_secs(30), system.workflows().wait(id)).await.unwrap().unwrap()
}

async fn kinds(system: &System, id: &str) -> Vec<&'static str> {
    let run = system.workflows().read(id).await.unwrap();
    let mut kinds = Vec::new();
    run.history(system.store().as_ref(), &mut |line| kinds.push(line.kind)).await.unwrap();
    kinds
}

/// Adds one to a number.
struct Increment(Arc<AtomicU32>);

impl Activity for Increment {
    const NAME: &'static str = "increment";
    type Input = Value;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, input: Value) -> Result<Value, Failure> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(json!(input.as_u64().unwrap_or(0) + 1))
    }
}

fn chain(steps: usize) -> Definition {
    let mut builder = Definition::builder("chain");
    for n in 0..steps {
        let mut step = Step::new(format!("s{n}")).activity("increment");
        if n > 0 {
            step = step.needs([format!("s{}", n - 1)]).input(json!(format!("${{steps.s{}.output}}", n - 1)));
        }
        builder = builder.step(step);
    }
    builder.output(json!(format!("${{steps.s{}.output}}", steps - 1))).build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_steps_hands_its_outputs_on() {
    let dir = tempfile::tempdir().unwrap();
    let ran = Arc::new(AtomicU32::new(0));
    let system = System::builder()
        .activity(Increment(Arc::clone(&ran)))
        .open(dir.path().join("app.redb"))
        .await
        .unwrap();
    let workflows = system.workflows();
    let definition = workflows.define(chain(10).validate().unwrap());
    let started = workflows.start(StartRun::new("r1", Arc::clone(&definition))).await.unwrap();
    assert!(!started.known);
    let run = tokio::time::timeout(Duration::from_secs(10), workflows.wait("r1")).await.unwrap().unwrap();
    assert_eq!(run.state.status(), RunStatus::Completed);
    assert_eq!(run.output(system.store().as_ref()).await.unwrap(), json!(10));
    assert_eq!(ran.load(Ordering::SeqCst), 10);
    let mut kinds = Vec::new();
    run.history(system.store().as_ref(), &mut |line| kinds.push(line.kind)).await.unwrap();
    assert_eq!(kinds.first(), Some(&"run_started"));
    assert_eq!(kinds.last(), Some(&"run_completed"));
    assert_eq!(kinds.iter().filter(|kind| **kind == "step_completed").count(), 10);
    let again = workflows.start(StartRun::new("r1", definition)).await.unwrap();
    assert!(again.known, "the same run, found");
    let report = system.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.left_over, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_run_starts_its_next_step_only_when_resumed() {
    let mut world = World::new(0);
    let system = world.open(true).await;
    begin(&system, "r").await;
    until("the first step runs", || world.begun() == 1).await;
    assert_eq!(system.workflows().pause("r").await.unwrap().status, "paused");
    world.go.add_permits(1);
    let ended = async {
        while !kinds(&system, "r").await.contains(&"step_completed") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
    let again = system.workflows().pause("r").await.unwrap_err();
    assert_eq!(again.code(), "run.illegal_transition");
    assert_eq!(world.begun(), 1, "the run is paused");
    assert_eq!(system.workflows().resume("r", Some(1)).await.unwrap().status, "running");
    world.go.add_permits(1);
    assert_eq!(wait(&system, "r").await.state.status(), RunStatus::Completed);
    let listed = system.store().list(stanchion::port::ListQuery::default(), 10).await.unwrap();
    let listed: Vec<_> =
        listed.iter().map(|row| (row.head.name.to_string(), row.head.status.clone())).collect();
    assert_eq!(listed, [("run/r".to_owned(), "completed".to_owned())]);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_ends_and_takes_no_further_command() {
    let mut world = World::new(0);
    let system = world.open(true).await;
    begin(&system, "r").await;
    until("the first step runs", || world.begun() == 1).await;
    system.workflows().cancel("r").await.unwrap();
    assert_eq!(wait(&system, "r").await.state.status(), RunStatus::Cancelled);
    for refused in [system.workflows().cancel("r").await, system.workflows().retry("r", None).await] {
        assert_eq!(refused.unwrap_err().code(), "run.already_terminal");
    }
    assert_eq!(world.begun(), 1, "the second step never began");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_run_completes_after_a_retry() {
    let mut world = World::new(1);
    let system = world.open(true).await;
    begin(&system, "r").await;
    world.go.add_permits(3);
    let failed = wait(&system, "r").await;
    assert_eq!(failed.state.status(), RunStatus::Failed);
    assert_eq!(failed.state.error().unwrap().step, Some(0));
    let unknown = system.workflows().retry("r", Some("c")).await.unwrap_err();
    assert_eq!(unknown.code(), "run.unknown_step");
    let not_failed = system.workflows().retry("r", Some("b")).await.unwrap_err();
    assert_eq!(not_failed.code(), "run.step_not_failed");
    system.workflows().retry("r", Some("a")).await.unwrap();
    let run = wait(&system, "r").await;
    assert_eq!(run.state.status(), RunStatus::Completed);
    assert_eq!(run.output(system.store().as_ref()).await.unwrap(), Value::Null, "no output is defined");
    assert_eq!(world.begun(), 3);
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_one_run_and_a_name_nobody_started_is_none() {
    let mut world = World::new(0);
    let system = world.open(true).await;
    let workflows = system.workflows();
    begin(&system, "r").await;
    let same = workflows.define(two_steps().validate().unwrap());
    assert!(workflows.start(StartRun::new("r", Arc::clone(&same))).await.unwrap().known);
    let mut other = StartRun::new("r", same);
    other.input = json!(1);
    let RunError::Refused { refusal, .. } = workflows.start(other).await.unwrap_err() else {
        panic!("not refused")
    };
    assert!(matches!(&refusal, RunRefusal::AlreadyExists { definition } if definition == "two"), "{refusal}");
    for unknown in [workflows.pause("x").await, workflows.cancel("x").await, workflows.retry("x", None).await]
    {
        assert_eq!(unknown.unwrap_err().code(), "run.unknown");
    }
    assert!(matches!(workflows.read("x").await, Err(ReadError::Unknown(id)) if id == "x"));
    let bad = workflows.start(StartRun::new("a/b", chain_of_one(&system))).await.unwrap_err();
    assert_eq!(bad.code(), "run.bad_id");
    world.go.add_permits(2);
    assert_eq!(wait(&system, "r").await.state.status(), RunStatus::Completed);
    stop(system).await;
}

fn chain_of_one(system: &System) -> Arc<stanchion::workflow::ValidDefinition> {
    system.workflows().define(chain(1).validate().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_whose_definition_nobody_knows_is_refused() {
    let system = System::builder().open_memory().await.unwrap();
    let name = stanchion::ids::Name::new("run", "r").unwrap();
    // A start sent past the coordinator, which stores the definition first.
    let card = stanchion::workflow::RunCard {
        hash: vec![7; 32],
        definition: "nobody's".into(),
        input: Value::Null,
        workers: 1,
        note: Value::Null,
    };
    let payload = stanchion::port::encode(&stanchion::workflow::RunCommand::Start(card)).unwrap();
    let sent = system.entity(&name).unwrap().call(payload.into(), stanchion::CallOptions::default()).await;
    let stanchion::error::FailureKind::Rejected(why) = sent.unwrap_err().kind else { panic!("not rejected") };
    let why: RunRefusal = stanchion::port::decode(&why).unwrap();
    assert_eq!(why, RunRefusal::UnknownDefinition);
    assert_eq!(system.workflows().pause("r").await.unwrap_err().code(), "run.unknown");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_system_that_wakes_nobody_starts_no_step_and_the_next_one_does() {
    let mut world = World::new(1);
    let system = world.open(true).await;
    begin(&system, "failed").await;
    world.go.add_permits(1);
    assert_eq!(wait(&system, "failed").await.state.status(), RunStatus::Failed);
    stop(system).await;
    let system = world.open(false).await;
    system.workflows().retry("failed", None).await.unwrap();
    begin(&system, "new").await;
    let retried = kinds(&system, "failed").await;
    assert_eq!(retried.last(), Some(&"run_resumed"), "{retried:?}");
    assert_eq!(kinds(&system, "new").await, ["run_started"]);
    stop(system).await;
    assert_eq!(world.begun(), 1);
    // Nobody asks for them: they have work left.
    let system = world.open(true).await;
    world.go.add_permits(4);
    for id in ["failed", "new"] {
        assert_eq!(wait(&system, id).await.state.status(), RunStatus::Completed, "{id}");
    }
    assert_eq!(world.begun(), 5);
    stop(system).await;
}
