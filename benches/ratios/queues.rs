//! Jobs from their enqueueing to their end, each acknowledged on disk three times: enqueued, leased, done.

use serde_json::Value;
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    error::Coded,
    queue::{NewJob, Queue, QueueConfig},
    task_agent::TaskAgentConfig,
};

use crate::{
    Lab,
    agents::{Blob, callers},
    discard,
    drive::{Lane, drive},
};

/// Does nothing.
struct Nothing;

impl Activity for Nothing {
    const NAME: &'static str = "nothing";
    type Input = u64;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, _: u64) -> Result<Value, Failure> {
        Ok(Value::Null)
    }
}

/// A producer of one job at a time.
struct Producer(Queue);

impl Lane for Producer {
    async fn step(&mut self) {
        let job = NewJob::with_input("", &1u64).expect("a number encodes");
        // A full queue holds its producers up, so that what is enqueued is what is done.
        while let Err(error) = self.0.enqueue(vec![job.clone()]).await {
            assert_eq!(error.code(), "queue.full", "{error}");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

/// Rows `queue_1`, `queue_64`, `queue_256`.
pub async fn run(lab: &Lab) {
    for producers in [1, 64, 256] {
        let name = format!("queue_{producers}");
        if !lab.wants(&name) {
            continue;
        }
        let core = core(lab, producers).await;
        let path = lab.path(&name);
        let system = System::builder().activity(Nothing).open(&path).await.expect("a store");
        let queue = system.queue("jobs").expect("a name");
        let partitions = 8;
        let config =
            QueueConfig { partitions, max: 256, per_key_limit: 0, keep_ended: 0, ..QueueConfig::default() };
        queue.configure(config).await.expect("settings");
        let agent =
            TaskAgentConfig { concurrency: 1_024, ..TaskAgentConfig::new("worker", "jobs", "nothing") };
        let agent = system.task_agents().start(agent).await.expect("a worker");
        let lanes = (0..producers).map(|_| Producer(queue.clone())).collect();
        let done = agent.status().counts.done;
        let began = std::time::Instant::now();
        let (cell, _) = drive(lanes, lab.seconds, || system.store_stats()).await;
        let done_per_s = (agent.status().counts.done - done) as f64 / began.elapsed().as_secs_f64();
        let raw = [
            ("core_per_s", core),
            ("enqueued_per_s", cell.per_s),
            ("done_per_s", done_per_s),
            ("enqueue_p50_ms", cell.p50_ms),
            ("enqueue_p99_ms", cell.p99_ms),
            ("cpu_us", cell.cpu_us),
            ("commits_per_s", cell.commits_per_s),
            ("of_core", done_per_s / core),
        ];
        lab.report.figure(&name, &raw);
        let _ = system.stop(std::time::Duration::from_secs(10)).await;
        discard(&path);
    }
}

/// Transitions of as many agents, each with its own caller.
async fn core(lab: &Lab, agents: usize) -> f64 {
    let path = lab.path("queue-core");
    let system = System::builder().agent::<Blob>().open(&path).await.expect("a store");
    let (cell, lanes) =
        drive(callers::<Blob>(&system, agents, 1), lab.seconds, || system.store_stats()).await;
    drop(lanes);
    let _ = system.stop(std::time::Duration::ZERO).await;
    discard(&path);
    cell.per_s
}
