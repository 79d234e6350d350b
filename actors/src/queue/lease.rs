//! Leases: who gets which job, and what becomes of it.

use std::sync::Arc;

use super::{
    command::{Ack, Extend, Granted, GrantedJob, LeaseRequest, Nack, QueueReply, Release, Settled},
    config::{QUEUE_BATCH_MAX, check_retry},
    decide::Draw,
    job::{JOB_WORD_MAX_BYTES, Job, JobState, Lease, check_size, cut, later},
    meter::Metered,
    partition::Partition,
    ready::LaneKey,
    refusal::QueueRefusal,
};
use crate::{
    entity::Failure,
    ids::Timestamp,
    resilience::retry::{RetryDecision, RetryPolicy, RetryState, TEN_YEARS_MS},
    store::ROW_MAX_BYTES,
};

/// Code of a job whose worker did not answer in time.
pub const LEASE_EXPIRED: &str = "lease.expired";
/// Code of a job whose worker began another life.
pub const LEASE_RELEASED: &str = "lease.released";

/// Most of each kind that one decision takes back or forgets, so that its entry stays small.
const SWEEP_MAX: usize = 256;

impl Partition {
    pub(super) fn lease(
        &mut self,
        request: &LeaseRequest,
        now: i64,
        draw: Draw<'_>,
    ) -> Result<Granted, QueueRefusal> {
        check_request(request)?;
        self.sweep(now, draw);
        let mut granted = Granted::default();
        while granted.jobs.len() < request.n {
            let Some(seq) = self.next(request, now) else { break };
            granted.jobs.extend(self.grant(seq, request, now));
        }
        if granted.jobs.len() < request.n {
            granted.next_us = self.next_lease(now);
        }
        Ok(granted)
    }

    /// The job that is to be leased now, if any may be.
    fn next(&self, request: &LeaseRequest, now: i64) -> Option<u64> {
        let config = &self.fixed.config;
        let full = config.concurrency > 0 && self.leases.len() >= config.concurrency as usize;
        let limited = config.rate.is_some_and(|rate| rate.allowed_at(self.fixed.arrival) > now);
        if self.fixed.paused || full || limited {
            return None;
        }
        self.next_aged(request, now).or_else(|| {
            self.ready.lanes().find_map(|(key, jobs)| {
                if !self.may_start(key, now) {
                    return None;
                }
                // Only the first one, where the order within the key is kept.
                let within = if self.is_ordered(key) { 1 } else { jobs.len() };
                jobs.iter().take(within).copied().find(|seq| self.is_taken_by(*seq, request))
            })
        })
    }

    /// The oldest job that has waited too long for its priority.
    fn next_aged(&self, request: &LeaseRequest, now: i64) -> Option<u64> {
        let ageing = self.fixed.config.ageing_ms;
        if ageing == 0 {
            return None;
        }
        let aged = self.ready.by_age().take_while(|(since, _)| later(*since, ageing) <= now);
        aged.map(|(_, seq)| seq).find(|seq| {
            self.jobs.get(seq).is_some_and(|job| {
                self.may_start(&job.key, now)
                    && (!self.is_ordered(&job.key) || self.ready.is_first(job))
                    && self.is_taken_by(*seq, request)
            })
        })
    }

    fn is_ordered(&self, key: &LaneKey) -> bool {
        key.is_some() && self.fixed.config.per_key_limit == 1
    }

    fn is_taken_by(&self, seq: u64, request: &LeaseRequest) -> bool {
        request.kinds.is_empty() || self.jobs.get(&seq).is_some_and(|job| request.kinds.contains(&job.kind))
    }

    /// Whether another job of the key may start.
    fn may_start(&self, key: &LaneKey, now: i64) -> bool {
        let Some(key) = key else { return true };
        let config = &self.fixed.config;
        let leased = self.leased_of_key.get(key).copied().unwrap_or(0);
        let free = config.per_key_limit == 0 || leased < config.per_key_limit;
        let held = config.per_key_limit == 1 && self.held_of_key.contains_key(key);
        let limited = config.key_rate.is_some_and(|rate| {
            self.arrivals.get(key).is_some_and(|arrival| rate.allowed_at(*arrival) > now)
        });
        free && !held && !limited
    }

