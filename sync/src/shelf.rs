//! [`Shelf`]: a bounded map whose entries expire; time is an argument.

use crate::planted::{Bug, planted};
use crate::shim::{Mutex, lock};
use state::{Life, State};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

mod state;

/// What a shelf holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShelfLimits {
    /// Entries; `0` holds nothing.
    pub entries: usize,
    /// Weight of all entries; `u64::MAX` for no limit.
    pub weight: u64,
}

/// Why a put was refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShelfRefusal {
    /// Heavier than the whole shelf may be.
    #[error("the value is heavier than all that may be held")]
    TooHeavy,
    /// The value that is there would be overwritten by one for which there is no room beside the other entries.
    #[error("the new value needs {needed} of weight, {free} are free beside the other entries")]
    NoRoom {
        /// Weight of the new value.
        needed: u64,
        /// What it may weigh at most.
        free: u64,
    },
    /// An entry that would never be fresh.
    #[error("the value would expire at once")]
    NoLife,
}

/// What a shelf did, in numbers. `puts` = `overwrites` + `deletes` + `evictions` + `expirations` + `cleared` + entries held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShelfCounts {
    /// Gets that found a fresh entry.
    pub hits: u64,
    /// Gets that found none.
    pub misses: u64,
    /// Puts accepted.
    pub puts: u64,
    /// Puts that replaced a fresh entry.
    pub overwrites: u64,
    /// Entries deleted by key.
    pub deletes: u64,
    /// Entries that made room for others.
    pub evictions: u64,
    /// Entries removed because their time was over.
    pub expirations: u64,
    /// Calls of [`Shelf::clear`].
    pub clears: u64,
    /// Entries removed by these.
    pub cleared: u64,
    /// Calls of [`Shelf::cleanup`].
    pub cleanups: u64,
}

/// What one operation removed besides doing what it was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shed {
    /// Entries whose time was over.
    pub expired: u64,
    /// Entries that made room.
    pub evicted: u64,
}

/// A bounded map whose entries expire. Nobody gets an entry whose time is over, and at no moment are there more
/// entries, or more weight, than the limits say; the entry used longest ago makes room.
///
/// Overwriting an entry never evicts another one. Times are in microseconds of any clock; an entry of age `ttl` or
/// more is over, and so is one that was put `ttl` or more ahead of `now`: the clock was set back.
///
/// ```
/// use std::sync::Arc;
/// use stanchion_sync::{Shelf, ShelfLimits};
/// # if stanchion_sync::UNDER_LOOM { return Ok(()); }
/// let shelf = Shelf::new(ShelfLimits { entries: 100, weight: u64::MAX });
/// shelf.put("key", Arc::new(7), 1, 1_000, 0).0?;
/// assert_eq!(shelf.get(&"key", 999).0.as_deref(), Some(&7));
/// assert_eq!(shelf.get(&"key", 1_000).0, None);
/// # Ok::<(), stanchion_sync::ShelfRefusal>(())
/// ```
pub struct Shelf<K, V> {
    limits: ShelfLimits,
    state: Mutex<State<K, V>>,
}

impl<K: Clone + Eq + Hash, V> Shelf<K, V> {
    /// Makes an empty shelf.
    #[must_use]
    pub fn new(limits: ShelfLimits) -> Self {
        Self { limits, state: Mutex::new(State::new()) }
    }

    /// The fresh value of `key`, which counts as used; removes it when it is over.
    pub fn get(&self, key: &K, now: i64) -> (Option<Arc<V>>, Shed) {
        let mut state = lock(&self.state);
        let found = state.entries.get(key).map(|entry| (Arc::clone(&entry.value), entry.is_fresh(now)));
        let blind = planted(Bug::ShelfReadsWithoutLooking);
        match found {
            Some((value, fresh)) if fresh || blind => {
                state.touch(key);
                state.counts.hits += 1;
                (Some(value), Shed::default())
            }
            Some(_) => {
                state.counts.misses += 1;
                if planted(Bug::ShelfExpiresInTwoSteps) {
                    drop(state);
                    state = lock(&self.state);
                }
                let gone = state.remove(key);
                state.counts.expirations += 1;
                drop(state);
                drop(gone);
                (None, Shed { expired: 1, evicted: 0 })
            }
            None => {
                state.counts.misses += 1;
                (None, Shed::default())
            }
        }
    }

