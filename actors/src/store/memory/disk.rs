//! What survives a restart: rows as the projection gives them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    ids::{EntityId, Name, Position, Timestamp, Version},
    store::{
        Chain, Checkpoint, CodecError, Entry, Head, History, Puts, ROW_SCHEMA, Record, Table, decode, encode,
        frame, inbox_row, key, project, unframe,
    },
};

/// Rows of one table.
pub(super) type Rows = BTreeMap<Vec<u8>, Bytes>;

/// The rows, and the counters that go with them.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    /// Boot number of the opening in force.
    pub(super) boot: u64,
    /// Position of the last applied entry.
    pub(super) position: Position,
    /// Largest entity number that any applied record has named.
    pub(super) last_entity: EntityId,
    pub(super) tables: BTreeMap<Table, Rows>,
    pub(super) checkpoints: BTreeMap<EntityId, Checkpoint>,
    pub(super) heads: BTreeMap<EntityId, Head>,
    /// Encoded entries with the time of each.
    pub(super) history: BTreeMap<(EntityId, Version), (Timestamp, Bytes)>,
}

impl Disk {
    /// Rows of `table`.
    pub(super) fn table(&self, table: Table) -> &Rows {
        static EMPTY: Rows = BTreeMap::new();
        self.tables.get(&table).unwrap_or(&EMPTY)
    }

    /// Version of an entity: 0 before its first entry.
    pub(super) fn version(&self, entity: EntityId) -> Version {
        self.heads.get(&entity).map_or(Version(0), |head| head.version)
    }

    /// The number of a name that is durable.
    pub(super) fn named(&self, name: &Name) -> Option<EntityId> {
        let key = key::name(name);
        let (_, body) = unframe(&key, self.table(Table::Name).get(&key)?).ok()?;
        decode(body).ok()
    }

