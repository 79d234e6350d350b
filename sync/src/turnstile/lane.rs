//! [`Lane`]: places lent to one thread or so, taken and returned without the lock.

use crate::planted::{Bug, planted};
use crate::shim::{AtomicU64, Ordering};

const CLOSED: u64 = 1 << 63;
const WEIGHT_BITS: u32 = 43;
const WEIGHT_MAX: u64 = (1 << WEIGHT_BITS) - 1;
const PLACE: u64 = 1 << WEIGHT_BITS;
/// Most places that are lent at once, to all lanes.
pub(super) const LENT_MAX: u64 = CLOSED / PLACE - 1;
/// Callers as heavy as this do not go through lanes.
const HEAVY: u64 = 1 << 32;

/// Lent places that are free, and the weight of the callers that are inside through this lane.
///
/// Closed and opened, and lent to, under the turnstile's lock only.
#[derive(Debug)]
pub(super) struct Lane {
    /// `CLOSED? + free * PLACE + weight`; no place is free while it is closed.
    word: AtomicU64,
}

impl Lane {
    pub(super) fn new() -> Self {
        Self { word: AtomicU64::new(CLOSED) }
    }

    /// Takes a free place for a caller of this weight; whether there was one.
    pub(super) fn take(&self, weight: u64) -> bool {
        let may = |word| word & CLOSED == 0 && word >= PLACE && weight < HEAVY && fits(word, weight);
        self.change(|word| may(word).then(|| word - PLACE + weight)).is_some()
    }

    /// Takes back the place and the weight of a caller; `false` when the lane is closed: the place belongs to the
    /// turnstile then.
    pub(super) fn give(&self, weight: u64) -> bool {
        let is_open = |word| word & CLOSED == 0 || planted(Bug::TurnstileReturnsToAClosedLane);
        let was = self.change(|word| Some(word - weight + if is_open(word) { PLACE } else { 0 }));
        was.is_some_and(is_open)
    }

    /// Closes it; how many places are not free to be taken here any more.
    pub(super) fn close(&self) -> u64 {
        if planted(Bug::TurnstileClosesInTwoSteps) {
            let word = self.word.load(Ordering::Acquire);
            self.word.store(CLOSED | (word & WEIGHT_MAX), Ordering::Release);
            return free(word);
        }
        self.change(|word| Some(CLOSED | (word & WEIGHT_MAX))).map_or(0, free)
    }

    pub(super) fn open(&self) {
        self.change(|word| Some(word & !CLOSED));
    }

    /// Lends it so many places more.
    pub(super) fn lend(&self, places: u64) {
        self.word.fetch_add(places * PLACE, Ordering::AcqRel);
    }

    pub(super) fn free(&self) -> u64 {
        free(self.word.load(Ordering::Acquire))
    }

    pub(super) fn weight(&self) -> u64 {
        self.word.load(Ordering::Acquire) & WEIGHT_MAX
    }

    /// Changes the word in one step; answers what it was, or `None` when it stays.
    fn change(&self, to: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            match self.word.compare_exchange_weak(word, to(word)?, Ordering::AcqRel, Ordering::Acquire) {
                Ok(was) => return Some(was),
                Err(found) => word = found,
            }
        }
    }
}

fn fits(word: u64, weight: u64) -> bool {
    (word & WEIGHT_MAX) + weight <= WEIGHT_MAX
}

fn free(word: u64) -> u64 {
    (word & !CLOSED) / PLACE
}
