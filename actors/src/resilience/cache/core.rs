//! [`Cache`]: values by key, for a while.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use stanchion_sync::{Arrival, Lead, Seat, Shed, Shelf, ShelfRefusal, SingleFlight};

use super::{
    CacheError, CacheEvent, CacheEvents, CacheKey, CacheOptions, CacheStats, LoadError, events::Counters,
};
use crate::{clock::Clock, entity::Failure, resilience::OptionsError};

/// What a load ended with; everybody who waited gets it.
type Loaded<V, E> = Result<Arc<V>, Arc<E>>;

/// Says what a value weighs.
type Weigher<K, V> = Arc<dyn Fn(&K, &V) -> u64 + Send + Sync>;

/// Values by key that are kept for a while; `E` is what loaders fail with. A clone is the same cache.
///
/// Nobody gets a value whose time is over, and there are never more entries, or more weight, than the options say;
/// the value used longest ago makes room. A put that replaces a value never evicts another one.
pub struct Cache<K: CacheKey, V, E = Failure>(Arc<Shared<K, V, E>>);

struct Shared<K: CacheKey, V, E> {
    name: Arc<str>,
    options: CacheOptions,
    clock: Arc<dyn Clock>,
    weigher: Option<Weigher<K, V>>,
    events: Option<Arc<dyn CacheEvents>>,
    counters: Counters,
    shelf: Shelf<K, V>,
    flights: Arc<SingleFlight<K, Loaded<V, E>>>,
    errors: AtomicU64,
}

