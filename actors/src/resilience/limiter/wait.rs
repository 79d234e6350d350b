//! Waiting until a limiter allows: the only part of it that knows a runtime.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;

use super::{Denied, DenyReason, LimitKey, Limiter};
use crate::{clock::Clock, ids::Timestamp};

impl Limiter {
    /// Waits until a call of `cost` is allowed, and takes what it costs. Whoever would be allowed only after the
    /// deadline is refused at once. How long it may wait is settled at the start: `clock` may jump meanwhile. Waiters
    /// of one key are not in order.
    ///
    /// # Errors
    /// [`Denied`]: do not run the call; `reason` tells whether the limit, the cost, the pressure or the number of
    /// waiters is why.
    ///
    /// # Cancel safety
    /// A future that is dropped has taken nothing and waits no more.
    pub async fn until_allowed(
        &self,
        key: LimitKey<'_>,
        cost: u32,
        clock: &dyn Clock,
        deadline: Timestamp,
    ) -> Result<(), Denied> {
        let (begun, longest, mut place) = (Instant::now(), deadline.since(clock.now()), None);
        loop {
            let Err(denied) = self.acquire(key, cost, clock.now()) else { return Ok(()) };
            let left = longest.saturating_sub(begun.elapsed());
            let Some(after) = denied.retry_after.filter(|after| *after <= left) else {
                return Err(denied);
            };
            if place.is_none() {
                place = Some(self.wait_place(&denied)?);
            }
            tokio::time::sleep(after).await;
        }
    }

    fn wait_place(&self, denied: &Denied) -> Result<Place<'_>, Denied> {
        let max = self.max_waiting.load(Ordering::Relaxed);
        let more = |waiting| (waiting < max).then_some(waiting + 1);
        if self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_err() {
            return Err(Denied { reason: DenyReason::Waiting, ..denied.clone() });
        }
        Ok(Place(&self.waiting))
    }
}

/// A place among the waiters; given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
