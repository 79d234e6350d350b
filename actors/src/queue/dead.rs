//! Dead letters: edited, requeued, purged.

use super::{
    command::{DeadEdit, DeadFilter, QueueReply},
    config::QUEUE_BATCH_MAX,
    job::{JOB_WORD_MAX_BYTES, JobState, JobStatus, check_size},
    partition::Partition,
    refusal::QueueRefusal,
};
use crate::store::ROW_MAX_BYTES;

impl Partition {
    pub(super) fn dead_edit(&mut self, edit: DeadEdit, now: i64) -> Result<QueueReply, QueueRefusal> {
        let job = self.jobs.get(&edit.job).ok_or_else(|| self.missing(edit.job))?;
        let status = job.status(now);
        if status != JobStatus::Dead {
            return Err(QueueRefusal::WrongState(status.name().to_owned()));
        }
        check_size("payload", edit.payload.as_ref().map_or(0, |payload| payload.len()), ROW_MAX_BYTES)?;
        check_size("kind", edit.kind.as_ref().map_or(0, |kind| kind.len()), JOB_WORD_MAX_BYTES)?;
        let highest = self.fixed.config.priorities.saturating_sub(1);
        if let Some(priority) = edit.priority.filter(|priority| *priority > highest) {
            return Err(QueueRefusal::UnknownPriority { priority, highest });
        }
        self.change(edit.job, |job| {
            job.kind = edit.kind.unwrap_or_else(|| job.kind.clone());
            job.priority = edit.priority.unwrap_or(job.priority);
            job.happened("edited", "", now);
        });
        if let Some(payload) = edit.payload {
            self.changes.payload(edit.job, Some(payload));
        }
        Ok(QueueReply::Done)
    }

    /// Does it to the dead letters meant, the oldest first, at most a batch of them.
    pub(super) fn each_dead(
        &mut self,
        filter: &DeadFilter,
        mut act: impl FnMut(&mut Self, u64),
    ) -> Result<QueueReply, QueueRefusal> {
        if !filter.is_explicit() {
            return Err(QueueRefusal::NoFilter);
        }
        check_size("filter", filter.jobs.len(), QUEUE_BATCH_MAX)?;
        if let Some(unknown) = filter.jobs.iter().find(|seq| !self.is_dead(**seq)) {
            return Err(self.not_dead(*unknown));
        }
        let meant = self.dead.iter().map(|(_, seq)| *seq);
        let meant = meant.filter(|seq| self.jobs.get(seq).is_some_and(|job| filter.selects(job)));
        let mut meant: Vec<u64> = meant.take(QUEUE_BATCH_MAX + 1).collect();
        let more = meant.len() > QUEUE_BATCH_MAX;
        meant.truncate(QUEUE_BATCH_MAX);
        for seq in &meant {
            act(self, *seq);
        }
        Ok(QueueReply::Count { count: meant.len() as u64, more })
    }

    fn is_dead(&self, seq: u64) -> bool {
        self.jobs.get(&seq).is_some_and(|job| matches!(job.state, JobState::Dead { .. }))
    }

    fn not_dead(&self, seq: u64) -> QueueRefusal {
        match self.jobs.get(&seq) {
            Some(_) => QueueRefusal::WrongState("live".into()),
            None => self.missing(seq),
        }
    }

    /// A dead letter becomes pending, with all its attempts before it. It was accepted once: no bound refuses it.
    pub(super) fn requeue(&mut self, seq: u64, now: i64) {
        self.change(seq, |job| {
            job.happened("requeued", "", now);
            (job.failures, job.lost) = (0, 0);
            (job.first_started, job.last_delay_us) = (None, None);
            job.state = JobState::Waiting(now);
        });
    }
}
