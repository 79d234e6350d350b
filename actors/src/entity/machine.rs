//! The object-safe form of everything durable: user types never reach the actor.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ctx::Recorder, policy::MailboxOptions};
use crate::{
    error::Refusal,
    resilience::{breaker::FailureClass, retry::RetryCause},
    store::{Change, History, Loaded, Timer},
};

/// What an entity is asked to handle.
#[derive(Debug)]
pub enum Input<'a> {
    /// An encoded command (from a call, a message, the inbox).
    Command(&'a [u8]),
    /// The end of an effect, or a message that came back.
    Completion(&'a Completion),
    /// An attempt of an effect looks for a node that can run it.
    Placing {
        /// The effect's id.
        effect: &'a str,
        /// The attempt.
        attempt: u32,
        /// How far it is.
        placing: Placing,
    },
    /// A timer fired.
    Timer(&'a Timer),
    /// First after an activation that found something stored, and when the runner of effects restarted.
    Recovered {
        /// Whether this process has not activated the entity before.
        first: bool,
    },
    /// The actor crashed too often; parks what supports parking.
    CrashLooped(&'a str),
    /// The last decision asked to go on: it was cut, to keep its entry small.
    Continue,
}

/// Where an attempt stands that no node could run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// It waits for a node that can.
    Awaited,
    /// There is one; the attempt is over, and another one may start.
    Found,
}

/// The end of something the entity started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Completion {
    /// An activity succeeded: its encoded output.
    Succeeded {
        /// The effect's id.
        effect: String,
        /// The attempt that ended.
        attempt: u32,
        /// Encoded output.
        output: Bytes,
    },
    /// An attempt of an activity failed.
    Failed {
        /// The effect's id.
        effect: String,
        /// The attempt that ended.
        attempt: u32,
        /// Why.
        failure: Failure,
    },
    /// A message was refused by its receiver, or expired undelivered.
    Returned {
        /// The message's number.
        seq: u64,
        /// Receiver, as `kind/key`.
        to: String,
        /// The encoded command.
        payload: Bytes,
        /// Encoded rejection, or why it was not delivered.
        why: Returned,
    },
}

/// Why a message came back to its sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Returned {
    /// The receiver's handler rejected it: its encoded rejection.
    Rejected(Bytes),
    /// Refused before it ran.
    Refused(Refusal),
    /// Not delivered before it expired.
    Expired,
}

/// Why an attempt of an activity failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// Stable code, by which retry policies classify; by convention `area.kind`.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// Not before this long, if the other side said so.
    pub retry_after_ms: Option<u64>,
}

impl RetryCause for Failure {
    fn cause_code(&self) -> &str {
        &self.code
    }
    fn may_retry(&self) -> bool {
        self.retryable
    }
    fn class(&self) -> Option<FailureClass> {
        let timed_out = self.code == Self::TIMED_OUT;
        Some(if timed_out { FailureClass::Timeout } else { FailureClass::Application })
    }
    fn asked_wait(&self) -> Option<Duration> {
        self.retry_after_ms.map(Duration::from_millis)
    }
}

impl Failure {
    /// A failure that another attempt may mend.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: true, retry_after_ms: None }
    }

    /// A failure that no attempt mends.
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: false, retry_after_ms: None }
    }

    /// Code of an attempt that ran over its time.
    pub const TIMED_OUT: &'static str = "activity.timed_out";
    /// Code of an attempt that panicked.
    pub const PANICKED: &'static str = "activity.panicked";
    /// Code of an attempt that was cancelled.
    pub const CANCELLED: &'static str = "activity.cancelled";
    /// Code when no activity of the name is registered.
    pub const UNREGISTERED: &'static str = "activity.unregistered";
}

/// What a machine decided on an input.
#[derive(Debug)]
pub struct Decided {
    /// Change of the state; `None`: the state is as before.
    pub change: Option<Change>,
    /// Encoded reply.
    pub reply: Bytes,
    /// Whether the machine has more to decide at once, in an entry of its own ([`Input::Continue`]).
    pub more: bool,
}

impl Decided {
    /// Nothing changed, nothing to say.
    #[must_use]
    pub fn nothing() -> Self {
        Self { change: None, reply: Bytes::new(), more: false }
    }
}

/// Why a machine did not accept an input.
#[derive(Debug)]
pub enum NotAccepted {
    /// The handler's encoded rejection.
    Rejected(Bytes),
    /// Refused before or after the handler ran.
    Refused(Refusal),
}