    fn grant(&mut self, seq: u64, request: &LeaseRequest, now: i64) -> Option<GrantedJob> {
        self.fixed.last_fence += 1;
        self.fixed.tally.leased += 1;
        if let Some(rate) = self.fixed.config.rate {
            self.fixed.arrival = rate.started(self.fixed.arrival, now);
        }
        let fence = self.fixed.last_fence;
        if let Some(Job { state: JobState::Waiting(since), key, .. }) = self.jobs.get(&seq) {
            let wait_us = elapsed_us(*since, now);
            self.meter.happened(key.as_ref(), Metered::Started { wait_us }, now);
        }
        let granted = self.change(seq, |job| {
            job.attempt += 1;
            job.first_started.get_or_insert(now);
            job.progress = 0;
            let expires = later(now, request.lease_ms).min(job.attempt_ends(now));
            let (worker, incarnation) = (Arc::clone(&request.worker), request.incarnation);
            job.state =
                JobState::Leased(Lease { worker, incarnation, fence, since: now, expires, cancel_by: None });
            let (kind, key) = (Arc::clone(&job.kind), job.key.clone());
            let (attempt, priority, timeout_ms) = (job.attempt, job.priority, job.timeout_ms);
            GrantedJob { seq, fence, attempt, kind, key, priority, expires, timeout_ms }
        })?;
        self.ready.had_turn(granted.priority, &granted.key);
        if let (Some(rate), Some(key)) = (self.fixed.config.key_rate, &granted.key) {
            let arrival = rate.started(self.arrivals.get(key).copied().unwrap_or(0), now);
            self.changes.arrival(key, Some(arrival));
            self.arrivals.insert(Arc::clone(key), arrival);
        }
        Some(granted)
    }

    /// When time alone may let another job be leased.
    fn next_lease(&self, now: i64) -> Option<i64> {
        if self.fixed.paused {
            return None;
        }
        let config = &self.fixed.config;
        let delayed = self.delayed.first().map(|(at, _)| *at);
        let expires = self.leases.first().map(|(at, _)| *at);
        let rate = config.rate.map(|rate| rate.allowed_at(self.fixed.arrival));
        let keys =
            config.key_rate.and_then(|rate| self.arrivals.values().min().map(|at| rate.allowed_at(*at)));
        [delayed, expires, rate, keys].into_iter().flatten().filter(|at| *at > now).min()
    }

    pub(super) fn ack(&mut self, ack: Ack, now: i64) -> Result<Settled, QueueRefusal> {
        check_size("output", ack.output.as_ref().map_or(0, |output| output.len()), ROW_MAX_BYTES)?;
        self.held(ack.job, ack.fence, now)?;
        self.metered(ack.job, now, |run_us| Metered::Done { run_us });
        if let Some(job) = self.jobs.get_mut(&ack.job) {
            job.happened("done", "", now);
            job.progress = 100;
            job.has_output = ack.output.is_some() && self.fixed.config.keep_ended > 0;
            if let Some(output) = ack.output.filter(|_| job.has_output) {
                self.changes.output(ack.job, output);
            }
        }
        self.end(ack.job, JobState::Done(now), now);
        Ok(Settled::Done)
    }

    pub(super) fn nack(&mut self, nack: &Nack, now: i64, draw: Draw<'_>) -> Result<Settled, QueueRefusal> {
        self.held(nack.job, nack.fence, now)?;
        if let Some(retry) = &nack.retry {
            check_retry(retry)?;
        }
        Ok(self.fail(nack.job, &nack.failure, nack.retry.as_ref(), now, draw))
    }

    /// Gives a job back: nothing failed, and no retry is used up.
    pub(super) fn release(&mut self, release: &Release, now: i64) -> Result<Settled, QueueRefusal> {
        check_size("code", release.code.len(), JOB_WORD_MAX_BYTES)?;
        self.held(release.job, release.fence, now)?;
        if self.jobs.get(&release.job).is_some_and(is_cancelled) {
            self.end(release.job, JobState::Cancelled(now), now);
            return Ok(Settled::Cancelled);
        }
        let at = later(now, release.after_ms.min(TEN_YEARS_MS));
        self.change(release.job, |job| {
            job.happened(&release.code, "", now);
            job.state = JobState::Waiting(at);
        });
        Ok(Settled::Waits(at))
    }

