//! What is handed to a store, and what it answers.

use bytes::Bytes;

use super::{
    codec::{self, CodecError},
    entry::{CHAIN_MAX_BYTES, CHAIN_MAX_ENTRIES, Change, Entry, InboxItem},
};
use crate::ids::{EntityId, Position, Timestamp, Version};

/// What an entry takes encoded beside its state, events and rows: its head, and an answer remembered.
const ENTRY_GUESS_BYTES: usize = 320;

/// One life of a process: who activates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

/// The right to write an entity: raised by each activation, checked inside every commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The entity it is for.
    pub entity: EntityId,
    /// Boot number of the store (redb, memory) or epoch (PostgreSQL).
    pub boot: u64,
    /// Activation number within the boot.
    pub activation: u64,
}

/// Consecutive entries of one entity that commit together: 1..=256 entries, closed at 1 MiB.
#[derive(Clone, Debug)]
pub struct Chain {
    token: Token,
    expect: Version,
    entries: Vec<Entry>,
    encoded: Vec<Bytes>,
    bytes: usize,
}

/// Why entries do not form a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// More entries or bytes than a chain may have.
    #[error("chain is full: at most {CHAIN_MAX_ENTRIES} entries or {CHAIN_MAX_BYTES} bytes")]
    Full,
    /// The entry's version is not the next one.
    #[error("entry has version {found}, the chain's next is {expected}")]
    Gap {
        /// The next version of the chain.
        expected: Version,
        /// The entry's.
        found: Version,
    },
    /// The entry does not encode.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Chain {
    /// An empty chain on top of version `expect`, written under `token`.
    #[must_use]
    pub fn new(token: Token, expect: Version) -> Self {
        Self { token, expect, entries: Vec::new(), encoded: Vec::new(), bytes: 0 }
    }

    /// Appends an entry; it is encoded here, in the caller's task, not in the writer.
    ///
    /// # Errors
    /// [`ChainError`]; the chain is as before.
    pub fn push(&mut self, mut entry: Entry) -> Result<(), ChainError> {
        let expected = self.version().next();
        if entry.head.version != expected {
            return Err(ChainError::Gap { expected, found: entry.head.version });
        }
        if self.is_full() {
            return Err(ChainError::Full);
        }
        let encoded = encode_entry(&mut entry)?;
        self.bytes += encoded.len();
        if self.entries.is_empty() {
            // Most chains stay at one entry, and a list makes room for four by itself.
            self.entries.reserve_exact(1);
            self.encoded.reserve_exact(1);
        }
        self.entries.push(entry);
        self.encoded.push(encoded);
        Ok(())
    }

    /// The right it is written under.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// The entity.
    #[must_use]
    pub fn entity(&self) -> EntityId {
        self.token.entity
    }

    /// Version before the first entry.
    #[must_use]
    pub fn expect(&self) -> Version {
        self.expect
    }

    /// Version after the last entry.
    #[must_use]
    pub fn version(&self) -> Version {
        Version(self.expect.0 + self.entries.len() as u64)
    }

    /// The entries, each with its encoding.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&Entry, &Bytes)> {
        self.entries.iter().zip(self.encoded.iter())
    }

    /// Whether it takes no further entry; the last one may carry it over the byte limit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= CHAIN_MAX_ENTRIES || self.bytes >= CHAIN_MAX_BYTES
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Encoded size.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Encodes an entry; its full state, if it carries one, becomes a part of the encoding, so that it is kept once.
fn encode_entry(entry: &mut Entry) -> Result<Bytes, CodecError> {
    let nothing = Bytes::new();
    let state = entry.change.state().unwrap_or(&nothing);
    let (encoded, place) = codec::encode_around(entry, guessed_bytes(entry), state)?;
    let encoded = Bytes::from(encoded);
    if let (Some(place), Some(state)) = (place, entry.change.state_mut()) {
        *state = encoded.slice(place);
    }
    Ok(encoded)
}

