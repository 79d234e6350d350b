//! The handle through which entities reach the store in force.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use super::PersistenceMsg;
use crate::{
    entity::EntityCell,
    env::Env,
    store::{Completer, Record, Refused, Store, StoreError},
};

/// A chain that found the store's queue full is handed over again after this long.
const RETRY_AFTER: Duration = Duration::from_millis(2);

/// The store in force; after a failed flush another one, under the next boot number.
#[derive(Clone)]
pub struct StoreHandle(Arc<RwLock<Arc<dyn Store>>>);

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("StoreHandle").field(&self.current().caps()).finish()
    }
}

impl StoreHandle {
    /// A handle on `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(Arc::new(RwLock::new(store)))
    }

    /// The store in force.
    #[must_use]
    pub fn current(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Hands a record to the store in force.
    ///
    /// # Errors
    /// As [`Store::submit`].
    pub fn submit(&self, record: Record, done: Completer) -> Result<(), Box<Refused>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).submit(record, done)
    }

    /// Puts another store in force.
    pub fn replace(&self, store: Arc<dyn Store>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = store;
    }

    /// The queue was full: the entity looks again in a moment.
    pub(crate) fn retry_later(&self, env: &Env, cell: &Arc<EntityCell>) {
        let cell = Arc::clone(cell);
        env.later(RETRY_AFTER, move || cell.wake());
    }

    /// Something went wrong: the persistence actor looks whether the store has to be opened anew.
    pub(crate) fn suspect(&self, env: &Env, error: &StoreError) {
        if self.current().poisoned().is_some() {
            env.services().persistence.cast(PersistenceMsg::Suspect(error.to_string()));
        }
    }
}