    /// The fresh value of `key`; neither counted nor used.
    #[must_use]
    pub fn peek(&self, key: &K, now: i64) -> Option<Arc<V>> {
        let state = lock(&self.state);
        state.entries.get(key).filter(|entry| entry.is_fresh(now)).map(|entry| Arc::clone(&entry.value))
    }

    /// Holds `value` for `ttl` from `now`; what is over goes first, then what was used longest ago. Ends the
    /// reservation of `key`.
    ///
    /// # Errors
    /// [`ShelfRefusal`]: nothing changed but what was over.
    pub fn put(
        &self,
        key: K,
        value: Arc<V>,
        weight: u64,
        ttl: u64,
        now: i64,
    ) -> (Result<(), ShelfRefusal>, Shed) {
        let (result, shed) = self.place(key, value, weight, (ttl, now), None);
        (result.map(|_| ()), shed)
    }

    /// Reserves `key` for a value that is being made; the mark is for [`Shelf::put_reserved`]. Ends an earlier
    /// reservation, and is ended by a put, a delete or a clear: the value being made is out of date then.
    #[must_use]
    pub fn reserve(&self, key: K) -> u64 {
        let mut state = lock(&self.state);
        let mark = state.number();
        state.reserved.insert(key, mark);
        mark
    }

    /// As [`Shelf::put`], if the reservation still holds; whether it did.
    ///
    /// # Errors
    /// As [`Shelf::put`].
    pub fn put_reserved(
        &self,
        (key, mark): (K, u64),
        value: Arc<V>,
        weight: u64,
        ttl: u64,
        now: i64,
    ) -> (Result<bool, ShelfRefusal>, Shed) {
        self.place(key, value, weight, (ttl, now), Some(mark))
    }

    /// Ends a reservation, if it still holds.
    pub fn release(&self, key: &K, mark: u64) {
        let mut state = lock(&self.state);
        if state.reserved.get(key) == Some(&mark) {
            state.reserved.remove(key);
        }
    }

    fn place(
        &self,
        key: K,
        value: Arc<V>,
        weight: u64,
        (ttl, now): (u64, i64),
        mark: Option<u64>,
    ) -> (Result<bool, ShelfRefusal>, Shed) {
        let ttl = i64::try_from(ttl).unwrap_or(i64::MAX);
        if ttl == 0 {
            return (Err(ShelfRefusal::NoLife), Shed::default());
        }
        if weight > self.limits.weight || self.limits.entries == 0 {
            return (Err(ShelfRefusal::TooHeavy), Shed::default());
        }
        let life = Life { deadline: now.saturating_add(ttl), too_early: now.saturating_sub(ttl) };
        // Declared before the lock is taken, so dropped after it is given back: dropping values runs foreign code.
        let (mut gone, mut shed) = (Vec::new(), Shed::default());
        let mut state = lock(&self.state);
        let holds = mark.is_none() || state.reserved.get(&key).copied() == mark;
        if !holds && !planted(Bug::ShelfIgnoresReservation) {
            return (Ok(false), shed);
        }
        if let Err(refusal) = self.free(&mut state, &key, weight, now, (&mut gone, &mut shed)) {
            return (Err(refusal), shed);
        }
        if planted(Bug::ShelfCountsInTwoSteps) {
            drop(state);
            state = lock(&self.state);
        }
        state.reserved.remove(&key);
        state.insert(key, value, weight, life);
        drop(state);
        (Ok(true), shed)
    }

    /// Removes what is over, the old value of `key`, and what has to make room for the new one.
    fn free(
        &self,
        state: &mut State<K, V>,
        key: &K,
        weight: u64,
        now: i64,
        (gone, shed): (&mut Vec<Arc<V>>, &mut Shed),
    ) -> Result<(), ShelfRefusal> {
        shed.expired = state.expire(now, gone);
        if state.entries.get(key).is_some_and(|old| !old.is_fresh(now)) {
            gone.extend(state.remove(key));
            state.counts.expirations += 1;
            shed.expired += 1;
        }
        if planted(Bug::ShelfOverwriteEvicts) {
            shed.evicted = state.make_room(self.limits, weight, gone);
        }
        if let Some(old) = state.entries.get(key) {
            let free = self.limits.weight - (state.weight - old.weight);
            if weight > free {
                return Err(ShelfRefusal::NoRoom { needed: weight, free });
            }
            gone.extend(state.remove(key));
            state.counts.overwrites += 1;
        } else {
            shed.evicted += state.make_room(self.limits, weight, gone);
        }
        Ok(())
    }

