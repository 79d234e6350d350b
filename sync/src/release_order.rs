//! [`ReleaseOrder`]: replies that wait until their version is durable.

use crate::planted::{Bug, planted};
use crate::shim::{Mutex, lock};
use std::collections::VecDeque;

/// Replies of one entity that wait until the version they speak of is durable.
///
/// The entity's actor [holds](ReleaseOrder::hold) them, the writer's completion [releases](ReleaseOrder::release)
/// them, and whoever notices a failed chain or the actor's death [abandons](ReleaseOrder::abandon) the rest.
/// Each life of the actor [begins](ReleaseOrder::begin) an epoch and names it in every call, so neither a late
/// completion nor a late death notice of an earlier life touches the replies of this one.
///
/// # Guarantees
/// - Every held item comes out exactly once: from `hold`, `release`, `abandon` or `begin`.
/// - None comes out of `hold` as durable or of `release` before its version is durable.
/// - Each call hands out items by version, then in the order they were held; no item overtakes one that waits.
///
/// ```
/// use stanchion_sync::{Held, ReleaseOrder};
/// # if stanchion_sync::UNDER_LOOM { return; }
/// let order = ReleaseOrder::new(6);
/// let (epoch, _) = order.begin();
/// assert_eq!(order.hold(epoch, 7, "reply"), Held::Waiting);
/// assert_eq!(order.release(epoch, 7), ["reply"]);
/// assert_eq!(order.hold(epoch, 7, "query"), Held::Durable("query"));
/// assert_eq!(order.abandon(epoch), [""; 0]);
/// assert_eq!(order.hold(epoch, 8, "late"), Held::Abandoned("late"));
/// ```
#[derive(Debug)]
pub struct ReleaseOrder<T> {
    state: Mutex<State<T>>,
}

/// One life of the actor that holds, as [`ReleaseOrder::begin`] numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

/// What became of an item given to [`ReleaseOrder::hold`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an item that does not wait is the caller's to answer"]
pub enum Held<T> {
    /// It waits, and comes out of a later call.
    Waiting,
    /// Its version is durable already: answer at once.
    Durable(T),
    /// The epoch is over: answer that the outcome is unknown.
    Abandoned(T),
}

#[derive(Debug)]
struct State<T> {
    epoch: Epoch,
    /// Highest version known to be durable; never falls.
    durable: u64,
    /// By version, then by age; every version is above `durable`.
    waiting: VecDeque<(u64, T)>,
}

impl<T> ReleaseOrder<T> {
    /// Makes an empty order of an entity whose version `durable` is durable. The first life calls
    /// [`ReleaseOrder::begin`] like every other.
    #[must_use]
    pub fn new(durable: u64) -> Self {
        Self { state: Mutex::new(State { epoch: Epoch(0), durable, waiting: VecDeque::new() }) }
    }

    /// Begins the next epoch and ends the one before, whose waiting items come back in order.
    #[must_use = "the items that come back are the caller's to answer"]
    pub fn begin(&self) -> (Epoch, Vec<T>) {
        let mut state = lock(&self.state);
        let rest = state.end_epoch();
        (state.epoch, rest)
    }

    /// Keeps `item` until `version` is durable.
    pub fn hold(&self, epoch: Epoch, version: u64, item: T) -> Held<T> {
        let mut state = lock(&self.state);
        if state.epoch != epoch {
            return Held::Abandoned(item);
        }
        if version <= state.durable {
            return Held::Durable(item);
        }
        if planted(Bug::ReleaseHoldsInTwoSteps) {
            drop(state);
            state = lock(&self.state);
        }
        // Versions nearly always arrive in order, so this looks at the end first.
        let after = match state.waiting.back() {
            Some((last, _)) if *last > version => state.waiting.partition_point(|(v, _)| *v <= version),
            Some(_) | None => state.waiting.len(),
        };
        state.waiting.insert(after, (version, item));
        Held::Waiting
    }

    /// Notes that `durable` is durable and hands out what waited for it. Nothing if `epoch` is over, or if a
    /// higher version was noted before.
    #[must_use = "the items that come out are the caller's to answer"]
    pub fn release(&self, epoch: Epoch, durable: u64) -> Vec<T> {
        let mut state = lock(&self.state);
        if state.epoch != epoch && !planted(Bug::ReleaseIgnoresEpoch) {
            return Vec::new();
        }
        state.durable = state.durable.max(durable);
        let ready = state.waiting.partition_point(|(version, _)| *version <= durable);
        state.waiting.drain(..ready).map(|(_, item)| item).collect()
    }

    /// Ends `epoch` after a failed chain or the actor's death; what still waited comes back in order. Nothing
    /// if it is over already.
    #[must_use = "the items that come back are the caller's to answer"]
    pub fn abandon(&self, epoch: Epoch) -> Vec<T> {
        let mut state = lock(&self.state);
        if state.epoch != epoch {
            return Vec::new();
        }
        if planted(Bug::ReleaseAbandonKeepsEpoch) {
            return state.waiting.drain(..).map(|(_, item)| item).collect();
        }
        state.end_epoch()
    }

    /// Highest version known to be durable.
    #[must_use]
    pub fn durable(&self) -> u64 {
        lock(&self.state).durable
    }

    /// Items that wait at this moment.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// Whether nothing waits at this moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> State<T> {
    fn end_epoch(&mut self) -> Vec<T> {
        self.epoch.0 += 1;
        self.waiting.drain(..).map(|(_, item)| item).collect()
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    fn begun(durable: u64) -> (ReleaseOrder<&'static str>, Epoch) {
        let order = ReleaseOrder::new(durable);
        let (epoch, left) = order.begin();
        assert!(left.is_empty());
        (order, epoch)
    }

    #[test]
    fn items_come_out_by_version_then_age() {
        let (order, epoch) = begun(0);
        for (version, item) in [(2, "2a"), (1, "1a"), (2, "2b"), (3, "3a"), (1, "1b")] {
            assert_eq!(order.hold(epoch, version, item), Held::Waiting);
        }
        assert_eq!(order.release(epoch, 2), ["1a", "1b", "2a", "2b"]);
        assert_eq!(order.len(), 1);
        assert_eq!(order.release(epoch, 9), ["3a"]);
        assert!(order.is_empty());
    }

    #[test]
    fn the_durable_version_never_falls() {
        let (order, epoch) = begun(5);
        assert!(order.release(epoch, 3).is_empty());
        assert_eq!(order.durable(), 5);
        assert_eq!(order.hold(epoch, 5, "x"), Held::Durable("x"));
    }

    #[test]
    fn an_abandoned_epoch_holds_and_releases_nothing() {
        let (order, old) = begun(0);
        assert_eq!(order.hold(old, 1, "x"), Held::Waiting);
        assert_eq!(order.abandon(old), ["x"]);
        assert!(order.abandon(old).is_empty());
        assert_eq!(order.hold(old, 0, "y"), Held::Abandoned("y"));
        assert!(order.release(old, 1).is_empty());
        assert_eq!(order.durable(), 0);
    }

    #[test]
    fn a_late_completion_or_death_notice_does_not_touch_the_next_life() {
        let (order, old) = begun(0);
        assert_eq!(order.hold(old, 1, "old"), Held::Waiting);
        let (new, left) = order.begin();
        assert_eq!(left, ["old"]);
        assert_eq!(order.hold(new, 1, "new"), Held::Waiting);
        assert!(order.release(old, 1).is_empty());
        assert!(order.abandon(old).is_empty());
        assert_eq!(order.release(new, 1), ["new"]);
    }
}
