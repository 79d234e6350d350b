//! What people write: agents, event-sourced entities, activities; and the adapters that put them behind bytes.

mod activity;
mod address;
mod context;
mod machine;
mod sourced;
mod transaction;

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    activity::{Activity, dyn_activity},
    address::{Address, AddressError, Sourced, Speaks},
    context::{Ctx, RecordError},
    machine::{agent_kind, render},
    sourced::{Decision, EventSourced, event_sourced_kind},
    transaction::{Replies, ReplyOf, SerialOperations, SerialStop, Transact},
};
pub use crate::{entity::Completion, store::History};

/// What can be stored and sent: `Serialize + DeserializeOwned + Send + 'static`.
pub trait Data: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Data for T {}

/// The rejection of entities that reject nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for Never {}

/// A state that must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// The stored state is of a schema version that no upcaster takes further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no upcaster from schema version {from} to {to}")]
pub struct NoUpcast {
    /// Version stored.
    pub from: u16,
    /// Version of the program.
    pub to: u16,
}

/// A durable agent: its state is stored whole at every accepted command, before the reply.
///
/// The state starts as [`Default`]. A handler runs on a copy; when it answers `Ok` and the copy is valid, the copy
/// is the new state; else nothing has changed.
///
/// # Examples
/// ```
/// use serde::{Deserialize, Serialize};
/// use stanchion_actors::agent::{Agent, Ctx, Never};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Counter { total: u64 }
///
/// impl Agent for Counter {
///     const KIND: &'static str = "counter";
///     type Command = u64;
///     type Reply = u64;
///     type Rejection = Never;
///     fn handle(&mut self, add: u64, _: &mut Ctx<'_>) -> Result<u64, Never> {
///         self.total += add;
///         Ok(self.total)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an agent",
    note = "implement `stanchion::Agent` for it: a KIND, the types Command, Reply and Rejection, and `handle`"
)]
pub trait Agent: Clone + Default + Data {
    /// Name of the kind: 1..=64 visible ASCII characters without `/`; unique in a system; stored. `flag`,
    /// `name`, `policy`, `queue`, `run` and `task_agent` are taken.
    const KIND: &'static str;
    /// Schema version of the state; raise it when old bytes no longer decode, and add to [`Agent::upcast`].
    const VERSION: u16 = 1;
    /// How long old entries can be read back.
    const HISTORY: History = History::Last(1_000);
    /// Whether its transitions have places in the feed, to be read in the order of their commits by `System::feed`.
    const FEED: bool = false;

    /// What it is asked: one enum for the kind.
    type Command: Data;
    /// What it answers.
    type Reply: Data;
    /// Why it refuses.
    type Rejection: Data + std::error::Error;

    /// Handles a command on a copy of the state. Sync and pure: no I/O, no clock but `ctx.now()`, no randomness
    /// but `ctx.random()`. What it asks `ctx` for leaves with the new state, or not at all.
    ///
    /// # Errors
    /// A rejection: the state stays as it was, nothing is sent.
    fn handle(&mut self, command: Self::Command, ctx: &mut Ctx<'_>) -> Result<Self::Reply, Self::Rejection>;

    /// Handles the end of an effect it started, or a message that came back.
    fn completed(&mut self, _done: Completion, _ctx: &mut Ctx<'_>) {}

    /// Checks the state after each handling.
    ///
    /// # Errors
    /// What is wrong: the handling is undone and its caller told.
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }

    /// Turns stored MessagePack of schema version `from` into that of `from + 1`.
    ///
    /// # Errors
    /// [`NoUpcast`]: the entity is quarantined, its bytes untouched.
    fn upcast(from: u16, _stored: serde_json::Value) -> Result<serde_json::Value, NoUpcast> {
        Err(NoUpcast { from, to: Self::VERSION })
    }
}
