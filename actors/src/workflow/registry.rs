//! Definitions that this process has validated, by content hash.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::definition::{Definition, DefinitionFaults, DefinitionHash, ValidDefinition};
use crate::store::{decode, encode};

/// Largest stored definition, in bytes.
pub const DEFINITION_MAX_BYTES: usize = 16 * 1024 * 1024;

/// A definition that cannot be stored or read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// It has faults.
    #[error(transparent)]
    Faults(#[from] DefinitionFaults),
    /// It does not decode, or does not encode.
    #[error("definition is not readable: {0}")]
    Unreadable(String),
    /// It is over the limit.
    #[error("definition has {0} bytes, at most {DEFINITION_MAX_BYTES} are allowed")]
    TooLarge(usize),
}

/// Validates each definition once, however many runs use it; forgets it when the last run is gone.
#[derive(Debug, Default)]
pub struct Definitions {
    known: Mutex<HashMap<DefinitionHash, Weak<ValidDefinition>>>,
}

impl Definitions {
    /// The definition of this hash, if some run of this process uses it.
    #[must_use]
    pub fn find(&self, hash: &DefinitionHash) -> Option<Arc<ValidDefinition>> {
        self.lock().get(hash).and_then(Weak::upgrade)
    }

    /// Remembers a definition; answers the one that was known before, if any.
    pub fn remember(&self, definition: ValidDefinition) -> Arc<ValidDefinition> {
        self.adopt(Arc::new(definition))
    }

    /// Remembers a definition that is shared already; answers the one that was known before, if any.
    pub fn adopt(&self, definition: Arc<ValidDefinition>) -> Arc<ValidDefinition> {
        let hash = definition.hash();
        if let Some(known) = self.find(&hash) {
            return known;
        }
        let mut known = self.lock();
        known.retain(|_, definition| definition.strong_count() > 0);
        known.insert(hash, Arc::downgrade(&definition));
        definition
    }

    /// Reads a stored definition.
    ///
    /// # Errors
    /// [`DefinitionError`] when it does not decode or does not hold.
    pub fn read(&self, hash: &DefinitionHash, bytes: &[u8]) -> Result<Arc<ValidDefinition>, DefinitionError> {
        if let Some(known) = self.find(hash) {
            return Ok(known);
        }
        let definition: Definition = decode(bytes).map_err(|e| DefinitionError::Unreadable(e.to_string()))?;
        Ok(self.remember(definition.validate()?))
    }

    /// The stored form of a definition.
    ///
    /// # Errors
    /// [`DefinitionError::TooLarge`].
    pub fn write(definition: &ValidDefinition) -> Result<Vec<u8>, DefinitionError> {
        let bytes = encode(definition.source()).map_err(|e| DefinitionError::Unreadable(e.to_string()))?;
        if bytes.len() > DEFINITION_MAX_BYTES {
            return Err(DefinitionError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<DefinitionHash, Weak<ValidDefinition>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
