//! Unit tests of what a partition decides, and a comparison with a simple model.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use super::{
    Ack, DeadFilter, Enqueued, Extend, GrantedJob, JobStatus, LeaseRequest, Nack, NewJob, Partition,
    QueueCommand, QueueConfig, QueueRefusal, QueueReply, Rate, RunAt, Settled, Unique,
};
use crate::{entity::Failure, resilience::retry::RetryPolicy};

mod model;

const SECOND: i64 = 1_000_000;

/// A partition, the rows it left, and a clock.
#[derive(Default)]
struct Rig {
    queue: Partition,
    rows: BTreeMap<Bytes, Bytes>,
    now: i64,
}

impl Rig {
    fn with(config: QueueConfig) -> Self {
        let mut rig = Self { now: 1_000 * SECOND, ..Self::default() };
        rig.tell(QueueCommand::Configure(config)).unwrap();
        rig
    }

    fn tell(&mut self, command: QueueCommand) -> Result<QueueReply, QueueRefusal> {
        let before = self.queue.encode_fixed().unwrap();
        let reply = self.queue.decide(command, self.now, &mut || 0.5);
        self.queue.promote(self.now);
        let rows = self.queue.take_changes().unwrap();
        if reply.is_err() {
            assert_eq!(
                (rows, before),
                (None, self.queue.encode_fixed().unwrap()),
                "a refusal changes nothing"
            );
            return reply;
        }
        for row in rows.unwrap_or_default() {
            match row.value {
                Some(value) => drop(self.rows.insert(row.key, value)),
                None => drop(self.rows.remove(&row.key)),
            }
        }
        assert!(self.queue.stats(self.now).is_conserved());
        reply
    }

    /// Reads the partition back from what it stored.
    fn reload(&mut self) {
        let (stats, fixed) = (self.queue.stats(self.now), self.queue.encode_fixed().unwrap());
        let (from, to) = super::rows::read_range();
        self.queue = Partition::restore_fixed(&fixed).unwrap();
        for (key, value) in self.rows.range(from..to) {
            self.queue.restore_row(key, value).unwrap();
        }
        self.queue.check_sum().unwrap();
        self.queue.promote(self.now);
        assert_eq!(self.queue.stats(self.now), stats);
    }

