//! [`Limiters`]: limiters by name.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard},
};

use super::{
    AcquireError, DenyAlertEvent, LimitKey, Limiter, LimiterNotFound, LimiterOptions, LimiterSettings,
    LimiterStats, LimitersError, Pressure, settings::checked_name,
};
use crate::ids::Timestamp;

/// Most limiters of one registry.
pub const LIMITERS_MAX: usize = 1_000;

/// Limiters by name. Look one up once and keep it.
#[derive(Debug, Default)]
pub struct Limiters {
    limiters: RwLock<BTreeMap<Arc<str>, Arc<Limiter>>>,
    /// What holds for limiters that are set later, too. Locked before `limiters`.
    pressure: Mutex<Pressure>,
}

impl Limiters {
    /// Makes a registry without limiters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The limiter of this name with these options: a new one, or the present one reconfigured, what its keys used
    /// stays used.
    ///
    /// # Errors
    /// [`LimitersError`]: nothing changed.
    pub fn set(
        &self,
        name: &str,
        options: LimiterOptions,
        now: Timestamp,
    ) -> Result<Arc<Limiter>, LimitersError> {
        checked_name(name)?;
        let invalid = |error| LimitersError::Options { name: name.to_owned(), error };
        let pressure = self.pressure.lock().unwrap_or_else(PoisonError::into_inner);
        let mut limiters = self.write();
        if let Some(limiter) = limiters.get(name) {
            limiter.reconfigure(options, now).map_err(invalid)?;
            return Ok(Arc::clone(limiter));
        }
        if limiters.len() >= LIMITERS_MAX {
            return Err(LimitersError::Full);
        }
        let limiter = Arc::new(Limiter::new(name, options).map_err(invalid)?);
        limiter.set_pressure(*pressure, now);
        limiters.insert(Arc::clone(limiter.name()), Arc::clone(&limiter));
        Ok(limiter)
    }

    /// Takes a limiter in, restored for instance, in the place of what had its name. The pressure of the registry
    /// holds for it.
    ///
    /// # Errors
    /// [`LimitersError`]: nothing changed.
    pub fn insert(&self, limiter: Limiter, now: Timestamp) -> Result<Arc<Limiter>, LimitersError> {
        checked_name(limiter.name())?;
        let pressure = self.pressure.lock().unwrap_or_else(PoisonError::into_inner);
        let mut limiters = self.write();
        if limiters.len() >= LIMITERS_MAX && !limiters.contains_key(limiter.name()) {
            return Err(LimitersError::Full);
        }
        limiter.set_pressure(*pressure, now);
        let limiter = Arc::new(limiter);
        limiters.insert(Arc::clone(limiter.name()), Arc::clone(&limiter));
        Ok(limiter)
    }

    /// Sets every limiter of a document; others stay.
    ///
    /// # Errors
    /// [`LimitersError`]: those that stand before it are set.
    pub fn configure(&self, settings: &LimiterSettings, now: Timestamp) -> Result<(), LimitersError> {
        settings.iter().try_for_each(|(name, options)| self.set(name, options.clone(), now).map(drop))
    }

    /// The limiter of this name.
    ///
    /// # Errors
    /// [`LimiterNotFound`]: do not run the call.
    pub fn get(&self, name: &str) -> Result<Arc<Limiter>, LimiterNotFound> {
        let limiters = self.limiters.read().unwrap_or_else(PoisonError::into_inner);
        limiters.get(name).cloned().ok_or_else(|| LimiterNotFound(name.to_owned()))
    }

    /// Lets a call run, or refuses it.
    ///
    /// # Errors
    /// [`AcquireError`]: do not run the call.
    pub fn acquire(
        &self,
        name: &str,
        key: LimitKey<'_>,
        cost: u32,
        now: Timestamp,
    ) -> Result<(), AcquireError> {
        Ok(self.get(name)?.acquire(key, cost, now)?)
    }

    /// Scales the rate of every limiter, of later ones too, or no more.
    pub fn set_pressure(&self, pressure: Pressure, now: Timestamp) {
        let mut present = self.pressure.lock().unwrap_or_else(PoisonError::into_inner);
        *present = pressure;
        self.all().iter().for_each(|limiter| limiter.set_pressure(pressure, now));
    }

    /// Every limiter with what it did, by name.
    #[must_use]
    pub fn list(&self) -> Vec<(Arc<Limiter>, LimiterStats)> {
        let with_stats = |limiter: Arc<Limiter>| {
            let stats = limiter.stats();
            (limiter, stats)
        };
        self.all().into_iter().map(with_stats).collect()
    }

    /// The alerts that were raised or resolved since this was asked last.
    #[must_use]
    pub fn poll_alerts(&self, now: Timestamp) -> Vec<(Arc<str>, DenyAlertEvent)> {
        let polled = |limiter: &Arc<Limiter>| Some((Arc::clone(limiter.name()), limiter.poll_alert(now)?));
        self.all().iter().filter_map(polled).collect()
    }

    fn all(&self) -> Vec<Arc<Limiter>> {
        self.limiters.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Arc<str>, Arc<Limiter>>> {
        self.limiters.write().unwrap_or_else(PoisonError::into_inner)
    }
}
