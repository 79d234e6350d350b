//! A cache against a list: 10^3 operations in a case, 10^5 with `STANCHION_CAMPAIGN=1`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::{clock::ManualClock, entity::Failure, ids::Timestamp};

#[derive(Clone, Copy, Debug)]
enum Op {
    Get(u8),
    Put {
        key: u8,
        weight: u64,
        ttl_us: i64,
    },
    Compute {
        key: u8,
        weight: u64,
        fails: bool,
    },
    Delete(u8),
    Clear,
    Cleanup,
    /// Time goes on, or back; in microseconds.
    Wait(i64),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..12_u8;
    prop_oneof![
        8 => key().prop_map(Op::Get),
        8 => (key(), 0..9_u64, 0..3_000_i64)
            .prop_map(|(key, weight, ttl_us)| Op::Put { key, weight, ttl_us }),
        4 => (key(), 0..9_u64, prop::bool::weighted(0.2))
            .prop_map(|(key, weight, fails)| Op::Compute { key, weight, fails }),
        2 => key().prop_map(Op::Delete),
        1 => prop::bool::weighted(0.1).prop_map(|clear| if clear { Op::Clear } else { Op::Cleanup }),
        6 => (0..500_i64).prop_map(Op::Wait),
        1 => (-4_000..4_000_i64).prop_map(Op::Wait),
    ]
}

fn length() -> usize {
    if std::env::var("STANCHION_CAMPAIGN").is_ok_and(|value| value == "1") { 100_000 } else { 1_000 }
}

const TTL_US: i64 = 1_000;
const MAX_ENTRIES: usize = 6;
const MAX_WEIGHT: u64 = 20;

#[derive(Clone, Debug)]
struct Held {
    key: u8,
    value: (u64, usize),
    put: i64,
    ttl: i64,
}

impl Held {
    fn is_fresh(&self, now: i64) -> bool {
        (now - self.put).abs() < self.ttl
    }
}

/// Entries, the one used longest ago first.
#[derive(Default)]
struct Model {
    held: Vec<Held>,
    counts: BTreeMap<CacheEvent, u64>,
    /// A planted defect: a get does not count as a use.
    first_in_first_out: bool,
}

impl Model {
    fn count(&mut self, event: CacheEvent, count: usize) {
        *self.counts.entry(event).or_default() += count as u64;
    }

    fn weight(&self) -> u64 {
        self.held.iter().map(|held| held.value.0).sum()
    }

    fn drop_if(&mut self, event: CacheEvent, gone: impl Fn(&Held) -> bool) -> usize {
        let before = self.held.len();
        self.held.retain(|held| !gone(held));
        self.count(event, before - self.held.len());
        before - self.held.len()
    }

    fn get(&mut self, key: u8, now: i64) -> Option<(u64, usize)> {
        self.drop_if(CacheEvent::Expire, |held| held.key == key && !held.is_fresh(now));
        let found = self.held.iter().position(|held| held.key == key);
        self.count(if found.is_some() { CacheEvent::Hit } else { CacheEvent::Miss }, 1);
        let found = found?;
        let held = self.held[found].clone();
        if !self.first_in_first_out {
            self.held.remove(found);
            self.held.push(held.clone());
        }
        Some(held.value)
    }

    fn put(&mut self, key: u8, value: (u64, usize), ttl: i64, now: i64) -> bool {
        if ttl == 0 || value.0 > MAX_WEIGHT {
            self.count(CacheEvent::Error, 1);
            return false;
        }
        self.drop_if(CacheEvent::Expire, |held| {
            held.put + held.ttl <= now || (held.key == key && !held.is_fresh(now))
        });
        let beside: u64 = self.held.iter().filter(|held| held.key != key).map(|held| held.value.0).sum();
        if self.held.iter().any(|held| held.key == key) {
            if beside + value.0 > MAX_WEIGHT {
                self.count(CacheEvent::Error, 1);
                return false;
            }
            self.held.retain(|held| held.key != key);
        }
        while self.held.len() >= MAX_ENTRIES || self.weight() + value.0 > MAX_WEIGHT {
            self.held.remove(0);
            self.count(CacheEvent::Evict, 1);
        }
        self.held.push(Held { key, value, put: now, ttl });
        self.count(CacheEvent::Put, 1);
        true
    }
}

#[derive(Default)]
struct Seen(Mutex<BTreeMap<CacheEvent, u64>>);

impl CacheEvents for Seen {
    fn observe(&self, _cache: &Arc<str>, event: CacheEvent, count: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(event).or_default() += count;
    }
}

type Values = Cache<u8, (u64, usize)>;

