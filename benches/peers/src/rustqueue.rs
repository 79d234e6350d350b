//! rustqueue on redb. Its workers are ours: it has none for a library, so they are woken by each enqueueing and take as
//! many jobs at once as there are.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustqueue::{
    QueueManager,
    engine::queue::{BatchAckItem, JobOptions},
    storage::{BufferedRedbConfig, BufferedRedbStorage, RedbStorage},
};
use serde_json::json;
use tokio::{sync::Notify, task::JoinHandle};

use crate::peer::{Peer, Tally};

/// Jobs taken at once.
const TAKEN: u32 = 128;

/// A commit for each job enqueued and for each job done.
#[derive(Clone)]
pub struct Immediate(Shared);
/// The same, and a worker tells the ends of all jobs that it took at once.
#[derive(Clone)]
pub struct Batched(Shared);
/// Its write coalescing with the settings of its own documentation: answered after the shared commit.
#[derive(Clone)]
pub struct Buffered(Shared);

#[derive(Clone)]
struct Shared {
    manager: Arc<QueueManager>,
    work: Arc<Notify>,
    workers: Arc<Vec<JoinHandle<()>>>,
}

impl Shared {
    fn open(manager: QueueManager, workers: usize, tally: &Arc<Tally>, in_batches: bool) -> Self {
        let (manager, work) = (Arc::new(manager), Arc::new(Notify::new()));
        let workers = (0..workers)
            .map(|_| {
                let (manager, work, tally) = (Arc::clone(&manager), Arc::clone(&work), Arc::clone(tally));
                tokio::spawn(async move {
                    loop {
                        let jobs = manager.pull("jobs", TAKEN).await.expect("jobs");
                        if jobs.is_empty() {
                            let _ = tokio::time::timeout(Duration::from_millis(5), work.notified()).await;
                            continue;
                        }
                        let (mut done, mut failed) = (Vec::new(), Vec::new());
                        for job in jobs {
                            let number = job.data["job"].as_u64().expect("a number");
                            if tally.run(number) { done.push(job.id) } else { failed.push(job.id) }
                        }
                        let count = done.len() as u64;
                        if in_batches {
                            let ended = done.into_iter().map(|id| BatchAckItem { id, result: None });
                            manager.ack_batch(ended.collect()).await.expect("acknowledged");
                        } else {
                            let ended = done.into_iter().map(|id| manager.ack(id, None));
                            for ended in futures_util::future::join_all(ended).await {
                                ended.expect("acknowledged");
                            }
                        }
                        tally.acknowledged.fetch_add(count, Ordering::Relaxed);
                        for id in failed {
                            manager.fail(id, "the first attempt fails").await.expect("told");
                        }
                    }
                })
            })
            .collect();
        Self { manager, work, workers: Arc::new(workers) }
    }

    async fn enqueue(&self, job: u64) {
        let options = JobOptions {
            remove_on_complete: Some(true),
            backoff_delay_ms: Some(0),
            ..JobOptions::default()
        };
        self.manager.push("jobs", "job", json!({"job": job}), Some(options)).await.expect("enqueued");
        self.work.notify_one();
    }

    fn close(&self) {
        self.workers.iter().for_each(JoinHandle::abort);
    }
}

fn redb(dir: &Path) -> RedbStorage {
    RedbStorage::new(dir.join("rustqueue.redb")).expect("a store")
}

impl Peer for Immediate {
    async fn open(dir: &Path, workers: usize, tally: Arc<Tally>) -> Self {
        Self(Shared::open(QueueManager::new(Arc::new(redb(dir))), workers, &tally, false))
    }
    async fn enqueue(&self, job: u64) {
        self.0.enqueue(job).await;
    }
    async fn close(self) {
        self.0.close();
    }
}

impl Peer for Batched {
    async fn open(dir: &Path, workers: usize, tally: Arc<Tally>) -> Self {
        Self(Shared::open(QueueManager::new(Arc::new(redb(dir))), workers, &tally, true))
    }
    async fn enqueue(&self, job: u64) {
        self.0.enqueue(job).await;
    }
    async fn close(self) {
        self.0.close();
    }
}

impl Peer for Buffered {
    async fn open(dir: &Path, workers: usize, tally: Arc<Tally>) -> Self {
        let buffered = BufferedRedbStorage::new(Arc::new(redb(dir)), BufferedRedbConfig::default());
        Self(Shared::open(QueueManager::new(Arc::new(buffered)), workers, &tally, false))
    }
    async fn enqueue(&self, job: u64) {
        self.0.enqueue(job).await;
    }
    async fn close(self) {
        self.0.close();
    }
}