    /// Applies a record whose rights and versions hold; all of it, or nothing on an error.
    ///
    /// Each entry takes one position, and so does every record that is not made of entries.
    pub(super) fn apply(&mut self, record: &Record) -> Result<Position, CodecError> {
        let mut batch = Batch { position: self.position, writes: Vec::new() };
        match record {
            Record::Chain(chain) => batch.chain(chain)?,
            Record::Atomic(chains) => chains.iter().try_for_each(|chain| batch.chain(chain))?,
            Record::Inbox { entity, item } => {
                batch.position = batch.position.next();
                let (key, value) = inbox_row(*entity, batch.position, item)?;
                batch.put(Table::Work, key, value);
                let name = key::name(&item.to);
                let framed = frame(&name, ROW_SCHEMA, &encode(entity)?);
                batch.put(Table::Name, name, framed);
                batch.writes.push(Write::Known(*entity));
            }
            Record::Done { sender, seq } => {
                batch.position = batch.position.next();
                batch.delete(Table::Work, key::message(*sender, *seq));
            }
            Record::Definition { hash, bytes } => {
                batch.position = batch.position.next();
                let framed = frame(hash, ROW_SCHEMA, bytes);
                batch.put(Table::Definition, hash.to_vec(), framed);
            }
            Record::Purge { token } => {
                batch.position = batch.position.next();
                batch.writes.push(Write::Known(token.entity));
                batch.writes.push(Write::Purge(token.entity));
            }
        }
        self.position = batch.position;
        batch.writes.into_iter().for_each(|write| self.write(write));
        Ok(self.position)
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Put(table, key, value) => {
                self.tables.entry(table).or_default().insert(key, value.into());
            }
            Write::Delete(table, key) => {
                self.tables.entry(table).or_default().remove(&key);
            }
            Write::Checkpoint(entity, checkpoint) => {
                self.checkpoints.insert(entity, checkpoint);
            }
            Write::History(entity, version, at, encoded) => {
                self.history.insert((entity, version), (at, encoded));
            }
            Write::Head(entity, head) => {
                self.know(entity);
                self.heads.insert(entity, head);
                self.trim(entity);
            }
            Write::Known(entity) => self.know(entity),
            Write::Purge(entity) => self.purge(entity),
        }
    }

    fn know(&mut self, entity: EntityId) {
        self.last_entity = self.last_entity.max(entity);
    }

    /// Removes entries that the kind does not keep; never one that recovery would need.
    fn trim(&mut self, entity: EntityId) {
        let (Some(head), Some(checkpoint)) = (self.heads.get(&entity), self.checkpoints.get(&entity)) else {
            return;
        };
        let stored = checkpoint.head.version.next();
        let first_kept = match head.history {
            History::Forever => return,
            History::None => stored,
            History::Last(kept) => Version(head.version.next().0.saturating_sub(kept)),
            History::ForMicros(micros) => self.first_younger(entity, head.updated, micros),
        };
        let end = first_kept.min(stored);
        while let Some((&key, _)) = self.history.range((entity, Version(0))..(entity, end)).next() {
            self.history.remove(&key);
        }
    }

    fn first_younger(&self, entity: EntityId, now: Timestamp, micros: u64) -> Version {
        let oldest = now.0.saturating_sub(i64::try_from(micros).unwrap_or(i64::MAX));
        let all = (entity, Version(0))..=(entity, Version(u64::MAX));
        let younger = self.history.range(all).find(|(_, (at, _))| at.0 > oldest);
        younger.map_or(Version(u64::MAX), |(&(_, version), _)| version)
    }

    fn purge(&mut self, entity: EntityId) {
        let prefix = key::entity(entity);
        let due: Vec<Vec<u8>> = self
            .table(Table::Due)
            .keys()
            .filter(|key| key.get(8..16) == Some(prefix.as_slice()))
            .cloned()
            .collect();
        let is_name = |(key, value): (&Vec<u8>, &Bytes)| {
            let (_, body) = unframe(key, value).ok()?;
            (decode::<EntityId>(body).ok()? == entity).then(|| key.clone())
        };
        let names: Vec<Vec<u8>> = self.table(Table::Name).iter().filter_map(is_name).collect();
        let indexed: Vec<Vec<u8>> = self.table(Table::Index).iter().filter_map(is_name).collect();
        for (table, keys) in [(Table::Due, due), (Table::Name, names), (Table::Index, indexed)] {
            for key in keys {
                self.tables.entry(table).or_default().remove(&key);
            }
        }
        for table in [Table::Entity, Table::Work] {
            self.tables.entry(table).or_default().retain(|key, _| !key.starts_with(&prefix));
        }
        self.history.retain(|(owner, _), _| *owner != entity);
        self.checkpoints.remove(&entity);
        self.heads.remove(&entity);
    }
}

enum Write {
    Put(Table, Vec<u8>, Vec<u8>),
    Delete(Table, Vec<u8>),
    Checkpoint(EntityId, Checkpoint),
    History(EntityId, Version, Timestamp, Bytes),
    /// Comes last of an entry.
    Head(EntityId, Head),
    Known(EntityId),
    Purge(EntityId),
}

/// Collects the writes of one record, so that a failing part leaves nothing behind.
struct Batch {
    position: Position,
    writes: Vec<Write>,
}

impl Batch {
    fn chain(&mut self, chain: &Chain) -> Result<(), CodecError> {
        let entity = chain.entity();
        for (entry, encoded) in chain.entries() {
            self.position = self.position.next();
            project(entity, self.position, entry, encoded, self)?;
            self.writes.push(Write::Head(entity, entry.head.clone()));
        }
        Ok(())
    }
}

impl Puts for Batch {
    fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.writes.push(Write::Put(table, key, value));
    }

    fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.writes.push(Write::Delete(table, key));
    }

    fn checkpoint(&mut self, entity: EntityId, checkpoint: Checkpoint) {
        self.writes.push(Write::Checkpoint(entity, checkpoint));
    }

    fn history(&mut self, entity: EntityId, entry: &Entry, encoded: &Bytes) {
        let Head { version, updated, .. } = entry.head;
        self.writes.push(Write::History(entity, version, updated, encoded.clone()));
    }
}
