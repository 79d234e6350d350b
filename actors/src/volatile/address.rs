//! The address of a volatile actor.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{
    Volatile,
    cell::{Caller, VolatileCell, Waiting, unavailable},
};
use crate::{
    agent::AddressError,
    entity::{Begun, MailboxStats},
    env::Env,
    error::{CallError, Context, Doubt, Unavailable},
    ids::Name,
};

/// Where a volatile actor is reached. Cheap to clone; the actor starts with its first command.
pub struct VolatileAddress<V: Volatile> {
    env: Arc<Env>,
    cell: Arc<VolatileCell<V>>,
    deadline: Duration,
    priority: u8,
}

impl<V: Volatile> Clone for VolatileAddress<V> {
    fn clone(&self) -> Self {
        let (env, cell) = (Arc::clone(&self.env), Arc::clone(&self.cell));
        Self { env, cell, deadline: self.deadline, priority: self.priority }
    }
}

impl<V: Volatile> std::fmt::Debug for VolatileAddress<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VolatileAddress({})", self.cell.name())
    }
}

impl<V: Volatile> VolatileAddress<V> {
    /// The address of the actor with this key.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn new(env: &Arc<Env>, key: &str) -> Result<Self, AddressError> {
        let cell = env.volatiles().cell::<V>(&Name::new(V::KIND, key)?)?;
        Ok(Self { env: Arc::clone(env), cell, deadline: Duration::from_secs(30), priority: 0 })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.cell.name()
    }

    /// Counters of its mailbox.
    #[must_use]
    pub fn stats(&self) -> &MailboxStats {
        self.cell.stats()
    }

    /// Number of the life in charge; `None` when none is.
    #[must_use]
    pub fn life(&self) -> Option<u64> {
        self.cell.owner().map(|(generation, _)| generation)
    }

    /// Ends the actor at once, as a crash would; it is started anew with a fresh state.
    pub fn kill(&self) {
        if let Some((_, actor)) = self.cell.owner() {
            actor.kill();
        }
    }

    /// The same actor, with another deadline of calls; default 30 s.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same actor, with another priority of commands (policy Shed); default 0.
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Calls and waits for the reply.
    ///
    /// # Errors
    /// - [`CallError::Rejected`]: the actor refuses.
    /// - [`CallError::Unavailable`]: it was not run; retry after a while.
    /// - [`CallError::Unknown`]: it may have been run.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the command may still be run.
    pub async fn call(&self, command: V::Command) -> Result<V::Reply, CallError<V::Rejection>> {
        let (answer, answered) = oneshot::channel();
        let (begun, deadline) = (Arc::new(Begun::default()), Instant::now() + self.deadline);
        let caller = Caller { answer, begun: Arc::clone(&begun), deadline };
        self.push(command, Some(caller)).await?;
        let unknown = |kind| CallError::Unknown(Context { entity: self.cell.name().clone(), id: None, kind });
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_dropped)) => Err(unknown(Doubt::Lost)),
            Err(_elapsed) if begun.is_first() => {
                Err(unavailable(self.cell.name(), Unavailable::DeadlinePassed))
            }
            Err(_elapsed) => Err(unknown(Doubt::DeadlinePassed)),
        }
    }

    /// Puts a command into the mailbox and does not wait for it.
    ///
    /// # Errors
    /// [`CallError::Unavailable`] when it got no place.
    ///
    /// # Cancel safety
    /// Dropped while it waits for a place, nothing was put.
    pub async fn cast(&self, command: V::Command) -> Result<(), CallError<V::Rejection>> {
        self.push(command, None).await
    }

    async fn push(
        &self,
        command: V::Command,
        caller: Option<Caller<V>>,
    ) -> Result<(), CallError<V::Rejection>> {
        if self.env.is_draining() {
            return Err(unavailable(self.cell.name(), Unavailable::Draining));
        }
        let waiting = Waiting { command, priority: self.priority, caller };
        self.cell.push(waiting).await.map_err(|why| unavailable(self.cell.name(), why))
    }
}