    pub(super) fn extend(&mut self, extend: &Extend, now: i64) -> Result<Settled, QueueRefusal> {
        let progress = usize::from(extend.progress.unwrap_or(0));
        check_size("progress", progress, 100)?;
        self.held(extend.job, extend.fence, now)?;
        let said = self.change(extend.job, |job| {
            job.progress = extend.progress.unwrap_or(job.progress);
            if let Some(note) = &extend.note {
                job.note = cut(note);
            }
            let timeout_ms = job.timeout_ms;
            let JobState::Leased(lease) = &mut job.state else { return None };
            if extend.by_ms > 0 {
                let ends = if timeout_ms == 0 { i64::MAX } else { later(lease.since, timeout_ms) };
                let wanted = later(now, extend.by_ms.min(TEN_YEARS_MS));
                lease.expires = wanted.min(ends).min(lease.cancel_by.unwrap_or(i64::MAX));
            }
            Some(Settled::Leased { expires: lease.expires, cancel: lease.cancel_by.is_some() })
        });
        said.flatten().ok_or(QueueRefusal::LeaseLost)
    }

    /// Counts what became of an attempt of a leased job.
    fn metered(&self, seq: u64, now: i64, what: impl FnOnce(u64) -> Metered) {
        let Some(job) = self.jobs.get(&seq) else { return };
        if let JobState::Leased(lease) = &job.state {
            self.meter.happened(job.key.as_ref(), what(elapsed_us(lease.since, now)), now);
        }
    }

    /// Checks that the fence holds the job.
    fn held(&self, seq: u64, fence: u64, now: i64) -> Result<(), QueueRefusal> {
        let held = self.jobs.get(&seq).and_then(|job| job.lease(fence, now));
        if held.is_some() {
            return Ok(());
        }
        let known = self.jobs.contains_key(&seq) || self.ended.contains_key(&seq);
        // Of a number that was given out, nothing more can be said: it may have ended and been forgotten.
        let given = seq > 0 && seq <= self.fixed.last_seq;
        Err(if known || given { QueueRefusal::LeaseLost } else { QueueRefusal::UnknownJob(seq) })
    }

    /// An attempt failed: another one follows, or the job is a dead letter, in this same decision.
    fn fail(
        &mut self,
        seq: u64,
        failure: &Failure,
        of_worker: Option<&RetryPolicy>,
        now: i64,
        draw: Draw<'_>,
    ) -> Settled {
        let Some(job) = self.jobs.get(&seq) else { return Settled::Cancelled };
        if is_cancelled(job) {
            self.end(seq, JobState::Cancelled(now), now);
            return Settled::Cancelled;
        }
        let policy = job.retry.as_ref().or(of_worker).unwrap_or(&self.fixed.config.retry);
        let state = RetryState {
            failures: job.failures,
            previous_us: job.last_delay_us,
            first: job.first_started.map(Timestamp),
            ..RetryState::default()
        };
        let decision = policy.decide(&state, failure, Timestamp(now), draw);
        let retried = matches!(decision, RetryDecision::After { .. });
        self.metered(seq, now, |run_us| Metered::Failed { run_us, retried });
        self.change(seq, |job| {
            job.happened(&failure.code, &failure.message, now);
            job.failures += 1;
            match decision {
                RetryDecision::Never(_) => job.die(failure, now),
                RetryDecision::After { at, delay_us } => {
                    job.last_delay_us = Some(delay_us);
                    job.state = JobState::Waiting(at.0);
                }
            }
        });
        self.promote(now);
        match decision {
            RetryDecision::Never(_) => {
                self.bound_dead();
                Settled::Dead
            }
            RetryDecision::After { at, .. } => {
                self.fixed.tally.retried += 1;
                Settled::Waits(at.0)
            }
        }
    }

    /// A lease is lost through no fault of the job's own: it goes back to its place, unless that happens too often.
    fn lose(&mut self, seq: u64, code: &str, now: i64) {
        let Some(job) = self.jobs.get(&seq) else { return };
        self.fixed.tally.lost += 1;
        let lost = if code == LEASE_EXPIRED { Metered::Expired } else { Metered::Released };
        self.metered(seq, now, |_| lost);
        if is_cancelled(job) {
            return self.end(seq, JobState::Cancelled(now), now);
        }
        let lost = job.lost + 1;
        let over = lost > self.fixed.config.max_lost;
        self.change(seq, |job| {
            job.happened(code, "", now);
            job.lost = lost;
            if over {
                job.die(&Failure::permanent(code, "its lease was lost too often"), now);
            } else {
                job.state = JobState::Waiting(now);
            }
        });
        self.bound_dead();
    }

