//! [`Bucket`]: a rate limit in one word.

use crate::planted::{Bug, planted};
use crate::shim::{AtomicU64, Ordering};

/// Admits so much at once and so much in a time: the generic cell rate algorithm, without a lock.
///
/// The state is one number, the theoretical arrival time: when the bucket will be full again. Time, `interval` and
/// `tolerance` are in ticks of whatever length the caller chooses, the same for all. A token bucket of `burst`
/// tokens is this with a `tolerance` of `(burst - 1) * interval`.
///
/// Callers may come with times out of order: an earlier one finds no more than a later one left.
///
/// ```
/// use stanchion_sync::{Bucket, NotYet};
/// # if stanchion_sync::UNDER_LOOM { return; }
/// // One in 100 ticks, and two at once.
/// let bucket = Bucket::new();
/// assert_eq!(bucket.try_take(0, 1, 100, 100), Ok(()));
/// assert_eq!(bucket.try_take(0, 1, 100, 100), Ok(()));
/// assert_eq!(bucket.try_take(30, 1, 100, 100), Err(NotYet::After(70)));
/// assert_eq!(bucket.try_take(100, 1, 100, 100), Ok(()));
/// assert_eq!(bucket.try_take(900, 3, 100, 100), Err(NotYet::Never));
/// ```
///
/// # Source
/// Generic cell rate algorithm, ITU-T I.371, annex A: virtual scheduling.
#[derive(Debug)]
pub struct Bucket {
    /// The theoretical arrival time; 0 in a bucket that nobody took from.
    arrival: AtomicU64,
}

/// Why a bucket gives nothing: its state did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotYet {
    /// It would after so many ticks, if nobody else took.
    After(u64),
    /// It never would: more is asked for than it holds.
    Never,
}

impl Bucket {
    /// Makes a full bucket.
    #[must_use]
    pub fn new() -> Self {
        Self::at(0)
    }

    /// Makes a bucket that is full at `arrival`.
    #[must_use]
    pub fn at(arrival: u64) -> Self {
        Self { arrival: AtomicU64::new(arrival) }
    }

    /// Takes `cost` tokens that come back one in `interval`; `0` asks and takes nothing.
    ///
    /// # Errors
    /// [`NotYet`]: nothing was taken.
    pub fn try_take(&self, now: u64, cost: u64, interval: u64, tolerance: u64) -> Result<(), NotYet> {
        let mut arrival = self.arrival.load(Ordering::Acquire);
        loop {
            let taken = taken(arrival, now, cost, interval, tolerance)?;
            if planted(Bug::BucketTakesInTwoSteps) {
                self.arrival.store(taken, Ordering::Release);
                return Ok(());
            }
            match self.arrival.compare_exchange_weak(arrival, taken, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(found) => arrival = found,
            }
        }
    }

    /// When it is full: a time that lies behind when it is.
    #[must_use]
    pub fn arrival(&self) -> u64 {
        self.arrival.load(Ordering::Acquire)
    }

    /// Takes no more than `most` ticks of filling for taken: after a clock that jumped back, whoever waits would
    /// otherwise wait for the jump too. To be called after a jump only, by more than threads are ever late: a cap by
    /// a late thread would give back what was taken since.
    pub fn cap(&self, now: u64, most: u64) {
        self.arrival.fetch_min(now.saturating_add(most), Ordering::AcqRel);
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Self::new()
    }
}

/// The arrival time after a take.
fn taken(arrival: u64, now: u64, cost: u64, interval: u64, tolerance: u64) -> Result<u64, NotYet> {
    let most = tolerance.checked_add(interval).ok_or(NotYet::Never)?;
    let cost = cost.checked_mul(interval).filter(|cost| *cost <= most).ok_or(NotYet::Never)?;
    let after = arrival.max(now).checked_add(cost).ok_or(NotYet::Never)?;
    match (after - now).checked_sub(most) {
        Some(wait) if wait > 0 => Err(NotYet::After(wait)),
        Some(_) | None => Ok(after),
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_one_in_an_interval() {
        let bucket = Bucket::new();
        let given = (0..10).filter(|_| bucket.try_take(1_000, 1, 10, 30).is_ok()).count();
        assert_eq!(given, 4);
        assert_eq!(bucket.try_take(1_005, 1, 10, 30), Err(NotYet::After(5)));
        assert_eq!(bucket.try_take(1_010, 1, 10, 30), Ok(()));
    }

    #[test]
    fn what_is_refused_does_not_move_the_state() {
        let bucket = Bucket::at(500);
        assert_eq!(bucket.try_take(100, 1, 10, 30), Err(NotYet::After(370)));
        assert_eq!(bucket.try_take(600, 5, 10, 30), Err(NotYet::Never));
        assert_eq!(bucket.arrival(), 500);
    }

    #[test]
    fn a_clock_that_steps_back_admits_nothing_more() {
        let bucket = Bucket::new();
        let admitted = |now| bucket.try_take(now, 1, 100, 100).is_ok();
        assert_eq!([1_000, 990, 980, 1_000, 950].map(admitted), [true, false, false, true, false]);
        assert!(!admitted(1_099) && admitted(1_100));
    }

    #[test]
    fn a_cap_bounds_the_wait_after_a_jump_back() {
        let bucket = Bucket::at(1_000_000);
        assert_eq!(bucket.try_take(50, 1, 100, 300), Err(NotYet::After(999_650)));
        bucket.cap(50, 400);
        assert_eq!(bucket.try_take(50, 1, 100, 300), Err(NotYet::After(100)));
        bucket.cap(50, 1_000);
        assert_eq!(bucket.arrival(), 450, "a cap never takes");
    }

    #[test]
    fn the_end_of_time_refuses() {
        let bucket = Bucket::new();
        assert_eq!(bucket.try_take(u64::MAX, 1, 10, 30), Err(NotYet::Never));
        assert_eq!(bucket.try_take(0, u64::MAX, 2, 30), Err(NotYet::Never));
        assert_eq!(bucket.try_take(0, 1, 2, u64::MAX), Err(NotYet::Never));
    }
}
