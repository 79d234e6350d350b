//! [`Keys`]: the keys of a limiter, a bounded number of them.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    cell::{Cell, Wait},
    key::{AsKey, LimitKey, OwnedKey},
    known::Known,
    law::Law,
};
use crate::ids::Timestamp;

/// Parts of the map, each with a lock of its own: checks of different keys rarely meet.
const SHARDS: usize = 32;
/// A search for full keys that finds fewer than one in so many is not repeated at once.
const FEW: usize = 16;
/// Pause after such a search, in microseconds.
const PAUSE_US: i64 = 10_000;

/// What holds for every key of a limiter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) law: Law,
    pub(super) max_keys: usize,
    /// When every key that is not known had used up its limit.
    pub(super) spent_at: Option<Timestamp>,
}

/// Why a key gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its limit is used up, for so many microseconds.
    Used { wait_us: i64, remaining: u64 },
    /// More is asked for than its limit.
    Cost { remaining: u64 },
    /// Nothing is admitted.
    Shut,
    /// There is no place for it.
    NoPlace,
}

/// Calls of a number of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) keys: usize,
    pub(super) allowed: u64,
    pub(super) denied: u64,
}

/// The keys of a limiter.
#[derive(Debug)]
pub(super) struct Keys {
    shards: [Shard; SHARDS],
    /// Locked after a shard, never before one.
    known: Known,
    spread: RandomState,
    /// Number of keys in all shards; never above `max_keys` by an insertion.
    count: AtomicUsize,
    /// No search for full keys before this time.
    search_after: Mutex<Timestamp>,
}

/// A shard does not share a cache line with another.
#[derive(Debug)]
#[repr(align(128))]
struct Shard(RwLock<Table>);

#[derive(Debug)]
struct Table {
    rules: Rules,
    cells: HashMap<OwnedKey, Arc<Cell>>,
    /// Calls of keys that made room.
    gone: Totals,
}

impl Keys {
    pub(super) fn new(rules: Rules) -> Self {
        let table = || Table { rules, cells: HashMap::new(), gone: Totals::default() };
        Self {
            shards: std::array::from_fn(|_| Shard(RwLock::new(table()))),
            known: Known::new(),
            spread: RandomState::new(),
            count: AtomicUsize::new(0),
            search_after: Mutex::new(Timestamp(i64::MIN)),
        }
    }

    /// Takes `cost` of a key.
    pub(super) fn take(&self, key: LimitKey<'_>, cost: u32, now: Timestamp) -> Result<(), Refusal> {
        let hash = self.spread.hash_one(key);
        if let Some(taken) = self.known.with(key, hash, |cell, law| take(cell, law, cost, now)) {
            return taken;
        }
        let shard = self.shard_of(hash);
        {
            let table = shard.read();
            if let Some(cell) = table.find(key) {
                self.known.learn(key, hash, cell, table.rules.law);
                return take(cell, table.rules.law, cost, now);
            }
        }
        if !key.is_countable() {
            return Err(Refusal::NoPlace);
        }
        match self.take_of_new(shard, key, cost, now) {
            Some(taken) => taken,
            None if self.search(now) => {
                self.take_of_new(shard, key, cost, now).unwrap_or(Err(Refusal::NoPlace))
            }
            None => Err(Refusal::NoPlace),
        }
    }

    /// Takes of a key that was not known a moment ago; `None` when there is no place for it.
    fn take_of_new(
        &self,
        shard: &Shard,
        key: LimitKey<'_>,
        cost: u32,
        now: Timestamp,
    ) -> Option<Result<(), Refusal>> {
        let mut table = shard.write();
        let rules = table.rules;
        if let Some(cell) = table.find(key) {
            return Some(take(cell, rules.law, cost, now));
        }
        self.reserve(rules.max_keys)?;
        let cell = Arc::new(Cell::new(rules.law.count, rules.spent_at));
        Some(take(table.cells.entry(key.into()).or_insert(cell), rules.law, cost, now))
    }

    /// Looks at a key: with its own cell, or with that of a key that is not known.
    pub(super) fn look<R>(&self, key: LimitKey<'_>, look: impl FnOnce(&Cell, Law) -> R) -> R {
        let table = self.shard(key).read();
        let law = table.rules.law;
        match table.find(key) {
            Some(cell) => look(cell, law),
            None => look(&Cell::new(law.count, table.rules.spent_at), law),
        }
    }

