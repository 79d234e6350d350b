//! Which entities the process knows: name to cell, number to cell.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError, Weak, atomic::AtomicBool},
};

use super::{cell::EntityCell, machine::Kind, msg::Supervisors};
use crate::{
    error::Refusal,
    ids::{EntityId, Name},
};

const SHARDS: usize = 64;

/// Why kinds cannot be registered together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KindError {
    /// Two kinds of one name.
    #[error("kind {0:?} is registered twice: give one of them another KIND")]
    Duplicate(String),
    /// The kind's name is no kind.
    #[error(transparent)]
    Name(#[from] crate::ids::NameError),
    /// Sessions would be forgotten while they still number commands.
    #[error("kind {kind:?}: origin_ttl is below twice the life of a session: use at least 12 h")]
    OriginTtl {
        /// The kind.
        kind: String,
    },
    /// The kind's mailbox options do not hold.
    #[error("kind {kind:?}: {error}")]
    Mailbox {
        /// The kind.
        kind: String,
        /// What does not hold.
        error: super::policy::MailboxError,
    },
}

/// Cells by name and by number. A cell stays as long as it is active, has mail, or somebody holds an address.
pub struct Directory {
    kinds: HashMap<Arc<str>, Arc<Kind>>,
    supervisors: Arc<Supervisors>,
    draining: Arc<AtomicBool>,
    hasher: RandomState,
    by_name: Vec<Mutex<HashMap<Name, Arc<EntityCell>>>>,
    by_number: Vec<Mutex<HashMap<EntityId, Weak<EntityCell>>>>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("kinds", &self.kinds.len()).finish_non_exhaustive()
    }
}

impl Directory {
    /// A directory of these kinds.
    ///
    /// # Errors
    /// [`KindError`] when two have one name, or one has options that do not hold.
    pub fn new(
        kinds: Vec<Kind>,
        supervisors: Arc<Supervisors>,
        draining: Arc<AtomicBool>,
    ) -> Result<Self, KindError> {
        let mut by_kind = HashMap::new();
        for kind in kinds {
            if Name::new(Arc::clone(&kind.name), "key")?.node().is_some() {
                return Err(crate::ids::NameError::Kind(kind.name.to_string()).into());
            }
            kind.options
                .mailbox
                .validate()
                .map_err(|error| KindError::Mailbox { kind: kind.name.to_string(), error })?;
            if kind.options.origin_ttl < 2 * crate::env::SESSION_LIFE {
                return Err(KindError::OriginTtl { kind: kind.name.to_string() });
            }
            let name = Arc::clone(&kind.name);
            if by_kind.insert(Arc::clone(&name), Arc::new(kind)).is_some() {
                return Err(KindError::Duplicate(name.to_string()));
            }
        }
        Ok(Self {
            kinds: by_kind,
            supervisors,
            draining,
            hasher: RandomState::new(),
            by_name: (0..SHARDS).map(|_| Mutex::default()).collect(),
            by_number: (0..SHARDS).map(|_| Mutex::default()).collect(),
        })
    }

    /// The shards of supervisors.
    #[must_use]
    pub fn supervisors(&self) -> &Arc<Supervisors> {
        &self.supervisors
    }

    /// The kind of this name.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<&Arc<Kind>> {
        self.kinds.get(name)
    }

    /// All kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.values()
    }

    /// The cell of a name, made if needed.
    ///
    /// # Errors
    /// [`Refusal::UnknownKind`].
    pub fn cell(&self, name: &Name) -> Result<Arc<EntityCell>, Refusal> {
        let kind = self.kinds.get(&name.kind).ok_or_else(|| Refusal::UnknownKind(name.kind.to_string()))?;
        let mut shard = self.names(name);
        if let Some(cell) = shard.get(name) {
            return Ok(Arc::clone(cell));
        }
        let cell = EntityCell::new(
            name.clone(),
            Arc::clone(kind),
            Arc::clone(&self.supervisors),
            Arc::clone(&self.draining),
        );
        shard.insert(name.clone(), Arc::clone(&cell));
        Ok(cell)
    }

    /// The cell of a number, if it was active in this process.
    #[must_use]
    pub fn cell_of(&self, entity: EntityId) -> Option<Arc<EntityCell>> {
        self.numbers(entity).get(&entity).and_then(Weak::upgrade)
    }

    /// An activation has learnt the cell's number.
    pub(crate) fn learn(&self, entity: EntityId, cell: &Arc<EntityCell>) {
        if let Some(before) = cell.set_entity(entity) {
            self.numbers(before).remove(&before);
        }
        self.numbers(entity).insert(entity, Arc::downgrade(cell));
    }

    /// Forgets a cell that nobody else holds and that has no mail, in or out: its entity sleeps in the store.
    pub fn forget(&self, cell: &Arc<EntityCell>) {
        let mut shard = self.names(cell.name());
        // One for the map, one for the caller; under the shard's lock nobody can take another.
        if Arc::strong_count(cell) <= 2 && cell.is_idle() && !cell.is_active() && cell.undelivered() == 0 {
            shard.remove(cell.name());
            drop(shard);
            if let Some(entity) = cell.entity() {
                self.numbers(entity).remove(&entity);
            }
        }
    }

    /// Every cell of a supervisor's shard.
    #[must_use]
    pub fn cells_of_shard(&self, shard: usize) -> Vec<Arc<EntityCell>> {
        self.cells().into_iter().filter(|cell| self.supervisors.shard_of(cell) == shard).collect()
    }

    /// Every cell.
    #[must_use]
    pub fn cells(&self) -> Vec<Arc<EntityCell>> {
        let lock = |shard: &Mutex<HashMap<Name, Arc<EntityCell>>>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>()
        };
        self.by_name.iter().flat_map(lock).collect()
    }

    fn names(&self, name: &Name) -> std::sync::MutexGuard<'_, HashMap<Name, Arc<EntityCell>>> {
        lock_shard(&self.by_name, self.hasher.hash_one(name))
    }

    fn numbers(&self, entity: EntityId) -> std::sync::MutexGuard<'_, HashMap<EntityId, Weak<EntityCell>>> {
        lock_shard(&self.by_number, entity.0)
    }
}

#[expect(clippy::indexing_slicing, reason = "the index is taken modulo the fixed number of shards")]
fn lock_shard<T>(shards: &[Mutex<T>], hash: u64) -> std::sync::MutexGuard<'_, T> {
    shards[(hash % SHARDS as u64) as usize].lock().unwrap_or_else(PoisonError::into_inner)
}
