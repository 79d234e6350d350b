//! Tasks under a task supervisor, and what is left when everything has ended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::HashSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use stanchion_actors::task::{ActorGuard, TaskEnd, TaskScope};
use stanchion_supervisors::{
    ChildSpec, DynamicChild, DynamicSpec, DynamicSupervisor, Intensity, RunError, Shutdown, Strategy,
    Supervisor, SupervisorSpec, TaskSupervisor, TaskSupervisorOptions,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use support::{ChildMsg, World};

const OPTIONS: TaskSupervisorOptions = TaskSupervisorOptions { max_tasks: 2, drain: Duration::from_secs(3) };

async fn supervised(world: &World) -> (TaskSupervisor, Supervisor) {
    let tasks = TaskSupervisor::new(&world.root, OPTIONS);
    let spec = world.empty_spec(Strategy::OneForOne).child(tasks.child_spec("tasks"));
    let supervisor = world.started(spec).await;
    (tasks, supervisor)
}

async fn actor_of(supervisor: &Supervisor, id: &str) -> ractor::ActorCell {
    let children = supervisor.which_children().await.unwrap();
    match children.into_iter().find(|child| &*child.id == id).map(|child| child.status) {
        Some(stanchion_supervisors::ChildStatus::Running(cell)) => cell,
        other => panic!("{id}: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_needs_a_living_supervisor_and_a_free_place() {
    let world = World::new();
    let early = TaskSupervisor::new(&world.root, OPTIONS);
    assert_eq!(early.try_run("early", async {}).unwrap_err(), RunError::NotRunning { name: "early" });
    assert_eq!(early.free(), 2, "a refused task takes no place");

    let (tasks, supervisor) = supervised(&world).await;
    let (first, _second) =
        (tasks.try_run("t", pending::<()>()).unwrap(), tasks.try_run("t", pending::<()>()).unwrap());
    assert_eq!(tasks.try_run("t", async {}).unwrap_err(), RunError::Full { name: "t", limit: 2 });
    let third = tasks.run("t", async { 3 });
    let mut third = std::pin::pin!(third);
    assert!(futures_poll(third.as_mut()).await.is_none(), "waits for a place");
    first.abort();
    assert_eq!(third.await.unwrap().await, Ok(3));
    supervisor.stop(Shutdown::Infinity).await;
    assert_eq!(tasks.try_run("late", async {}).unwrap_err(), RunError::NotRunning { name: "late" });
    assert_eq!(tasks.free(), 2);
    world.assert_nobody_lives().await;
}

/// Polls once.
async fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    tokio::select! { biased; output = future => Some(output), () = std::future::ready(()) => None }
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_tasks_up_to_the_drain_then_aborts() {
    let world = World::new();
    let (tasks, supervisor) = supervised(&world).await;
    let quick = tasks.try_run("quick", tokio::time::sleep(Duration::from_secs(1))).unwrap();
    let endless = tasks.try_run("endless", pending::<()>()).unwrap();
    let before = tokio::time::Instant::now();
    supervisor.stop(Shutdown::Infinity).await;
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    assert_eq!((quick.await, endless.await), (Ok(()), Err(TaskEnd::Cancelled)));
    world.expect(&["end tasks shutdown", "end sup shutdown"]).await;
    world.assert_nobody_lives().await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_task_supervisor_takes_its_tasks_along_and_comes_back_empty() {
    let world = World::new();
    let (tasks, supervisor) = supervised(&world).await;
    for _ in 0..5 {
        let task = tasks.try_run("endless", pending::<()>()).unwrap();
        actor_of(&supervisor, "tasks").await.kill();
        assert_eq!(task.await, Err(TaskEnd::Cancelled));
        world.expect(&["end tasks killed", "start tasks"]).await;
        assert_eq!((world.root.live(), tasks.free()), (0, 2));
    }
    assert_eq!(tasks.try_run("t", async { 1 }).unwrap().await, Ok(1));
    world.finish(supervisor).await;
}

/// A worker that holds a permit and runs a task in a scope of its own.
struct Worker;

struct WorkerState {
    _scope: TaskScope,
    _permit: OwnedSemaphorePermit,
    /// The last to be dropped: who has left the census has returned everything else.
    _guard: ActorGuard,
}

async fn work() {
    let mut pulse = tokio::time::interval(Duration::from_millis(5));
    loop {
        pulse.tick().await;
    }
}

impl Actor for Worker {
    type Msg = ChildMsg;
    type State = WorkerState;
    type Arguments = (TaskScope, Arc<Semaphore>);

    async fn pre_start(
        &self,
        _: ActorRef<ChildMsg>,
        (root, permits): Self::Arguments,
    ) -> Result<WorkerState, ActorProcessingErr> {
        let scope = root.child("worker");
        scope.spawn("work", work())?;
        Ok(WorkerState {
            _guard: root.actor("worker"),
            _scope: scope,
            _permit: permits.acquire_owned().await?,
        })
    }
}

/// Waits, with a limit, until nobody lives.
async fn gone(root: &TaskScope) {
    let all_gone = async {
        while !root.census().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), all_gone).await;
    assert!(waited.is_ok(), "{} tasks, {} actors left", root.live(), root.census().actors.len());
}

/// Kills a parent of 1 000 children at work: permits, tasks and actors are gone within a second.
async fn kill_a_parent_of_a_thousand() {
    let root = TaskScope::root("load");
    let permits = Arc::new(Semaphore::new(1_000));
    let supervisor = DynamicSupervisor::start(DynamicSpec::default(), None, None).await.unwrap();
    for _ in 0..1_000 {
        let (root, permits) = (root.clone(), Arc::clone(&permits));
        let child = DynamicChild::actor("worker", move || (Worker, (root.clone(), Arc::clone(&permits))));
        supervisor.start_child(child).await.unwrap();
    }
    assert_eq!((root.census().actors.len(), root.live(), permits.available_permits()), (1_000, 1_000, 0));
    let before = std::time::Instant::now();
    supervisor.cell().kill();
    gone(&root).await;
    assert!(before.elapsed() < Duration::from_secs(1), "took {:?}", before.elapsed());
    assert_eq!(permits.available_permits(), 1_000);
    supervisor.ended().await;
}

/// SUP-2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_parent_leaves_no_orphan_among_a_thousand_children() {
    for _ in 0..20 {
        kill_a_parent_of_a_thousand().await;
    }
}

/// SUP-2: memory after round 100 within 5 % of round 10. On one thread, for what is asked is whether anything is kept:
/// with several, glibc's arenas alone move the resident size by a third; with `MALLOC_ARENA_MAX=1` they do not.
#[tokio::test]
#[ignore = "campaign: takes a minute; run alone"]
async fn a_hundred_killed_parents_leave_no_memory_behind() {
    let mut after_ten = 0;
    for round in 1..=100 {
        kill_a_parent_of_a_thousand().await;
        if round == 10 {
            after_ten = resident_pages();
        }
    }
    let after_hundred = resident_pages();
    println!("resident pages: {after_ten} -> {after_hundred}");
    assert!(after_hundred * 100 <= after_ten * 105, "{after_ten} -> {after_hundred} pages");
}

fn resident_pages() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// SUP-1: 10 000 operations under random kills; then nobody lives, and every task had an owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_operations_under_kills_leave_nobody_unowned() {
    let root = TaskScope::root("sys");
    let tasks =
        TaskSupervisor::new(&root, TaskSupervisorOptions { max_tasks: 64, drain: Duration::from_secs(1) });
    let permits = Arc::new(Semaphore::new(1_000));
    let (worker_root, worker_permits) = (root.clone(), Arc::clone(&permits));
    let worker =
        ChildSpec::actor("worker", move || (Worker, (worker_root.clone(), Arc::clone(&worker_permits))));
    let spec =
        SupervisorSpec::new(Strategy::OneForOne).intensity(Intensity::new(1_000_000, Duration::from_secs(1)));
    let supervisor =
        Supervisor::start(spec.child(tasks.child_spec("tasks")).child(worker), None, None).await.unwrap();
    let (mut random, mut ran, mut owners) = (7_u64, 0_u64, HashSet::new());
    for operation in 0..10_000_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match (random >> 33) % 100 {
            0 => supervisor_kill(&supervisor, "tasks").await,
            1 => supervisor_kill(&supervisor, "worker").await,
            _ => {
                let ended = tasks.run("operation", async move { operation }).await;
                ran += u64::from(ended.is_ok());
                owners.extend(root.census().live.into_iter().map(|task| task.owner));
            }
        }
    }
    assert!(ran > 9_000, "only {ran} operations ran");
    supervisor.stop(Shutdown::Infinity).await;
    gone(&root).await;
    let census = root.census();
    assert_eq!(census.started_total, census.ended_total);
    assert!(census.started_total >= ran && census.panicked_total == 0);
    let known = HashSet::from([Arc::from("sys/tasks"), Arc::from("sys/worker")]);
    assert!(owners.is_subset(&known), "{owners:?}");
}

/// Kills the child if it lives; between two lives there is nothing to kill.
async fn supervisor_kill(supervisor: &Supervisor, id: &str) {
    let children = supervisor.which_children().await.unwrap();
    for child in children {
        if let (true, stanchion_supervisors::ChildStatus::Running(cell)) = (&*child.id == id, child.status) {
            cell.kill();
        }
    }
}
