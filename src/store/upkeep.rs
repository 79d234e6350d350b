//! What the fold thread does between folds, a slice at a time: removes the rows of purged entities, and builds the
//! index of a file of format 1.

use std::sync::{Arc, atomic::Ordering};

use redb::{Database, ReadableTable};
use stanchion_actors::{
    ids::{EntityId, Position},
    store::{Table, key, status_row},
};

use super::{
    shared::Shared,
    slices::{FoldStop, Room, Slices},
    tables::{DataMeta, GONE, after_prefix, decode_row, put_meta, rows},
    view::Snapshot,
};

/// Names looked at in one slice of the index.
const PAGE: usize = 256;
/// Tables whose rows lie under the entity's number.
const OWN: [Table; 3] = [Table::Entity, Table::History, Table::Work];

/// How far the index of an older file is built.
#[derive(Debug)]
enum Index {
    /// Entries of the older program, up to here, must be folded first: they do not say which status they replaced.
    After(Position),
    /// From this name on.
    From(Vec<u8>),
    /// It holds every entity.
    Whole,
}

/// What is left to do.
#[derive(Debug)]
pub(crate) struct Upkeep {
    index: Index,
}

impl Upkeep {
    /// Of a store whose log held entries up to `last` when it was opened.
    pub(crate) fn new(meta: &DataMeta, last: Position) -> Self {
        Self { index: if meta.indexed { Index::Whole } else { Index::After(last) } }
    }

    /// Whether something can be done now.
    pub(crate) fn is_due(&self, shared: &Shared, meta: &DataMeta) -> bool {
        let build = match &self.index {
            Index::After(last) => meta.folded >= *last,
            Index::From(_) => true,
            Index::Whole => false,
        };
        build || shared.view.change(|gens| !gens.gone.is_empty())
    }

    /// Does one slice of it.
    pub(crate) fn step(
        &mut self,
        shared: &Shared,
        data: &Arc<Database>,
        meta: &mut DataMeta,
    ) -> Result<(), FoldStop> {
        let gone = shared.view.change(|gens| gens.gone.iter().next().copied());
        match gone {
            Some(entity) => sweep(shared, data, entity),
            None => self.build(shared, data, meta),
        }
    }

    fn build(&mut self, shared: &Shared, data: &Arc<Database>, meta: &mut DataMeta) -> Result<(), FoldStop> {
        let from = match &self.index {
            Index::After(_) => Vec::new(),
            Index::From(from) => from.clone(),
            Index::Whole => return Ok(()),
        };
        let stored = Snapshot::of_file(data).map_err(FoldStop::Corrupt)?;
        let page = stored.range(Table::Name, from, None, PAGE).map_err(FoldStop::Corrupt)?;
        let last = page.last().filter(|_| page.len() == PAGE);
        // In force once it is committed.
        let next = DataMeta { indexed: last.is_none(), ..meta.clone() };
        let mut slices = Slices::between_folds(shared, data);
        slices.write(|txn, room| {
            let mut index = txn.open_table(rows(Table::Index))?;
            for (name_key, row) in &page {
                let entity: EntityId = decode_row(Table::Name, name_key, row).map_err(FoldStop::Corrupt)?;
                let Some(head) = stored.head(entity).map_err(FoldStop::Corrupt)? else { continue };
                let row = status_row(entity, &head).map_err(|e| redb::Error::Corrupted(e.to_string()))?;
                if let Some((key, value)) = row {
                    index.insert(key.as_slice(), value.as_slice())?;
                    room.took(key.len() + value.len() + 64);
                }
            }
            if next.indexed {
                put_meta(txn, &next)?;
            }
            Ok(())
        })?;
        slices.commit()?;
        shared.indexed.store(next.indexed, Ordering::Release);
        *meta = next;
        self.index = match last {
            Some((last, _)) => Index::From([last.as_slice(), &[0]].concat()),
            None => Index::Whole,
        };
        Ok(())
    }
}

/// Removes rows of a purged entity, as many as one slice holds; with the last one, the note that it is gone.
fn sweep(shared: &Shared, data: &Arc<Database>, entity: EntityId) -> Result<(), FoldStop> {
    let mut slices = Slices::between_folds(shared, data);
    let done = slices.write(|txn, room| {
        for table in OWN {
            let mut stored = txn.open_table(rows(table))?;
            if !remove_some(&mut stored, entity, room)? {
                return Ok(false);
            }
        }
        txn.open_table(GONE)?.remove(key::entity(entity).as_slice())?;
        Ok(true)
    })?;
    slices.commit()?;
    if done {
        shared.view.change(|gens| gens.forget_gone(entity));
    }
    Ok(())
}

/// Removes rows of the entity while there is room; answers whether none is left.
fn remove_some(
    stored: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    entity: EntityId,
    room: &mut Room,
) -> Result<bool, FoldStop> {
    let from = key::entity(entity);
    let to = after_prefix(&from);
    loop {
        let next = {
            let mut range = match &to {
                Some(to) => stored.range(from.as_slice()..to.as_slice())?,
                None => stored.range(from.as_slice()..)?,
            };
            range.next().transpose()?.map(|(key, value)| (key.value().to_vec(), value.value().len()))
        };
        let Some((key, bytes)) = next else { return Ok(true) };
        if room.is_full() {
            return Ok(false);
        }
        stored.remove(key.as_slice())?;
        room.took(key.len() + bytes + 64);
    }
}
