//! The store port: one trait, one conformance suite, several implementations.
//!
//! Owns the shape of what is durable (entries, rows) and the projection from entries to rows.
//! Knows no file, no database, no actor.

mod codec;
mod entry;
mod feed;
pub mod memory;
mod project;
mod record;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use self::project::ROW_SCHEMA;
pub use self::{
    codec::{
        CodecError, DEPTH_MAX, FRAME_BYTES, FRAME_FORMAT, decode, encode, encode_exact, encode_framed,
        encode_sized, frame, seal, unframe, unframe_shared,
    },
    entry::{
        CHAIN_MAX_BYTES, CHAIN_MAX_ENTRIES, Change, Checkpoint, Consumed, DedupOp, DedupRecord, Effect,
        EffectOp, Entry, Head, History, InboxItem, OriginRecord, OutMessage, Parked, ROW_MAX_BYTES, RowOp,
        STATE_MAX_BYTES, Timer, TimerOp,
    },
    feed::{FeedFilter, FeedItem, FeedPage, parse_feed},
    project::{KeyedRow, Puts, Table, answer_row, inbox_row, key, project, status_row},
    record::{
        Activated, Chain, ChainError, Completer, Created, Due, Incarnation, Outcome, Record, Refused,
        RefusedWhy, StoreError, Token,
    },
};
use crate::ids::{EntityId, Name, Position, Timestamp, Version};

/// What an activation reads: everything of the entity but its private rows and old history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The last stored full state; `None` before the first snapshot.
    pub checkpoint: Option<Checkpoint>,
    /// Entries after the checkpoint, in order (event-sourced entities only).
    pub tail: Vec<Entry>,
    /// Answers remembered.
    pub answers: Vec<DedupRecord>,
    /// Origins known.
    pub origins: Vec<(crate::ids::Origin, OriginRecord)>,
    /// Outgoing messages not yet consumed, by number.
    pub messages: Vec<OutMessage>,
    /// Commands enqueued and not yet consumed, in order.
    pub inbox: Vec<(Position, InboxItem)>,
    /// Timers set.
    pub timers: Vec<Timer>,
    /// Effects started and not ended.
    pub effects: Vec<Effect>,
}

impl Loaded {
    /// The head at the last entry.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.tail.last().map(|e| &e.head).or(self.checkpoint.as_ref().map(|c| &c.head))
    }
}

/// Entries read back from history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryPage {
    /// Entries from the asked version on, at most the asked number, ascending.
    Entries(Vec<Entry>),
    /// The asked version is no longer kept; the first one kept is given.
    Truncated {
        /// First version kept.
        first: Version,
    },
}

/// Which entities to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Of this kind only.
    pub kind: Option<String>,
    /// With this status only.
    pub status: Option<String>,
    /// After this name (exclusive), in the order of (kind, key).
    pub after: Option<Name>,
}

/// One listed entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub entity: EntityId,
    /// Its head at the last entry.
    pub head: Head,
}

/// Counters of a store, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Commits, each one flush.
    pub commits: u64,
    /// Entries applied.
    pub entries: u64,
    /// Records answered `Applied`.
    pub applied: u64,
    /// Records answered `Fenced`.
    pub fenced: u64,
    /// Records answered `Conflict`.
    pub conflicts: u64,
    /// Records answered with an error.
    pub failed: u64,
    /// Records handed back because the queue was full.
    pub refused: u64,
    /// Folds finished.
    pub folds: u64,
    /// Encoded bytes committed.
    pub bytes: u64,
    /// Bytes in the log that are not folded yet.
    pub unfolded_bytes: u64,
}

impl StoreStats {
    /// Each count with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 10] {
        [
            ("commits", self.commits),
            ("entries", self.entries),
            ("applied", self.applied),
            ("fenced", self.fenced),
            ("conflicts", self.conflicts),
            ("failed", self.failed),
            ("refused", self.refused),
            ("folds", self.folds),
            ("bytes", self.bytes),
            ("unfolded_bytes", self.unfolded_bytes),
        ]
    }
}

