//! [`Window`]: nobody is let in until then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::BulkheadError;

/// The window in which nobody is let in. A look outside of one is a load: it does not even read the clock.
#[derive(Debug)]
pub(super) struct Window {
    base: Instant,
    /// When it ends, in nanoseconds since `base`; 0 when there is none.
    end_ns: AtomicU64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { base: Instant::now(), end_ns: AtomicU64::new(0) }
    }

    /// Begins one that lasts so long; one that ends later stays.
    pub(super) fn begin(&self, wait: Duration) {
        let end = (Instant::now() + wait).saturating_duration_since(self.base);
        self.end_ns.fetch_max(u64::try_from(end.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    pub(super) fn end(&self) {
        self.end_ns.store(0, Ordering::Release);
    }

    /// Refuses in a window.
    pub(super) fn check_now(&self, bulkhead: &Arc<str>) -> Result<(), BulkheadError> {
        if self.end_ns.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let now = Instant::now();
        self.check(now, now, bulkhead).map(drop)
    }

    /// When the window ends, `None` outside of one; refuses in one that ends after `until`.
    pub(super) fn check(
        &self,
        now: Instant,
        until: Instant,
        bulkhead: &Arc<str>,
    ) -> Result<Option<Instant>, BulkheadError> {
        let end = self.base + Duration::from_nanos(self.end_ns.load(Ordering::Acquire));
        if end <= now {
            return Ok(None);
        }
        if end > until {
            let retry_after = end.saturating_duration_since(now);
            return Err(BulkheadError::BackingOff { bulkhead: Arc::clone(bulkhead), retry_after });
        }
        Ok(Some(end))
    }

    /// How long it lasts yet; `None` outside of one.
    pub(super) fn left(&self) -> Option<Duration> {
        let end = self.base + Duration::from_nanos(self.end_ns.load(Ordering::Acquire));
        let left = end.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}
