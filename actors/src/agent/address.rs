//! The typed address of an agent or an event-sourced entity.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Agent, Data, EventSourced};
use crate::{
    entity::{CallOptions, EntityAddress, Ticket},
    env::Env,
    error::{CallError, CallFailure, Context, FailureKind, Refusal},
    ids::{Cause, Name, NameError},
    store::{decode, encode_exact},
};

/// The types an address speaks. Implemented for every [`Agent`], and for [`Sourced`] over every [`EventSourced`].
pub trait Speaks: 'static {
    /// Name of the kind.
    const KIND: &'static str;
    /// Its state, for reads.
    type State: Send + 'static;
    /// What it is asked.
    type Command: Data;
    /// What it answers.
    type Reply: Data;
    /// Why it refuses.
    type Rejection: Data + std::error::Error;
}

impl<A: Agent> Speaks for A {
    const KIND: &'static str = A::KIND;
    type State = A;
    type Command = A::Command;
    type Reply = A::Reply;
    type Rejection = A::Rejection;
}

/// Stands for an event-sourced type in an [`Address`].
#[derive(Debug)]
pub struct Sourced<S>(PhantomData<fn() -> S>);

impl<S: EventSourced> Speaks for Sourced<S> {
    const KIND: &'static str = S::KIND;
    type State = S;
    type Command = S::Command;
    type Reply = S::Reply;
    type Rejection = S::Rejection;
}

/// Where an agent is reached. Cheap to clone; it neither starts the agent nor keeps it active.
pub struct Address<A> {
    inner: EntityAddress,
    options: CallOptions,
    speaks: PhantomData<fn() -> A>,
}

impl<A> Clone for Address<A> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), options: self.options.clone(), speaks: PhantomData }
    }
}

impl<A> fmt::Debug for Address<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.inner.name())
    }
}

/// Why there is no such address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The key has not the shape of a key.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The kind is not registered.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl<A: Speaks> Address<A> {
    /// The address of the agent with this key.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn new(env: &Arc<Env>, key: &str) -> Result<Self, AddressError> {
        let inner = EntityAddress::new(env, &Name::new(A::KIND, key)?)?;
        Ok(Self { inner, options: CallOptions::default(), speaks: PhantomData })
    }

    /// The address of the agent with this key on a node of the cluster; the same as [`Self::new`] for this one.
    ///
    /// # Errors
    /// [`AddressError`]; `NoCluster` when this system has joined none.
    pub fn on(env: &Arc<Env>, node: &str, key: &str) -> Result<Self, AddressError> {
        let inner = EntityAddress::new(env, &Name::new(A::KIND, key)?.on(node)?)?;
        Ok(Self { inner, options: CallOptions::default(), speaks: PhantomData })
    }

    /// The untyped address.
    #[must_use]
    pub fn untyped(&self) -> &EntityAddress {
        &self.inner
    }

    /// The same agent, with another deadline of calls; default 30 s.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.options.deadline = deadline;
        self
    }

    /// The same agent, with another priority of calls (policy Shed); default 0.
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.options.priority = priority;
        self
    }

    /// The same agent, with a trace, correlation and causation for calls.
    #[must_use]
    pub fn with_cause(mut self, cause: Cause) -> Self {
        self.options.cause = cause;
        self
    }

    /// Calls and waits for the reply, which is sent once the transition is durable.
    ///
    /// # Errors
    /// - [`CallError::Rejected`]: the agent refuses; do not retry it as it is.
    /// - [`CallError::Refused`]: it was not run; do not retry it as it is.
    /// - [`CallError::Unavailable`]: not applied; retry after a while.
    /// - [`CallError::Unknown`]: it may have been applied; see [`Self::call_as`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, the command may still be applied.
    pub async fn call(&self, command: A::Command) -> Result<A::Reply, CallError<A::Rejection>> {
        let payload = self.encode(&command)?;
        self.decode(self.inner.call(payload, self.options.clone()).await)
    }

    /// [`Self::call`] under a ticket of [`Env::session`]: after `Unknown`, the same command under the same ticket
    /// gets the first answer, or runs if it never ran.
    ///
    /// # Errors
    /// As [`Self::call`].
    ///
    /// # Cancel safety
    /// As [`Self::call`].
    pub async fn call_as(
        &self,
        ticket: &Ticket,
        command: A::Command,
    ) -> Result<A::Reply, CallError<A::Rejection>> {
        let payload = self.encode(&command)?;
        self.decode(self.inner.call_as(ticket, payload, self.options.clone()).await)
    }

    /// Puts a command into the mailbox and does not wait; lost when the process ends before it is applied.
    ///
    /// # Errors
    /// As [`Self::call`], when it got no place.
    ///
    /// # Cancel safety
    /// Dropped while it waits for a place, nothing was put.
    pub async fn cast(&self, command: A::Command) -> Result<(), CallError<A::Rejection>> {
        let payload = self.encode(&command)?;
        self.inner.cast(payload, self.options.clone()).await.map_err(CallFailure::typed)
    }

    /// Stores a command for the agent and answers once that is durable: it will be handled, whatever happens to
    /// this process. A rejection then goes to the agent's parked inputs.
    ///
    /// # Errors
    /// As [`Self::call`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, the command may be stored.
    pub async fn enqueue(&self, command: A::Command) -> Result<(), CallError<A::Rejection>> {
        let payload = self.encode(&command)?;
        self.inner.enqueue(payload, self.options.cause.clone()).await.map_err(CallFailure::typed)
    }

    /// Looks at the state; answers when the version seen is durable, so nothing shown can vanish.
    ///
    /// # Errors
    /// As [`Self::call`]; a read may always be repeated.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn read<R: Send + 'static>(
        &self,
        look: impl FnOnce(&A::State) -> R + Send + 'static,
    ) -> Result<R, CallError<A::Rejection>> {
        let kind = A::KIND;
        let seen = self
            .inner
            .read(move |state| state.downcast_ref::<A::State>().map(look), self.options.deadline)
            .await
            .map_err(CallFailure::typed)?;
        seen.ok_or_else(|| {
            let why = Refusal::Malformed(format!("kind {kind:?} is registered with another state type"));
            CallError::Refused(Context { entity: self.inner.name().clone(), id: None, kind: why })
        })
    }

    pub(super) fn encode(&self, command: &A::Command) -> Result<Bytes, CallError<A::Rejection>> {
        encode_exact(command).map_err(|e| {
            let why = Refusal::Malformed(e.to_string());
            CallError::Refused(Context { entity: self.inner.name().clone(), id: None, kind: why })
        })
    }

    fn decode(&self, result: Result<Bytes, CallFailure>) -> Result<A::Reply, CallError<A::Rejection>> {
        let bytes = result.map_err(CallFailure::typed)?;
        decode(&bytes).map_err(|e| {
            // The command was applied; its stored reply is of another type, so a retry answers the same.
            let kind = FailureKind::Refused(Refusal::Malformed(e.to_string()));
            CallFailure { entity: self.inner.name().clone(), id: None, kind }.typed()
        })
    }
}
