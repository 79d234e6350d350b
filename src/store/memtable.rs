//! One generation of the memtable: what is committed to the log and not folded yet.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use stanchion_actors::{
    fast_hash::FastMap,
    ids::{EntityId, Position, Version},
    store::{
        Chain, Checkpoint, CodecError, DedupRecord, Entry, Head, Puts, Table, answer_row, inbox_row, key,
        project,
    },
};

use super::{
    chunk::LogRecord,
    pack::Item,
    tables::{ROW_SCHEMA, after_prefix},
};

/// What a generation holds of one entity beside its rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patch {
    /// The last full state.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Head of the last entry, unless that is the checkpoint's.
    pub(crate) tail: Option<Head>,
    /// Entries kept, ascending.
    pub(crate) history: Vec<Item>,
}

impl Patch {
    /// Head of the last entry.
    pub(crate) fn head(&self) -> Option<&Head> {
        self.tail.as_ref().or(self.checkpoint.as_ref().map(|c| &c.head))
    }
}

/// A row as a generation holds it.
#[derive(Clone, Debug)]
pub(crate) enum Row {
    /// As it is stored.
    Stored(Bytes),
    /// An answer, encoded when somebody asks: most are replaced before that.
    Answer(DedupRecord),
}

impl Row {
    /// As it is stored at `key`.
    pub(crate) fn stored(&self, key: &[u8]) -> Result<Bytes, CodecError> {
        match self {
            Self::Stored(bytes) => Ok(bytes.clone()),
            Self::Answer(record) => answer_row(key, record).map(Bytes::from),
        }
    }
}

/// Rows of one table; `None`: deleted.
pub(crate) type RowMap = BTreeMap<Vec<u8>, Option<Row>>;

/// A generation.
#[derive(Debug, Default)]
pub(crate) struct Mem {
    pub(crate) entities: FastMap<EntityId, Patch>,
    /// By table.
    rows: [RowMap; 8],
    /// Entities removed here: nothing below counts.
    pub(crate) purged: HashSet<EntityId>,
    /// Rough size.
    pub(crate) bytes: usize,
    /// Last position projected; 0: none.
    pub(crate) last: Position,
    /// Above every entity number projected.
    pub(crate) next_entity: u64,
}

/// Rough size of the row of an answer, without the reply.
const ANSWER_BYTES: usize = 80;
/// Rough cost of a map entry.
const ROW_OVERHEAD_BYTES: usize = 64;

impl Mem {
    pub(crate) fn is_empty(&self) -> bool {
        self.last == Position(0)
    }

    /// Rows of `table`.
    pub(crate) fn rows(&self, table: Table) -> &RowMap {
        let [name, entity, history, due, work, definition, index, feed] = &self.rows;
        match table {
            Table::Name => name,
            Table::Entity => entity,
            Table::History => history,
            Table::Due => due,
            Table::Work => work,
            Table::Definition => definition,
            Table::Index => index,
            Table::Feed => feed,
        }
    }

    fn rows_mut(&mut self, table: Table) -> &mut RowMap {
        let [name, entity, history, due, work, definition, index, feed] = &mut self.rows;
        match table {
            Table::Name => name,
            Table::Entity => entity,
            Table::History => history,
            Table::Due => due,
            Table::Work => work,
            Table::Definition => definition,
            Table::Index => index,
            Table::Feed => feed,
        }
    }

    /// Takes in the positions up to `last`, of `entity`.
    pub(crate) fn advance(&mut self, last: Position, entity: Option<EntityId>) {
        self.last = self.last.max(last);
        if let Some(entity) = entity {
            self.next_entity = self.next_entity.max(entity.0.saturating_add(1));
        }
    }

    /// Takes in one entry, committed at `position`.
    fn entry(
        &mut self,
        entity: EntityId,
        position: Position,
        entry: &Entry,
        encoded: &Bytes,
    ) -> Result<(), CodecError> {
        project(entity, position, entry, encoded, self)
    }

    /// Takes in a chain whose last entry is at `last`.
    pub(crate) fn chain(&mut self, last: Position, chain: &Chain) -> Result<(), CodecError> {
        self.advance(last, Some(chain.entity()));
        let first = last.0.saturating_sub((chain.len() as u64).saturating_sub(1));
        let mut entries = (first..).zip(chain.entries());
        entries
            .try_for_each(|(at, (entry, encoded))| self.entry(chain.entity(), Position(at), entry, encoded))
    }

