//! Tells the queue what became of jobs, in batches: while one is on its way to the disk, the next one gathers.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    engine::{Engine, Listed},
    shared::count,
};
use crate::{
    entity::Failure,
    queue::{Ack, Nack, QUEUE_BATCH_MAX, QueueError, QueueRefusal, Release, Settled},
    resilience::retry::RetryPolicy,
};

/// The queue is told again so often while it does not answer; then the leases run out.
const TELLS: u32 = 40;
/// Pause between two tells.
const TELL_AGAIN: Duration = Duration::from_millis(250);

/// A job whose attempt is over.
pub(super) struct Ended {
    pub(super) listed: Listed,
    pub(super) fence: u64,
    pub(super) verdict: Verdict,
}

/// What is told of it.
pub(super) enum Verdict {
    Done(Bytes),
    Failed { failure: Failure, retry: Option<RetryPolicy> },
    Released { code: &'static str, after_ms: u64 },
    Nothing,
}

impl Verdict {
    pub(super) fn failed(failure: Failure, retry: Option<RetryPolicy>) -> Self {
        Self::Failed { failure, retry }
    }
}

/// What is told to one partition.
#[derive(Default)]
struct Batch {
    acks: Vec<Ack>,
    nacks: Vec<Nack>,
    releases: Vec<Release>,
    /// The jobs stay listed, and their leases are extended, until the queue has been told.
    listed: Vec<Listed>,
}

impl Batch {
    fn add(&mut self, ended: Ended) {
        let (job, fence) = (ended.listed.id.seq, ended.fence);
        match ended.verdict {
            Verdict::Done(output) => {
                // An output of nothing is not kept.
                let output = (output.as_ref() != NIL).then_some(output);
                self.acks.push(Ack { job, fence, output });
            }
            Verdict::Failed { failure, retry } => self.nacks.push(Nack { job, fence, failure, retry }),
            Verdict::Released { code, after_ms } => {
                self.releases.push(Release { job, fence, code: code.to_owned(), after_ms });
            }
            Verdict::Nothing => {}
        }
        self.listed.push(ended.listed);
    }
}

/// MessagePack of nothing.
const NIL: &[u8] = &[0xc0];

impl Engine {
    /// Settles what ends, as long as it is polled.
    pub(super) async fn settle(self: Arc<Self>, mut ended: mpsc::Receiver<Ended>) {
        let mut buffer = Vec::with_capacity(QUEUE_BATCH_MAX);
        while ended.recv_many(&mut buffer, QUEUE_BATCH_MAX).await > 0 {
            let mut batches: BTreeMap<u16, Batch> = BTreeMap::new();
            for one in buffer.drain(..) {
                if matches!(one.verdict, Verdict::Nothing) {
                    count(&self.shared.tallies.lost);
                }
                batches.entry(one.listed.id.partition).or_default().add(one);
            }
            let told = batches.into_iter().map(|(partition, batch)| self.tell(partition, batch));
            futures_util::future::join_all(told).await;
        }
    }

    async fn tell(&self, partition: u16, batch: Batch) {
        let Batch { acks, nacks, releases, listed } = batch;
        let (queue, tallies) = (&self.queue, &self.shared.tallies);
        if !acks.is_empty() {
            self.until_told(acks.len(), &tallies.done, || queue.ack(partition, acks.clone())).await;
        }
        if !nacks.is_empty() {
            self.until_told(nacks.len(), &tallies.failed, || queue.nack(partition, nacks.clone())).await;
        }
        if !releases.is_empty() {
            let tell = || queue.release(partition, releases.clone());
            self.until_told(releases.len(), &tallies.released, tell).await;
        }
        drop(listed);
    }

    /// Tells until there is an answer; what was settled is counted in `tally`.
    async fn until_told<F>(&self, jobs: usize, tally: &AtomicU64, mut tell: impl FnMut() -> F)
    where
        F: Future<Output = Result<Vec<Result<Settled, QueueRefusal>>, QueueError>>,
    {
        for _ in 0..TELLS {
            match tell().await {
                Ok(settled) => return settled.iter().for_each(|settled| self.count(settled, tally)),
                Err(error) => self.vital.degraded(error.to_string()),
            }
            tokio::time::sleep(TELL_AGAIN).await;
        }
        tracing::warn!(agent = self.shared.name(), jobs, "the queue was not told what became of jobs");
        (0..jobs).for_each(|_| count(&self.shared.tallies.lost));
    }

    fn count(&self, settled: &Result<Settled, QueueRefusal>, tally: &AtomicU64) {
        let tallies = &self.shared.tallies;
        match settled {
            Ok(Settled::Cancelled) => count(&tallies.cancelled),
            Ok(_) => count(tally),
            Err(refusal) => {
                tracing::debug!(%refusal, "the end of a job came too late");
                count(&tallies.lost);
            }
        }
    }
}
