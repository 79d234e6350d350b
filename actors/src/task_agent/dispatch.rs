//! The dispatcher of a pool: leases jobs under the pool's name and gives each to an agent.

use std::{sync::Arc, time::Duration};

use super::{job::JOB_DRAINED, pool::PoolShared};
use crate::{
    env::Env,
    health::Vital,
    queue::{LeaseRequest, QUEUE_BATCH_MAX, Queue, QueueError, Release, Taker, Work},
};

/// Pause after the queue did not answer.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Dispatches the jobs of one pool in one life of its actor.
pub(super) struct Dispatcher {
    env: Arc<Env>,
    pool: Arc<PoolShared>,
    taker: Taker,
    vital: Vital,
}

impl Dispatcher {
    pub(super) fn new(env: &Arc<Env>, pool: Arc<PoolShared>) -> Result<Self, QueueError> {
        let any_kind = pool.config.types.iter().any(|task| task.kind.is_none());
        let taker = Taker::new(Queue::new(env, &pool.config.queue)?, any_kind);
        let vital = env.vitals().begin(&format!("task-pool/{}", pool.name()));
        Ok(Self { env: Arc::clone(env), pool, taker, vital })
    }

    /// Dispatches as long as it is polled.
    pub(super) async fn work(mut self) {
        let life = u64::try_from(self.env.began().0).unwrap_or(0);
        while let Err(error) = self.taker.queue().release_worker(self.pool.name(), life).await {
            self.vital.degraded(error.to_string());
            tokio::time::sleep(TRY_AGAIN).await;
        }
        self.vital.up();
        loop {
            let free = self.pool.free().min(QUEUE_BATCH_MAX);
            if free == 0 {
                tokio::select! {
                    () = self.pool.until_room() => {}
                    // A pause that ends tells nobody.
                    () = tokio::time::sleep(TRY_AGAIN) => {}
                }
                continue;
            }
            self.take(free, life).await;
        }
    }

    async fn take(&mut self, free: usize, life: u64) {
        let named = self.pool.config.types.iter().map(|task| task.kind.as_deref().map(Arc::from));
        // One type for every kind: any.
        let kinds: Option<Vec<Arc<str>>> = named.collect();
        let request = LeaseRequest {
            worker: Arc::from(self.pool.name()),
            incarnation: life,
            kinds: kinds.unwrap_or_default(),
            n: free,
            lease_ms: self.pool.config.lease_ms,
        };
        let taken = match self.taker.take(request).await {
            Ok(taken) => taken,
            Err(error) => {
                self.vital.degraded(error.to_string());
                return tokio::time::sleep(TRY_AGAIN).await;
            }
        };
        self.vital.up();
        if taken.is_empty() {
            return self.taker.until_ready().await;
        }
        for work in taken {
            if let Some(work) = self.pool.give(work, self.env.now(), self.env.next_seed()) {
                self.give_back(work).await;
            }
        }
    }

    /// An agent that had room when the job was leased has none any more.
    async fn give_back(&self, work: Work) {
        let (job, fence) = (work.id.seq, work.lease.fence);
        let release = Release { job, fence, code: JOB_DRAINED.to_owned(), after_ms: 0 };
        if let Err(error) = self.taker.queue().release(work.id.partition, vec![release]).await {
            // Its lease runs out.
            self.vital.degraded(error.to_string());
        }
    }
}
