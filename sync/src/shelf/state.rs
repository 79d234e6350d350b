//! What lies on a shelf, and its two orders; everything here happens under the shelf's lock.

use super::{ShelfCounts, ShelfLimits};
use crate::planted::{Bug, planted};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

pub(super) struct State<K, V> {
    pub(super) entries: HashMap<K, Entry<V>>,
    /// Keys by the number of their last use: the first makes room.
    pub(super) by_use: BTreeMap<u64, K>,
    /// Keys by deadline, then by the number of their put.
    pub(super) by_deadline: BTreeMap<(i64, u64), K>,
    /// Keys whose values are being made, with the mark of who makes them.
    pub(super) reserved: HashMap<K, u64>,
    pub(super) weight: u64,
    pub(super) next: u64,
    pub(super) counts: ShelfCounts,
}

pub(super) struct Entry<V> {
    pub(super) value: Arc<V>,
    pub(super) weight: u64,
    /// First moment at which it is over.
    pub(super) deadline: i64,
    /// Last moment before it was put at which it counts as over.
    pub(super) too_early: i64,
    pub(super) put: u64,
    pub(super) used: u64,
}

impl<V> Entry<V> {
    pub(super) fn is_fresh(&self, now: i64) -> bool {
        now < self.deadline && now > self.too_early
    }
}

impl<K: Clone + Eq + Hash, V> State<K, V> {
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
            by_deadline: BTreeMap::new(),
            reserved: HashMap::new(),
            weight: 0,
            next: 0,
            counts: ShelfCounts::default(),
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        let entry = self.entries.remove(key)?;
        self.by_use.remove(&entry.used);
        if !planted(Bug::ShelfKeepsOldDeadline) {
            self.by_deadline.remove(&(entry.deadline, entry.put));
        }
        self.weight -= entry.weight;
        Some(entry.value)
    }

    /// Removes what is over by `now`.
    pub(super) fn expire(&mut self, now: i64, gone: &mut Vec<Arc<V>>) -> u64 {
        let before = self.counts.expirations;
        while let Some((at, _)) = self.by_deadline.first_key_value()
            && at.0 <= now
        {
            let Some((_, key)) = self.by_deadline.pop_first() else { break };
            gone.extend(self.remove(&key));
            self.counts.expirations += 1;
        }
        self.counts.expirations - before
    }

    /// Removes what was used longest ago until `weight` has room.
    pub(super) fn make_room(&mut self, limits: ShelfLimits, weight: u64, gone: &mut Vec<Arc<V>>) -> u64 {
        let before = self.counts.evictions;
        while self.entries.len() >= limits.entries
            || self.weight.checked_add(weight).is_none_or(|sum| sum > limits.weight)
        {
            let Some((_, key)) = self.by_use.pop_first() else { break };
            gone.extend(self.remove(&key));
            self.counts.evictions += 1;
        }
        self.counts.evictions - before
    }

    pub(super) fn insert(&mut self, key: K, value: Arc<V>, weight: u64, life: Life) {
        let number = self.number();
        self.by_use.insert(number, key.clone());
        self.by_deadline.insert((life.deadline, number), key.clone());
        let Life { deadline, too_early } = life;
        self.entries.insert(key, Entry { value, weight, deadline, too_early, put: number, used: number });
        self.weight += weight;
        self.counts.puts += 1;
    }

    pub(super) fn touch(&mut self, key: &K) {
        let number = self.number();
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some(key) = self.by_use.remove(&entry.used) {
            entry.used = number;
            self.by_use.insert(number, key);
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) deadline: i64,
    pub(super) too_early: i64,
}