    /// Removes `key` and ends its reservation; the fresh value that was there.
    pub fn delete(&self, key: &K, now: i64) -> (Option<Arc<V>>, Shed) {
        let mut state = lock(&self.state);
        let fresh = state.entries.get(key).is_some_and(|entry| entry.is_fresh(now));
        let gone = state.remove(key);
        state.reserved.remove(key);
        let mut shed = Shed::default();
        if fresh {
            state.counts.deletes += 1;
        } else if gone.is_some() {
            state.counts.expirations += 1;
            shed.expired = 1;
        }
        drop(state);
        (gone.filter(|_| fresh), shed)
    }

    /// Removes everything and ends every reservation; how many entries there were.
    pub fn clear(&self) -> u64 {
        let mut state = lock(&self.state);
        let entries = std::mem::take(&mut state.entries);
        state.by_use.clear();
        state.by_deadline.clear();
        state.reserved.clear();
        state.weight = 0;
        let count = entries.len() as u64;
        state.counts.clears += 1;
        state.counts.cleared += count;
        drop(state);
        drop(entries);
        count
    }

    /// Removes what is over by `now`.
    pub fn cleanup(&self, now: i64) -> Shed {
        let mut gone = Vec::new();
        let mut state = lock(&self.state);
        let expired = state.expire(now, &mut gone);
        state.counts.cleanups += 1;
        drop(state);
        drop(gone);
        Shed { expired, evicted: 0 }
    }

    /// Entries held and their weight, and what was done so far: of one moment, so that the numbers add up.
    #[must_use]
    pub fn counts(&self) -> (usize, u64, ShelfCounts) {
        let state = lock(&self.state);
        (state.entries.len(), state.weight, state.counts)
    }

    /// What it holds at most.
    #[must_use]
    pub fn limits(&self) -> ShelfLimits {
        self.limits
    }
}

