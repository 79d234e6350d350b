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
