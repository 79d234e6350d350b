//! The entry: the only way anything durable changes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::discovery::Requirement;
use crate::ids::{Cause, CommandId, EntityId, Name, Origin, Position, Timestamp, Version};

/// Largest state of an agent, in bytes.
pub const STATE_MAX_BYTES: usize = 64 * 1024;
/// Largest private row, and largest snapshot of an event-sourced entity, in bytes.
pub const ROW_MAX_BYTES: usize = 1024 * 1024;
/// Most entries in one chain.
pub const CHAIN_MAX_ENTRIES: usize = 256;
/// Largest chain, in bytes, unless it is a single entry.
pub const CHAIN_MAX_BYTES: usize = 1024 * 1024;

/// How long the entries of a kind are kept for reading back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum History {
    /// No entry is kept once its state is stored.
    #[serde(rename = "n")]
    None,
    /// The last `n` entries; older ones are trimmed in passing, so a few more may remain.
    #[serde(rename = "l")]
    Last(u64),
    /// Entries younger than this many microseconds.
    #[serde(rename = "d")]
    ForMicros(u64),
    /// All entries, as long as the entity lives.
    #[serde(rename = "f")]
    Forever,
}

impl History {
    /// Entries younger than `duration`.
    #[must_use]
    pub const fn for_duration(duration: std::time::Duration) -> Self {
        Self::ForMicros(duration.as_micros() as u64)
    }
}

/// What is known of an entity without its state; complete in every entry, so projecting needs no read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Kind and key.
    #[serde(rename = "n")]
    pub name: Name,
    /// Schema version of the state.
    #[serde(rename = "s")]
    pub schema: u16,
    /// Version after the entry that carries this head.
    #[serde(rename = "v")]
    pub version: Version,
    /// Time of the first entry.
    #[serde(rename = "c")]
    pub created: Timestamp,
    /// Time of the entry that carries this head.
    #[serde(rename = "u")]
    pub updated: Timestamp,
    /// Status word by which entities of the kind are listed; empty when the kind has none.
    #[serde(rename = "st", default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Number of the next outgoing message, from 1.
    #[serde(rename = "o")]
    pub next_message: u64,
    /// Number of the next effect, from 1.
    #[serde(rename = "e")]
    pub next_effect: u64,
    /// crc32c of the state after this entry.
    #[serde(rename = "k")]
    pub state_crc: u32,
    /// How long entries are kept.
    #[serde(rename = "h")]
    pub history: History,
    /// Whether the entry has a place in the feed. Stored, so that a replay gives the same feed whatever the kind
    /// says today.
    #[serde(rename = "fd", default, skip_serializing_if = "is_false")]
    pub feed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The change an entry makes to the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The full new state (agents): stored as the checkpoint.
    #[serde(rename = "s")]
    State(Bytes),
    /// Events, folded in order, and at intervals the full state after them.
    #[serde(rename = "e")]
    Events {
        /// Encoded events, in order; may be empty when only rows, timers or messages changed.
        #[serde(rename = "e")]
        events: Vec<Bytes>,
        /// The full state after `events`: stored as the checkpoint, so that recovery reads a bounded tail.
        #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<Bytes>,
    },
}

impl Change {
    /// The full state, if the change carries one.
    #[must_use]
    pub fn state(&self) -> Option<&Bytes> {
        match self {
            Self::State(state) => Some(state),
            Self::Events { snapshot, .. } => snapshot.as_ref(),
        }
    }

    pub(super) fn state_mut(&mut self) -> Option<&mut Bytes> {
        match self {
            Self::State(state) => Some(state),
            Self::Events { snapshot, .. } => snapshot.as_mut(),
        }
    }
}

/// A put or delete in the entity's own key range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowOp {
    /// User key: 1..=255 bytes.
    #[serde(rename = "k")]
    pub key: Bytes,
    /// The new value, at most 1 MiB; `None` deletes.
    #[serde(rename = "v")]
    pub value: Option<Bytes>,
}

/// A message to another entity, in the sender's entry; pending until the receiver's entry consumes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutMessage {
    /// Number within the sender, from 1, gapless.
    #[serde(rename = "s")]
    pub seq: u64,
    /// The receiver.
    #[serde(rename = "t")]
    pub to: Name,
    /// The encoded command.
    #[serde(rename = "p")]
    pub payload: Bytes,
    /// When it was sent.
    #[serde(rename = "at")]
    pub at: Timestamp,
    /// Given up after this time and returned to the sender; `None`: never.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Trace, correlation, causation.
    #[serde(rename = "c", default, skip_serializing_if = "Cause::is_empty")]
    pub cause: Cause,
}

/// A command that waits durably for its entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxItem {
    /// Identity, for dedup.
    #[serde(rename = "i")]
    pub id: CommandId,
    /// Below which number its origin was settled when it was enqueued.
    #[serde(rename = "b", default)]
    pub settled_below: u64,
    /// The receiver.
    #[serde(rename = "t")]
    pub to: Name,
    /// The encoded command.
    #[serde(rename = "p")]
    pub payload: Bytes,
    /// When it was enqueued.
    #[serde(rename = "at")]
    pub at: Timestamp,
    /// Trace, correlation, causation.
    #[serde(rename = "c", default, skip_serializing_if = "Cause::is_empty")]
    pub cause: Cause,
}

/// Setting or clearing a durable timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerOp {
    /// Sets the timer. A timer of this id that is already set must be cleared first in the same entry.
    #[serde(rename = "s")]
    Set(Timer),
    /// Clears it: `due` names the row, so projecting needs no read.
    #[serde(rename = "c")]
    Clear {
        /// Its id.
        #[serde(rename = "i")]
        id: String,
        /// The time it was set to.
        #[serde(rename = "d")]
        due: Timestamp,
    },
}