impl<K, V> fmt::Debug for Shelf<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shelf({:?})", self.limits)
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    fn shelf(entries: usize, weight: u64) -> Shelf<&'static str, u32> {
        Shelf::new(ShelfLimits { entries, weight })
    }

    fn value(shelf: &Shelf<&'static str, u32>, key: &'static str, now: i64) -> Option<u32> {
        shelf.get(&key, now).0.map(|value| *value)
    }

    #[test]
    fn the_entry_used_longest_ago_makes_room_and_an_overwrite_evicts_nobody() {
        let shelf = shelf(2, u64::MAX);
        shelf.put("a", Arc::new(1), 1, 10, 0).0.unwrap();
        shelf.put("b", Arc::new(2), 1, 10, 0).0.unwrap();
        assert_eq!(shelf.put("a", Arc::new(3), 1, 10, 0), (Ok(()), Shed::default()));
        assert_eq!((value(&shelf, "b", 1), value(&shelf, "a", 1)), (Some(2), Some(3)));
        assert_eq!(shelf.put("c", Arc::new(4), 1, 10, 0), (Ok(()), Shed { expired: 0, evicted: 1 }));
        assert_eq!((value(&shelf, "b", 1), value(&shelf, "a", 1)), (None, Some(3)));
    }

    #[test]
    fn what_is_over_goes_before_what_is_fresh() {
        let shelf = shelf(2, u64::MAX);
        shelf.put("old", Arc::new(1), 1, 100, 0).0.unwrap();
        shelf.put("short", Arc::new(2), 1, 5, 0).0.unwrap();
        assert_eq!(shelf.put("new", Arc::new(3), 1, 10, 5), (Ok(()), Shed { expired: 1, evicted: 0 }));
        assert_eq!(value(&shelf, "old", 6), Some(1));
    }

    #[test]
    fn weight_is_bounded_and_an_overwrite_that_would_evict_is_refused() {
        let shelf = shelf(9, 10);
        shelf.put("a", Arc::new(1), 5, 10, 0).0.unwrap();
        shelf.put("b", Arc::new(2), 5, 10, 0).0.unwrap();
        let refused = shelf.put("a", Arc::new(3), 6, 10, 0).0;
        assert_eq!(refused, Err(ShelfRefusal::NoRoom { needed: 6, free: 5 }));
        assert_eq!((value(&shelf, "a", 0), value(&shelf, "b", 0)), (Some(1), Some(2)));
        assert_eq!(shelf.put("c", Arc::new(3), 11, 10, 0).0, Err(ShelfRefusal::TooHeavy));
        assert_eq!(shelf.put("c", Arc::new(3), 1, 0, 0).0, Err(ShelfRefusal::NoLife));
        assert_eq!(shelf.put("c", Arc::new(3), 10, 10, 0), (Ok(()), Shed { expired: 0, evicted: 2 }));
        assert_eq!(shelf.counts().1, 10);
    }

    #[test]
    fn weights_without_a_limit_never_overflow() {
        let shelf = shelf(9, u64::MAX);
        shelf.put("a", Arc::new(1), u64::MAX, 10, 0).0.unwrap();
        assert_eq!(shelf.put("b", Arc::new(2), 1, 10, 0), (Ok(()), Shed { expired: 0, evicted: 1 }));
        assert_eq!(shelf.counts().1, 1);
    }

    #[test]
    fn a_clock_that_is_set_back_neither_loses_a_fresh_put_nor_keeps_one_for_ever() {
        let shelf = shelf(9, 10);
        shelf.put("a", Arc::new(1), 1, 10, 1_000).0.unwrap();
        assert_eq!(value(&shelf, "a", 991), Some(1));
        assert_eq!(value(&shelf, "a", 990), None);
        assert_eq!(shelf.counts().0, 0);
    }

    #[test]
    fn counts_add_up() {
        let shelf = shelf(2, 10);
        for (key, now) in [("a", 0), ("a", 1), ("b", 2), ("c", 3), ("d", 20), ("e", 20)] {
            shelf.put(key, Arc::new(1), 1, 10, now).0.unwrap();
        }
        shelf.delete(&"d", 20);
        shelf.delete(&"nobody", 20);
        shelf.put("f", Arc::new(1), 1, 5, 20).0.unwrap();
        assert_eq!(shelf.cleanup(25), Shed { expired: 1, evicted: 0 });
        assert_eq!(shelf.clear(), 1);
        let (entries, weight, counts) = shelf.counts();
        let expected = ShelfCounts {
            puts: 7,
            overwrites: 1,
            deletes: 1,
            evictions: 1,
            expirations: 3,
            clears: 1,
            cleared: 1,
            cleanups: 1,
            ..ShelfCounts::default()
        };
        assert_eq!((entries, weight, counts), (0, 0, expected));
    }

    #[test]
    fn a_value_that_was_being_made_is_not_held_when_its_key_was_touched_meanwhile() {
        let shelf = shelf(9, 10);
        let finish = |mark, now| shelf.put_reserved(("a", mark), Arc::new(9), 1, 10, now).0;
        let mark = shelf.reserve("a");
        assert_eq!(finish(mark, 0), Ok(true));
        assert_eq!(finish(mark, 0), Ok(false), "a mark is good once");
        let mark = shelf.reserve("a");
        shelf.put("a", Arc::new(1), 1, 10, 0).0.unwrap();
        assert_eq!((finish(mark, 0), value(&shelf, "a", 0)), (Ok(false), Some(1)));
        let mark = shelf.reserve("a");
        shelf.delete(&"a", 0);
        assert_eq!((finish(mark, 0), value(&shelf, "a", 0)), (Ok(false), None));
        let mark = shelf.reserve("a");
        shelf.clear();
        assert_eq!(finish(mark, 0), Ok(false));
        let (old, new) = (shelf.reserve("a"), shelf.reserve("a"));
        shelf.release(&"a", old);
        assert_eq!((finish(old, 0), finish(new, 0)), (Ok(false), Ok(true)));
        let mark = shelf.reserve("a");
        shelf.release(&"a", mark);
        assert!(lock(&shelf.state).reserved.is_empty());
    }
}
