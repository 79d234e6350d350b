//! Queues of stanchion: jobs are done by one task agent.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::Value;
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    error::Coded,
    queue::{NewJob, Queue, QueueConfig},
    task_agent::{TaskAgent, TaskAgentConfig},
};

use crate::peer::{Peer, Tally};

#[derive(Clone)]
pub struct Stanchion {
    system: Arc<System>,
    queue: Queue,
    agent: TaskAgent,
}

/// Runs a job of the tally.
struct Work(Arc<Tally>);

impl Activity for Work {
    const NAME: &'static str = "work";
    type Input = u64;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, job: u64) -> Result<Value, Failure> {
        match self.0.run(job) {
            true => Ok(Value::Null),
            false => Err(Failure::retryable("work.failed", "the first attempt fails")),
        }
    }
}

impl Peer for Stanchion {
    async fn open(dir: &Path, workers: usize, tally: Arc<Tally>) -> Self {
        let path = dir.join("stanchion.redb");
        let system = System::builder().activity(Work(tally)).open(&path).await.expect("a store");
        let queue = system.queue("jobs").expect("a name");
        let retry = stanchion::resilience::retry::RetryPolicy {
            initial_interval_ms: 1,
            maximum_interval_ms: Some(1),
            ..Default::default()
        };
        let config = QueueConfig {
            partitions: 8,
            max: 16_384,
            per_key_limit: 0,
            keep_ended: 0,
            retry,
            ..QueueConfig::default()
        };
        queue.configure(config).await.expect("settings");
        // As many jobs at once as eight peers' workers take at a time.
        let concurrency = u32::try_from(workers * 128).unwrap_or(1_024).min(1_024);
        let agent = TaskAgentConfig { concurrency, ..TaskAgentConfig::new("worker", "jobs", "work") };
        let agent = system.task_agents().start(agent).await.expect("a worker");
        Self { system: Arc::new(system), queue, agent }
    }

    async fn enqueue(&self, job: u64) {
        let job = NewJob::with_input("", &job).expect("a number encodes");
        while let Err(error) = self.queue.enqueue(vec![job.clone()]).await {
            assert_eq!(error.code(), "queue.full", "{error}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn done(&self, _: &Tally) -> u64 {
        self.agent.status().counts.done
    }

    async fn close(self) {
        let Self { system, queue, agent } = self;
        drop((queue, agent));
        if let Some(system) = Arc::into_inner(system) {
            let _ = system.stop(Duration::from_secs(10)).await;
        }
    }
}