    pub(super) fn release_worker(&mut self, worker: &str, before: u64, now: i64) -> QueueReply {
        let is_earlier = |seq: &u64| {
            self.jobs.get(seq).is_some_and(|job| match &job.state {
                JobState::Leased(lease) => *lease.worker == *worker && lease.incarnation < before,
                _ => false,
            })
        };
        let found = self.leases.iter().map(|(_, seq)| *seq).filter(is_earlier);
        let mut leased: Vec<u64> = found.take(SWEEP_MAX + 1).collect();
        let more = leased.len() > SWEEP_MAX;
        leased.truncate(SWEEP_MAX);
        for seq in &leased {
            self.lose(*seq, LEASE_RELEASED, now);
        }
        QueueReply::Count { count: leased.len() as u64, more }
    }

    /// Takes back what is overdue and forgets what is kept too long, at most so much at a time.
    pub(super) fn sweep(&mut self, now: i64, draw: Draw<'_>) {
        for _ in 0..SWEEP_MAX {
            let Some((expires, seq)) = self.leases.first().copied() else { break };
            if expires > now {
                break;
            }
            self.expire(seq, now, draw);
        }
        self.forget_old(now);
        self.promote(now);
    }

    fn expire(&mut self, seq: u64, now: i64, draw: Draw<'_>) {
        let ended = self.jobs.get(&seq).is_some_and(|job| match &job.state {
            JobState::Leased(lease) => job.attempt_ends(lease.since) <= now,
            _ => false,
        });
        if ended {
            let failure = Failure::retryable(Failure::TIMED_OUT, "the attempt ran over the job's timeout");
            self.fail(seq, &failure, None, now, draw);
        } else {
            self.lose(seq, LEASE_EXPIRED, now);
        }
    }

    fn forget_old(&mut self, now: i64) {
        let (ended_ms, dead_ms) = (self.fixed.config.keep_ended_ms, self.fixed.config.dead_ms);
        for _ in 0..SWEEP_MAX {
            let old = self.ended_order.first().is_some_and(|(at, _)| later(*at, ended_ms) <= now);
            if !(old && self.forget_oldest_ended()) {
                break;
            }
        }
        for _ in 0..SWEEP_MAX {
            let Some((at, seq)) = self.dead.first().copied() else { break };
            if later(at, dead_ms) > now {
                break;
            }
            self.purge(seq);
            self.fixed.tally.evicted += 1;
        }
        let unused = self.arrivals.iter().filter(|(_, arrival)| **arrival <= now);
        let unused: Vec<Arc<str>> = unused.take(SWEEP_MAX).map(|(key, _)| Arc::clone(key)).collect();
        for key in unused {
            self.arrivals.remove(&key);
            self.changes.arrival(&key, None);
        }
    }

    /// The durable timer has fired.
    pub(super) fn disarm(&mut self) {
        self.fixed.armed = None;
        self.changes.touch();
    }

    /// When the durable timer has to be set to, if it has to be set anew: something is due before it.
    pub(super) fn arm(&mut self) -> Option<i64> {
        let delayed = self.delayed.first().map(|(at, _)| *at);
        let expires = self.leases.first().map(|(at, _)| *at);
        let due = delayed.into_iter().chain(expires).min()?;
        if self.fixed.armed.is_some_and(|armed| armed <= due) {
            return None;
        }
        self.fixed.armed = Some(due);
        Some(due)
    }
}

fn elapsed_us(since: i64, now: i64) -> u64 {
    u64::try_from(now.saturating_sub(since)).unwrap_or(0)
}

fn is_cancelled(job: &Job) -> bool {
    matches!(&job.state, JobState::Leased(lease) if lease.cancel_by.is_some())
}

fn check_request(request: &LeaseRequest) -> Result<(), QueueRefusal> {
    if request.n == 0 || request.lease_ms == 0 || request.worker.is_empty() {
        return Err(QueueRefusal::Empty);
    }
    check_size("batch", request.n, QUEUE_BATCH_MAX)?;
    check_size("worker", request.worker.len(), JOB_WORD_MAX_BYTES)?;
    check_size("kinds", request.kinds.len(), QUEUE_BATCH_MAX)
}