/// What a store can do and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caps {
    /// `memory`, `redb`, ...
    pub name: &'static str,
    /// Whether data survives the process.
    pub durable: bool,
    /// Whether several processes may share it.
    pub shared: bool,
    /// Boot number of this opening.
    pub boot: u64,
}

impl Caps {
    /// What a store `name` can do under `boot`.
    #[must_use]
    pub const fn new(name: &'static str, durable: bool, shared: bool, boot: u64) -> Self {
        Self { name, durable, shared, boot }
    }
}

/// A place where entries become durable.
///
/// # Guarantees
/// A record answered `Applied` survives the end of the process at any moment (durable stores).
/// A record is applied whole or not at all; records of one entity apply in the order submitted.
/// After a failed flush nothing is ever answered `Applied` again under the same boot.
pub trait Store: Send + Sync + 'static {
    /// Hands a record over; never blocks. `done` is called exactly once unless the record is handed back.
    ///
    /// # Errors
    /// The record and its completer, when the queue is full or the store closed.
    fn submit(&self, record: Record, done: Completer) -> Result<(), Box<Refused>>;

    /// Gives a name its number, or finds it. Becomes durable with the entity's first entry or enqueued command; when
    /// its right is released before that, the number is gone, and the name gets another one the next time.
    fn create(&self, name: &Name) -> BoxFuture<'_, Result<Created, StoreError>>;

    /// Finds a name without creating it.
    fn resolve(&self, name: &Name) -> BoxFuture<'_, Result<Option<EntityId>, StoreError>>;

    /// Makes `by` the only writer: a barrier that answers after every earlier chain of the entity is settled.
    fn activate(&self, entity: EntityId, by: Incarnation) -> BoxFuture<'_, Result<Activated, StoreError>>;

    /// Gives the right back; a later chain under it is fenced.
    fn release(&self, token: Token) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Reads what an activation needs; `None` when the entity has no entry and nothing pending.
    fn load(&self, entity: EntityId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>>;

    /// Reads private rows with `from <= key < to` (`to` empty: no upper bound), ascending, at most `limit`.
    fn rows(
        &self,
        entity: EntityId,
        from: Bytes,
        to: Bytes,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, StoreError>>;

    /// Reads one private row.
    fn row(&self, entity: EntityId, key: Bytes) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        let mut after = key.to_vec();
        after.push(0);
        let found = self.rows(entity, key, Bytes::from(after), 1);
        Box::pin(async move { Ok(found.await?.pop().map(|(_, value)| value)) })
    }

    /// Reads entries from version `from` on.
    fn history(
        &self,
        entity: EntityId,
        from: Version,
        limit: usize,
    ) -> BoxFuture<'_, Result<HistoryPage, StoreError>>;

    /// Entries of kinds with a feed after `after`, in the order of their commits, at most `limit`.
    ///
    /// # Guarantees
    /// Who has read up to [`FeedPage::until`] has seen every entry that will ever be at or before it.
    fn feed(
        &self,
        after: Position,
        filter: FeedFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<FeedPage, StoreError>>;

    /// Lists entities by name, at most `limit`; with a status, only those that have it are read.
    fn list(&self, query: ListQuery, limit: usize) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>>;

    /// Timers due up to `until`, after the row `after`, in order of time, at most `limit`.
    fn due(
        &self,
        until: Timestamp,
        after: Option<Due>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Due>, StoreError>>;

    /// Entities after `after` that have something pending (messages, inbox, effects), ascending, at most `limit`.
    fn work(&self, after: Option<EntityId>, limit: usize)
    -> BoxFuture<'_, Result<Vec<EntityId>, StoreError>>;

    /// Reads a definition by its content hash.
    fn definition(&self, hash: [u8; 32]) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>>;

    /// Writes a consistent copy while running; refuses an existing target unless `force`.
    fn backup(&self, to: std::path::PathBuf, force: bool) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Counters.
    fn stats(&self) -> StoreStats;

    /// What it can do.
    fn caps(&self) -> Caps;

    /// Why nothing is applied any more, if so (a failed flush, a dead writer, closed).
    fn poisoned(&self) -> Option<String>;

    /// Stops: every record already handed over is settled, everything is folded, files are closed.
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The position after which the next entry is applied.
    fn position(&self) -> Position;
}
