//! From an entry to stored rows: the one pure function that commit, fold and recovery share.

use bytes::Bytes;

use super::{
    codec::{CodecError, encode_framed, frame},
    entry::{Checkpoint, Consumed, DedupOp, DedupRecord, EffectOp, Entry, Head, History, TimerOp},
    feed::feed_row,
};
use crate::ids::{EntityId, Position};

/// Tables of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// kind ‖ 00 ‖ key → entity.
    Name = 0,
    /// entity ‖ tag ‖ ... → checkpoint, private rows, dedup, timers.
    Entity = 1,
    /// entity ‖ version → entry.
    History = 2,
    /// due ‖ entity ‖ timer → nothing.
    Due = 3,
    /// entity ‖ tag ‖ number → what must wake: outgoing messages, inbox, effects.
    Work = 4,
    /// content hash → definition.
    Definition = 5,
    /// kind ‖ 00 ‖ attribute ‖ 00 ‖ value ‖ 00 ‖ key → entity.
    Index = 6,
    /// position → entity, version and kind of the entry committed there, for kinds with a feed.
    Feed = 7,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 8] = [
        Self::Name,
        Self::Entity,
        Self::History,
        Self::Due,
        Self::Work,
        Self::Definition,
        Self::Index,
        Self::Feed,
    ];
}

/// Receives the rows of an entry. Values come framed, except history, which is framed when packed.
pub trait Puts {
    /// Puts a row.
    fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>);
    /// Deletes a row.
    fn delete(&mut self, table: Table, key: Vec<u8>);
    /// Replaces the entity's checkpoint.
    fn checkpoint(&mut self, entity: EntityId, checkpoint: Checkpoint);
    /// Keeps the entry, encoded, in the entity's history.
    fn history(&mut self, entity: EntityId, entry: &Entry, encoded: &Bytes);
    /// Puts the answer of a command. Its row is [`answer_row`]; whoever expects another one in the same place soon
    /// may make it later.
    ///
    /// # Errors
    /// [`CodecError`] when it does not encode.
    fn answer(&mut self, entity: EntityId, record: &DedupRecord) -> Result<(), CodecError> {
        let key = key::answer(entity, &record.id.origin, record.slot);
        let framed = answer_row(&key, record)?;
        self.put(Table::Entity, key, framed);
        Ok(())
    }
}

/// The stored row of an answer at `key`.
///
/// # Errors
/// [`CodecError`] when it does not encode.
pub fn answer_row(key: &[u8], record: &DedupRecord) -> Result<Vec<u8>, CodecError> {
    encode_framed(key, ROW_SCHEMA, record)
}

/// Keys of rows.
pub mod key {
    use crate::ids::{EntityId, Name, Origin, Position, Timestamp, Version};

    /// Checkpoint.
    pub const CHECKPOINT: u8 = 0x00;
    /// Private rows.
    pub const ROW: u8 = 0x10;
    /// Origins known.
    pub const ORIGIN: u8 = 0x20;
    /// Answers remembered.
    pub const ANSWER: u8 = 0x21;
    /// Inputs that could not be handled.
    pub const PARKED: u8 = 0x60;
    /// Timers.
    pub const TIMER: u8 = 0x40;
    /// Outgoing messages (table `Work`).
    pub const MESSAGE: u8 = 0x30;
    /// Inbox (table `Work`).
    pub const INBOX: u8 = 0x31;
    /// Effects (table `Work`).
    pub const EFFECT: u8 = 0x50;

    fn tagged(entity: EntityId, tag: u8, rest: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(9 + rest.len());
        key.extend_from_slice(&entity.0.to_be_bytes());
        key.push(tag);
        key.extend_from_slice(rest);
        key
    }