    /// Takes in a waiting command enqueued at `position`.
    pub(crate) fn inbox(
        &mut self,
        entity: EntityId,
        position: Position,
        named: bool,
        item: &stanchion_actors::store::InboxItem,
    ) -> Result<(), CodecError> {
        if named {
            let name = key::name(&item.to);
            let framed =
                stanchion_actors::store::frame(&name, ROW_SCHEMA, &stanchion_actors::store::encode(&entity)?);
            self.put(Table::Name, name, framed);
        }
        let (key, framed) = inbox_row(entity, position, item)?;
        self.put(Table::Work, key, framed);
        Ok(())
    }

    /// What is replayed while the index is not whole says which values are no longer, but not for certain which are.
    pub(crate) fn forget_index_puts(&mut self) {
        self.rows_mut(Table::Index).retain(|_, row| row.is_none());
    }

    /// Takes in a definition.
    pub(crate) fn definition(&mut self, hash: &[u8; 32], bytes: &[u8]) {
        let framed = stanchion_actors::store::frame(hash, ROW_SCHEMA, bytes);
        self.put(Table::Definition, hash.to_vec(), framed);
    }

    /// Removes an entity.
    fn purge(&mut self, entity: EntityId, name: &[u8], index: &[u8], due: &[Vec<u8>]) {
        self.entities.remove(&entity);
        let prefix = key::entity(entity);
        for table in [Table::Entity, Table::Work] {
            let rows = self.rows_mut(table);
            let mut from_here = rows.split_off(&prefix);
            if let Some(end) = after_prefix(&prefix) {
                rows.append(&mut from_here.split_off(&end));
            }
        }
        if !name.is_empty() {
            self.delete(Table::Name, name.to_vec());
        }
        if !index.is_empty() {
            self.delete(Table::Index, index.to_vec());
        }
        for key in due {
            self.delete(Table::Due, key.clone());
        }
        self.purged.insert(entity);
    }

    /// Takes in a record read back from the log, whose first position is `first`.
    pub(crate) fn replay(&mut self, first: Position, record: &LogRecord) -> Result<(), CodecError> {
        let last = Position(first.0 + record.positions().saturating_sub(1));
        match record {
            LogRecord::Chain(entity, entries) => {
                for (at, (entry, encoded)) in (first.0..).zip(entries) {
                    self.entry(*entity, Position(at), entry, encoded)?;
                }
                self.advance(last, Some(*entity));
            }
            LogRecord::Inbox { entity, named, item } => {
                self.inbox(*entity, first, *named, item)?;
                self.advance(last, Some(*entity));
            }
            LogRecord::Done { sender, seq } => {
                self.delete(Table::Work, key::message(*sender, *seq));
                self.advance(last, None);
            }
            LogRecord::Definition { hash, bytes } => {
                self.definition(hash, bytes);
                self.advance(last, None);
            }
            LogRecord::Purge { entity, name, index, due } => {
                self.purge(*entity, name, index, due);
                self.advance(last, Some(*entity));
            }
        }
        Ok(())
    }
}

impl Puts for Mem {
    fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.bytes += key.len() + value.len() + ROW_OVERHEAD_BYTES;
        self.rows_mut(table).insert(key, Some(Row::Stored(Bytes::from(value))));
    }

    fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.bytes += key.len() + ROW_OVERHEAD_BYTES;
        self.rows_mut(table).insert(key, None);
    }

    fn answer(&mut self, entity: EntityId, record: &DedupRecord) -> Result<(), CodecError> {
        let key = key::answer(entity, &record.id.origin, record.slot);
        self.bytes += key.len() + ANSWER_BYTES + record.reply.len() + ROW_OVERHEAD_BYTES;
        let row = Some(Row::Answer(record.clone()));
        let rows = self.rows_mut(Table::Entity);
        match rows.get_mut(&key) {
            Some(place) => *place = row,
            None => drop(rows.insert(key, row)),
        }
        Ok(())
    }

    fn checkpoint(&mut self, entity: EntityId, checkpoint: Checkpoint) {
        self.bytes += checkpoint.state.len();
        let patch = self.entities.entry(entity).or_default();
        patch.checkpoint = Some(checkpoint);
        patch.tail = None;
    }

    fn history(&mut self, entity: EntityId, entry: &Entry, encoded: &Bytes) {
        self.bytes += encoded.len() + ROW_OVERHEAD_BYTES;
        let patch = self.entities.entry(entity).or_default();
        if entry.change.state().is_none() {
            patch.tail = Some(entry.head.clone());
        }
        let version = entry.head.version;
        debug_assert!(patch.history.last().is_none_or(|item| item.version < version), "history ascends");
        patch.history.push(Item { version, at: entry.head.updated, encoded: encoded.clone() });
    }
}

/// The version of `head`, or 0.
pub(crate) fn version_of(head: Option<&Head>) -> Version {
    head.map_or(Version(0), |head| head.version)
}
