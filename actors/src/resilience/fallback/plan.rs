//! [`Fallback`]: the other way to an answer.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Answer, FallbackFailed, FallbackFault, FallbackKind, FallbackLoop, Provenance};
use crate::{
    clock::Clock,
    resilience::{
        OptionsError,
        cache::{Cache, CacheKey, CacheOptions},
        retry::RetryCause,
    },
};

/// Longest age of a last good value: a year.
const MAX_AGE_MS: u64 = 31_536_000_000;
/// Most keys with a last good value.
const MAX_ENTRIES: u64 = 10_000_000;

type Function<K, T, E> = Box<dyn Fn(&K, &E) -> Result<T, E> + Send + Sync>;
type Running<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
type Call<K, T, E> = Box<dyn Fn(K) -> Running<T, E> + Send + Sync>;
type Condition<E> = Box<dyn Fn(&E) -> bool + Send + Sync>;

/// How long last good values are good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LastGoodOptions {
    /// Oldest value that is given: 1..=31 536 000 000; default 300 000.
    pub max_age_ms: u64,
    /// Keys whose last value is kept: 1..=10 000 000; default 1 000. The one used longest ago makes room.
    pub max_entries: u32,
}

impl Default for LastGoodOptions {
    fn default() -> Self {
        Self { max_age_ms: 300_000, max_entries: 1_000 }
    }
}