    /// Counts every key by other rules from `now` on; what is used stays used.
    pub(super) fn set_rules(&self, rules: Rules, now: Timestamp) {
        for shard in &self.shards {
            let mut table = shard.write();
            self.known.forget();
            if table.rules.law.count != rules.law.count {
                for cell in table.cells.values_mut() {
                    // Nobody learns a key of a locked shard, and this one is locked.
                    let cell = Arc::get_mut(cell);
                    assert!(cell.is_some(), "a cell is used under a lock only");
                    cell.into_iter().for_each(|cell| cell.recount(rules.law.count, now));
                }
            }
            table.rules = rules;
        }
        *self.search_after.lock().unwrap_or_else(PoisonError::into_inner) = Timestamp(i64::MIN);
    }

    /// Puts a key in as it was, while there is place.
    pub(super) fn put(&self, key: LimitKey<'_>, cell: Cell) {
        let mut table = self.shard(key).write();
        if table.find(key).is_none() && self.reserve(table.rules.max_keys).is_some() {
            table.cells.insert(key.into(), Arc::new(cell));
        }
    }

    /// Visits every key.
    pub(super) fn each(&self, mut visit: impl FnMut(LimitKey<'_>, &Cell)) {
        for shard in &self.shards {
            shard.read().cells.iter().for_each(|(key, cell)| visit(key.key(), cell));
        }
    }

    /// What became of all calls that were counted.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            let table = shard.read();
            totals.add(table.gone);
            table.cells.values().for_each(|cell| totals.add(totals_of(cell)));
        }
        totals
    }

    fn shard(&self, key: LimitKey<'_>) -> &Shard {
        self.shard_of(self.spread.hash_one(key))
    }

    fn shard_of(&self, hash: u64) -> &Shard {
        let [first, ..] = &self.shards;
        self.shards.get(hash as usize % SHARDS).unwrap_or(first)
    }

    fn reserve(&self, max_keys: usize) -> Option<usize> {
        let more = |count| (count < max_keys).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()
    }

    /// Makes room by removing keys that have their whole limit; whether there is a place. Whoever comes during a
    /// search waits for its end.
    fn search(&self, now: Timestamp) -> bool {
        let mut after = self.search_after.lock().unwrap_or_else(PoisonError::into_inner);
        let [first, ..] = &self.shards;
        let rules = first.read().rules;
        if self.count.load(Ordering::Acquire) < rules.max_keys {
            return true;
        }
        // Further away than the longest refill: the clock has gone back.
        let longest = rules.law.count.refill_us().saturating_add(PAUSE_US);
        if now < *after && after.0.saturating_sub(now.0) <= longest {
            return false;
        }
        let (before, mut gone, mut next) = (self.count.load(Ordering::Acquire), 0, i64::MAX);
        for shard in &self.shards {
            let mut table = shard.write();
            self.known.forget();
            let (removed, soonest) = table.remove_full(now);
            drop(table);
            self.count.fetch_sub(removed, Ordering::AcqRel);
            gone += removed;
            next = next.min(soonest);
        }
        let paused = now.0.saturating_add(PAUSE_US);
        *after = Timestamp(match gone {
            0 => next.max(paused),
            few if few < before / FEW => paused,
            _ => now.0,
        });
        gone > 0
    }
}

impl Shard {
    // Nothing in a table panics half-way.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn find(&self, key: LimitKey<'_>) -> Option<&Arc<Cell>> {
        self.cells.get(&key as &dyn AsKey)
    }

    /// How many are gone, and when the next one could be.
    fn remove_full(&mut self, now: Timestamp) -> (usize, i64) {
        let (before, mut soonest) = (self.cells.len(), i64::MAX);
        let gone = &mut self.gone;
        self.cells.retain(|_, cell| {
            let reset_at = cell.reset_at(now);
            if reset_at > now {
                soonest = soonest.min(reset_at.0);
                return true;
            }
            gone.add(Totals { keys: 0, ..totals_of(cell) });
            false
        });
        (before - self.cells.len(), soonest)
    }
}

impl Totals {
    fn add(&mut self, more: Self) {
        self.keys += more.keys;
        self.allowed = self.allowed.wrapping_add(more.allowed);
        self.denied = self.denied.wrapping_add(more.denied);
    }
}

fn totals_of(cell: &Cell) -> Totals {
    Totals {
        keys: 1,
        allowed: cell.allowed.load(Ordering::Relaxed),
        denied: cell.denied.load(Ordering::Relaxed),
    }
}

fn take(cell: &Cell, law: Law, cost: u32, now: Timestamp) -> Result<(), Refusal> {
    if law.is_shut {
        cell.denied.fetch_add(1, Ordering::Relaxed);
        return Err(Refusal::Shut);
    }
    let taken: Result<(), Wait> = cell.take(cost, now);
    taken.map_err(|wait| {
        let remaining = cell.remaining(now);
        wait.map_or(Refusal::Cost { remaining }, |wait_us| Refusal::Used { wait_us, remaining })
    })
}
