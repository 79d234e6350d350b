//! Volatile actors: the same addresses, mailboxes and supervision as agents, and nothing on disk.
//!
//! Commands are typed all the way: nothing is encoded. The mailbox outlives a crash of its actor; the state does
//! not, nor does the command that was handled.

mod actor;
mod address;
mod cell;
mod directory;

use std::time::Duration;

use crate::ids::{Name, Timestamp};

pub use self::{
    actor::VolatileMsg,
    address::VolatileAddress,
    cell::{VolatileCell, VolatileChild},
    directory::{VolatileSupervisorMsg, Volatiles},
};

/// An actor whose state lives only in memory: it begins as [`Default`], and again so after a crash.
///
/// # Examples
/// ```
/// use stanchion_actors::{agent::Never, volatile::{Volatile, VolatileCtx}};
///
/// #[derive(Default)]
/// struct Presence { online: u64 }
///
/// impl Volatile for Presence {
///     const KIND: &'static str = "presence";
///     type Command = i8;
///     type Reply = u64;
///     type Rejection = Never;
///     fn handle(&mut self, step: i8, _: &mut VolatileCtx<'_>) -> Result<u64, Never> {
///         self.online = self.online.saturating_add_signed(step.into());
///         Ok(self.online)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a volatile actor",
    note = "implement `stanchion::Volatile` for it: a KIND, the types Command, Reply and Rejection, and `handle`"
)]
pub trait Volatile: Default + Send + 'static {
    /// Name of the kind: 1..=64 visible ASCII characters without `/`; unique among volatile kinds.
    const KIND: &'static str;
    /// An actor that handled nothing for this long is ended, and its state with it; the next command finds a fresh
    /// one. `None`: it lives as long as the system.
    const IDLE_MAX: Option<Duration> = None;
    /// What it is asked.
    type Command: Send + 'static;
    /// What it answers.
    type Reply: Send + 'static;
    /// Why it refuses.
    type Rejection: std::error::Error + Send + 'static;

    /// Handles a command. A panic ends the actor: its caller is told `Unknown`, those waiting are handled by its
    /// successor, which begins with a fresh state.
    ///
    /// # Errors
    /// A rejection, which is the answer.
    fn handle(
        &mut self,
        command: Self::Command,
        ctx: &mut VolatileCtx<'_>,
    ) -> Result<Self::Reply, Self::Rejection>;
}

/// What a handler of a volatile actor may ask.
#[derive(Debug)]
pub struct VolatileCtx<'a> {
    name: &'a Name,
    clock: &'a dyn crate::clock::Clock,
}

impl VolatileCtx<'_> {
    /// The actor's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.name.key
    }

    /// Wall time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
