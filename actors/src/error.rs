//! Errors by what the caller should do: four families, stable codes.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{CommandId, Name},
    store::StoreError,
};

/// What the caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Family {
    /// The request is at fault: do not retry it as it is.
    Rejected,
    /// Nothing was applied: retry, after a while.
    Unavailable,
    /// It may have been applied: retry under the same id, the record answers.
    Unknown,
    /// This node cannot go on.
    Fatal,
}

/// An error with a stable code; the list with cause and cure is docs/ERRORS.md.
pub trait Coded: fmt::Display {
    /// Stable code `area.kind`.
    fn code(&self) -> &'static str;
    /// What the caller should do.
    fn family(&self) -> Family;
    /// Whether the same request may succeed later.
    fn retryable(&self) -> bool {
        matches!(self.family(), Family::Unavailable | Family::Unknown)
    }
}

/// Why a command was refused before it ran: asking again gives the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The id is older than what is remembered; it is never executed.
    #[error("command id is older than what is remembered: use a new id")]
    Expired,
    /// The id was used with another payload.
    #[error("command id was used with another payload: use a new id")]
    IdConflict,
    /// The command, state, row or reply is over its limit.
    #[error("{what} has {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The handler panicked on this command three times.
    #[error("handler panicked on this command: {0}")]
    Poisoned(String),
    /// The payload does not decode as a command of this kind.
    #[error("payload is not a command of this kind: {0}")]
    Malformed(String),
    /// The new state is not valid.
    #[error("state would be invalid: {0}")]
    Invalid(String),
    /// No such kind is registered.
    #[error("kind {0:?} is not registered: add it to the system's builder")]
    UnknownKind(String),
    /// An actor called itself and waited.
    #[error("an entity cannot call itself and wait: use a message")]
    WouldDeadlock,
    /// The name is of another node, and this system has joined no cluster.
    #[error("the entity is on node {0:?} and this system has joined no cluster: start it as a node")]
    NoCluster(String),
    /// What was asked for does not go from node to node.
    #[error("{0} does not go to another node: ask its own, or send a command")]
    NotRemote(String),
}

/// Why a command could not be applied now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// The mailbox is full under policy Reject, or stayed full until the deadline.
    #[error("mailbox is full ({capacity} places): slow down, or raise its capacity")]
    Full {
        /// Places of the mailbox.
        capacity: usize,
    },
    /// The command was dropped or shed by the mailbox's policy.
    #[error("dropped by the mailbox policy")]
    Dropped,
    /// The system is stopping.
    #[error("system is draining")]
    Draining,
    /// The deadline passed before the command ran.
    #[error("deadline passed before the command ran")]
    DeadlinePassed,
    /// The store did not take or apply it.
    #[error("store is not available: {0}")]
    Store(String),
    /// The entity's actor ended before the command was handed to the store.
    #[error("entity stopped before the command was stored")]
    Stopped,
    /// The stored state cannot be read by this program.
    #[error("entity is quarantined: {0}")]
    Quarantined(String),
    /// The entity's actor crashed too often.
    #[error("entity crashed too often: {0}")]
    CrashLoop(String),
    /// Another owner was active, or had a newer version.
    #[error("entity moved to another owner")]
    Fenced,
    /// Too many undelivered messages of this entity.
    #[error("outbox is full ({0} undelivered messages)")]
    OutboxFull(u64),
    /// Its node is not within reach.
    #[error("node {0:?} is not within reach: nothing is lost, it answers when it is back on its file")]
    Unreachable(String),
    /// Its node has no room for more requests at the moment.
    #[error("node {0:?} takes no more requests at the moment: slow down")]
    Overloaded(String),
}

/// Why it is not known whether a command was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Doubt {
    /// The deadline passed while the command ran or committed.
    #[error("deadline passed while the command ran")]
    DeadlinePassed,
    /// The store cannot say.
    #[error("store cannot say: {0}")]
    Store(String),
    /// The side that knew is gone.
    #[error("the side that knew is gone")]
    Lost,
}

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FailureKind {
    /// Refused by the handler: its encoded rejection.
    Rejected(Bytes),
    /// Refused before it ran.
    Refused(Refusal),
    /// Not applied.
    Unavailable(Unavailable),
    /// May have been applied.
    Unknown(Doubt),
    /// This node cannot go on.
    Fatal(String),
}

impl From<&StoreError> for FailureKind {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::NotApplied(why) => Self::Unavailable(Unavailable::Store(why.clone())),
            StoreError::Unknown(why) => Self::Unknown(Doubt::Store(why.clone())),
            StoreError::Corrupt { .. } => Self::Unavailable(Unavailable::Quarantined(error.to_string())),
            StoreError::Fatal(why) => Self::Fatal(why.clone()),
        }
    }
}

/// A call without a reply: which entity, which command, why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFailure {
    /// The entity called.
    pub entity: Name,
    /// The command's id, if it got one.
    pub id: Option<CommandId>,
    /// Why.
    pub kind: FailureKind,
}