    /// All rows of an entity start with this.
    #[must_use]
    pub fn entity(entity: EntityId) -> Vec<u8> {
        entity.0.to_be_bytes().to_vec()
    }
    /// kind ‖ 00 ‖ key.
    #[must_use]
    pub fn name(name: &Name) -> Vec<u8> {
        let mut key = Vec::with_capacity(name.kind.len() + 1 + name.key.len());
        key.extend_from_slice(name.kind.as_bytes());
        key.push(0);
        key.extend_from_slice(name.key.as_bytes());
        key
    }
    /// The checkpoint's key.
    #[must_use]
    pub fn checkpoint(entity: EntityId) -> Vec<u8> {
        tagged(entity, CHECKPOINT, &[])
    }
    /// A private row's key.
    #[must_use]
    pub fn row(entity: EntityId, user_key: &[u8]) -> Vec<u8> {
        tagged(entity, ROW, user_key)
    }
    /// An origin's key.
    #[must_use]
    pub fn origin(entity: EntityId, origin: &Origin) -> Vec<u8> {
        tagged(entity, ORIGIN, &origin.key_bytes())
    }
    /// An answer's key.
    #[must_use]
    pub fn answer(entity: EntityId, origin: &Origin, slot: u32) -> Vec<u8> {
        let mut key = Vec::with_capacity(9 + 17 + 4);
        key.extend_from_slice(&entity.0.to_be_bytes());
        key.push(ANSWER);
        origin.write_key(&mut key);
        key.extend_from_slice(&slot.to_be_bytes());
        key
    }
    /// A timer's key.
    #[must_use]
    pub fn timer(entity: EntityId, id: &str) -> Vec<u8> {
        tagged(entity, TIMER, id.as_bytes())
    }
    /// Key of the `n`th input parked by the entry of this version.
    #[must_use]
    pub fn parked(entity: EntityId, version: Version, n: u32) -> Vec<u8> {
        let mut rest = version.0.to_be_bytes().to_vec();
        rest.extend_from_slice(&n.to_be_bytes());
        tagged(entity, PARKED, &rest)
    }
    /// A due row's key; times before the epoch sort first.
    #[must_use]
    pub fn due(due: Timestamp, entity: EntityId, timer: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(16 + timer.len());
        key.extend_from_slice(&((due.0 as u64) ^ (1 << 63)).to_be_bytes());
        key.extend_from_slice(&entity.0.to_be_bytes());
        key.extend_from_slice(timer.as_bytes());
        key
    }
    /// An outgoing message's key (table `Work`).
    #[must_use]
    pub fn message(sender: EntityId, seq: u64) -> Vec<u8> {
        tagged(sender, MESSAGE, &seq.to_be_bytes())
    }
    /// An inbox command's key (table `Work`).
    #[must_use]
    pub fn inbox(entity: EntityId, position: Position) -> Vec<u8> {
        tagged(entity, INBOX, &position.0.to_be_bytes())
    }
    /// An effect's key (table `Work`).
    #[must_use]
    pub fn effect(entity: EntityId, id: &str) -> Vec<u8> {
        tagged(entity, EFFECT, id.as_bytes())
    }
    /// The attribute under which entities are indexed by status.
    pub const STATUS: &str = "status";

    /// Every entity of `kind` whose `attribute` has `value` starts with this; a 00 in the value is followed by FF,
    /// which no key begins with.
    #[must_use]
    pub fn indexed(kind: &str, attribute: &str, value: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(kind.len() + attribute.len() + value.len() + 3);
        for part in [kind, attribute] {
            key.extend_from_slice(part.as_bytes());
            key.push(0);
        }
        for byte in value.bytes() {
            key.push(byte);
            if byte == 0 {
                key.push(0xff);
            }
        }
        key.push(0);
        key
    }
    /// An index row's key: entities of one value follow each other by name.
    #[must_use]
    pub fn index(name: &Name, attribute: &str, value: &str) -> Vec<u8> {
        let mut key = indexed(&name.kind, attribute, value);
        key.extend_from_slice(name.key.as_bytes());
        key
    }
    /// A feed row's key.
    #[must_use]
    pub fn feed(position: Position) -> Vec<u8> {
        position.0.to_be_bytes().to_vec()
    }
    /// A history row's key.
    #[must_use]
    pub fn history(entity: EntityId, version: Version) -> Vec<u8> {
        let mut key = entity.0.to_be_bytes().to_vec();
        key.extend_from_slice(&version.0.to_be_bytes());
        key
    }
}

/// Schema of a framed row whose body is a named MessagePack value.
pub(crate) const ROW_SCHEMA: u16 = 1;

fn put_value<T: serde::Serialize>(
    puts: &mut impl Puts,
    table: Table,
    key: Vec<u8>,
    value: &T,
) -> Result<(), CodecError> {
    let framed = encode_framed(&key, ROW_SCHEMA, value)?;
    puts.put(table, key, framed);
    Ok(())
}

