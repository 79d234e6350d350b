//! What a queue shows: counts, jobs, and when it is drained.

use std::time::Duration;

use bytes::Bytes;

use super::{
    command::QueueCommand,
    error::QueueError,
    handle::Queue,
    job::{Job, JobStatus},
    names::JobId,
    partition::Partition,
    refusal::QueueRefusal,
    rows::{job_row, jobs_end, output_row, payload_row},
    stats::{QueueMetrics, QueueStats},
};
use crate::{entity::CallOptions, ids::EntityId, store::decode};

/// How often a drain is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Rows read at a time.
const PAGE: usize = 256;

/// A job as it stands in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Where it stands.
    pub status: JobStatus,
    /// What is stored of it.
    pub job: Job,
    /// Payload, as long as it is not done or cancelled; not read for lists.
    pub payload: Option<Bytes>,
    /// Output, if it left one; not read for lists.
    pub output: Option<Bytes>,
}

impl Queue {
    /// Counts of all partitions.
    ///
    /// # Errors
    /// [`QueueError`]; `UnknownQueue` when nothing was ever enqueued or set.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn stats(&self) -> Result<QueueStats, QueueError> {
        let mut sum: Option<QueueStats> = None;
        for partition in 0..self.partitions().await? {
            let now = self.env.now().0;
            let look = move |state: &dyn std::any::Any| {
                let partition = state.downcast_ref::<Partition>()?;
                Some((partition.stats(now), partition.exists()))
            };
            let seen = self.address(partition)?.read(look, CallOptions::default().deadline).await;
            if let Some((stats, exists)) = seen.map_err(QueueError::of_call)? {
                sum = match sum {
                    Some(before) => Some(before.and(&stats)),
                    None if exists => Some(stats),
                    // Partitions beyond the first exist only with jobs in a queue that never was set.
                    None => None,
                };
            }
        }
        let mut stats = sum.ok_or(QueueRefusal::UnknownQueue)?;
        stats.name = self.name().to_owned();
        Ok(stats)
    }

    /// Counts of all partitions, with what happened since the system was opened.
    ///
    /// # Errors
    /// As [`Self::stats`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn metrics(&self) -> Result<QueueMetrics, QueueError> {
        let stats = self.stats().await?;
        let now = self.env.now().0;
        let look = move |state: &dyn std::any::Any| Some(state.downcast_ref::<Partition>()?.flow(now));
        // Every partition has the numbers of all.
        let flow = self.address(0)?.read(look, CallOptions::default().deadline).await;
        Ok(QueueMetrics { stats, flow: flow.map_err(QueueError::of_call)?.unwrap_or_default() })
    }

    /// Takes no more jobs and waits until all are over, at most until the deadline; answers what is left. It takes jobs
    /// again when it is resumed.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, the queue goes on draining.
    pub async fn drain(&self, deadline: Duration) -> Result<QueueStats, QueueError> {
        self.tell_all(&QueueCommand::Drain).await?;
        let until = tokio::time::Instant::now() + deadline;
        loop {
            let stats = self.stats().await?;
            if stats.live() == 0 || tokio::time::Instant::now() >= until {
                return Ok(stats);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads a job at its last durable state, with payload and output.
    ///
    /// # Errors
    /// [`QueueError`]; `UnknownJob` when there is none, or it is no longer kept.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn job(&self, id: JobId) -> Result<JobView, QueueError> {
        let unknown = || QueueError::Refused(QueueRefusal::UnknownJob(id.seq));
        let entity = self.entity(id.partition).await?.ok_or_else(unknown)?;
        let store = self.env.store().current();
        let row = store.row(entity, job_row(id.seq)).await?.ok_or_else(unknown)?;
        let mut view = self.view(id.partition, &row)?;
        view.payload = store.row(entity, payload_row(id.seq)).await?;
        view.output = store.row(entity, output_row(id.seq)).await?;
        Ok(view)
    }

    /// Lists jobs after `after`, by id, at most `limit`; of one status only, if one is given.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list(
        &self,
        status: Option<JobStatus>,
        after: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<JobView>, QueueError> {
        let mut found = Vec::new();
        let first = after.map_or(0, |id| id.partition);
        for partition in first..self.partitions().await? {
            let Some(entity) = self.entity(partition).await? else { continue };
            let mut next = after.filter(|id| id.partition == partition).map_or(0, |id| id.seq + 1);
            loop {
                let store = self.env.store().current();
                let rows = store.rows(entity, job_row(next), jobs_end(), PAGE).await?;
                for (_, row) in &rows {
                    let view = self.view(partition, row)?;
                    next = view.id.seq + 1;
                    if found.len() < limit && status.is_none_or(|status| status == view.status) {
                        found.push(view);
                    }
                }
                if rows.len() < PAGE || found.len() >= limit {
                    break;
                }
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    async fn entity(&self, partition: u16) -> Result<Option<EntityId>, QueueError> {
        Ok(self.env.store().current().resolve(&self.partition_name(partition)?).await?)
    }

    fn view(&self, partition: u16, row: &[u8]) -> Result<JobView, QueueError> {
        let job: Job = decode(row)?;
        let id = JobId { partition, seq: job.seq };
        Ok(JobView { id, status: job.status(self.env.now().0), job, payload: None, output: None })
    }
}
