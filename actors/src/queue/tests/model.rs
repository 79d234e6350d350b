//! A queue as simple as can be, and random operations on both.

use proptest::prelude::*;

use super::*;

/// What the model knows of a job.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Waits { at: i64, held: bool },
    Leased { fence: u64, expires: i64 },
    Dead,
    Done,
    Cancelled,
    Purged,
}

#[derive(Clone, Debug)]
struct Known {
    priority: u8,
    key: String,
    failures: u32,
    lost: u32,
    state: State,
}

#[derive(Clone, Debug)]
enum Op {
    Enqueue { priority: u8, key: u8, delay_s: u64 },
    Lease(usize),
    Ack(usize),
    Nack(usize, bool),
    Cancel(usize),
    Retry(usize),
    Requeue,
    Purge,
    Pause(bool),
    Pass(i64),
    Reload,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_u8, 0..3_u8, prop_oneof![3 => Just(0), 1 => 1..20_u64])
            .prop_map(|(priority, key, delay_s)| Op::Enqueue { priority, key, delay_s }),
        5 => (1..4_usize).prop_map(Op::Lease),
        5 => any::<usize>().prop_map(Op::Ack),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, again)| Op::Nack(which, again)),
        1 => any::<usize>().prop_map(Op::Cancel),
        1 => any::<usize>().prop_map(Op::Retry),
        1 => Just(Op::Requeue),
        1 => Just(Op::Purge),
        1 => prop_oneof![1 => Just(true), 3 => Just(false)].prop_map(Op::Pause),
        3 => (1..12_i64).prop_map(Op::Pass),
        1 => Just(Op::Reload),
    ]
}

const MAX: usize = 12;
const AGEING: i64 = 25 * SECOND;

struct Model {
    jobs: Vec<Known>,
    paused: bool,
}

impl Model {
    fn count(&self, is: impl Fn(&State) -> bool) -> u64 {
        self.jobs.iter().filter(|job| is(&job.state)).count() as u64
    }

    fn live(&self) -> usize {
        self.count(|state| matches!(state, State::Waits { .. } | State::Leased { .. })) as usize
    }

    /// Takes back what is overdue.
    fn sweep(&mut self, now: i64) {
        for job in &mut self.jobs {
            if matches!(job.state, State::Leased { expires, .. } if expires <= now) {
                job.lost += 1;
                let held = true;
                job.state = if job.lost > 10 { State::Dead } else { State::Waits { at: now, held } };
            }
        }
    }

    /// Since when the job may be leased now, if it may.
    fn ready_since(&self, index: usize, now: i64) -> Option<i64> {
        let job = &self.jobs[index];
        let State::Waits { at, .. } = job.state else { return None };
        if at > now || self.paused {
            return None;
        }
        let blocks = |(other, known): (usize, &Known)| {
            let ready = matches!(known.state, State::Waits { at, .. } if at <= now);
            let held = matches!(known.state, State::Waits { at, held: true } if at > now);
            let leased = matches!(known.state, State::Leased { .. });
            let earlier = ready && known.priority == job.priority && other < index;
            known.key == job.key && (earlier || (!job.key.is_empty() && (leased || held)))
        };
        let aged_alone = job.key.is_empty() && now - at >= AGEING;
        let blocked = self.jobs.iter().enumerate().any(blocks);
        (!blocked || aged_alone).then_some(at)
    }

    /// Whether this is a job that has to go now.
    fn is_due(&self, index: usize, now: i64) -> bool {
        let Some(since) = self.ready_since(index, now) else { return false };
        let all: Vec<(usize, i64)> =
            (0..self.jobs.len()).filter_map(|at| Some((at, self.ready_since(at, now)?))).collect();
        let oldest =
            all.iter().filter(|(_, since)| now - since >= AGEING).map(|(at, since)| (*since, *at)).min();
        match oldest {
            Some((_, at)) => at == index,
            None => {
                let highest = all.iter().map(|(at, _)| self.jobs[*at].priority).max();
                now - since < AGEING && Some(self.jobs[index].priority) == highest
            }
        }
    }

    fn anything_due(&self, now: i64) -> bool {
        (0..self.jobs.len()).any(|index| self.ready_since(index, now).is_some())
    }
}

fn leased(rig: &Rig, model: &Model, which: usize) -> Option<(usize, GrantedJob, bool)> {
    let known: Vec<usize> =
        (0..model.jobs.len()).filter(|at| matches!(model.jobs[*at].state, State::Leased { .. })).collect();
    let index = *known.get(which.checked_rem(known.len())?)?;
    let State::Leased { fence, expires } = model.jobs[index].state else { return None };
    let seq = index as u64 + 1;
    let kind = Arc::from("");
    let granted = GrantedJob { seq, fence, attempt: 0, kind, key: None, priority: 0, expires, timeout_ms: 0 };
    Some((index, granted, expires > rig.now))
}