    fn enqueue(&mut self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, QueueRefusal> {
        let partitions = self.queue.config().partitions;
        match self.tell(QueueCommand::Enqueue { jobs, partitions })? {
            QueueReply::Enqueued(enqueued) => Ok(enqueued),
            other => panic!("{other:?}"),
        }
    }

    fn lease(&mut self, n: usize) -> Vec<GrantedJob> {
        self.lease_as("w", 1, &[], n)
    }

    fn lease_as(&mut self, worker: &str, incarnation: u64, kinds: &[&str], n: usize) -> Vec<GrantedJob> {
        let kinds = kinds.iter().map(|kind| Arc::from(*kind)).collect();
        let request = LeaseRequest { worker: Arc::from(worker), incarnation, kinds, n, lease_ms: 30_000 };
        match self.tell(QueueCommand::Lease(request)).unwrap() {
            QueueReply::Leased(granted) => granted.jobs,
            other => panic!("{other:?}"),
        }
    }

    fn one(&mut self, command: QueueCommand) -> Result<Settled, QueueRefusal> {
        match self.tell(command)? {
            QueueReply::Settled(settled) => settled.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn ack(&mut self, job: &GrantedJob) -> Result<Settled, QueueRefusal> {
        self.one(QueueCommand::Ack(vec![Ack { job: job.seq, fence: job.fence, output: None }]))
    }

    fn nack(&mut self, job: &GrantedJob, failure: Failure) -> Result<Settled, QueueRefusal> {
        self.one(QueueCommand::Nack(vec![Nack { job: job.seq, fence: job.fence, failure, retry: None }]))
    }
}

fn job(priority: u8, key: &str) -> NewJob {
    let key = (!key.is_empty()).then(|| Arc::from(key));
    NewJob { priority, key, ..NewJob::new("noop", "{}") }
}

fn seqs(jobs: &[GrantedJob]) -> Vec<u64> {
    jobs.iter().map(|job| job.seq).collect()
}

#[test]
fn jobs_are_leased_by_priority_and_first_in_first_out_within() {
    let mut rig = Rig::with(QueueConfig::default());
    rig.enqueue(vec![job(1, ""), job(5, ""), job(1, ""), job(5, "")]).unwrap();
    rig.reload();
    assert_eq!(seqs(&rig.lease(9)), [2, 4, 1, 3]);
}

#[test]
fn a_low_job_that_waited_long_enough_goes_first() {
    let mut rig = Rig::with(QueueConfig { ageing_ms: 60_000, ..QueueConfig::default() });
    rig.enqueue(vec![job(0, "")]).unwrap();
    rig.now += 59 * SECOND;
    rig.enqueue(vec![job(9, ""), job(9, "")]).unwrap();
    assert_eq!(seqs(&rig.lease(1)), [2]);
    rig.now += SECOND;
    assert_eq!(seqs(&rig.lease(1)), [1]);
}

#[test]
fn keys_take_turns_within_a_priority() {
    let mut rig = Rig::with(QueueConfig { per_key_limit: 0, ..QueueConfig::default() });
    rig.enqueue(vec![job(1, "a"), job(1, "a"), job(1, "a"), job(1, "b"), job(1, "c")]).unwrap();
    assert_eq!(seqs(&rig.lease(5)), [1, 4, 5, 2, 3]);
}

#[test]
fn a_key_runs_in_order_one_at_a_time_and_a_retry_holds_it() {
    let mut rig = Rig::with(QueueConfig::default());
    rig.enqueue(vec![job(1, "a"), job(1, "a"), job(1, "b")]).unwrap();
    let first = rig.lease(9);
    assert_eq!(seqs(&first), [1, 3]);
    rig.nack(&first[0], Failure::retryable("x.y", "no")).unwrap();
    assert!(rig.lease(9).is_empty(), "the key waits for its first job");
    rig.now += SECOND;
    let again = rig.lease(9);
    assert_eq!((seqs(&again), again[0].attempt), (vec![1], 2));
    rig.ack(&again[0]).unwrap();
    assert_eq!(seqs(&rig.lease(9)), [2]);
}

#[test]
fn a_full_queue_refuses_the_whole_batch() {
    let mut rig = Rig::with(QueueConfig { max: 3, ..QueueConfig::default() });
    rig.enqueue(vec![job(0, ""), job(0, "")]).unwrap();
    let full = rig.enqueue(vec![job(0, ""), job(0, "")]);
    assert_eq!(full, Err(QueueRefusal::QueueFull { size: 2, max: 3 }));
    let leased = rig.lease(1);
    rig.enqueue(vec![job(0, "")]).unwrap();
    assert!(rig.enqueue(vec![job(0, "")]).is_err(), "leased jobs count");
    rig.ack(&leased[0]).unwrap();
    rig.enqueue(vec![job(0, "")]).unwrap();
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let mut rig = Rig::with(QueueConfig::default());
    let refused = rig.enqueue(vec![job(10, "")]);
    assert_eq!(refused, Err(QueueRefusal::UnknownPriority { priority: 10, highest: 9 }));
    let far = NewJob { run_at: RunAt::After(400 * 24 * 3_600_000), ..job(0, "") };
    assert!(matches!(rig.enqueue(vec![far]), Err(QueueRefusal::BeyondHorizon { .. })));
    let large = NewJob::new("noop", vec![0; 1024 * 1024 + 1]);
    assert!(matches!(rig.enqueue(vec![large]), Err(QueueRefusal::TooLarge { .. })));
    assert_eq!(rig.enqueue(vec![]), Err(QueueRefusal::Empty));
    let none = QueueConfig { partitions: 0, ..QueueConfig::default() };
    assert!(matches!(rig.tell(QueueCommand::Configure(none)), Err(QueueRefusal::BadConfig(_))));
    rig.enqueue(vec![job(0, "")]).unwrap();
    let more = QueueConfig { partitions: 2, ..QueueConfig::default() };
    assert_eq!(rig.tell(QueueCommand::Configure(more)), Err(QueueRefusal::NotEmpty(1)));
    assert_eq!(rig.tell(QueueCommand::DeadPurge(DeadFilter::default())), Err(QueueRefusal::NoFilter));
    let one = DeadFilter { jobs: vec![7], ..DeadFilter::default() };
    assert_eq!(rig.tell(QueueCommand::DeadRequeue(one)), Err(QueueRefusal::UnknownJob(7)));
    assert_eq!(Rig::default().tell(QueueCommand::Pause), Err(QueueRefusal::UnknownQueue));
}

#[test]
fn a_lost_lease_settles_nothing() {
    let mut rig = Rig::with(QueueConfig::default());
    rig.enqueue(vec![job(0, "")]).unwrap();
    let mine = rig.lease(1);
    let other = GrantedJob { fence: mine[0].fence + 1, ..mine[0].clone() };
    assert_eq!(rig.ack(&other), Err(QueueRefusal::LeaseLost), "not the holder");
    rig.now += 30 * SECOND;
    assert_eq!(rig.ack(&mine[0]), Err(QueueRefusal::LeaseLost), "the lease ran out");
    let again = rig.lease(1);
    assert_eq!(again[0].attempt, 2);
    assert_eq!(rig.nack(&mine[0], Failure::permanent("x.y", "")), Err(QueueRefusal::LeaseLost));
    assert_eq!(rig.ack(&again[0]), Ok(Settled::Done));
    assert_eq!(rig.ack(&again[0]), Err(QueueRefusal::LeaseLost), "done once");
}

#[test]
fn leases_of_an_earlier_life_return_at_once() {
    let mut rig = Rig::with(QueueConfig::default());
    rig.enqueue(vec![job(0, ""), job(0, ""), job(0, "")]).unwrap();
    rig.lease_as("w", 1, &[], 1);
    rig.lease_as("w", 2, &[], 1);
    rig.lease_as("v", 1, &[], 1);
    let release = QueueCommand::ReleaseWorker { worker: Arc::from("w"), before_incarnation: 2 };
    assert_eq!(rig.tell(release).unwrap(), QueueReply::Count { count: 1, more: false });
    assert_eq!(seqs(&rig.lease(9)), [1]);
}

#[test]
fn a_job_is_extended_up_to_its_timeout_and_no_further() {
    let mut rig = Rig::with(QueueConfig::default());
    rig.enqueue(vec![NewJob { timeout_ms: 40_000, ..job(0, "") }]).unwrap();
    let mine = rig.lease(1);
    let began = rig.now;
    rig.now += 20 * SECOND;
    let (job, fence) = (mine[0].seq, mine[0].fence);
    let extend = Extend { job, fence, by_ms: 60_000, progress: Some(50), note: Some("half".into()) };
    let extended = rig.one(QueueCommand::Extend(vec![extend.clone()])).unwrap();
    assert_eq!(extended, Settled::Leased { expires: began + 40 * SECOND, cancel: false });
    let over = Extend { progress: Some(101), ..extend };
    assert!(rig.one(QueueCommand::Extend(vec![over])).is_err());
    rig.now = began + 40 * SECOND;
    rig.lease(1);
    assert_eq!(rig.queue.jobs[&1].failures, 1, "running over its time is a failure of the job");
}

#[test]
fn exhausted_jobs_are_dead_letters_and_come_back_with_payload_and_history() {
    let retry = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
    let mut rig = Rig::with(QueueConfig { retry, ..QueueConfig::default() });
    rig.enqueue(vec![job(0, "")]).unwrap();
    let payload = super::rows::payload_row(1);
    let first = rig.lease(1);
    let failure = Failure::retryable("http.reset", "no");
    assert_eq!(rig.nack(&first[0], failure.clone()), Ok(Settled::Waits(rig.now + SECOND)));
    rig.now += SECOND;
    let second = rig.lease(1);
    assert_eq!(rig.nack(&second[0], failure), Ok(Settled::Dead));
    rig.reload();
    assert_eq!((rig.queue.stats(rig.now).dead, rig.rows.contains_key(&payload)), (1, true));
    let filter = DeadFilter { code: Some("http.reset".into()), ..DeadFilter::default() };
    let requeued = rig.tell(QueueCommand::DeadRequeue(filter.clone())).unwrap();
    assert_eq!(requeued, QueueReply::Count { count: 1, more: false });
    assert_eq!(rig.queue.jobs[&1].history.len(), 3);
    let third = rig.lease(1);
    assert_eq!(rig.nack(&third[0], Failure::permanent("http.reset", "gone")), Ok(Settled::Dead));
    assert_eq!(
        rig.tell(QueueCommand::DeadPurge(filter)).unwrap(),
        QueueReply::Count { count: 1, more: false }
    );
    assert_eq!((rig.queue.stats(rig.now).purged, rig.rows.len()), (1, 0));
}

#[test]
fn dead_letters_over_their_limit_make_room_oldest_first() {
    let mut rig = Rig::with(QueueConfig { dead_max: 2, ..QueueConfig::default() });
    rig.enqueue(vec![job(0, ""), job(0, ""), job(0, "")]).unwrap();
    for leased in rig.lease(3) {
        rig.now += SECOND;
        rig.nack(&leased, Failure::permanent("x.y", "")).unwrap();
    }
    let stats = rig.queue.stats(rig.now);
    assert_eq!((stats.dead, stats.evicted, rig.queue.jobs.contains_key(&1)), (2, 1, false));
}

#[test]
fn a_unique_job_is_found_or_replaced() {
    let mut rig = Rig::with(QueueConfig::default());
    let unique =
        |replace| NewJob { unique: Some(Unique { replace, ..Unique::while_live("u") }), ..job(1, "") };
    let enqueued = rig.enqueue(vec![unique(false), unique(false)]).unwrap();
    assert_eq!(enqueued, [Enqueued::New(1), Enqueued::Duplicate { existing: 1 }]);
    let replacement = NewJob { payload: Bytes::from_static(b"new"), ..unique(true) };
    assert_eq!(rig.enqueue(vec![replacement]).unwrap(), [Enqueued::Replaced(1)]);
    assert_eq!(rig.rows[&super::rows::payload_row(1)], Bytes::from_static(b"new"));
    let leased = rig.lease(1);
    assert_eq!(rig.enqueue(vec![unique(true)]).unwrap(), [Enqueued::Duplicate { existing: 1 }]);
    rig.ack(&leased[0]).unwrap();
    rig.reload();
    assert_eq!(rig.enqueue(vec![unique(false)]).unwrap(), [Enqueued::New(2)]);
    let daily = Unique { period_ms: 60_000, states: vec![JobStatus::Done], ..Unique::while_live("u") };
    let daily = NewJob { unique: Some(daily), ..job(1, "") };
    assert_eq!(rig.enqueue(vec![daily.clone()]).unwrap(), [Enqueued::Duplicate { existing: 1 }]);
    rig.now += 60 * SECOND;
    assert_eq!(rig.enqueue(vec![daily]).unwrap(), [Enqueued::New(3)]);
}

#[test]
fn a_cancelled_job_that_runs_is_told_and_then_loses_its_lease() {
    let mut rig = Rig::with(QueueConfig::default());
    rig.enqueue(vec![job(0, ""), job(0, "")]).unwrap();
    let mine = rig.lease(1);
    let cancel = QueueCommand::Cancel { jobs: vec![1], grace_ms: 5_000 };
    let by = rig.now + 5 * SECOND;
    assert_eq!(rig.one(cancel).unwrap(), Settled::Leased { expires: by, cancel: true });
    let (job, fence) = (mine[0].seq, mine[0].fence);
    let extend = Extend { job, fence, by_ms: 30_000, progress: None, note: None };
    let told = rig.one(QueueCommand::Extend(vec![extend])).unwrap();
    assert_eq!(told, Settled::Leased { expires: by, cancel: true });
    rig.one(QueueCommand::Cancel { jobs: vec![2], grace_ms: 0 }).unwrap();
    rig.now = by;
    assert!(rig.lease(9).is_empty());
    assert_eq!((rig.queue.stats(rig.now).cancelled, rig.queue.live()), (2, 0));
    assert_eq!(rig.ack(&mine[0]), Err(QueueRefusal::LeaseLost));
}

#[test]
fn pause_and_limits_keep_jobs_back() {
    let rate = Some(Rate { permits: 2, per_ms: 10_000 });
    let mut rig = Rig::with(QueueConfig { rate, concurrency: 3, ..QueueConfig::default() });
    rig.enqueue(vec![job(0, ""); 9]).unwrap();
    rig.tell(QueueCommand::Pause).unwrap();
    rig.reload();
    assert!(rig.lease(9).is_empty());
    rig.tell(QueueCommand::Resume).unwrap();
    assert_eq!(seqs(&rig.lease(9)), [1, 2], "the rate");
    rig.reload();
    assert!(rig.lease(9).is_empty());
    rig.now += 20 * SECOND;
    assert_eq!(seqs(&rig.lease(9)), [3], "the concurrency");
}

#[test]
fn the_rate_of_a_key_survives_a_restart_and_binds_no_other_key() {
    let key_rate = Some(Rate { permits: 1, per_ms: 10_000 });
    let mut rig = Rig::with(QueueConfig { key_rate, per_key_limit: 0, ..QueueConfig::default() });
    rig.enqueue(vec![job(0, "a"), job(0, "a"), job(0, "b")]).unwrap();
    assert_eq!(seqs(&rig.lease(9)), [1, 3]);
    rig.reload();
    rig.now += 10 * SECOND - 1;
    assert!(rig.lease(9).is_empty());
    rig.now += 1;
    assert_eq!(seqs(&rig.lease(9)), [2]);
}

#[test]
fn a_worker_gets_only_kinds_it_takes() {
    let mut rig = Rig::with(QueueConfig::default());
    rig.enqueue(vec![NewJob::new("a", ""), NewJob::new("b", ""), NewJob::new("a", "")]).unwrap();
    assert_eq!(seqs(&rig.lease_as("w", 1, &["b"], 9)), [2]);
    assert_eq!(seqs(&rig.lease_as("w", 1, &["a", "b"], 9)), [1, 3]);
}

#[test]
fn ended_jobs_are_kept_up_to_their_limit() {
    let mut rig = Rig::with(QueueConfig { keep_ended: 2, ..QueueConfig::default() });
    rig.enqueue(vec![job(0, ""); 5]).unwrap();
    for leased in rig.lease(5) {
        rig.ack(&leased).unwrap();
    }
    rig.reload();
    assert_eq!((rig.queue.stats(rig.now).done, rig.rows.len()), (5, 2));
}

#[test]
fn a_missing_row_of_a_job_is_noticed() {
    let mut rig = Rig::with(QueueConfig::default());
    rig.enqueue(vec![job(0, ""); 2]).unwrap();
    let fixed = rig.queue.encode_fixed().unwrap();
    let lost = Partition::restore_fixed(&fixed).unwrap();
    assert!(lost.check_sum().is_err());
}
