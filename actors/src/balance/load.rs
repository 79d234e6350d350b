//! Load of an instance: work in flight and how long work takes.

use std::{collections::HashMap, time::Duration};

use super::{BalanceOptions, Candidate, InstanceId};
use crate::ids::Timestamp;

/// What became of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done, or refused for its own fault.
    Done,
    /// The instance failed it, or did not answer in time.
    Failed,
}

/// What is known of an instance.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoadStats {
    /// Pieces of work that have started and not finished.
    pub in_flight: u32,
    /// Latency it is expected to have.
    pub latency: Duration,
    /// Pieces of work that were done.
    pub done: u64,
    /// Pieces of work that failed.
    pub failed: u64,
}

/// Latency as a peak-sensitive moving average: a slower sample counts at once, a faster one by and by.
///
/// # Source
/// Finagle `PeakEwma`, tower `tower::load::PeakEwma`.
#[derive(Clone, Copy, Debug)]
struct PeakEwma {
    latency_us: f64,
    updated: Timestamp,
}

impl PeakEwma {
    /// The estimate at `now`: it fades while nothing is learnt, so that a slow instance is tried again some time.
    fn at(&self, now: Timestamp, decay_us: f64) -> f64 {
        self.latency_us * self.kept(now, decay_us)
    }

    fn learn(&mut self, sample_us: f64, now: Timestamp, decay_us: f64) {
        let kept = self.kept(now, decay_us);
        self.latency_us = if sample_us > self.latency_us {
            sample_us
        } else {
            self.latency_us * kept + sample_us * (1.0 - kept)
        };
        // A clock that jumps back stands still here.
        self.updated = self.updated.max(now);
    }

    fn kept(&self, now: Timestamp, decay_us: f64) -> f64 {
        (-(now.since(self.updated).as_micros() as f64) / decay_us).exp()
    }
}

#[derive(Clone, Copy, Debug)]
struct Load {
    in_flight: u32,
    ewma: PeakEwma,
    done: u64,
    failed: u64,
}

/// Loads of all instances that ever had work and were not forgotten.
#[derive(Clone, Debug)]
pub(super) struct Loads {
    decay_us: f64,
    initial_us: f64,
    failure_penalty: Duration,
    of: HashMap<InstanceId, Load>,
}

impl Loads {
    pub(super) fn new(options: &BalanceOptions) -> Self {
        Self {
            decay_us: options.ewma_decay_ms as f64 * 1_000.0,
            initial_us: options.latency_initial_ms as f64 * 1_000.0,
            failure_penalty: options.failure_penalty(),
            of: HashMap::new(),
        }
    }

    pub(super) fn started(&mut self, id: &InstanceId, now: Timestamp) {
        let load = self.entry(id, now);
        load.in_flight = load.in_flight.saturating_add(1);
    }

    pub(super) fn finished(&mut self, id: &InstanceId, latency: Duration, outcome: Outcome, now: Timestamp) {
        // One that was forgotten meanwhile stays forgotten.
        let Some(load) = self.of.get_mut(id) else { return };
        let counted = match outcome {
            Outcome::Done => latency,
            Outcome::Failed => latency.max(self.failure_penalty),
        };
        match outcome {
            Outcome::Done => load.done += 1,
            Outcome::Failed => load.failed += 1,
        }
        load.in_flight = load.in_flight.saturating_sub(1);
        load.ewma.learn(counted.as_micros() as f64, now, self.decay_us);
    }

    /// Forgets an instance; answers how many pieces of work it had.
    pub(super) fn forget(&mut self, id: &InstanceId) -> u32 {
        self.of.remove(id).map_or(0, |load| load.in_flight)
    }

    pub(super) fn in_flight(&self, id: &InstanceId) -> u32 {
        self.of.get(id).map_or(0, |load| load.in_flight)
    }

    /// What one more piece of work would cost there.
    pub(super) fn cost(&self, candidate: &Candidate, now: Timestamp) -> f64 {
        let latency =
            self.of.get(&candidate.id).map_or(self.initial_us, |load| load.ewma.at(now, self.decay_us));
        // A microsecond at least: work in flight counts also where latency has faded away.
        latency.max(1.0) * self.in_flight_share(candidate)
    }

    /// Work in flight, this piece included, over the weight.
    pub(super) fn in_flight_share(&self, candidate: &Candidate) -> f64 {
        (f64::from(self.in_flight(&candidate.id)) + 1.0) / candidate.weight.as_f64()
    }

    pub(super) fn stats(&self, id: &InstanceId, now: Timestamp) -> Option<LoadStats> {
        let load = self.of.get(id)?;
        let latency = Duration::from_micros(load.ewma.at(now, self.decay_us) as u64);
        Some(LoadStats { in_flight: load.in_flight, latency, done: load.done, failed: load.failed })
    }

    fn entry(&mut self, id: &InstanceId, now: Timestamp) -> &mut Load {
        let ewma = PeakEwma { latency_us: self.initial_us, updated: now };
        let fresh = Load { in_flight: 0, ewma, done: 0, failed: 0 };
        self.of.entry(id.clone()).or_insert(fresh)
    }
}
