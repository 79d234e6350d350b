//! Merged reads: active generation over folding generation over the data file.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase};
use stanchion_actors::{
    ids::{EntityId, Version},
    store::{Checkpoint, Head, StoreError, Table, key},
};

use super::{
    memtable::{Mem, Patch, Row},
    pack::{Item, unpack},
    tables::{self, after_prefix, decode_row, owned, read_error},
};

/// A generation that is shared with readers; only the active one is ever written.
pub(crate) type SharedMem = Arc<RwLock<Mem>>;

/// Removed entities.
pub(crate) type Gone = Arc<BTreeSet<EntityId>>;

/// What a read merges.
#[derive(Debug)]
pub(crate) struct Generations {
    pub(crate) active: SharedMem,
    pub(crate) folding: Option<SharedMem>,
    /// Removed entities whose rows are still in the data file. Shared with readers, never written: replaced.
    pub(crate) gone: Gone,
    /// `None` once the store is closed.
    pub(crate) data: Option<Arc<Database>>,
    /// As `data`.
    pub(crate) log: Option<Arc<Database>>,
}

impl Generations {
    /// The folding generation is in the data file.
    pub(crate) fn folded(&mut self) {
        let Some(folding) = self.folding.take() else { return };
        let mem = read_mem(&folding);
        if !mem.purged.is_empty() {
            Arc::make_mut(&mut self.gone).extend(mem.purged.iter().copied());
        }
    }

    /// No row of the entity is left.
    pub(crate) fn forget_gone(&mut self, entity: EntityId) {
        Arc::make_mut(&mut self.gone).remove(&entity);
    }
}

/// The present generations; changed by the writer (freeze) and the fold (done).
#[derive(Debug)]
pub(crate) struct View {
    gens: RwLock<Generations>,
}

/// Reads a generation, whatever happened to its writer.
pub(crate) fn read_mem(mem: &RwLock<Mem>) -> RwLockReadGuard<'_, Mem> {
    mem.read().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    pub(crate) fn new(
        active: Mem,
        gone: BTreeSet<EntityId>,
        data: Arc<Database>,
        log: Option<Arc<Database>>,
    ) -> Self {
        let active = Arc::new(RwLock::new(active));
        let gens = Generations { active, folding: None, gone: Arc::new(gone), data: Some(data), log };
        Self { gens: RwLock::new(gens) }
    }

    /// Runs `f` on the generations.
    pub(crate) fn change<T>(&self, f: impl FnOnce(&mut Generations) -> T) -> T {
        f(&mut self.gens.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The active generation.
    pub(crate) fn active(&self) -> SharedMem {
        self.gens.read().unwrap_or_else(PoisonError::into_inner).active.clone()
    }

    /// Everything committed at this moment, and perhaps a little more of the active generation.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let gens = self.gens.read().unwrap_or_else(PoisonError::into_inner);
        let data = gens.data.as_ref().ok_or_else(|| StoreError::Fatal("the store is closed".into()))?;
        let txn = data.begin_read().map_err(read_error)?;
        let (active, folding, gone) = (gens.active.clone(), gens.folding.clone(), gens.gone.clone());
        Ok(Snapshot { active, folding, gone, txn })
    }

    /// The row, if memory alone can tell.
    pub(crate) fn peek(&self, table: Table, key: &[u8]) -> Option<Option<Bytes>> {
        let gens = self.gens.read().unwrap_or_else(PoisonError::into_inner);
        let found = read_mem(&gens.active).rows(table).get(key).cloned();
        let found = found.or_else(|| read_mem(gens.folding.as_deref()?).rows(table).get(key).cloned())?;
        // What does not encode is left to the read, which says so.
        found.map(|row| row.stored(key)).transpose().ok()
    }
}

/// A consistent read.
pub(crate) struct Snapshot {
    active: SharedMem,
    folding: Option<SharedMem>,
    gone: Gone,
    txn: ReadTransaction,
}

/// Rows overlaid by one or two generations within a range.
struct Overlay {
    rows: BTreeMap<Vec<u8>, Option<Bytes>>,
    /// The generations were not read beyond this key.
    bound: Option<Vec<u8>>,
}

impl Snapshot {
    /// What is in the data file alone.
    pub(crate) fn of_file(data: &Database) -> Result<Self, StoreError> {
        let txn = data.begin_read().map_err(read_error)?;
        Ok(Self { active: SharedMem::default(), folding: None, gone: Gone::default(), txn })
    }

    /// Generations, newest first.
    fn mems(&self) -> impl Iterator<Item = &SharedMem> {
        std::iter::once(&self.active).chain(self.folding.as_ref())
    }

