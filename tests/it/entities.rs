//! Agents through the whole system.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stanchion::{Agent, Ctx, Never, System};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter(u64);

impl Agent for Counter {
    const KIND: &'static str = "counter";
    type Command = u64;
    type Reply = u64;
    type Rejection = Never;
    fn handle(&mut self, add: u64, _: &mut Ctx<'_>) -> Result<u64, Never> {
        self.0 += add;
        Ok(self.0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    for expected in 1..=3 {
        let system = System::builder().agent::<Counter>().open(&path).await.unwrap();
        let counter = system.agent::<Counter>("visits").unwrap().with_deadline(Duration::from_secs(3));
        assert_eq!(counter.call(1).await.unwrap(), expected);
        let report = system.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(report.left_over, 0, "no live actors, no tasks");
    }
}

/// Says who handled the command before.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Worker(String);

/// Empty in the test itself, which is not a task.
fn this_task() -> String {
    tokio::task::try_id().map(|id| id.to_string()).unwrap_or_default()
}

impl Agent for Worker {
    const KIND: &'static str = "worker";
    type Command = ();
    type Reply = String;
    type Rejection = Never;
    fn handle(&mut self, (): (), _: &mut Ctx<'_>) -> Result<String, Never> {
        Ok(std::mem::replace(&mut self.0, this_task()))
    }
}

#[tokio::test]
async fn a_caller_that_waits_does_the_turn_of_an_idle_entity_and_a_cast_is_left_to_the_actor() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::builder().agent::<Worker>().open(dir.path().join("app.redb")).await.unwrap();
    let worker = system.agent::<Worker>("one").unwrap();
    worker.call(()).await.unwrap();
    let first = worker.call(()).await.unwrap();
    let second = worker.call(()).await.unwrap();
    worker.cast(()).await.unwrap();
    let (after_cast, me) = (worker.call(()).await.unwrap(), this_task());
    assert_ne!(first, me, "whoever activates it is the actor");
    assert_eq!(second, me, "it was idle");
    assert_ne!(after_cast, me, "nobody waits for a cast");
    let report = system.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.left_over, 0, "no live actors, no tasks");
}