/// A durable timer of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Id within the entity: 1..=255 bytes.
    #[serde(rename = "i")]
    pub id: String,
    /// Fires at or after this time, never before it.
    #[serde(rename = "d")]
    pub due: Timestamp,
    /// Given back when it fires.
    #[serde(rename = "p", default, skip_serializing_if = "Bytes::is_empty")]
    pub payload: Bytes,
}

/// Starting or ending an effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EffectOp {
    /// Recorded: it runs after the commit, and again after every restart until it ends.
    #[serde(rename = "s")]
    Start(Effect),
    /// Its result is part of this entry.
    #[serde(rename = "e")]
    End {
        /// Its id.
        #[serde(rename = "i")]
        id: String,
    },
}

/// An activity to run outside, at least once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Id within the entity, made when first recorded: at most 1029 bytes; with the entity's name it is the
    /// idempotency key.
    #[serde(rename = "i")]
    pub id: String,
    /// Registered name of the activity.
    #[serde(rename = "a")]
    pub activity: String,
    /// Attempt, from 1.
    #[serde(rename = "n")]
    pub attempt: u32,
    /// Encoded input.
    #[serde(rename = "p", default, skip_serializing_if = "Bytes::is_empty")]
    pub input: Bytes,
    /// Limit of one attempt in milliseconds; 0: none.
    #[serde(rename = "t", default)]
    pub timeout_ms: u64,
    /// What the node that runs it has to have beside the activity.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Requirement>,
    /// Trace, correlation, causation.
    #[serde(rename = "c", default, skip_serializing_if = "Cause::is_empty")]
    pub cause: Cause,
}

/// The answer kept for a command id, so that a retry gets it again instead of running twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupRecord {
    /// The command.
    #[serde(rename = "i")]
    pub id: CommandId,
    /// crc32c and length of its payload: the same id with another payload is an `IdConflict`.
    #[serde(rename = "f")]
    pub fingerprint: u64,
    /// The encoded reply.
    #[serde(rename = "r")]
    pub reply: Bytes,
    /// Its place among the answers of its origin: a later answer in the same place replaces it.
    #[serde(rename = "p")]
    pub slot: u32,
    /// Every command of the origin below is settled: asked again, it is `Expired`.
    #[serde(rename = "b")]
    pub settled_below: u64,
    /// When the command was handled.
    #[serde(rename = "u")]
    pub at: Timestamp,
}

/// What is kept of an origin beside its unsettled records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginRecord {
    /// Every command below is settled: asked again, it is `Expired`.
    #[serde(rename = "b")]
    pub settled_below: u64,
    /// Last command seen.
    #[serde(rename = "u")]
    pub last_use: Timestamp,
}

/// A change of what is remembered of command ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DedupOp {
    /// Remembers an answer.
    #[serde(rename = "r")]
    Remember(DedupRecord),
    /// Updates the origin's own row.
    #[serde(rename = "o")]
    Origin(Origin, OriginRecord),
    /// Forgets what is in this place, whose caller has settled it.
    #[serde(rename = "f")]
    Forget(Origin, u32),
    /// Forgets an origin whose time is over; its records are forgotten one by one beside.
    #[serde(rename = "x")]
    Drop(Origin),
}

/// Something pending that this entry consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consumed {
    /// An outgoing message of `sender`, handled here (by its receiver, or by the sender as a return).
    #[serde(rename = "m")]
    Message {
        /// Who sent it.
        #[serde(rename = "e")]
        sender: EntityId,
        /// Its number.
        #[serde(rename = "s")]
        seq: u64,
    },
    /// A command of this entity's own inbox.
    #[serde(rename = "i")]
    Inbox {
        /// Where it was enqueued.
        #[serde(rename = "p")]
        position: Position,
    },
}

/// An input that no handling could consume: kept for people to look at, out of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// `inbox`, `timer`, `completion` or `message`.
    #[serde(rename = "w")]
    pub what: String,
    /// When it was parked.
    #[serde(rename = "at")]
    pub at: Timestamp,
    /// Its payload.
    #[serde(rename = "p")]
    pub payload: Bytes,
    /// Why: the rejection or the panic.
    #[serde(rename = "y")]
    pub why: String,
}

/// One accepted change of one entity: all of it becomes durable, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The head after this entry.
    #[serde(rename = "h")]
    pub head: Head,
    /// The change of the state.
    #[serde(rename = "d")]
    pub change: Change,
    /// Changes of private rows.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<RowOp>,
    /// Outgoing messages.
    #[serde(rename = "m", default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<OutMessage>,
    /// Timers set and cleared.
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<TimerOp>,
    /// Effects started and ended.
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<EffectOp>,
    /// What is remembered of command ids.
    #[serde(rename = "q", default, skip_serializing_if = "Vec::is_empty")]
    pub dedup: Vec<DedupOp>,
    /// What this entry consumes.
    #[serde(rename = "u", default, skip_serializing_if = "Vec::is_empty")]
    pub consumed: Vec<Consumed>,
    /// Inputs that could not be handled.
    #[serde(rename = "z", default, skip_serializing_if = "Vec::is_empty")]
    pub parked: Vec<Parked>,
    /// The status word before this entry, when the entry changed it: so projecting the index needs no read.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub status_before: Option<String>,
    /// Trace, correlation, causation.
    #[serde(rename = "c", default, skip_serializing_if = "Cause::is_empty")]
    pub cause: Cause,
}

/// The stored state of an entity: its head and state at one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The head at that version.
    #[serde(rename = "h")]
    pub head: Head,
    /// The encoded state.
    #[serde(rename = "s")]
    pub state: Bytes,
}