/// Stored state this program cannot read; the entity alone is quarantined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Stored state to begin from.
#[derive(Debug, Default)]
pub struct Restored<'a> {
    /// Schema version and bytes of the last full state.
    pub state: Option<(u16, &'a [u8])>,
    /// Events after it, in order, each with the schema version it was written under.
    pub events: Vec<(u16, &'a [u8])>,
}

impl<'a> Restored<'a> {
    /// From what an activation reads.
    #[must_use]
    pub fn of(loaded: &'a Loaded) -> Self {
        let mut stored = Self::default();
        if let Some(checkpoint) = &loaded.checkpoint {
            stored.state = Some((checkpoint.head.schema, checkpoint.state.as_ref()));
        }
        for entry in &loaded.tail {
            if let Change::Events { events, .. } = &entry.change {
                stored.events.extend(events.iter().map(|event| (entry.head.schema, event.as_ref())));
            }
        }
        stored
    }
}

/// A durable state machine behind bytes. Sync and pure but for what it records.
///
/// `decide` stages; `accept` makes the staged state the current one; without `accept`, the next `decide`
/// starts from the current state again.
pub trait Machine: Send {
    /// Key of a private row that is read before [`Machine::restore`], if the machine has one.
    fn prelude(&self) -> Option<Bytes> {
        None
    }

    /// Gives back the prelude; answers the content hash of the definition to be read before restoring.
    ///
    /// # Errors
    /// [`Unreadable`] when it does not decode.
    fn restore_prelude(&mut self, _row: &[u8]) -> Result<Option<[u8; 32]>, Unreadable> {
        Ok(None)
    }

    /// Gives back the definition asked for by the prelude.
    ///
    /// # Errors
    /// [`Unreadable`] when it does not decode, or does not hold.
    fn restore_definition(&mut self, _bytes: &[u8]) -> Result<(), Unreadable> {
        Ok(())
    }

    /// Whether `decide` changes the current state instead of staging. Then an outcome that may not be recorded ends
    /// the activation, and the state is read anew.
    fn decides_in_place(&self) -> bool {
        false
    }

    /// Whether the state can be relied on after `decide` panicked or refused. A machine that decides on a copy is
    /// sound; one that is not ends its actor, which reads the state anew.
    fn is_sound(&self) -> bool {
        true
    }

    /// Sets the state from what is stored.
    ///
    /// # Errors
    /// [`Unreadable`] when bytes do not decode or were written by a newer program.
    fn restore(&mut self, stored: &Restored<'_>) -> Result<(), Unreadable>;

    /// Decides on an input against the current state and stages the outcome.
    ///
    /// # Errors
    /// [`NotAccepted`]: nothing is staged.
    fn decide(&mut self, input: &Input<'_>, recorder: &mut Recorder) -> Result<Decided, NotAccepted>;

    /// Makes the staged state current.
    fn accept(&mut self);

    /// The current state, encoded: for checkpoints of event-sourced entities and for reading.
    ///
    /// # Errors
    /// [`Refusal`] when it does not encode.
    fn snapshot(&self) -> Result<Bytes, Refusal>;

    /// The current state, for a typed read.
    fn state(&self) -> &dyn std::any::Any;

    /// Status word by which entities of the kind are listed; empty: none.
    fn status(&self) -> String {
        String::new()
    }

    /// Whether the entity may be removed as it is; never asked while activities or messages of it are on their way.
    ///
    /// # Errors
    /// What is in the way, to follow its name.
    fn may_be_removed(&self) -> Result<(), &'static str> {
        Ok(())
    }

    /// Keys of private rows the machine needs back after an activation.
    fn rows_needed(&self) -> Vec<Bytes> {
        Vec::new()
    }

    /// Range of keys of private rows (first, and first after it) the machine needs back after an activation.
    fn rows_range(&self) -> Option<(Bytes, Bytes)> {
        None
    }

    /// Gives back a row asked for by [`Machine::rows_needed`] or [`Machine::rows_range`].
    fn restore_row(&mut self, _key: &[u8], _value: &[u8]) {}

    /// Every row was given back.
    ///
    /// # Errors
    /// [`Unreadable`] when a row does not decode, or they do not go together.
    fn rows_restored(&mut self) -> Result<(), Unreadable> {
        Ok(())
    }
}

/// Renders a stored state as JSON, for people: `entity show`.
pub type Render = Arc<dyn Fn(u16, &[u8]) -> Result<serde_json::Value, Unreadable> + Send + Sync>;

/// Makes a machine in its default state for an entity of this name.
pub type MakeMachine = Arc<dyn Fn(&crate::ids::Name) -> Box<dyn Machine> + Send + Sync>;

/// How a kind stores its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Every entry carries the full state.
    State,
    /// Entries carry events; the full state at intervals.
    Events,
}

/// A registered kind of entity.
#[derive(Clone)]
pub struct Kind {
    /// Name of the kind.
    pub name: Arc<str>,
    /// Schema version its states are written under.
    pub schema: u16,
    /// How long entries are kept.
    pub history: History,
    /// Whether its entries have a place in the feed.
    pub feed: bool,
    /// How changes are stored.
    pub style: Style,
    /// Whether its entities are workflow runs: under the workflow supervisors, parked when they crash too often.
    pub is_run: bool,
    /// Limits and times.
    pub options: EntityOptions,
    /// Makes a machine in its default state.
    pub machine: MakeMachine,
    /// Renders a stored state for people.
    pub render: Render,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kind").field("name", &self.name).field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Limits and times of a kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntityOptions {
    /// Mailbox capacity and policy.
    pub mailbox: MailboxOptions,
    /// Stopped when idle this long; default 60 s.
    pub passivate_after: Duration,
    /// Full state stored after this many event entries; default 500.
    pub snapshot_every: u64,
    /// Largest state; default 64 KiB.
    pub state_max_bytes: usize,
    /// Largest encoded command; default 1 MiB.
    pub command_max_bytes: usize,
    /// Largest private row; default 1 MiB.
    pub row_max_bytes: usize,
    /// Undelivered messages an entity may have; default 10 000.
    pub outbox_max: u64,
    /// Origins are forgotten when unused this long; default 24 h.
    pub origin_ttl: Duration,
    /// A command whose handler panics this often is poison; default 3.
    pub poison_after: u32,
}

impl Default for EntityOptions {
    fn default() -> Self {
        Self {
            mailbox: MailboxOptions::default(),
            passivate_after: Duration::from_secs(60),
            snapshot_every: 500,
            state_max_bytes: crate::store::STATE_MAX_BYTES,
            command_max_bytes: crate::store::ROW_MAX_BYTES,
            row_max_bytes: crate::store::ROW_MAX_BYTES,
            outbox_max: 10_000,
            origin_ttl: Duration::from_secs(24 * 3600),
            poison_after: 3,
        }
    }
}
