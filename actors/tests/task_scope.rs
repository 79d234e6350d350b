//! Tasks have owners: what `TaskScope` promises.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stanchion_actors::task::{Leftover, SpawnError, TaskEnd, TaskScope};

/// Sets its flag when dropped: tells whether a future was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn quiet(root: &TaskScope) {
    for _ in 0..1_000 {
        if root.census().is_empty() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("still alive: {:?}", root.census());
}

#[tokio::test]
async fn a_task_returns_its_value_and_leaves_the_census() {
    let root = TaskScope::root("sys");
    let task = root.child("tasks").spawn("never", pending::<()>());
    assert_eq!(task.unwrap().await, Err(TaskEnd::Cancelled), "its scope was dropped");
    let scope = root.child("tasks");
    let task = scope.spawn("add", async { 1 + 1 }).unwrap();
    let census = root.census();
    assert_eq!(census.live.len(), 1);
    assert_eq!((&*census.live[0].owner, &*census.live[0].name), ("sys/tasks", "add"));
    assert_eq!(task.await, Ok(2));
    quiet(&root).await;
    let census = root.census();
    assert_eq!((census.started_total, census.ended_total, census.panicked_total), (2, 2, 0));
}

#[tokio::test]
async fn a_panic_is_counted_and_told_to_the_spawner() {
    let root = TaskScope::root("sys");
    let task = root.spawn("bang", async { panic!("bang") }).unwrap();
    assert_eq!(task.await, Err(TaskEnd::Panicked("bang".into())) as Result<(), _>);
    assert_eq!(root.census().panicked_total, 1);
    quiet(&root).await;
}

#[tokio::test]
async fn a_refused_future_is_dropped_without_being_run() {
    let root = TaskScope::root("sys");
    let (ended, closed) = (root.child("ended"), root.child("closed"));
    ended.end();
    closed.close();
    for (scope, expect_ended) in [(ended, true), (closed, false)] {
        let (ran, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (flag, guard) = (ran.clone(), Dropped(dropped.clone()));
        let refused = scope.spawn("late", async move {
            flag.store(true, Ordering::SeqCst);
            drop(guard);
        });
        match refused.unwrap_err() {
            SpawnError::NoSupervisor { name: "late", .. } => assert!(expect_ended),
            SpawnError::ShuttingDown { name: "late", .. } => assert!(!expect_ended),
            other => panic!("{other}"),
        }
        assert!(dropped.load(Ordering::SeqCst) && !ran.load(Ordering::SeqCst));
    }
    assert_eq!(root.census().started_total, 0);
}

#[tokio::test]
async fn a_dropped_scope_ends_the_tasks_of_its_whole_subtree() {
    let root = TaskScope::root("sys");
    let parent = root.child("parent");
    let child = parent.child("child");
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = Dropped(dropped.clone());
    let task = child.spawn("sleep", async move {
        let _guard = guard;
        pending::<()>().await;
    });
    tokio::task::yield_now().await;
    drop(parent);
    assert_eq!(task.unwrap().await, Err(TaskEnd::Cancelled));
    assert!(dropped.load(Ordering::SeqCst));
    assert!(matches!(child.spawn("late", async {}), Err(SpawnError::NoSupervisor { .. })));
    assert!(matches!(child.child("x").spawn("late", async {}), Err(SpawnError::NoSupervisor { .. })));
    quiet(&root).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_deadline_then_aborts() {
    let root = TaskScope::root("sys");
    let scope = root.child("tasks");
    let quick = scope.spawn("quick", tokio::time::sleep(Duration::from_secs(1))).unwrap();
    let slow = scope.child("below").clone();
    let endless = slow.spawn("endless", pending::<()>()).unwrap();
    let before = tokio::time::Instant::now();
    assert_eq!(scope.shutdown(Duration::from_secs(3)).await, Leftover { aborted: 1, stuck: 0 });
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    assert_eq!((quick.await, endless.await), (Ok(()), Err(TaskEnd::Cancelled)));
    assert!(matches!(scope.spawn("late", async {}), Err(SpawnError::ShuttingDown { .. })));
    assert_eq!(root.shutdown(Duration::ZERO).await, Leftover::default());
    quiet(&root).await;
}

#[tokio::test]
async fn a_handle_dropped_lets_the_task_run_on_under_its_owner() {
    let root = TaskScope::root("sys");
    let (tell, told) = tokio::sync::oneshot::channel();
    drop(root.spawn("tell", async move { tell.send(7) }).unwrap());
    assert_eq!(told.await, Ok(7));
    quiet(&root).await;
}

#[tokio::test]
async fn an_actor_is_in_the_census_until_its_guard_is_dropped() {
    let root = TaskScope::root("sys");
    let guard = root.child("agents").actor("counter");
    assert_eq!(root.census().actors.len(), 1);
    assert!(!root.census().is_empty(), "the census of a living actor is not empty");
    drop(guard);
    assert!(root.census().is_empty());
}
