//! [`Breakers`]: breakers by name.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{Breaker, BreakerNotFound, BreakerOptions, BreakerOptionsError};

/// Breakers by name. Look one up once and keep it: a clone is the same breaker.
#[derive(Debug, Default)]
pub struct Breakers(RwLock<BTreeMap<Arc<str>, Breaker>>);

impl Breakers {
    /// Makes a registry without breakers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The breaker of this name with these options: a new one, or the present one reconfigured, its state kept.
    ///
    /// # Errors
    /// [`BreakerOptionsError`]: nothing changed.
    pub fn register(&self, name: &str, options: BreakerOptions) -> Result<Breaker, BreakerOptionsError> {
        let mut breakers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(breaker) = breakers.get(name) {
            breaker.reconfigure(options)?;
            return Ok(breaker.clone());
        }
        let breaker = Breaker::new(name, options)?;
        breakers.insert(Arc::clone(breaker.name()), breaker.clone());
        Ok(breaker)
    }

    /// The breaker of this name.
    ///
    /// # Errors
    /// [`BreakerNotFound`]: do not run the call.
    pub fn find(&self, name: &str) -> Result<Breaker, BreakerNotFound> {
        let breakers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        breakers.get(name).cloned().ok_or_else(|| BreakerNotFound(name.to_owned()))
    }

    /// Every breaker, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Breaker> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
