//! Names that have a number and nothing stored yet.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use stanchion_actors::{
    ids::{EntityId, Name},
    store::{Created, StoreError},
};

use super::shared::Shared;

/// Names given a number under this boot whose first record is not committed yet.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    by_name: HashMap<Name, EntityId>,
    by_entity: HashMap<EntityId, Name>,
    /// Names that were stored and left: a lookup that raced one must look again.
    pub(crate) left: u64,
    pub(crate) next: u64,
}

impl Default for Inner {
    fn default() -> Self {
        Self { by_name: HashMap::new(), by_entity: HashMap::new(), left: 0, next: 1 }
    }
}

impl Inner {
    pub(crate) fn of_name(&self, name: &Name) -> Option<EntityId> {
        self.by_name.get(name).copied()
    }

    /// Gives the next number.
    pub(crate) fn give(&mut self, name: &Name) -> EntityId {
        let entity = EntityId(self.next);
        self.next += 1;
        self.by_name.insert(name.clone(), entity);
        self.by_entity.insert(entity, name.clone());
        entity
    }

    pub(crate) fn name_of(&self, entity: EntityId) -> Option<&Name> {
        self.by_entity.get(&entity)
    }
}

impl Pending {
    pub(crate) fn starting_at(next: u64) -> Self {
        Self { inner: Mutex::new(Inner { next: next.max(1), ..Inner::default() }) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a number back of which nothing is stored; whether there was one.
    pub(crate) fn forget(&self, entity: EntityId) -> bool {
        let mut inner = self.lock();
        let name = inner.by_entity.remove(&entity);
        if let Some(name) = &name {
            inner.by_name.remove(name);
        }
        name.is_some()
    }

    /// These are stored: they are found in the view from here on.
    pub(crate) fn settle(&self, entities: &mut Vec<EntityId>) {
        if entities.is_empty() {
            return;
        }
        let mut inner = self.lock();
        for entity in entities.drain(..) {
            if let Some(name) = inner.by_entity.remove(&entity) {
                inner.by_name.remove(&name);
                inner.left += 1;
            }
        }
    }
}

/// Lookups of a name before its number is given without letting other creations in between.
const CREATE_FREE_LOOKS: usize = 4;

/// Finds a name or gives it the next number.
pub(crate) fn create(shared: &Shared, name: &Name) -> Result<Created, StoreError> {
    for look in 0.. {
        let pending = shared.pending.lock();
        if let Some(entity) = pending.of_name(name) {
            return Ok(Created::New(entity));
        }
        let left = pending.left;
        let held = (look >= CREATE_FREE_LOOKS).then_some(pending);
        if let Some(entity) = shared.view.snapshot()?.resolve(name)? {
            return Ok(Created::Exists(entity));
        }
        let mut pending = held.unwrap_or_else(|| shared.pending.lock());
        if let Some(entity) = pending.of_name(name) {
            return Ok(Created::New(entity));
        }
        if pending.left == left {
            return Ok(Created::New(pending.give(name)));
        }
    }
    Err(StoreError::NotApplied("the name was not settled".into()))
}