fn step(rig: &mut Rig, model: &mut Model, op: Op) {
    let now = rig.now;
    match op {
        Op::Enqueue { priority, key, delay_s } => {
            let key = ["", "a", "b"][usize::from(key)];
            let new = NewJob { run_at: RunAt::After(delay_s * 1_000), ..job(priority, key) };
            if model.live() >= MAX {
                assert!(matches!(rig.enqueue(vec![new]), Err(QueueRefusal::QueueFull { .. })));
                return;
            }
            assert_eq!(rig.enqueue(vec![new]).unwrap(), [Enqueued::New(model.jobs.len() as u64 + 1)]);
            let at = now + i64::try_from(delay_s).unwrap() * SECOND;
            let state = State::Waits { at, held: false };
            model.jobs.push(Known { priority, key: key.into(), failures: 0, lost: 0, state });
        }
        Op::Lease(n) => {
            let granted = rig.lease(n);
            model.sweep(now);
            for one in &granted {
                let index = one.seq as usize - 1;
                assert!(model.is_due(index, now), "{one:?} of {:?}", model.jobs);
                model.jobs[index].state = State::Leased { fence: one.fence, expires: one.expires };
            }
            assert!(granted.len() == n || !model.anything_due(now), "{n} of {:?}", model.jobs);
        }
        Op::Ack(which) => {
            let Some((index, granted, held)) = leased(rig, model, which) else { return };
            assert_eq!(rig.ack(&granted).is_ok(), held);
            if held {
                model.jobs[index].state = State::Done;
            }
        }
        Op::Nack(which, again) => {
            let Some((index, granted, held)) = leased(rig, model, which) else { return };
            let failure = Failure { retryable: again, ..Failure::permanent("x.y", "") };
            let settled = rig.nack(&granted, failure);
            if !held {
                return assert_eq!(settled, Err(QueueRefusal::LeaseLost));
            }
            let known = &mut model.jobs[index];
            known.failures += 1;
            let at = now + if known.failures == 1 { SECOND } else { 2 * SECOND };
            let dead = !again || known.failures >= 3;
            known.state = if dead { State::Dead } else { State::Waits { at, held: true } };
            assert_eq!(settled.unwrap(), if dead { Settled::Dead } else { Settled::Waits(at) });
        }
        Op::Cancel(which) => {
            let Some(index) = which.checked_rem(model.jobs.len()) else { return };
            let waits = matches!(model.jobs[index].state, State::Waits { .. });
            if matches!(model.jobs[index].state, State::Leased { .. }) {
                return;
            }
            let seq = index as u64 + 1;
            let cancelled = rig.one(QueueCommand::Cancel { jobs: vec![seq], grace_ms: 0 });
            assert_eq!(cancelled.is_ok(), waits);
            if waits {
                model.jobs[index].state = State::Cancelled;
            }
        }
        Op::Retry(which) => {
            let Some(index) = which.checked_rem(model.jobs.len()) else { return };
            let known = &mut model.jobs[index];
            let may =
                known.state == State::Dead || matches!(known.state, State::Waits { at, .. } if at > now);
            assert_eq!(rig.one(QueueCommand::Retry(vec![index as u64 + 1])).is_ok(), may);
            if may {
                if known.state == State::Dead {
                    (known.failures, known.lost) = (0, 0);
                }
                known.state = State::Waits { at: now, held: false };
            }
        }
        Op::Requeue | Op::Purge => {
            let filter = DeadFilter { all: true, ..DeadFilter::default() };
            let purge = matches!(op, Op::Purge);
            let command =
                if purge { QueueCommand::DeadPurge(filter) } else { QueueCommand::DeadRequeue(filter) };
            let count = model.count(|state| *state == State::Dead);
            assert_eq!(rig.tell(command).unwrap(), QueueReply::Count { count, more: false });
            for known in model.jobs.iter_mut().filter(|known| known.state == State::Dead) {
                (known.failures, known.lost) = (0, 0);
                known.state = if purge { State::Purged } else { State::Waits { at: now, held: false } };
            }
        }
        Op::Pause(paused) => {
            rig.tell(if paused { QueueCommand::Pause } else { QueueCommand::Resume }).unwrap();
            model.paused = paused;
        }
        Op::Pass(seconds) => rig.now += seconds * SECOND,
        Op::Reload => rig.reload(),
    }
}

fn compare(rig: &Rig, model: &Model) {
    let (stats, now) = (rig.queue.stats(rig.now), rig.now);
    let ours = [
        stats.pending,
        stats.delayed,
        stats.in_flight,
        stats.done,
        stats.dead,
        stats.cancelled,
        stats.purged,
    ];
    let theirs = [
        model.count(|state| matches!(state, State::Waits { at, .. } if *at <= now)),
        model.count(|state| matches!(state, State::Waits { at, .. } if *at > now)),
        model.count(|state| matches!(state, State::Leased { .. })),
        model.count(|state| *state == State::Done),
        model.count(|state| *state == State::Dead),
        model.count(|state| *state == State::Cancelled),
        model.count(|state| *state == State::Purged),
    ];
    assert_eq!((ours, stats.enqueued, stats.paused), (theirs, model.jobs.len() as u64, model.paused));
    let oldest = model.jobs.iter().filter_map(|job| match job.state {
        State::Waits { at, .. } if at <= now => Some((now - at) / SECOND),
        _ => None,
    });
    assert_eq!(i64::try_from(stats.oldest_s).unwrap(), oldest.max().unwrap_or(0));
}

fn is_campaign() -> bool {
    std::env::var("STANCHION_CAMPAIGN").is_ok_and(|value| value == "1")
}

fn run(ops: Vec<Op>) {
    let ageing_ms = u64::try_from(AGEING / 1_000).unwrap();
    let max = MAX as u64;
    let mut rig = Rig::with(QueueConfig { max, ageing_ms, ..QueueConfig::default() });
    let mut model = Model { jobs: Vec::new(), paused: false };
    for op in ops {
        step(&mut rig, &mut model, op);
        compare(&rig, &model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if is_campaign() { 1_000 } else { 40 }))]
    #[test]
    fn random_operations_agree_with_the_model(ops in prop::collection::vec(op(), 100)) {
        run(ops);
    }
}

#[test]
#[should_panic(expected = "assertion")]
fn a_model_that_forgets_a_job_is_found() {
    let mut rig = Rig::with(QueueConfig::default());
    let mut model = Model { jobs: Vec::new(), paused: false };
    step(&mut rig, &mut model, Op::Enqueue { priority: 0, key: 0, delay_s: 0 });
    model.jobs.clear();
    compare(&rig, &model);
}
