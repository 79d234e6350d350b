//! What a queue looks like from outside.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    meter::QueueFlow,
    partition::{Partition, Tally},
};
use crate::health::Stats;

/// Counts of a queue at one moment. Always: enqueued = done + pending + in flight + delayed + dead + cancelled + purged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStats {
    /// Name of the queue.
    pub name: String,
    /// Partitions.
    pub partitions: u16,
    /// Jobs that may be leased.
    pub pending: u64,
    /// Jobs that wait for their time.
    pub delayed: u64,
    /// Jobs leased; some may be overdue and not taken back yet.
    pub in_flight: u64,
    /// Jobs acknowledged.
    pub done: u64,
    /// Dead letters.
    pub dead: u64,
    /// Jobs cancelled.
    pub cancelled: u64,
    /// Dead letters purged.
    pub purged: u64,
    /// Of these, to keep within their limits.
    pub evicted: u64,
    /// Jobs accepted.
    pub enqueued: u64,
    /// Attempts begun.
    pub leased: u64,
    /// Failures that were retried.
    pub retried: u64,
    /// Leases lost.
    pub lost: u64,
    /// Seconds since the oldest pending job might have been leased; 0: none is pending.
    pub oldest_s: u64,
    /// Whether nothing is leased until it is resumed.
    pub paused: bool,
    /// Whether nothing is enqueued until it is resumed.
    pub draining: bool,
    /// Most live jobs of a partition.
    pub max: u64,
}

impl QueueStats {
    /// Jobs that are not over: pending, delayed and in flight.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.pending + self.delayed + self.in_flight
    }

    /// Whether every job accepted is accounted for.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        self.enqueued == self.done + self.live() + self.dead + self.cancelled + self.purged
    }

    /// These counts and those of another partition.
    #[must_use]
    pub(super) fn and(mut self, other: &Self) -> Self {
        let sums: [(&mut u64, u64); 12] = [
            (&mut self.pending, other.pending),
            (&mut self.delayed, other.delayed),
            (&mut self.in_flight, other.in_flight),
            (&mut self.done, other.done),
            (&mut self.dead, other.dead),
            (&mut self.cancelled, other.cancelled),
            (&mut self.purged, other.purged),
            (&mut self.evicted, other.evicted),
            (&mut self.enqueued, other.enqueued),
            (&mut self.leased, other.leased),
            (&mut self.retried, other.retried),
            (&mut self.lost, other.lost),
        ];
        for (sum, part) in sums {
            *sum += part;
        }
        self.oldest_s = self.oldest_s.max(other.oldest_s);
        self.paused |= other.paused;
        self.draining |= other.draining;
        self
    }
}

/// A queue in numbers: how it stands, and what happened since the system was opened.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct QueueMetrics {
    /// How it stands; these counts are durable.
    pub stats: QueueStats,
    /// What happened since the system was opened.
    pub flow: QueueFlow,
}

impl QueueMetrics {
    /// The same in the shape in which services count; times in microseconds, rates in jobs per 1 000 s.
    #[must_use]
    pub fn counters(&self) -> Stats {
        let (stats, flow) = (&self.stats, &self.flow.all);
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let milli = |per_s: f64| (per_s * 1_000.0) as u64;
        let counters = [
            ("depth", stats.live()),
            ("pending", stats.pending),
            ("delayed", stats.delayed),
            ("in_flight", stats.in_flight),
            ("dead", stats.dead),
            ("oldest_s", stats.oldest_s),
            ("enqueued", stats.enqueued),
            ("done", stats.done),
            ("retried", stats.retried),
            ("lost", stats.lost),
            ("expired", flow.expired),
            ("wait_p50_us", us(flow.wait.quantile(0.5))),
            ("wait_p99_us", us(flow.wait.quantile(0.99))),
            ("run_p50_us", us(flow.run.quantile(0.5))),
            ("run_p99_us", us(flow.run.quantile(0.99))),
            ("enqueued_per_1000_s", milli(self.flow.enqueued_per_s)),
            ("done_per_1000_s", milli(self.flow.done_per_s)),
        ];
        Stats { counters: counters.into_iter().collect() }
    }
}

impl Partition {
    /// Counts at `now`, in microseconds since the epoch.
    #[must_use]
    pub fn stats(&self, now: i64) -> QueueStats {
        let Tally { enqueued, done, cancelled, purged, evicted, leased, retried, lost } = self.fixed.tally;
        // What became due since the last command is pending, whether or not anything looked at it.
        let due = self.delayed.iter().take_while(|(at, _)| *at <= now).count() as u64;
        let first = self.delayed.first().map(|(at, _)| *at).filter(|at| *at <= now);
        let oldest = self.ready.oldest().into_iter().chain(first).min();
        let oldest_us = oldest.map_or(0, |at| now.saturating_sub(at));
        QueueStats {
            name: String::new(),
            partitions: self.fixed.config.partitions,
            pending: self.ready.len() + due,
            delayed: self.delayed.len() as u64 - due,
            in_flight: self.leases.len() as u64,
            done,
            dead: self.dead.len() as u64,
            cancelled,
            purged,
            evicted,
            enqueued,
            leased,
            retried,
            lost,
            oldest_s: u64::try_from(oldest_us / 1_000_000).unwrap_or(0),
            paused: self.fixed.paused,
            draining: self.fixed.draining,
            max: self.fixed.config.max,
        }
    }

    /// The word by which the partition is listed and followed.
    pub(super) fn word(&self) -> &'static str {
        if !self.fixed.exists {
            ""
        } else if self.live() == 0 {
            "empty"
        } else if self.fixed.paused {
            "paused"
        } else if self.ready.len() > 0 {
            "ready"
        } else {
            "busy"
        }
    }
}
