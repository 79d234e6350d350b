//! [`ProtectedStats`]: what became of the calls of a service, layer by layer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Layer, ProtectedErrorKind};
use crate::resilience::{
    breaker::BreakerStats, budget::BudgetStats, bulkhead::BulkheadStatus, limiter::LimiterStats,
    retry::RetryCounts,
};

/// What became of the calls of a service in this life; a look, whatever its calls do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ProtectedStats {
    /// The service.
    pub service: Arc<str>,
    /// Calls that began: `in_flight` of them run, the others succeeded, failed or were cancelled.
    pub calls: u64,
    /// Calls that run or wait.
    pub in_flight: u64,
    /// Calls that had a value of their own.
    pub succeeded: u64,
    /// Calls that had none: refused, failed, timed out.
    pub failed: u64,
    /// Calls whose caller went away.
    pub cancelled: u64,
    /// Attempts that ran.
    pub attempts: u64,
    /// Attempts that panicked.
    pub panics: u64,
    /// Failed calls that another service answered.
    pub fell_back: u64,
    /// Failed calls by the layer that ended them, in the order of [`Layer::ALL`].
    pub ended_by: [u64; Layer::ALL.len()],
    /// For how long the other side asked for no calls.
    pub backed_off: Option<Duration>,
    /// Ends of calls by retries.
    pub retry: RetryCounts,
    /// The budget.
    pub budget: Option<BudgetStats>,
    /// The breaker.
    pub breaker: Option<BreakerStats>,
    /// The limiter.
    pub limiter: Option<LimiterStats>,
    /// The bulkhead.
    pub bulkhead: Option<BulkheadStatus>,
}

impl ProtectedStats {
    /// Failed calls that this layer ended.
    #[must_use]
    pub fn ended_by(&self, layer: Layer) -> u64 {
        self.ended_by.get(layer as usize).copied().unwrap_or(0)
    }
}

/// The counts of one service.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) calls: AtomicU64,
    pub(super) succeeded: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) attempts: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) fell_back: AtomicU64,
    pub(super) ended_by: [AtomicU64; Layer::ALL.len()],
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn failed<E>(&self, service: &Arc<str>, kind: &ProtectedErrorKind<E>) {
        add(&self.failed);
        let layer = match kind {
            ProtectedErrorKind::Refused { refusal, .. } => Some(refusal.layer()),
            ProtectedErrorKind::Failed { .. } => Some(Layer::Retry),
            ProtectedErrorKind::RetryBudgetExhausted { .. } => Some(Layer::Budget),
            ProtectedErrorKind::TimedOut { .. } => Some(Layer::Timeout),
            ProtectedErrorKind::Panicked { .. } => None,
        };
        if let Some(counter) = layer.and_then(|layer| self.ended_by.get(layer as usize)) {
            add(counter);
        }
        let (service, by) = (Arc::clone(service), layer.map_or("call", Layer::as_str));
        metrics::counter!("stanchion_protected_failed_total", "service" => service, "by" => by).increment(1);
    }
}

/// A call that runs: counted as cancelled unless it ends.
#[derive(Debug)]
pub(super) struct Running<'a> {
    counters: &'a Counters,
    over: bool,
}

impl<'a> Running<'a> {
    pub(super) fn begin(counters: &'a Counters) -> Self {
        add(&counters.calls);
        Self { counters, over: false }
    }

    pub(super) fn ended(mut self) {
        self.over = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.over {
            add(&self.counters.cancelled);
        }
    }
}