/// Projects one entry of `entity`, whose encoding is `encoded`, at `position`.
///
/// # Errors
/// [`CodecError::Encode`] when a part does not encode; an entry that was itself encoded never gives it.
pub fn project(
    entity: EntityId,
    position: Position,
    entry: &Entry,
    encoded: &Bytes,
    puts: &mut impl Puts,
) -> Result<(), CodecError> {
    if entry.head.feed {
        let (key, value) = feed_row(position, entity, &entry.head);
        puts.put(Table::Feed, key, value);
    }
    if entry.head.version.0 == 1 {
        put_value(puts, Table::Name, key::name(&entry.head.name), &entity)?;
    }
    let state = entry.change.state();
    if let Some(state) = state {
        puts.checkpoint(entity, Checkpoint { head: entry.head.clone(), state: state.clone() });
    }
    if state.is_none() || entry.head.history != History::None {
        puts.history(entity, entry, encoded);
    }
    for row in &entry.rows {
        let key = key::row(entity, &row.key);
        match &row.value {
            Some(value) => {
                let framed = frame(&key, ROW_SCHEMA, value);
                puts.put(Table::Entity, key, framed);
            }
            None => puts.delete(Table::Entity, key),
        }
    }
    for (n, parked) in (0..).zip(&entry.parked) {
        put_value(puts, Table::Entity, key::parked(entity, entry.head.version, n), parked)?;
    }
    project_index(entity, entry, puts)?;
    project_work(entity, entry, puts)?;
    project_dedup(entity, entry, puts)
}

/// The status an entity is found by. An entry that did not change it has nothing to say.
fn project_index(entity: EntityId, entry: &Entry, puts: &mut impl Puts) -> Result<(), CodecError> {
    let head = &entry.head;
    let before = match &entry.status_before {
        Some(before) => before.as_str(),
        None if head.version.0 == 1 => "",
        None => return Ok(()),
    };
    if !before.is_empty() {
        puts.delete(Table::Index, key::index(&head.name, key::STATUS, before));
    }
    if let Some((key, value)) = status_row(entity, head)? {
        puts.put(Table::Index, key, value);
    }
    Ok(())
}

/// Key and value of a row.
pub type KeyedRow = (Vec<u8>, Vec<u8>);

/// The index row of an entity by its status; `None` when it has no status.
///
/// # Errors
/// [`CodecError::Encode`] never, in fact: a number encodes.
pub fn status_row(entity: EntityId, head: &Head) -> Result<Option<KeyedRow>, CodecError> {
    if head.status.is_empty() {
        return Ok(None);
    }
    let key = key::index(&head.name, key::STATUS, &head.status);
    let value = encode_framed(&key, ROW_SCHEMA, &entity)?;
    Ok(Some((key, value)))
}

fn project_work(entity: EntityId, entry: &Entry, puts: &mut impl Puts) -> Result<(), CodecError> {
    for message in &entry.messages {
        put_value(puts, Table::Work, key::message(entity, message.seq), message)?;
    }
    for op in &entry.timers {
        match op {
            TimerOp::Set(timer) => {
                put_value(puts, Table::Entity, key::timer(entity, &timer.id), timer)?;
                puts.put(Table::Due, key::due(timer.due, entity, &timer.id), Vec::new());
            }
            TimerOp::Clear { id, due } => {
                puts.delete(Table::Entity, key::timer(entity, id));
                puts.delete(Table::Due, key::due(*due, entity, id));
            }
        }
    }
    for op in &entry.effects {
        match op {
            EffectOp::Start(effect) => put_value(puts, Table::Work, key::effect(entity, &effect.id), effect)?,
            EffectOp::End { id } => puts.delete(Table::Work, key::effect(entity, id)),
        }
    }
    for consumed in &entry.consumed {
        match *consumed {
            Consumed::Message { sender, seq } => puts.delete(Table::Work, key::message(sender, seq)),
            Consumed::Inbox { position } => puts.delete(Table::Work, key::inbox(entity, position)),
        }
    }
    Ok(())
}

fn project_dedup(entity: EntityId, entry: &Entry, puts: &mut impl Puts) -> Result<(), CodecError> {
    for op in &entry.dedup {
        match op {
            DedupOp::Remember(record) => {
                puts.answer(entity, record)?;
            }
            DedupOp::Forget(origin, slot) => {
                puts.delete(Table::Entity, key::answer(entity, origin, *slot));
            }
            DedupOp::Origin(origin, record) => {
                put_value(puts, Table::Entity, key::origin(entity, origin), &(origin, record))?;
            }
            DedupOp::Drop(origin) => puts.delete(Table::Entity, key::origin(entity, origin)),
        }
    }
    Ok(())
}

/// Row of an inbox command that was committed at `position`.
///
/// # Errors
/// [`CodecError::Encode`] when the item does not encode.
pub fn inbox_row(
    entity: EntityId,
    position: Position,
    item: &super::InboxItem,
) -> Result<KeyedRow, CodecError> {
    let key = key::inbox(entity, position);
    let framed = encode_framed(&key, ROW_SCHEMA, item)?;
    Ok((key, framed))
}