/// Why a typed call has no reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CallError<R> {
    /// The entity rejected the command; nothing changed. Do not retry it as it is.
    Rejected(R),
    /// The command was refused before it ran; nothing changed. Do not retry it as it is.
    Refused(Context<Refusal>),
    /// Nothing was applied. Retry after a while.
    Unavailable(Context<Unavailable>),
    /// It may have been applied. Retry under the same id ([`Context::id`]): the record answers.
    Unknown(Context<Doubt>),
    /// This node cannot go on.
    Fatal(Context<String>),
}

/// Where an error happened: the entity, the command, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context<K> {
    /// The entity called.
    pub entity: Name,
    /// The command's id, if it got one.
    pub id: Option<CommandId>,
    /// Why.
    pub kind: K,
}

impl<K: fmt::Display> fmt::Display for Context<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "{} at {} (command {id})", self.kind, self.entity),
            None => write!(f, "{} at {}", self.kind, self.entity),
        }
    }
}

impl<R: fmt::Display> fmt::Display for CallError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Refused(context) => context.fmt(f),
            Self::Unavailable(context) => context.fmt(f),
            Self::Unknown(context) => context.fmt(f),
            Self::Fatal(context) => context.fmt(f),
        }
    }
}

impl<R: fmt::Display + fmt::Debug> std::error::Error for CallError<R> {}

impl CallFailure {
    /// The typed form; an undecodable rejection is `Malformed`.
    #[must_use]
    pub fn typed<R: serde::de::DeserializeOwned>(self) -> CallError<R> {
        let Self { entity, id, kind } = self;
        match kind {
            FailureKind::Rejected(bytes) => match crate::store::decode(&bytes) {
                Ok(rejection) => CallError::Rejected(rejection),
                Err(e) => CallError::Refused(Context { entity, id, kind: Refusal::Malformed(e.to_string()) }),
            },
            FailureKind::Refused(kind) => CallError::Refused(Context { entity, id, kind }),
            FailureKind::Unavailable(kind) => CallError::Unavailable(Context { entity, id, kind }),
            FailureKind::Unknown(kind) => CallError::Unknown(Context { entity, id, kind }),
            FailureKind::Fatal(kind) => CallError::Fatal(Context { entity, id, kind }),
        }
    }
}

impl Coded for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Expired => "call.expired",
            Self::IdConflict => "call.id_conflict",
            Self::TooLarge { .. } => "call.too_large",
            Self::Poisoned(_) => "call.poisoned",
            Self::Malformed(_) => "call.malformed",
            Self::Invalid(_) => "call.invalid_state",
            Self::UnknownKind(_) => "call.unknown_kind",
            Self::WouldDeadlock => "call.would_deadlock",
            Self::NoCluster(_) => "call.no_cluster",
            Self::NotRemote(_) => "call.not_remote",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for Unavailable {
    fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "call.mailbox_full",
            Self::Dropped => "call.dropped",
            Self::Draining => "call.draining",
            Self::DeadlinePassed => "call.deadline_before_run",
            Self::Store(_) => "call.store_unavailable",
            Self::Stopped => "call.stopped",
            Self::Quarantined(_) => "call.quarantined",
            Self::CrashLoop(_) => "call.crash_loop",
            Self::Fenced => "call.fenced",
            Self::OutboxFull(_) => "call.outbox_full",
            Self::Unreachable(_) => "call.unreachable",
            Self::Overloaded(_) => "call.overloaded",
        }
    }
    fn family(&self) -> Family {
        Family::Unavailable
    }
}

impl Coded for Doubt {
    fn code(&self) -> &'static str {
        match self {
            Self::DeadlinePassed => "call.deadline",
            Self::Store(_) => "call.store_unknown",
            Self::Lost => "call.lost",
        }
    }
    fn family(&self) -> Family {
        Family::Unknown
    }
}

impl<R: fmt::Display> Coded for CallError<R> {
    fn code(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "call.rejected",
            Self::Refused(context) => context.kind.code(),
            Self::Unavailable(context) => context.kind.code(),
            Self::Unknown(context) => context.kind.code(),
            Self::Fatal(_) => "call.fatal",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Rejected(_) | Self::Refused(_) => Family::Rejected,
            Self::Unavailable(_) => Family::Unavailable,
            Self::Unknown(_) => Family::Unknown,
            Self::Fatal(_) => Family::Fatal,
        }
    }
}

impl Coded for StoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotApplied(_) => "store.not_applied",
            Self::Unknown(_) => "store.unknown",
            Self::Corrupt { .. } => "store.corrupt",
            Self::Fatal(_) => "store.fatal",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::NotApplied(_) => Family::Unavailable,
            Self::Unknown(_) => Family::Unknown,
            Self::Corrupt { .. } | Self::Fatal(_) => Family::Fatal,
        }
    }
}
