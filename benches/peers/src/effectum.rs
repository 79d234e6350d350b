//! effectum on SQLite, with the workers and the settings that it has.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use effectum::{Job, JobRunner, Queue, RunningJob, Worker};
use tokio::sync::Mutex;

use crate::peer::{Peer, Tally};

#[derive(Clone)]
pub struct Effectum {
    queue: Arc<Queue>,
    worker: Arc<Mutex<Option<Worker>>>,
}

async fn work(job: RunningJob, tally: Arc<Tally>) -> Result<(), String> {
    let number: u64 = job.json_payload().map_err(|error| error.to_string())?;
    match tally.run(number) {
        true => Ok(()),
        false => Err("the first attempt fails".into()),
    }
}

impl Peer for Effectum {
    async fn open(dir: &Path, workers: usize, tally: Arc<Tally>) -> Self {
        let queue = Queue::new(&dir.join("effectum.db")).await.expect("a store");
        let most = u16::try_from(workers * 128).unwrap_or(1_024);
        let worker = Worker::builder(&queue, tally)
            .jobs([JobRunner::builder("job", work).build()])
            .min_concurrency(most / 2)
            .max_concurrency(most)
            .build()
            .await
            .expect("a worker");
        Self { queue: Arc::new(queue), worker: Arc::new(Mutex::new(Some(worker))) }
    }

    async fn enqueue(&self, job: u64) {
        let job = Job::builder("job").json_payload(&job).expect("a number encodes");
        let job = job.backoff_initial_interval(Duration::from_millis(1)).build();
        self.queue.add_job(job).await.expect("enqueued");
    }

    fn done(&self, tally: &Tally) -> u64 {
        // It counts what it has acknowledged; while its worker ends, what was run.
        self.worker.try_lock().ok().and_then(|worker| worker.as_ref().map(|worker| worker.counts().finished))
            .unwrap_or_else(|| tally.ran.load(Ordering::Relaxed))
    }

    async fn close(self) {
        let worker = self.worker.lock().await.take();
        if let Some(worker) = worker {
            let _ = worker.unregister(Some(Duration::from_secs(5))).await;
        }
        if let Some(queue) = Arc::into_inner(self.queue) {
            let _ = queue.close(Duration::from_secs(5)).await;
        }
    }
}
