//! What a partition decides on a command. A refusal changes nothing; what is accepted is applied in place.

use std::{collections::HashMap, sync::Arc};

use super::{
    command::{Enqueued, QueueCommand, QueueReply, Settled},
    config::{QUEUE_BATCH_MAX, QueueConfig},
    job::{Job, JobState, JobStatus, NewJob, Unique, check_size, later},
    partition::Partition,
    refusal::QueueRefusal,
};

/// A number in `[0, 1)` for the jitter of a retry.
pub(super) type Draw<'a> = &'a mut dyn FnMut() -> f64;

/// What becomes of one job of a batch.
enum Plan {
    New,
    Duplicate(u64),
    Replace(u64),
}

impl Partition {
    /// Decides on a command at `now`, in microseconds since the epoch.
    ///
    /// # Errors
    /// [`QueueRefusal`]: nothing changed.
    pub fn decide(
        &mut self,
        command: QueueCommand,
        now: i64,
        draw: Draw<'_>,
    ) -> Result<QueueReply, QueueRefusal> {
        self.check_exists(&command)?;
        match command {
            QueueCommand::Enqueue { jobs, partitions } => self.enqueue(&jobs, partitions, now),
            QueueCommand::Lease(request) => self.lease(&request, now, draw).map(QueueReply::Leased),
            QueueCommand::Ack(acks) => self.each(acks, |queue, ack| queue.ack(ack, now)),
            QueueCommand::Nack(nacks) => self.each(nacks, |queue, nack| queue.nack(&nack, now, draw)),
            QueueCommand::Extend(extends) => self.each(extends, |queue, extend| queue.extend(&extend, now)),
            QueueCommand::Release(releases) => self.each(releases, |queue, one| queue.release(&one, now)),
            QueueCommand::Cancel { jobs, grace_ms } => {
                self.each(jobs, |queue, job| queue.cancel(job, grace_ms, now))
            }
            QueueCommand::Retry(jobs) => self.each(jobs, |queue, job| queue.retry(job, now)),
            QueueCommand::Pause => Ok(self.set(true, self.fixed.draining)),
            QueueCommand::Resume => Ok(self.set(false, false)),
            QueueCommand::Drain => Ok(self.set(self.fixed.paused, true)),
            QueueCommand::Configure(config) => self.configure(config),
            QueueCommand::ReleaseWorker { worker, before_incarnation } => {
                Ok(self.release_worker(&worker, before_incarnation, now))
            }
            QueueCommand::DeadEdit(edit) => self.dead_edit(edit, now),
            QueueCommand::DeadRequeue(filter) => {
                self.each_dead(&filter, |queue, seq| queue.requeue(seq, now))
            }
            QueueCommand::DeadPurge(filter) => self.each_dead(&filter, Self::purge),
        }
    }

    /// A queue begins with the first job, or with its settings. Nothing can be leased of one that does not exist.
    fn check_exists(&self, command: &QueueCommand) -> Result<(), QueueRefusal> {
        let begins = matches!(
            command,
            QueueCommand::Enqueue { .. }
                | QueueCommand::Configure(_)
                | QueueCommand::Lease(_)
                | QueueCommand::ReleaseWorker { .. }
        );
        if begins || self.fixed.exists { Ok(()) } else { Err(QueueRefusal::UnknownQueue) }
    }

    fn each<T>(
        &mut self,
        items: Vec<T>,
        mut settle: impl FnMut(&mut Self, T) -> Result<Settled, QueueRefusal>,
    ) -> Result<QueueReply, QueueRefusal> {
        check_batch(items.len())?;
        Ok(QueueReply::Settled(items.into_iter().map(|item| settle(self, item)).collect()))
    }

    fn enqueue(&mut self, jobs: &[NewJob], partitions: u16, now: i64) -> Result<QueueReply, QueueRefusal> {
        check_batch(jobs.len())?;
        if partitions != self.fixed.config.partitions {
            return Err(QueueRefusal::Repartitioned(self.fixed.config.partitions));
        }
        if self.fixed.draining {
            return Err(QueueRefusal::Draining);
        }
        for job in jobs {
            job.check(&self.fixed.config, now)?;
        }
        let plans = self.plan(jobs, now);
        let added = plans.iter().filter(|plan| matches!(plan, Plan::New)).count() as u64;
        let (size, max) = (self.live(), self.fixed.config.max);
        if size + added > max {
            return Err(QueueRefusal::QueueFull { size, max });
        }
        self.fixed.exists = true;
        self.changes.touch();
        let outcomes = plans.into_iter().zip(jobs).map(|(plan, job)| self.carry_out(&plan, job, now));
        Ok(QueueReply::Enqueued(outcomes.collect()))
    }

    /// What becomes of each job, before anything is changed. Numbers are given out in order.
    fn plan(&self, jobs: &[NewJob], now: i64) -> Vec<Plan> {
        let mut next = self.fixed.last_seq;
        let mut here: HashMap<&Arc<str>, (u64, JobStatus)> = HashMap::new();
        let mut plans = Vec::with_capacity(jobs.len());
        for job in jobs {
            let plan = match &job.unique {
                None => Plan::New,
                Some(unique) => {
                    let planned = here.get(&unique.key).filter(|(_, status)| unique.states.contains(status));
                    let known = planned.copied().or_else(|| self.existing(unique, now));
                    plan_unique(unique, known)
                }
            };
            if matches!(plan, Plan::New) {
                next += 1;
            }
            if let (Some(unique), Plan::New | Plan::Replace(_)) = (&job.unique, &plan) {
                let seq = if let Plan::Replace(seq) = plan { seq } else { next };
                let status = if job.due(now) > now { JobStatus::Delayed } else { JobStatus::Pending };
                here.insert(&unique.key, (seq, status));
            }
            plans.push(plan);
        }
        plans
    }

