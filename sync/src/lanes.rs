//! [`Lanes`]: counts calls that need no decision, without a lock that all of them meet at.

use crate::padded::{Padded, of, padded};
use crate::planted::{Bug, planted};
use crate::shim::{AtomicU64, Ordering};

/// Bits of each count of a word. A lane that is full is as good as closed, until it is opened again.
const COUNT_BITS: u32 = 12;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const ENTERED: u64 = 1 << COUNT_BITS;
const TAG: u64 = 1 << (2 * COUNT_BITS);
const OPEN: u64 = 1 << 63;
/// Largest tag of an open lane.
const TAG_MAX: u64 = OPEN / TAG - 1;

/// Counts of all lanes since they were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Calls that entered.
    pub entered: u64,
    /// Calls that were done.
    pub done: u64,
}

/// Counts calls in lanes, one for each thread or so, as long as none of them needs a decision: the successes of a
/// closed circuit breaker.
///
/// Whoever decides has a lock of its own. It [closes](Lanes::close) the lanes under that lock, which gives it what
/// they counted, and [opens](Lanes::open) them when what comes needs no decision again. Between these two nothing is
/// counted here, so the one who decides knows of everything that was: a call that finds its lane closed goes to the
/// lock.
///
/// A tag says what a lane was opened for. A call that entered under one tag is not counted as done under another.
///
/// ```
/// use stanchion_sync::{LaneCounts, Lanes};
/// # if stanchion_sync::UNDER_LOOM { return; }
/// let lanes = Lanes::new(4);
/// assert_eq!(lanes.enter(0), None);
/// lanes.open(7);
/// assert_eq!(lanes.enter(0), Some(7));
/// assert!(lanes.done(3, 7, || true) && !lanes.done(3, 6, || true));
/// assert_eq!(lanes.close(), LaneCounts { entered: 1, done: 1 });
/// assert_eq!(lanes.close(), LaneCounts::default());
/// ```
#[derive(Debug)]
pub struct Lanes {
    /// `OPEN? + tag * TAG + entered * ENTERED + done` each; 0 while closed.
    words: Box<[Padded<AtomicU64>]>,
}

impl Lanes {
    /// Makes lanes, at least one, that are closed.
    #[must_use]
    pub fn new(lanes: usize) -> Self {
        Self { words: padded(lanes, || AtomicU64::new(0)) }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.words.len()
    }

    /// Opens the lanes, which have been closed before. A tag of 2^39 or more leaves them closed; whether they are
    /// open. To be called by one at a time.
    pub fn open(&self, tag: u64) -> bool {
        if tag > TAG_MAX {
            return false;
        }
        self.words.iter().for_each(|word| word.0.store(OPEN + tag * TAG, Ordering::Release));
        true
    }

    /// Closes the lanes and answers what they counted. To be called by one at a time.
    pub fn close(&self) -> LaneCounts {
        let mut all = LaneCounts::default();
        for word in &self.words {
            let was = if planted(Bug::LanesCloseInTwoSteps) {
                let was = word.0.load(Ordering::Acquire);
                word.0.store(0, Ordering::Release);
                was
            } else {
                word.0.swap(0, Ordering::AcqRel)
            };
            all.entered += entered(was);
            all.done += was & COUNT_MAX;
        }
        all
    }

    /// Counts a call that enters; the tag, or `None` when the lane is closed.
    #[must_use]
    pub fn enter(&self, lane: usize) -> Option<u64> {
        let has_place = |word| word & OPEN != 0 && entered(word) < COUNT_MAX;
        let was = add(of(&self.words, lane)?, ENTERED, has_place)?;
        Some(tag(was))
    }

    /// Counts a call that entered under `tag` as done, if the lane is open under the same and `may` says so; whether
    /// it did. What was written before the lane was opened is seen by `may`.
    #[must_use]
    pub fn done(&self, lane: usize, entered_under: u64, may: impl FnOnce() -> bool) -> bool {
        let Some(word) = of(&self.words, lane) else { return false };
        let has_place = |word| {
            let same = tag(word) == entered_under || planted(Bug::LanesIgnoreTheTag);
            word & OPEN != 0 && same && word & COUNT_MAX < COUNT_MAX
        };
        has_place(word.load(Ordering::Acquire)) && may() && add(word, 1, has_place).is_some()
    }
}

/// Adds in one step while `may` holds; what the word was.
fn add(word: &AtomicU64, more: u64, may: impl Fn(u64) -> bool) -> Option<u64> {
    let mut found = word.load(Ordering::Acquire);
    while may(found) {
        match word.compare_exchange_weak(found, found + more, Ordering::AcqRel, Ordering::Acquire) {
            Ok(was) => return Some(was),
            Err(other) => found = other,
        }
    }
    None
}

fn entered(word: u64) -> u64 {
    (word / ENTERED) & COUNT_MAX
}

fn tag(word: u64) -> u64 {
    (word & !OPEN) / TAG
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_is_as_good_as_closed_and_the_others_are_not() {
        let lanes = Lanes::new(2);
        assert!(lanes.open(TAG_MAX));
        let entered = std::iter::from_fn(|| lanes.enter(0)).count() as u64;
        let done =
            std::iter::repeat_with(|| lanes.done(0, TAG_MAX, || true)).take_while(|done| *done).count();
        assert_eq!((entered, done as u64), (COUNT_MAX, COUNT_MAX));
        assert_eq!(lanes.enter(1), Some(TAG_MAX), "neither count has touched the tag");
        assert_eq!(lanes.close(), LaneCounts { entered: COUNT_MAX + 1, done: COUNT_MAX });
    }

    #[test]
    fn a_tag_that_does_not_fit_leaves_the_lanes_closed() {
        let lanes = Lanes::new(1);
        assert!(!lanes.open(TAG_MAX + 1));
        assert_eq!(lanes.enter(0), None);
        assert_eq!(lanes.close(), LaneCounts::default());
    }

    #[test]
    fn every_index_has_a_lane() {
        let lanes = Lanes::new(0);
        assert_eq!(lanes.count(), 1);
        assert!(lanes.open(0) && lanes.enter(usize::MAX) == Some(0));
    }
}