impl<K: CacheKey, V, E> Cache<K, V, E> {
    /// Makes an empty cache in which every value weighs 1.
    ///
    /// # Errors
    /// [`OptionsError`] when an option is outside its range.
    pub fn new(
        name: impl Into<Arc<str>>,
        options: CacheOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OptionsError> {
        Self::with(name.into(), options, clock, None, None)
    }

    /// This cache, emptied, with values weighed by `weigher`: by their bytes, say.
    #[must_use]
    pub fn weighing(self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        let Shared { name, options, clock, events, .. } = &*self.0;
        let weigher: Weigher<K, V> = Arc::new(weigher);
        Self::make(name.clone(), options.clone(), clock.clone(), Some(weigher), events.clone())
    }

    /// This cache, emptied, that tells `events` what happens.
    #[must_use]
    pub fn observed_by(self, events: Arc<dyn CacheEvents>) -> Self {
        let Shared { name, options, clock, weigher, .. } = &*self.0;
        Self::make(name.clone(), options.clone(), clock.clone(), weigher.clone(), Some(events))
    }

    fn with(
        name: Arc<str>,
        options: CacheOptions,
        clock: Arc<dyn Clock>,
        weigher: Option<Weigher<K, V>>,
        events: Option<Arc<dyn CacheEvents>>,
    ) -> Result<Self, OptionsError> {
        options.validate()?;
        Ok(Self::make(name, options, clock, weigher, events))
    }

    fn make(
        name: Arc<str>,
        options: CacheOptions,
        clock: Arc<dyn Clock>,
        weigher: Option<Weigher<K, V>>,
        events: Option<Arc<dyn CacheEvents>>,
    ) -> Self {
        let (shelf, flights) = (Shelf::new(options.limits()), SingleFlight::new());
        let (errors, counters) = (AtomicU64::new(0), Counters::new(&name));
        Self(Arc::new(Shared { name, options, clock, weigher, events, counters, shelf, flights, errors }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// The fresh value of `key`, if there is one.
    ///
    /// # Errors
    /// [`CacheError::EmptyKey`].
    pub fn get(&self, key: &K) -> Result<Option<Arc<V>>, CacheError> {
        self.check(key)?;
        let (value, shed) = self.0.shelf.get(key, self.now());
        self.tell_shed(shed);
        self.tell(if value.is_some() { CacheEvent::Hit } else { CacheEvent::Miss }, 1);
        Ok(value)
    }

    /// Keeps `value` for `ttl_ms`, in place of the one that is there.
    ///
    /// # Errors
    /// [`CacheError`]: the value is not kept, and the one that is there stays.
    pub fn put(&self, key: K, value: V) -> Result<Arc<V>, CacheError> {
        self.put_for(key, value, self.0.options.ttl())
    }

    /// As [`Cache::put`], with a life of its own; at most `i64::MAX` microseconds.
    ///
    /// # Errors
    /// [`CacheError`]: the value is not kept, and the one that is there stays.
    pub fn put_for(&self, key: K, value: V, ttl: Duration) -> Result<Arc<V>, CacheError> {
        let value = Arc::new(value);
        self.put_shared(key, Arc::clone(&value), ttl)?;
        Ok(value)
    }

    pub(in crate::resilience) fn put_shared(
        &self,
        key: K,
        value: Arc<V>,
        ttl: Duration,
    ) -> Result<(), CacheError> {
        self.check(&key)?;
        let weight = self.weigh(&key, &value);
        let (put, shed) = self.0.shelf.put(key, value, weight, micros(ttl), self.now());
        self.told((put.map(|()| true), shed), weight).map(|_| ())
    }

    /// Removes `key`; the fresh value that was there. A load of `key` under way goes to those who wait for it and
    /// is not kept; who asks from here on loads anew.
    ///
    /// # Errors
    /// [`CacheError::EmptyKey`].
    pub fn delete(&self, key: &K) -> Result<Option<Arc<V>>, CacheError> {
        self.check(key)?;
        let (value, shed) = self.0.shelf.delete(key, self.now());
        self.0.flights.detach(key);
        self.tell_shed(shed);
        if value.is_some() {
            self.tell(CacheEvent::Delete, 1);
        }
        Ok(value)
    }

    /// Removes everything; how many entries there were. Loads under way are not kept, as after a delete.
    pub fn clear(&self) -> u64 {
        let cleared = self.0.shelf.clear();
        self.0.flights.detach_all();
        self.tell(CacheEvent::Clear, 1);
        cleared
    }

    /// Removes what is over; how many entries that was. Not needed for the limits: what is over makes room first.
    pub fn cleanup(&self) -> u64 {
        let shed = self.0.shelf.cleanup(self.now());
        self.tell_shed(shed);
        self.tell(CacheEvent::Cleanup, 1);
        shed.expired
    }

    /// The fresh value of `key`, or what `loader` makes of it, which is then kept.
    ///
    /// However many ask at once, one loader runs; the others wait and get its value, or its error, which is not
    /// kept. A caller that goes away while its loader runs, or whose loader panics, leaves the work to the next one
    /// who waits. A value that is too heavy to be kept is given to all who wait, and counts as an error.
    ///
    /// # Errors
    /// [`LoadError::Refused`]: the key is empty, no loader ran. [`LoadError::Failed`]: the loader failed.
    ///
    /// # Cancel safety
    /// Dropping the future drops its loader; another caller's runs in its place. One that is kept and not polled
    /// keeps the others waiting: give loaders a timeout.
    pub async fn get_or_compute<F>(&self, key: &K, loader: impl FnOnce() -> F) -> Result<Arc<V>, LoadError<E>>
    where
        F: Future<Output = Result<V, E>>,
    {
        if let Some(value) = self.get(key).map_err(LoadError::Refused)? {
            return Ok(value);
        }
        let lead = match self.0.flights.join(key.clone()) {
            Seat::Lead(lead) => lead,
            Seat::Ride(ride) => match ride.await {
                Arrival::Landed(loaded) => return (*loaded).clone().map_err(LoadError::Failed),
                Arrival::Lead(lead) => lead,
            },
        };
        self.load(key, loader, lead).await.map_err(LoadError::Failed)
    }

    async fn load<F>(&self, key: &K, loader: impl FnOnce() -> F, lead: Lead<K, Loaded<V, E>>) -> Loaded<V, E>
    where
        F: Future<Output = Result<V, E>>,
    {
        let reserved = Reserved { shared: &self.0, key, mark: self.0.shelf.reserve(key.clone()) };
        // Another load may have ended between the look and the lead.
        let loaded = match self.0.shelf.peek(key, self.now()) {
            Some(value) => Ok(value),
            None => self.keep(&reserved, loader().await),
        };
        (*lead.land(loaded)).clone()
    }

    /// Keeps what was loaded before anybody is told: who asks after the landing finds it.
    fn keep(&self, reserved: &Reserved<'_, K, V, E>, loaded: Result<V, E>) -> Loaded<V, E> {
        let value = match loaded {
            Ok(value) => Arc::new(value),
            Err(error) => {
                self.count_error();
                return Err(Arc::new(error));
            }
        };
        let key = (reserved.key.clone(), reserved.mark);
        let weight = self.weigh(reserved.key, &value);
        let ttl_us = micros(self.0.options.ttl());
        let put = self.0.shelf.put_reserved(key, Arc::clone(&value), weight, ttl_us, self.now());
        if let Err(refusal) = self.told(put, weight) {
            tracing::debug!(cache = %self.0.name, %refusal, "a loaded value is not kept");
        }
        Ok(value)
    }

    /// What it holds and did.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let (entries, weight, counts) = self.0.shelf.counts();
        CacheStats {
            entries: entries as u64,
            weight,
            loading: self.0.flights.in_flight() as u64,
            hits: counts.hits,
            misses: counts.misses,
            puts: counts.puts,
            overwrites: counts.overwrites,
            deletes: counts.deletes,
            evictions: counts.evictions,
            expirations: counts.expirations,
            clears: counts.clears,
            cleared: counts.cleared,
            cleanups: counts.cleanups,
            errors: self.0.errors.load(Ordering::Relaxed),
        }
    }

    fn now(&self) -> i64 {
        self.0.clock.now().0
    }

    fn check(&self, key: &K) -> Result<(), CacheError> {
        if key.is_empty() {
            self.count_error();
            return Err(CacheError::EmptyKey { cache: Arc::clone(&self.0.name) });
        }
        Ok(())
    }

    fn weigh(&self, key: &K, value: &V) -> u64 {
        self.0.weigher.as_ref().map_or(1, |weigh| weigh(key, value))
    }

    /// Counts and tells how a put ended; whether the value is kept.
    fn told(&self, (put, shed): (Result<bool, ShelfRefusal>, Shed), weight: u64) -> Result<bool, CacheError> {
        self.tell_shed(shed);
        match put {
            Ok(kept) => {
                self.tell(CacheEvent::Put, u64::from(kept));
                Ok(kept)
            }
            Err(refusal) => {
                self.count_error();
                Err(self.refused(refusal, weight))
            }
        }
    }

    fn refused(&self, refusal: ShelfRefusal, weight: u64) -> CacheError {
        let cache = Arc::clone(&self.0.name);
        match refusal {
            ShelfRefusal::NoLife => CacheError::NoLife { cache },
            ShelfRefusal::TooHeavy => {
                CacheError::TooHeavy { cache, weight, max_weight: self.0.shelf.limits().weight }
            }
            ShelfRefusal::NoRoom { needed, free } => CacheError::NoRoom { cache, weight: needed, free },
        }
    }

    fn count_error(&self) {
        self.0.errors.fetch_add(1, Ordering::Relaxed);
        self.tell(CacheEvent::Error, 1);
    }

    fn tell_shed(&self, shed: Shed) {
        self.tell(CacheEvent::Expire, shed.expired);
        self.tell(CacheEvent::Evict, shed.evicted);
    }

    fn tell(&self, event: CacheEvent, count: u64) {
        if count == 0 {
            return;
        }
        self.0.counters.add(event, count);
        if let Some(events) = &self.0.events {
            events.observe(&self.0.name, event, count);
        }
    }
}

/// A load under way: ends its reservation when it ends, however that is.
struct Reserved<'a, K: CacheKey, V, E> {
    shared: &'a Shared<K, V, E>,
    key: &'a K,
    mark: u64,
}

impl<K: CacheKey, V, E> Drop for Reserved<'_, K, V, E> {
    fn drop(&mut self) {
        self.shared.shelf.release(self.key, self.mark);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl<K: CacheKey, V, E> Clone for Cache<K, V, E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: CacheKey, V, E> fmt::Debug for Cache<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("name", &self.0.name).field("stats", &self.stats()).finish()
    }
}