    /// The latest job that keeps another one of its unique key out.
    fn existing(&self, unique: &Unique, now: i64) -> Option<(u64, JobStatus)> {
        let jobs = self.unique.get(&unique.key)?;
        jobs.iter().rev().find_map(|seq| {
            let (status, enqueued_at) = self.status_of(*seq, now)?;
            let young = unique.period_ms == 0 || later(enqueued_at, unique.period_ms) > now;
            (young && unique.states.contains(&status)).then_some((*seq, status))
        })
    }

    fn status_of(&self, seq: u64, now: i64) -> Option<(JobStatus, i64)> {
        if let Some(job) = self.jobs.get(&seq) {
            return Some((job.status(now), job.enqueued_at));
        }
        let ended = self.ended.get(&seq)?;
        let status = if ended.cancelled { JobStatus::Cancelled } else { JobStatus::Done };
        Some((status, ended.enqueued_at))
    }

    fn carry_out(&mut self, plan: &Plan, new: &NewJob, now: i64) -> Enqueued {
        match plan {
            Plan::Duplicate(existing) => Enqueued::Duplicate { existing: *existing },
            Plan::New => {
                self.fixed.last_seq += 1;
                self.fixed.tally.enqueued += 1;
                self.meter.enqueued(now);
                let seq = self.fixed.last_seq;
                self.add(Job::new(seq, new, now), new.payload.clone());
                Enqueued::New(seq)
            }
            Plan::Replace(seq) => {
                self.change(*seq, |job| {
                    job.kind = Arc::clone(&new.kind);
                    job.priority = new.priority;
                    job.key = new.key.clone();
                    job.retry = new.retry.clone();
                    job.timeout_ms = new.timeout_ms;
                    job.state = JobState::Waiting(new.due(now));
                });
                self.changes.payload(*seq, Some(new.payload.clone()));
                Enqueued::Replaced(*seq)
            }
        }
    }

    fn cancel(&mut self, seq: u64, grace_ms: u64, now: i64) -> Result<Settled, QueueRefusal> {
        let job = self.jobs.get(&seq).ok_or_else(|| self.missing(seq))?;
        match &job.state {
            JobState::Waiting(_) => {
                self.end(seq, JobState::Cancelled(now), now);
                Ok(Settled::Cancelled)
            }
            JobState::Leased(_) => {
                let by = later(now, grace_ms);
                let expires = self.change(seq, |job| match &mut job.state {
                    JobState::Leased(lease) => {
                        let by = lease.cancel_by.unwrap_or(by).min(by);
                        lease.cancel_by = Some(by);
                        lease.expires = lease.expires.min(by);
                        lease.expires
                    }
                    _ => by,
                });
                Ok(Settled::Leased { expires: expires.unwrap_or(by), cancel: true })
            }
            JobState::Dead { .. } | JobState::Done(_) | JobState::Cancelled(_) => {
                Err(QueueRefusal::WrongState(job.status(now).name().to_owned()))
            }
        }
    }

    fn retry(&mut self, seq: u64, now: i64) -> Result<Settled, QueueRefusal> {
        let job = self.jobs.get(&seq).ok_or_else(|| self.missing(seq))?;
        match job.status(now) {
            JobStatus::Dead => self.requeue(seq, now),
            JobStatus::Delayed => {
                self.change(seq, |job| job.state = JobState::Waiting(now));
            }
            other => return Err(QueueRefusal::WrongState(other.name().to_owned())),
        }
        Ok(Settled::Waits(now))
    }

    /// Why a job is not among the live and dead ones.
    pub(super) fn missing(&self, seq: u64) -> QueueRefusal {
        match self.ended.get(&seq) {
            Some(ended) if ended.cancelled => QueueRefusal::WrongState("cancelled".into()),
            Some(_) => QueueRefusal::WrongState("done".into()),
            None => QueueRefusal::UnknownJob(seq),
        }
    }

    fn set(&mut self, paused: bool, draining: bool) -> QueueReply {
        if (self.fixed.paused, self.fixed.draining) != (paused, draining) {
            (self.fixed.paused, self.fixed.draining) = (paused, draining);
            self.changes.touch();
        }
        QueueReply::Done
    }

    fn configure(&mut self, config: QueueConfig) -> Result<QueueReply, QueueRefusal> {
        config.validate()?;
        if config.partitions != self.fixed.config.partitions && self.live() > 0 {
            return Err(QueueRefusal::NotEmpty(self.live()));
        }
        self.fixed.config = config;
        self.fixed.exists = true;
        self.changes.touch();
        Ok(QueueReply::Done)
    }
}

fn plan_unique(unique: &Unique, known: Option<(u64, JobStatus)>) -> Plan {
    match known {
        None => Plan::New,
        Some((seq, JobStatus::Pending | JobStatus::Delayed)) if unique.replace => Plan::Replace(seq),
        Some((seq, _)) => Plan::Duplicate(seq),
    }
}

fn check_batch(items: usize) -> Result<(), QueueRefusal> {
    if items == 0 {
        return Err(QueueRefusal::Empty);
    }
    check_size("batch", items, QUEUE_BATCH_MAX)
}
