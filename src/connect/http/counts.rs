//! What an upstream counts, and where it says so.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use stanchion_actors::health::{Counter, Vital};

use super::{
    error::HttpError,
    request::HttpResponse,
    upstream::{UpstreamHealth, UpstreamStats},
};
use crate::connect::pool::PoolStats;

/// Counts of one upstream.
#[derive(Debug, Default)]
pub(super) struct Counts {
    answered: AtomicU64,
    errors: AtomicU64,
    timeouts: AtomicU64,
    probes_failed: AtomicU64,
    told: Option<Told>,
}

/// The same for the system's lists.
#[derive(Debug)]
struct Told {
    vital: Vital,
    answered: Counter,
    errors: Counter,
    timeouts: Counter,
    probes_failed: Counter,
    in_use: Counter,
    idle: Counter,
    waiting: Counter,
    opened: Counter,
}

impl Told {
    fn new(vital: Vital) -> Self {
        vital.up();
        Self {
            answered: vital.counter("answered"),
            errors: vital.counter("errors"),
            timeouts: vital.counter("timeouts"),
            probes_failed: vital.counter("probes_failed"),
            in_use: vital.counter("in_use"),
            idle: vital.counter("idle"),
            waiting: vital.counter("waiting"),
            opened: vital.counter("opened"),
            vital,
        }
    }
}

impl Counts {
    pub(super) fn new(vital: Option<Vital>) -> Self {
        Self { told: vital.map(Told::new), ..Self::default() }
    }

    pub(super) fn count(&self, result: &Result<HttpResponse, HttpError>, pool: &PoolStats) {
        let timed_out = matches!(result, Err(HttpError::AttemptTimeout { .. }));
        self.answered.fetch_add(u64::from(result.is_ok()), Relaxed);
        self.errors.fetch_add(u64::from(result.is_err()), Relaxed);
        self.timeouts.fetch_add(u64::from(timed_out), Relaxed);
        if let Some(told) = &self.told {
            told.answered.add(u64::from(result.is_ok()));
            told.errors.add(u64::from(result.is_err()));
            told.timeouts.add(u64::from(timed_out));
        }
        self.gauge(pool);
    }

    /// Writes down what goes up and down.
    pub(super) fn gauge(&self, pool: &PoolStats) {
        let Some(told) = &self.told else { return };
        told.in_use.set(pool.in_use as usize);
        told.idle.set(pool.idle as usize);
        told.waiting.set(pool.waiting as usize);
        told.opened.set(usize::try_from(pool.opened).unwrap_or(usize::MAX));
    }

    pub(super) fn probe_failed(&self) {
        self.probes_failed.fetch_add(1, Relaxed);
        if let Some(told) = &self.told {
            told.probes_failed.add(1);
        }
    }

    pub(super) fn tell(&self, health: &UpstreamHealth) {
        let Some(told) = &self.told else { return };
        match health {
            UpstreamHealth::Up => told.vital.up(),
            UpstreamHealth::Down { cause, .. } => told.vital.degraded(&**cause),
        }
    }

    pub(super) fn stats(&self, pool: PoolStats) -> UpstreamStats {
        UpstreamStats {
            pool,
            answered: self.answered.load(Relaxed),
            errors: self.errors.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            probes_failed: self.probes_failed.load(Relaxed),
        }
    }
}