/// One operation on both: what each answers.
fn step(cache: &Values, model: &mut Model, op: Op, number: usize, clock: &ManualClock) -> [String; 2] {
    let now = crate::clock::Clock::now(clock).0;
    let both = |ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
        [format!("{ours:?}"), format!("{theirs:?}")]
    };
    match op {
        Op::Get(key) => both(&cache.get(&key).ok().flatten().map(|value| *value), &model.get(key, now)),
        Op::Put { key, weight, ttl_us } => {
            let ttl = Duration::from_micros(u64::try_from(ttl_us).unwrap_or(0));
            let value = (weight, number);
            both(&cache.put_for(key, value, ttl).is_ok(), &model.put(key, value, ttl_us, now))
        }
        Op::Compute { key, weight, fails } => {
            let value = (weight, number);
            let load = async || if fails { Err(Failure::permanent("no", "-")) } else { Ok(value) };
            let ours = cache.get_or_compute(&key, load).now_or_never();
            let theirs = model.get(key, now).or_else(|| {
                if fails {
                    model.count(CacheEvent::Error, 1);
                    return None;
                }
                model.put(key, value, TTL_US, now);
                Some(value)
            });
            both(&ours.map(|answer| answer.ok().map(|value| *value)), &Some(theirs))
        }
        Op::Delete(key) => {
            let fresh = model.held.iter().any(|held| held.key == key && held.is_fresh(now));
            let event = if fresh { CacheEvent::Delete } else { CacheEvent::Expire };
            model.drop_if(event, |held| held.key == key);
            both(&cache.delete(&key).ok().flatten().is_some(), &fresh)
        }
        Op::Clear => {
            let count = std::mem::take(&mut model.held).len();
            model.count(CacheEvent::Clear, 1);
            both(&cache.clear(), &count)
        }
        Op::Cleanup => {
            model.count(CacheEvent::Cleanup, 1);
            let count = model.drop_if(CacheEvent::Expire, |held| held.put + held.ttl <= now);
            both(&cache.cleanup(), &count)
        }
        Op::Wait(us) => {
            clock.set(Timestamp(now + us));
            both(&(), &())
        }
    }
}

/// Runs the operations on both; the first difference.
fn compare(ops: &[Op], mut model: Model) -> Result<(), String> {
    let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000_000)));
    let options = CacheOptions { max_entries: MAX_ENTRIES as u32, max_weight: Some(MAX_WEIGHT), ttl_ms: 1 };
    let seen = Arc::new(Seen::default());
    let cache: Values = Cache::new("c", options, clock.clone()).map_err(|error| error.to_string())?;
    let cache = cache.weighing(|_, value: &(u64, usize)| value.0).observed_by(seen.clone());
    for (number, op) in ops.iter().enumerate() {
        let [ours, theirs] = step(&cache, &mut model, *op, number, &clock);
        if ours != theirs {
            return Err(format!("operation {number}, {op:?}: {ours}, the model says {theirs}"));
        }
        let stats = cache.stats();
        if (stats.entries, stats.weight) != (model.held.len() as u64, model.weight()) {
            return Err(format!("operation {number}, {op:?}: {stats:?}, the model holds {:?}", model.held));
        }
        if stats.entries > MAX_ENTRIES as u64 || stats.weight > MAX_WEIGHT {
            return Err(format!("operation {number}, {op:?}: over the limits: {stats:?}"));
        }
        let left = stats.overwrites
            + stats.deletes
            + stats.evictions
            + stats.expirations
            + stats.cleared
            + stats.entries;
        if stats.puts != left {
            return Err(format!("operation {number}, {op:?}: counts do not add up: {stats:?}"));
        }
    }
    let stats = cache.stats();
    let counted = [
        stats.hits,
        stats.misses,
        stats.puts,
        stats.deletes,
        stats.evictions,
        stats.expirations,
        stats.clears,
        stats.cleanups,
        stats.errors,
    ];
    let seen = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
    let count =
        |of: &BTreeMap<CacheEvent, u64>| CacheEvent::ALL.map(|event| of.get(&event).copied().unwrap_or(0));
    if counted != count(&seen) || counted != count(&model.counts) {
        return Err(format!("counts {counted:?}, events {seen:?}, the model's {:?}", model.counts));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_cache_does_what_its_model_does(ops in prop::collection::vec(op(), length())) {
        prop_assert_eq!(compare(&ops, Model::default()), Ok(()));
    }
}

#[test]
fn a_model_in_which_a_get_is_no_use_is_found() {
    let put = |key| Op::Put { key, weight: 1, ttl_us: 100 };
    let mut ops: Vec<Op> = (0..6).map(put).collect();
    ops.extend([Op::Get(0), put(6), Op::Get(0)]);
    assert_eq!(compare(&ops, Model::default()), Ok(()));
    assert!(compare(&ops, Model { first_in_first_out: true, ..Model::default() }).is_err());
}