/// A little more than most entries of this shape take encoded.
fn guessed_bytes(entry: &Entry) -> usize {
    let change = match &entry.change {
        Change::State(state) => state.len(),
        Change::Events { events, snapshot } => {
            events.iter().map(Bytes::len).sum::<usize>() + snapshot.as_ref().map_or(0, Bytes::len)
        }
    };
    let rows = entry.rows.iter().map(|row| row.value.as_ref().map_or(0, Bytes::len)).sum::<usize>();
    ENTRY_GUESS_BYTES + change + rows
}

/// What is submitted: each is durable as a whole or not at all.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Record {
    /// Entries of one entity.
    Chain(Chain),
    /// Chains of different entities: all or none.
    Atomic(Vec<Chain>),
    /// A command that waits durably for its entity.
    Inbox {
        /// The entity, made known by [`super::Store::create`] before.
        entity: EntityId,
        /// The command.
        item: InboxItem,
    },
    /// An outgoing message that is settled without an entry of its receiver.
    Done {
        /// Who sent it.
        sender: EntityId,
        /// Its number.
        seq: u64,
    },
    /// A definition under its content hash; storing it twice is one.
    Definition {
        /// Content hash.
        hash: [u8; 32],
        /// Content, at most 16 MiB.
        bytes: Bytes,
    },
    /// Removes an entity with all that is its own, under `token`.
    Purge {
        /// The right to do so.
        token: Token,
    },
}

impl Record {
    /// Rough size in the queue, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Chain(chain) => chain.bytes(),
            Self::Atomic(chains) => chains.iter().map(Chain::bytes).sum(),
            Self::Inbox { item, .. } => item.payload.len() + 128,
            Self::Definition { bytes, .. } => bytes.len(),
            Self::Done { .. } | Self::Purge { .. } => 64,
        }
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Durable, at this position (of its last entry).
    Applied {
        /// Position of the record's last entry.
        position: Position,
    },
    /// Not applied: the entity was activated by somebody else since.
    Fenced {
        /// The activation number in force.
        activation: u64,
    },
    /// Not applied: the entity is at another version.
    Conflict {
        /// The version found.
        found: Version,
    },
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Not applied, and safe to ask again.
    #[error("not applied: {0}")]
    NotApplied(String),
    /// May have been applied: the flush failed, or the process that knows is gone.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Stored bytes are damaged.
    #[error("{table} row {key} is corrupt: {cause}")]
    Corrupt {
        /// Table name.
        table: &'static str,
        /// The row's key in hexadecimal.
        key: String,
        /// What does not hold.
        cause: String,
    },
    /// This store cannot go on in this process.
    #[error("store failed: {0}")]
    Fatal(String),
}

/// Called exactly once with the outcome of a record, on the store's own thread: it must not block.
pub type Completer = Box<dyn FnOnce(Result<Outcome, StoreError>) + Send>;

/// A record handed back because the queue has no place, or the store is closed.
pub struct Refused {
    /// The record.
    pub record: Record,
    /// Its completer, not called.
    pub done: Completer,
    /// Why.
    pub why: RefusedWhy,
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refused").field("why", &self.why).finish_non_exhaustive()
    }
}

/// Why a record was handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedWhy {
    /// The queue is full: try again after some completion.
    Full,
    /// The store is closed or poisoned: nothing is applied any more under this boot.
    Closed,
}

/// Answer to an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activated {
    /// Granted: every earlier chain is applied or will be fenced.
    Granted(Token),
    /// Another live process owns it.
    Held {
        /// Who.
        owner: Incarnation,
    },
    /// No such entity.
    Missing,
}

/// Answer to a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Created {
    /// The name has this number, whether or not it has an entry yet; activate it.
    New(EntityId),
    /// The entity existed.
    Exists(EntityId),
}

impl Created {
    /// The number.
    #[must_use]
    pub fn entity(self) -> EntityId {
        match self {
            Self::New(entity) | Self::Exists(entity) => entity,
        }
    }
}

/// A timer row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// Fires at or after this time.
    pub due: Timestamp,
    /// Whose.
    pub entity: EntityId,
    /// Which.
    pub timer: String,
}
