//! [`CacheEvent`], [`CacheEvents`], [`CacheStats`]: what a cache tells of itself.

use std::sync::Arc;

use metrics::{Key, Label, Level, Metadata};

/// What happened in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum CacheEvent {
    /// A fresh value was found.
    Hit,
    /// None was.
    Miss,
    /// A value was put; it may have replaced another one.
    Put,
    /// An entry was deleted by its key.
    Delete,
    /// An entry made room for another one.
    Evict,
    /// An entry was removed because its time was over.
    Expire,
    /// Everything was removed.
    Clear,
    /// What was over was removed by [`Cache::cleanup`](super::Cache::cleanup).
    Cleanup,
    /// A request was refused, or a loader failed.
    Error,
}

impl CacheEvent {
    /// Every event.
    pub const ALL: [Self; 9] = [
        Self::Hit,
        Self::Miss,
        Self::Put,
        Self::Delete,
        Self::Evict,
        Self::Expire,
        Self::Clear,
        Self::Cleanup,
        Self::Error,
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Evict => "evict",
            Self::Expire => "expire",
            Self::Clear => "clear",
            Self::Cleanup => "cleanup",
            Self::Error => "error",
        }
    }
}

/// The metric of a cache, by event, with its labels made once: a hit allocates nothing.
pub(super) struct Counters([Key; CacheEvent::ALL.len()]);

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

impl Counters {
    pub(super) fn new(cache: &Arc<str>) -> Self {
        Self(CacheEvent::ALL.map(|event| {
            let labels = vec![Label::new("cache", Arc::clone(cache)), Label::new("event", event.as_str())];
            Key::from_parts("stanchion_cache_events_total", labels)
        }))
    }

    pub(super) fn add(&self, event: CacheEvent, count: u64) {
        // The recorder may be set after the cache was made, so it is asked each time.
        if let Some(key) = self.0.get(event as usize) {
            metrics::with_recorder(|recorder| recorder.register_counter(key, &METADATA).increment(count));
        }
    }
}

/// Told of every event, on the thread where it happened, after it happened; it must not block.
pub trait CacheEvents: Send + Sync + 'static {
    /// `count` times `event` in the cache of this name.
    fn observe(&self, cache: &Arc<str>, event: CacheEvent, count: u64);
}

/// What a cache holds and did, of one moment.
///
/// `puts` = `overwrites` + `deletes` + `evictions` + `expirations` + `cleared` + `entries`, always; `hits` +
/// `misses` is the number of gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Entries held, what is over and not yet removed among them.
    pub entries: u64,
    /// Their weight.
    pub weight: u64,
    /// Loads under way.
    pub loading: u64,
    /// Gets that found a fresh value.
    pub hits: u64,
    /// Gets that found none.
    pub misses: u64,
    /// Values put.
    pub puts: u64,
    /// Puts that replaced a fresh value.
    pub overwrites: u64,
    /// Entries deleted by key.
    pub deletes: u64,
    /// Entries that made room.
    pub evictions: u64,
    /// Entries whose time was over.
    pub expirations: u64,
    /// How often everything was removed.
    pub clears: u64,
    /// Entries removed by that.
    pub cleared: u64,
    /// How often what was over was removed.
    pub cleanups: u64,
    /// Requests refused and loaders that failed.
    pub errors: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_its_own_counter() {
        let counters = Counters::new(&Arc::from("c"));
        for event in CacheEvent::ALL {
            let key = &counters.0[event as usize];
            let labels: Vec<_> = key.labels().map(|label| (label.key(), label.value())).collect();
            assert_eq!(labels, [("cache", "c"), ("event", event.as_str())]);
        }
    }
}
