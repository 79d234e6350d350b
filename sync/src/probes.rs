//! [`Probes`]: admits exactly so many callers in one round.

use crate::planted::{Bug, planted};
use crate::shim::{AtomicU64, Ordering};
use std::sync::Arc;

/// One round, above the count of free places.
const ROUND: u64 = 1 << 32;

/// Admits exactly as many callers as a round has places: the probes of a half-open circuit breaker.
///
/// A [`Probe`] that is dropped gives its place back, one that is [spent](Probe::spend) does not. A place belongs
/// to its round: what an earlier round gave out changes nothing in a later one.
///
/// ```
/// use stanchion_sync::Probes;
/// # if stanchion_sync::UNDER_LOOM { return; }
/// let probes = Probes::new();
/// probes.begin(1);
/// let probe = probes.try_take();
/// assert!(probe.is_some() && probes.try_take().is_none());
/// drop(probe);
/// assert!(probes.try_take().is_some());
/// ```
#[derive(Debug)]
pub struct Probes {
    /// `round * ROUND + free places`; rounds wrap.
    word: AtomicU64,
}

impl Probes {
    /// Makes probes that admit nobody until a round begins.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { word: AtomicU64::new(0) })
    }

    /// Begins a round with `places`; `0` admits nobody. Ends the round before.
    pub fn begin(&self, places: u32) {
        self.change(|word| Some(word.wrapping_add(ROUND) / ROUND * ROUND + u64::from(places)));
    }

    /// Takes a place of the present round, if one is free.
    #[must_use]
    pub fn try_take(self: &Arc<Self>) -> Option<Probe> {
        if planted(Bug::ProbesCountInTwoSteps) {
            let word = self.word.load(Ordering::Acquire);
            (free(word) > 0).then(|| self.word.fetch_sub(1, Ordering::AcqRel))?;
            return Some(Probe { probes: Arc::clone(self), round: round(word) });
        }
        let word = self.change(|word| (free(word) > 0).then(|| word - 1))?;
        Some(Probe { probes: Arc::clone(self), round: round(word) })
    }

    /// Free places of the present round.
    #[must_use]
    pub fn free(&self) -> u32 {
        u32::try_from(free(self.word.load(Ordering::Acquire))).unwrap_or(u32::MAX)
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

    fn give_back(&self, of: u64) {
        if planted(Bug::ProbesDroppedKeepsPlace) {
            return;
        }
        let same = |word| round(word) == of || planted(Bug::ProbesIgnoreTheRound);
        self.change(|word| same(word).then(|| word + 1));
    }
}

fn round(word: u64) -> u64 {
    word / ROUND
}

fn free(word: u64) -> u64 {
    word % ROUND
}

/// One place of a round; given back when dropped.
#[derive(Debug)]
#[must_use = "dropping the probe gives its place back at once"]
pub struct Probe {
    probes: Arc<Probes>,
    round: u64,
}

impl Probe {
    /// Keeps the place taken for the rest of the round: the probe had an outcome.
    pub fn spend(mut self) {
        // No round has this number, so nothing is given back.
        self.round = u64::MAX;
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if self.round != u64::MAX {
            self.probes.give_back(self.round);
        }
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_admitted_before_the_first_round() {
        assert!(Probes::new().try_take().is_none());
    }

    #[test]
    fn a_spent_probe_keeps_its_place_and_a_dropped_one_does_not() {
        let probes = Probes::new();
        probes.begin(2);
        let (one, two) = (probes.try_take().unwrap(), probes.try_take().unwrap());
        assert!(probes.try_take().is_none());
        one.spend();
        assert_eq!(probes.free(), 0);
        drop(two);
        assert_eq!(probes.free(), 1);
    }

    #[test]
    fn a_probe_of_an_earlier_round_changes_nothing() {
        let probes = Probes::new();
        probes.begin(1);
        let late = probes.try_take().unwrap();
        probes.begin(1);
        let present = probes.try_take().unwrap();
        drop(late);
        assert!(probes.try_take().is_none());
        drop(present);
        assert_eq!(probes.free(), 1);
    }

    #[test]
    fn rounds_wrap_without_touching_the_places() {
        let probes = Probes { word: AtomicU64::new(u64::from(u32::MAX) * ROUND) };
        probes.begin(3);
        assert_eq!((round(probes.word.load(Ordering::SeqCst)), probes.free()), (0, 3));
    }
}
