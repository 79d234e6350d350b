//! [`Bulkheads`]: bulkheads by name.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::{Bulkhead, BulkheadOptions};
use crate::resilience::OptionsError;

/// Bulkheads by name. Look one up once and keep it: a clone is the same bulkhead.
#[derive(Debug, Default)]
pub struct Bulkheads(RwLock<BTreeMap<Arc<str>, Bulkhead>>);

impl Bulkheads {
    /// Makes a registry without bulkheads.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bulkhead of this name with these options: a new one, or the present one reconfigured, its calls kept.
    ///
    /// # Errors
    /// [`OptionsError`]: nothing changed.
    pub fn register(&self, name: &str, options: BulkheadOptions) -> Result<Bulkhead, OptionsError> {
        let mut bulkheads = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(bulkhead) = bulkheads.get(name) {
            bulkhead.reconfigure(options)?;
            return Ok(bulkhead.clone());
        }
        let bulkhead = Bulkhead::new(name, options)?;
        bulkheads.insert(Arc::clone(bulkhead.name()), bulkhead.clone());
        Ok(bulkhead)
    }

    /// The bulkhead of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Bulkhead> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Every bulkhead, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Bulkhead> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