    /// Asks each generation, newest first, until one answers or removed the entity.
    fn in_memory<T>(&self, entity: EntityId, ask: impl Fn(&Patch) -> Option<T>) -> Result<Option<T>, Purged> {
        for mem in self.mems() {
            let mem = read_mem(mem);
            if let Some(found) = mem.entities.get(&entity).and_then(&ask) {
                return Ok(Some(found));
            }
            if mem.purged.contains(&entity) {
                return Err(Purged);
            }
        }
        if self.gone.contains(&entity) { Err(Purged) } else { Ok(None) }
    }

    fn stored(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let rows = self.txn.open_table(tables::rows(table)).map_err(read_error)?;
        Ok(rows.get(key).map_err(read_error)?.map(|row| owned(row.value())))
    }

    /// One row.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        for mem in self.mems() {
            let mem = read_mem(mem);
            if let Some(found) = mem.rows(table).get(key) {
                return found.as_ref().map(|row| stored(table, key, row)).transpose();
            }
            if removed(&mem.purged, table, key) {
                return Ok(None);
            }
        }
        if is_gone(&self.gone, table, key) {
            return Ok(None);
        }
        self.stored(table, key)
    }

    /// The stored full state.
    pub(crate) fn checkpoint(&self, entity: EntityId) -> Result<Option<Checkpoint>, StoreError> {
        match self.in_memory(entity, |patch| patch.checkpoint.clone()) {
            Err(Purged) => Ok(None),
            Ok(Some(found)) => Ok(Some(found)),
            Ok(None) => {
                let key = key::checkpoint(entity);
                let row = self.stored(Table::Entity, &key)?;
                row.map(|row| decode_row(Table::Entity, &key, &row)).transpose()
            }
        }
    }

    /// The head of the last entry.
    pub(crate) fn head(&self, entity: EntityId) -> Result<Option<Head>, StoreError> {
        match self.in_memory(entity, |patch| patch.head().cloned()) {
            Err(Purged) => return Ok(None),
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
        }
        let state = self.checkpoint(entity)?.map(|checkpoint| checkpoint.head);
        let reached = super::memtable::version_of(state.as_ref());
        let rows = self.txn.open_table(tables::rows(Table::History)).map_err(read_error)?;
        let (low, high) = (key::history(entity, Version(0)), key::history(entity, Version(u64::MAX)));
        let mut range = rows.range(low.as_slice()..=high.as_slice()).map_err(read_error)?;
        let Some(last) = range.next_back() else { return Ok(state) };
        let (key, value) = last.map_err(read_error)?;
        match unpack(key.value(), &owned(value.value()))?.pop() {
            Some(item) if item.version > reached => Ok(Some(item.entry(entity)?.head)),
            _ => Ok(state),
        }
    }

    /// Kept entries from `from` on for which `keep` holds, ascending, at most `limit`.
    pub(crate) fn history(
        &self,
        entity: EntityId,
        from: Version,
        limit: usize,
        keep: impl Fn(&Item) -> bool,
    ) -> Result<Vec<Item>, StoreError> {
        let mut newer: Vec<Item> = Vec::new();
        let mut stored_below = Some(Version(u64::MAX));
        for mem in self.mems() {
            let mem = read_mem(mem);
            if let Some(patch) = mem.entities.get(&entity) {
                let below = patch.history.first().map_or(stored_below, |item| Some(item.version));
                stored_below = below;
                let at = patch.history.partition_point(|item| item.version < from);
                let rest = patch.history.get(at..).unwrap_or_default();
                let mut merged: Vec<Item> = rest.iter().filter(|i| keep(i)).take(limit).cloned().collect();
                merged.append(&mut newer);
                newer = merged;
            }
            if mem.purged.contains(&entity) {
                stored_below = None;
                break;
            }
        }
        if self.gone.contains(&entity) {
            stored_below = None;
        }
        let mut items = match stored_below {
            Some(below) if from < below => self.stored_history(entity, from, below, limit, keep)?,
            _ => Vec::new(),
        };
        items.append(&mut newer);
        items.truncate(limit);
        Ok(items)
    }

    fn stored_history(
        &self,
        entity: EntityId,
        from: Version,
        below: Version,
        limit: usize,
        keep: impl Fn(&Item) -> bool,
    ) -> Result<Vec<Item>, StoreError> {
        let rows = self.txn.open_table(tables::rows(Table::History)).map_err(read_error)?;
        let (low, at) = (key::history(entity, Version(0)), key::history(entity, from));
        let before = rows.range(low.as_slice()..=at.as_slice()).map_err(read_error)?.next_back().transpose();
        let start = before.map_err(read_error)?.map_or(at, |(key, _)| key.value().to_vec());
        let end = key::history(entity, below);
        let mut items = Vec::new();
        for row in rows.range(start.as_slice()..end.as_slice()).map_err(read_error)? {
            let (key, value) = row.map_err(read_error)?;
            let found = unpack(key.value(), &owned(value.value()))?;
            items.extend(found.into_iter().filter(|i| i.version >= from && i.version < below && keep(i)));
            if items.len() >= limit {
                break;
            }
        }
        Ok(items)
    }

    /// Rows with `from <= key < to` (`to: None`: to the end of the table), ascending, at most `limit`.
    pub(crate) fn range(
        &self,
        table: Table,
        from: Vec<u8>,
        to: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, StoreError> {
        let mut found = Vec::new();
        let mut from = from;
        while found.len() < limit && to.as_ref().is_none_or(|to| from < *to) {
            let overlay = self.overlay(table, &from, to.as_deref(), limit - found.len())?;
            let bound = overlay.bound.clone();
            self.merge(table, &from, to.as_deref(), overlay, limit, &mut found)?;
            let Some(bound) = bound else { break };
            from = bound;
            from.push(0);
        }
        Ok(found)
    }

    /// What the generations say of a range, read at least as far as `limit` rows that exist.
    fn overlay(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Overlay, StoreError> {
        let mut overlay = Overlay { rows: BTreeMap::new(), bound: None };
        let mut older_removed: Option<&SharedMem> = None;
        for mem_ref in self.mems() {
            let mem = read_mem(mem_ref);
            let mut alive = 0;
            for (key, value) in mem.rows(table).range::<[u8], _>((
                std::ops::Bound::Included(from),
                to.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded),
            )) {
                if overlay.bound.as_ref().is_some_and(|bound| key > bound) {
                    break;
                }
                if older_removed.is_some_and(|newer| removed(&read_mem(newer).purged, table, key)) {
                    continue;
                }
                if !overlay.rows.contains_key(key) {
                    let value = value.as_ref().map(|row| stored(table, key, row)).transpose()?;
                    overlay.rows.insert(key.clone(), value);
                }
                alive += usize::from(value.is_some());
                if alive >= limit {
                    overlay.bound = Some(key.clone());
                    break;
                }
            }
            older_removed = Some(mem_ref);
        }
        if let Some(bound) = &overlay.bound {
            let beyond = [bound.as_slice(), &[0]].concat();
            overlay.rows.split_off(&beyond);
        }
        Ok(overlay)
    }

    /// Adds to `found` the stored rows up to the overlay's bound, under the overlay.
    fn merge(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
        overlay: Overlay,
        limit: usize,
        found: &mut Vec<(Vec<u8>, Bytes)>,
    ) -> Result<(), StoreError> {
        let end = match &overlay.bound {
            Some(bound) => Some([bound.as_slice(), &[0]].concat()),
            None => to.map(<[u8]>::to_vec),
        };
        let rows = self.txn.open_table(tables::rows(table)).map_err(read_error)?;
        let mut stored = match &end {
            Some(end) => rows.range(from..end.as_slice()),
            None => rows.range(from..),
        }
        .map_err(read_error)?;
        let mut newer = overlay.rows.into_iter().peekable();
        let mut next = stored.next().transpose().map_err(read_error)?;
        while found.len() < limit {
            let Some((key, value)) = next.as_ref() else {
                let Some((key, value)) = newer.next() else { break };
                found.extend(value.map(|value| (key, value)));
                continue;
            };
            let key = key.value();
            if let Some((over, value)) = newer.next_if(|(over, _)| over.as_slice() <= key) {
                if over == key {
                    next = stored.next().transpose().map_err(read_error)?;
                }
                found.extend(value.map(|value| (over, value)));
                continue;
            }
            let in_memory = self.mems().any(|mem| removed(&read_mem(mem).purged, table, key));
            if !in_memory && !is_gone(&self.gone, table, key) {
                found.push((key.to_vec(), owned(value.value())));
            }
            next = stored.next().transpose().map_err(read_error)?;
        }
        Ok(())
    }

    /// Every row under `prefix`.
    pub(crate) fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Bytes)>, StoreError> {
        self.range(table, prefix.to_vec(), after_prefix(prefix), usize::MAX)
    }
}

/// A row of a generation, as it is stored.
fn stored(table: Table, key: &[u8], row: &Row) -> Result<Bytes, StoreError> {
    row.stored(key).map_err(|error| tables::corrupt(tables::name(table), key, error))
}

/// The entity was removed: what lies below does not count.
struct Purged;

/// Whether the entity of the row is one of those removed in a generation.
fn removed(purged: &HashSet<EntityId>, table: Table, key: &[u8]) -> bool {
    !purged.is_empty() && owner(table, key).is_some_and(|entity| purged.contains(&entity))
}

/// Whether the entity of the stored row was removed, and the row waits to be.
fn is_gone(gone: &BTreeSet<EntityId>, table: Table, key: &[u8]) -> bool {
    !gone.is_empty() && owner(table, key).is_some_and(|entity| gone.contains(&entity))
}

/// The entity under whose number the row lies.
fn owner(table: Table, key: &[u8]) -> Option<EntityId> {
    if !matches!(table, Table::Entity | Table::Work | Table::History) {
        return None;
    }
    key.first_chunk::<8>().map(|entity| EntityId(u64::from_be_bytes(*entity)))
}
