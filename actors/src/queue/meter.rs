//! What a queue did since the system was opened: times, rates, and the same for each key.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::histogram::TimeHistogram;

/// Keys of one queue that are counted each for itself; the ones that come later are counted together.
pub const QUEUE_KEYS_COUNTED: usize = 128;
/// Seconds over which rates are taken.
pub const QUEUE_RATE_SECONDS: usize = 60;

/// So many queues keep their numbers while none of their partitions is active.
const METERS_MAX: usize = 1_024;

/// What became of the jobs of a queue, or of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flow {
    /// Attempts begun.
    pub started: u64,
    /// Attempts that succeeded.
    pub done: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Of these, followed by another one.
    pub retried: u64,
    /// Leases that ran out.
    pub expired: u64,
    /// Leases given back because their worker began another life.
    pub released: u64,
    /// From the time a job might have been leased to its lease.
    pub wait: TimeHistogram,
    /// From the lease to the acknowledgement or the failure.
    pub run: TimeHistogram,
}

/// What happened to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metered {
    Started { wait_us: u64 },
    Done { run_us: u64 },
    Failed { run_us: u64, retried: bool },
    Expired,
    Released,
}

impl Flow {
    fn count(&mut self, what: Metered) {
        match what {
            Metered::Started { wait_us } => {
                self.started += 1;
                self.wait.record(wait_us);
            }
            Metered::Done { run_us } => {
                self.done += 1;
                self.run.record(run_us);
            }
            Metered::Failed { run_us, retried } => {
                self.failed += 1;
                self.retried += u64::from(retried);
                self.run.record(run_us);
            }
            Metered::Expired => self.expired += 1,
            Metered::Released => self.released += 1,
        }
    }
}

/// Counts of the last seconds, each second in its place.
#[derive(Debug)]
struct Recent {
    /// Second and count.
    seconds: [(i64, u64); QUEUE_RATE_SECONDS],
    first: Option<i64>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { seconds: [(0, 0); QUEUE_RATE_SECONDS], first: None }
    }
}

impl Recent {
    fn count(&mut self, now: i64, by: u64) {
        let second = now.div_euclid(1_000_000);
        self.first.get_or_insert(second);
        let place = usize::try_from(second.rem_euclid(QUEUE_RATE_SECONDS as i64)).unwrap_or(0);
        if let Some(slot) = self.seconds.get_mut(place) {
            *slot = if slot.0 == second { (second, slot.1 + by) } else { (second, by) };
        }
    }

    /// A second, over those that are complete, as far as anything was counted.
    fn per_s(&self, now: i64) -> f64 {
        let second = now.div_euclid(1_000_000);
        let Some(first) = self.first else { return 0.0 };
        let from = first.max(second - QUEUE_RATE_SECONDS as i64 + 1);
        let complete = (second - from).max(0);
        if complete == 0 {
            return 0.0;
        }
        let counted = self.seconds.iter().filter(|(at, _)| (from..second).contains(at));
        counted.map(|(_, count)| count).sum::<u64>() as f64 / complete as f64
    }
}

/// Numbers of one queue, from all its partitions. Counts decisions: one whose entry then was not stored counts, too.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<Metering>);

#[derive(Debug, Default)]
struct Metering {
    all: Flow,
    keys: HashMap<Arc<str>, Flow>,
    other_keys: Flow,
    enqueued: Recent,
    done: Recent,
}

/// What a meter shows.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct QueueFlow {
    /// Of all jobs.
    pub all: Flow,
    /// Of the jobs of each key.
    pub keys: BTreeMap<Arc<str>, Flow>,
    /// Of the jobs of keys beyond the first [`QUEUE_KEYS_COUNTED`].
    pub other_keys: Flow,
    /// Jobs enqueued in a second, over the last minute.
    pub enqueued_per_s: f64,
    /// Jobs done in a second, over the last minute.
    pub done_per_s: f64,
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, Metering> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enqueued(&self, now: i64) {
        self.lock().enqueued.count(now, 1);
    }

    pub(super) fn happened(&self, key: Option<&Arc<str>>, what: Metered, now: i64) {
        let mut metering = self.lock();
        metering.all.count(what);
        if matches!(what, Metered::Done { .. }) {
            metering.done.count(now, 1);
        }
        let Some(key) = key else { return };
        let known = metering.keys.len() < QUEUE_KEYS_COUNTED || metering.keys.contains_key(key);
        if known {
            metering.keys.entry(Arc::clone(key)).or_default().count(what);
        } else {
            metering.other_keys.count(what);
        }
    }

    pub(super) fn flow(&self, now: i64) -> QueueFlow {
        let metering = self.lock();
        QueueFlow {
            all: metering.all.clone(),
            keys: metering.keys.iter().map(|(key, flow)| (Arc::clone(key), flow.clone())).collect(),
            other_keys: metering.other_keys.clone(),
            enqueued_per_s: metering.enqueued.per_s(now),
            done_per_s: metering.done.per_s(now),
        }
    }
}

/// Meters of a system's queues, by name; they outlive the activations of partitions.
#[derive(Debug, Default)]
pub(super) struct Meters(Mutex<BTreeMap<String, Arc<Meter>>>);

impl Meters {
    /// The meter of the queue that this partition is of.
    pub(super) fn of(&self, partition: &str) -> Arc<Meter> {
        let queue = partition.split_once('/').map_or(partition, |(queue, _)| queue);
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if meters.len() >= METERS_MAX && !meters.contains_key(queue) {
            meters.retain(|_, meter| Arc::strong_count(meter) > 1);
        }
        Arc::clone(meters.entry(queue.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn rates_are_of_the_complete_seconds_of_the_last_minute() {
        let meter = Meter::default();
        assert_eq!(meter.flow(7 * SECOND).enqueued_per_s, 0.0);
        for second in 0..100 {
            (0..second).for_each(|_| meter.enqueued(second * SECOND + 5));
        }
        // Seconds 41 to 99.
        let expected = (41..100).sum::<i64>() as f64 / 59.0;
        assert_eq!(meter.flow(100 * SECOND).enqueued_per_s, expected);
        assert_eq!(meter.flow(1_000 * SECOND).enqueued_per_s, 0.0, "long ago");
    }

    #[test]
    fn keys_beyond_the_bound_are_counted_together() {
        let meters = Meters::default();
        let meter = meters.of("mail");
        for number in 0..QUEUE_KEYS_COUNTED + 5 {
            let key: Arc<str> = Arc::from(format!("k{number}"));
            meters.of("mail/3").happened(Some(&key), Metered::Started { wait_us: 10 }, 0);
        }
        meter.happened(None, Metered::Failed { run_us: 3, retried: true }, 0);
        let flow = meter.flow(0);
        assert_eq!((flow.keys.len(), flow.other_keys.started), (QUEUE_KEYS_COUNTED, 5));
        assert_eq!(flow.all.started, (QUEUE_KEYS_COUNTED + 5) as u64, "keys and the rest add up");
        assert_eq!((flow.all.failed, flow.all.retried), (1, 1));
    }
}
