//! How jobs get into a queue: spread over its partitions, in batches that fit one entry.

use std::sync::atomic::Ordering;

use super::{
    command::{Enqueued, QueueCommand, QueueReply},
    config::QUEUE_BATCH_MAX,
    error::QueueError,
    gather::BATCH_BYTES,
    handle::{Queue, unexpected},
    job::NewJob,
    names::JobEnqueued,
    refusal::QueueRefusal,
};

impl Queue {
    /// Enqueues jobs and answers when they are durable. All of them, but for duplicates, or none; batches of more than
    /// 256 jobs or 1 MiB are cut, and what was cut off before stays enqueued when a later one is refused.
    ///
    /// # Errors
    /// [`QueueError`]; `QueueFull` when they do not fit.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the jobs may be enqueued.
    pub async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<JobEnqueued>, QueueError> {
        let mut outcomes = Vec::with_capacity(jobs.len());
        for batch in batches(jobs) {
            let partitions = self.partitions().await?;
            match self.enqueue_batch(&batch, partitions).await {
                Err(QueueError::Refused(QueueRefusal::Repartitioned(now))) => {
                    self.state.partitions.store(now, Ordering::Relaxed);
                    outcomes.extend(self.enqueue_batch(&batch, now).await?);
                }
                enqueued => outcomes.extend(enqueued?),
            }
        }
        Ok(outcomes)
    }

    async fn enqueue_batch(&self, jobs: &[NewJob], partitions: u16) -> Result<Vec<JobEnqueued>, QueueError> {
        let mut parts: Vec<(Vec<usize>, Vec<NewJob>)> = vec![Default::default(); usize::from(partitions)];
        for (place, job) in jobs.iter().enumerate() {
            if let Some(part) = parts.get_mut(usize::from(self.place(job, partitions))) {
                part.0.push(place);
                part.1.push(job.clone());
            }
        }
        let (mut places, mut wanted) = (Vec::new(), Vec::new());
        for (partition, (at, jobs)) in (0..).zip(parts) {
            if !jobs.is_empty() {
                places.push((partition, at));
                wanted.push((partition, jobs));
            }
        }
        let mut outcomes = vec![None; jobs.len()];
        let enqueued = self.enqueue_parts(wanted, partitions).await?;
        for ((partition, at), enqueued) in places.into_iter().zip(enqueued) {
            for (place, outcome) in at.into_iter().zip(enqueued) {
                if let Some(slot) = outcomes.get_mut(place) {
                    *slot = Some(JobEnqueued::of(partition, outcome));
                }
            }
        }
        outcomes.into_iter().collect::<Option<Vec<_>>>().ok_or_else(unexpected)
    }

    /// Jobs of one partition go with those of other callers, those of several in one transaction.
    async fn enqueue_parts(
        &self,
        parts: Vec<(u16, Vec<NewJob>)>,
        partitions: u16,
    ) -> Result<Vec<Vec<Enqueued>>, QueueError> {
        let parts = match <[_; 1]>::try_from(parts) {
            Ok([(partition, jobs)]) => {
                return Ok(vec![self.enqueue_gathered(partition, jobs, partitions).await?]);
            }
            Err(parts) => parts,
        };
        let commands = parts.into_iter();
        let commands =
            commands.map(|(partition, jobs)| (partition, QueueCommand::Enqueue { jobs, partitions }));
        let replies = self.ask_together(commands.collect()).await?;
        replies.into_iter().map(enqueued).collect()
    }

    /// Which partition a job goes to: by its key, else by its unique key, else in turn.
    fn place(&self, job: &NewJob, partitions: u16) -> u16 {
        let by = job.key.as_ref().or(job.unique.as_ref().map(|unique| &unique.key));
        let number = match by {
            Some(key) => u64::from(crc32c::crc32c(key.as_bytes())),
            None => self.next_turn(),
        };
        u16::try_from(number % u64::from(partitions.max(1))).unwrap_or(0)
    }
}

pub(super) fn enqueued(reply: QueueReply) -> Result<Vec<Enqueued>, QueueError> {
    match reply {
        QueueReply::Enqueued(enqueued) => Ok(enqueued),
        _ => Err(unexpected()),
    }
}

/// Cuts jobs into batches that fit one entry.
fn batches(jobs: Vec<NewJob>) -> Vec<Vec<NewJob>> {
    let mut batches: Vec<Vec<NewJob>> = Vec::new();
    let mut bytes = 0;
    for job in jobs {
        let size = job.payload.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < QUEUE_BATCH_MAX && bytes + size <= BATCH_BYTES => {
                bytes += size;
                batch.push(job);
            }
            _ => {
                bytes = size;
                batches.push(vec![job]);
            }
        }
    }
    batches
}
