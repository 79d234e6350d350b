//! [`Protected`]: the layers of one service.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Layer, LayerChange, LayerTransition, ProtectedOptions, ProtectedOptionsError, ProtectedStats,
    layers::{Change, Layers},
    log::LayerLog,
    options::OptionsFault,
    stats::Counters,
};
use crate::{
    clock::Clock,
    ids::Timestamp,
    resilience::{
        breaker::Breaker,
        budget::RetryBudget,
        bulkhead::Bulkhead,
        limiter::{BackoffWindow, BackoffWindowOptions, Limiter},
        retry::RetryStats,
    },
};

/// The layers of one service around any call of it; clones are the same one.
///
/// It holds no lock while a call runs, and no actor is in between. Waits of a call for its layers are futures of the
/// call itself.
#[derive(Clone)]
pub struct Protected(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) layers: RwLock<Arc<Layers>>,
    /// Held by who changes the layers.
    pub(super) changing: Mutex<()>,
    /// Kept whatever the layers are: what the other side asked for.
    pub(super) backoff: BackoffWindow,
    pub(super) retry_stats: Arc<RetryStats>,
    pub(super) counters: Counters,
    pub(super) log: LayerLog,
    chance: AtomicU64,
}

impl fmt::Debug for Protected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protected").field("service", &self.0.name).finish_non_exhaustive()
    }
}

impl Protected {
    /// The layers of a service that falls back to no other by itself; see [`ProtectedServices`] for those that do.
    ///
    /// # Errors
    /// [`ProtectedOptionsError`] names every fault; a fallback by name is one here.
    ///
    /// [`ProtectedServices`]: super::ProtectedServices
    pub fn new(
        name: impl Into<Arc<str>>,
        options: ProtectedOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ProtectedOptionsError> {
        let protected = Self::bare(name.into(), clock)?;
        protected.reconfigure(options)?;
        Ok(protected)
    }

    /// No layer, and a seed of chance from the name and the time.
    pub(super) fn bare(name: Arc<str>, clock: Arc<dyn Clock>) -> Result<Self, ProtectedOptionsError> {
        let seed = u64::from(crc32c::crc32c(name.as_bytes())) << 32;
        let chance = AtomicU64::new(seed ^ clock.now().0.unsigned_abs());
        // The defaults are valid.
        let backoff = BackoffWindow::new(BackoffWindowOptions::default()).map_err(|error| {
            let (field, given, allowed) = (error.field.to_owned(), error.given, error.hint);
            let faults = vec![OptionsFault { layer: Layer::Backoff, field, given, allowed }];
            ProtectedOptionsError { service: name.to_string(), faults }
        })?;
        Ok(Self(Arc::new(Shared {
            name,
            clock,
            layers: RwLock::default(),
            changing: Mutex::default(),
            backoff,
            retry_stats: Arc::default(),
            counters: Counters::default(),
            log: LayerLog::default(),
            chance,
        })))
    }

    /// The service.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Options in force.
    #[must_use]
    pub fn options(&self) -> ProtectedOptions {
        self.layers().options.clone()
    }

    /// Puts other options in force for attempts of calls that begin: each layer changes in place and keeps what it
    /// knows; one that is new begins empty, one that is left out forgets.
    ///
    /// # Errors
    /// [`ProtectedOptionsError`]: nothing changed. A fallback by name is set through the registry only.
    pub fn reconfigure(&self, options: ProtectedOptions) -> Result<(), ProtectedOptionsError> {
        let present = self.layers().options.fallback.clone();
        if let Some(route) = options.fallback.as_ref().filter(|route| present.as_ref() != Some(route)) {
            let (field, given) = ("service".to_owned(), format!("{:?}", route.service));
            let allowed = "set it in the registry that has both services".to_owned();
            let faults = vec![OptionsFault { layer: Layer::Fallback, field, given, allowed }];
            return Err(ProtectedOptionsError { service: self.0.name.to_string(), faults });
        }
        let fallback = self.layers().fallback.clone().filter(|_| options.fallback.is_some());
        self.put(options, fallback)
    }

    /// Puts options in force, with the service that their fallback names.
    pub(super) fn put(
        &self,
        options: ProtectedOptions,
        fallback: Option<Self>,
    ) -> Result<(), ProtectedOptionsError> {
        let _changing: MutexGuard<'_, ()> = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let change = Change { service: &self.0.name, at: self.now(), log: &self.0.log };
        let layers = self.layers().under(options, fallback, &change)?;
        *self.0.layers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(layers);
        Ok(())
    }

    /// The breaker, to look at it or to switch it by hand.
    #[must_use]
    pub fn breaker(&self) -> Option<Breaker> {
        self.layers().breaker.clone()
    }

    /// The budget of its retries.
    #[must_use]
    pub fn budget(&self) -> Option<Arc<RetryBudget>> {
        self.layers().budget.clone()
    }

    /// The limiter.
    #[must_use]
    pub fn limiter(&self) -> Option<Arc<Limiter>> {
        self.layers().limiter.clone()
    }

    /// The bulkhead.
    #[must_use]
    pub fn bulkhead(&self) -> Option<Bulkhead> {
        self.layers().bulkhead.clone()
    }

    /// The service that answers when this one does not.
    #[must_use]
    pub fn fallback(&self) -> Option<Self> {
        self.layers().fallback.clone()
    }

    /// What became of its calls, layer by layer.
    #[must_use]
    pub fn stats(&self) -> ProtectedStats {
        let (layers, now, counters) = (self.layers(), self.now(), &self.0.counters);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Ends first: a call that ends meanwhile counts as one that runs.
        let (succeeded, failed) = (read(&counters.succeeded), read(&counters.failed));
        let (cancelled, calls) = (read(&counters.cancelled), read(&counters.calls));
        ProtectedStats {
            service: Arc::clone(&self.0.name),
            calls,
            in_flight: calls.saturating_sub(succeeded + failed + cancelled),
            succeeded,
            failed,
            cancelled,
            attempts: read(&counters.attempts),
            panics: read(&counters.panics),
            fell_back: read(&counters.fell_back),
            ended_by: std::array::from_fn(|at| counters.ended_by.get(at).map_or(0, read)),
            backed_off: self.0.backoff.check("", now).err().map(|held| held.retry_after),
            retry: self.0.retry_stats.counts(),
            budget: layers.budget.as_ref().map(|budget| budget.stats(now)),
            breaker: layers.breaker.as_ref().map(|breaker| breaker.stats(now)),
            limiter: layers.limiter.as_ref().map(|limiter| limiter.stats()),
            bulkhead: layers.bulkhead.as_ref().map(Bulkhead::status),
        }
    }

    /// The last changes of every layer, oldest first: those of the breaker as far as its own log goes back, the others
    /// up to [`PROTECTED_LOG_SIZE`](super::PROTECTED_LOG_SIZE).
    #[must_use]
    pub fn transitions(&self) -> Vec<LayerTransition> {
        let mut entries = self.0.log.to_vec();
        let breaker = self.layers().breaker.as_ref().map(Breaker::transitions).unwrap_or_default();
        entries.extend(breaker.into_iter().map(|transition| LayerTransition {
            layer: Layer::Breaker,
            change: LayerChange::Breaker(transition),
            at: transition.at,
        }));
        entries.sort_by_key(|entry| entry.at);
        entries
    }

    pub(super) fn layers(&self) -> Arc<Layers> {
        Arc::clone(&self.0.layers.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The next random number; the generator is splitmix64.
    pub(super) fn draw(&self) -> u64 {
        let state = self.0.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