impl LastGoodOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`OptionsError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), OptionsError> {
        OptionsError::check("fallback", "max_age_ms", self.max_age_ms, 1..=MAX_AGE_MS)?;
        OptionsError::check("fallback", "max_entries", u64::from(self.max_entries), 1..=MAX_ENTRIES)
    }
}

/// What callers of one service get in place of a failure. `K` is what is asked for: a last good value is one of the
/// same key; `()` where there is only one question.
pub struct Fallback<K: CacheKey, T, E> {
    service: Arc<str>,
    way: Way<K, T, E>,
    condition: Option<Condition<E>>,
}

enum Way<K: CacheKey, T, E> {
    Value(Arc<T>),
    Function(Function<K, T, E>),
    LastGood { values: Cache<K, T, E>, max_age: Duration },
    Service { name: Arc<str>, call: Call<K, T, E> },
}

impl<K: CacheKey, T, E> Fallback<K, T, E> {
    fn new(service: impl Into<Arc<str>>, way: Way<K, T, E>) -> Self {
        Self { service: service.into(), way, condition: None }
    }

    /// Always the same value.
    pub fn value(service: impl Into<Arc<str>>, value: T) -> Self {
        Self::new(service, Way::Value(Arc::new(value)))
    }

    /// What `function` makes of the key and the failure.
    pub fn function(
        service: impl Into<Arc<str>>,
        function: impl Fn(&K, &E) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        Self::new(service, Way::Function(Box::new(function)))
    }

    /// The last value that the service itself gave for the key, unless it is too old.
    ///
    /// # Errors
    /// [`OptionsError`] when an option is outside its range.
    pub fn last_good(
        service: impl Into<Arc<str>>,
        options: &LastGoodOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OptionsError> {
        options.validate()?;
        let service = service.into();
        let (max_entries, ttl_ms) = (options.max_entries, options.max_age_ms);
        let kept = CacheOptions { max_entries, ttl_ms, max_weight: None };
        let values = Cache::new(format!("{service}.last_good"), kept, clock)?;
        let max_age = Duration::from_millis(ttl_ms);
        Ok(Self::new(service, Way::LastGood { values, max_age }))
    }

    /// What another service answers to the key: `call` asks it.
    ///
    /// # Errors
    /// [`FallbackLoop`]: it is the same service. For longer ways round see [`check_routes`](super::check_routes).
    pub fn service<F>(
        service: impl Into<Arc<str>>,
        other: impl Into<Arc<str>>,
        call: impl Fn(K) -> F + Send + Sync + 'static,
    ) -> Result<Self, FallbackLoop>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let (service, name) = (service.into(), other.into());
        if service == name {
            return Err(FallbackLoop { path: vec![service, name] });
        }
        let call: Call<K, T, E> = Box::new(move |key| Box::pin(call(key)));
        Ok(Self::new(service, Way::Service { name, call }))
    }

    /// Takes this way for failures of which `condition` says so; for all of them by default.
    #[must_use]
    pub fn only_if(mut self, condition: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.condition = Some(Box::new(condition));
        self
    }

    /// Whose fallback it is.
    #[must_use]
    pub fn of(&self) -> &Arc<str> {
        &self.service
    }

    /// The other service, if it is one.
    #[must_use]
    pub fn other(&self) -> Option<&Arc<str>> {
        match &self.way {
            Way::Service { name, .. } => Some(name),
            Way::Value(_) | Way::Function(_) | Way::LastGood { .. } => None,
        }
    }

    /// Which way it is.
    #[must_use]
    pub fn kind(&self) -> FallbackKind {
        match self.way {
            Way::Value(_) => FallbackKind::Value,
            Way::Function(_) => FallbackKind::Function,
            Way::LastGood { .. } => FallbackKind::LastGood,
            Way::Service { .. } => FallbackKind::Service,
        }
    }
}

impl<K: CacheKey, T, E: RetryCause> Fallback<K, T, E> {
    /// The answer to `key`: the call's own, or the fallback's. Remembers the call's own as the last good one.
    ///
    /// # Errors
    /// [`FallbackFailed`] with the call's own failure, and why there is no other answer.
    ///
    /// # Cancel safety
    /// Dropping the future drops the call of the other service.
    pub async fn apply(&self, key: &K, outcome: Result<T, E>) -> Result<Answer<T>, FallbackFailed<E>> {
        let original = match outcome {
            Ok(value) => return Ok(Answer { value: self.keep(key, value), provenance: Provenance::Primary }),
            Err(error) => error,
        };
        if self.condition.as_ref().is_some_and(|applies| !applies(&original)) {
            return Err(FallbackFailed { original, fallback: None });
        }
        let other = self.other_answer(key, &original).await;
        self.count(other.is_ok());
        match other {
            Ok(value) => {
                let cause = Arc::from(original.cause_code());
                Ok(Answer { value, provenance: Provenance::Fallback { kind: self.kind(), cause } })
            }
            Err(fault) => Err(FallbackFailed { original, fallback: Some(fault) }),
        }
    }

    fn keep(&self, key: &K, value: T) -> Arc<T> {
        let Way::LastGood { values, max_age } = &self.way else { return Arc::new(value) };
        let value = Arc::new(value);
        // Refused is only an empty key, and that has no last good value either.
        let _ = values.put_shared(key.clone(), Arc::clone(&value), *max_age);
        value
    }

    async fn other_answer(&self, key: &K, original: &E) -> Result<Arc<T>, FallbackFault<E>> {
        let failed = |kind| move |error| FallbackFault::Failed { kind, error };
        match &self.way {
            Way::Value(value) => Ok(Arc::clone(value)),
            Way::Function(function) => {
                function(key, original).map(Arc::new).map_err(failed(FallbackKind::Function))
            }
            Way::LastGood { values, max_age } => {
                let none = FallbackFault::NoLastGood { max_age: *max_age };
                values.get(key).ok().flatten().ok_or(none)
            }
            Way::Service { call, .. } => {
                call(key.clone()).await.map(Arc::new).map_err(failed(FallbackKind::Service))
            }
        }
    }

    fn count(&self, answered: bool) {
        let outcome = if answered { "answered" } else { "failed" };
        let (service, kind) = (Arc::clone(&self.service), self.kind().as_str());
        metrics::counter!("stanchion_fallbacks_total", "service" => service, "kind" => kind, "outcome" => outcome)
            .increment(1);
    }
}

impl<K: CacheKey, T, E> fmt::Debug for Fallback<K, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fallback({} of {:?})", self.kind(), self.service)
    }
}
