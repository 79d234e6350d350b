//! The untyped address of an entity: calls over bytes, with ids, deadlines and durable enqueueing.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{
    cell::EntityCell,
    mail::{Begun, Call, CallResult, ReplyPort},
    session::Ticket,
    within,
};
use crate::{
    env::Env,
    error::{CallFailure, Doubt, FailureKind, Refusal, Unavailable},
    ids::{Cause, CommandId, Name},
    remote::{Remote, RemoteCommand},
    store::{InboxItem, Outcome, Record, StoreError},
};

/// How a call is made.
#[derive(Clone, Debug)]
pub struct CallOptions {
    /// The caller waits this long; default 30 s.
    pub deadline: Duration,
    /// For policy Shed: larger is more important; default 0.
    pub priority: u8,
    /// Trace, correlation, causation.
    pub cause: Cause,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(30), priority: 0, cause: Cause::default() }
    }
}

/// Where an entity is reached. Cheap to clone; it neither starts the entity nor keeps it active.
#[derive(Clone, Debug)]
pub struct EntityAddress {
    env: Arc<Env>,
    to: To,
}

/// Where it is.
#[derive(Clone)]
enum To {
    Here(Arc<EntityCell>),
    There(Name, Arc<dyn Remote>),
}

impl std::fmt::Debug for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Here(cell) => write!(f, "{}", cell.name()),
            Self::There(name, _) => write!(f, "{name}"),
        }
    }
}

impl EntityAddress {
    /// The address of `name`.
    ///
    /// # Errors
    /// [`Refusal::UnknownKind`] when its kind is not registered.
    pub fn new(env: &Arc<Env>, name: &Name) -> Result<Self, Refusal> {
        let to = match env.way_to(name)? {
            Some(remote) => To::There(name.clone(), remote),
            None => To::Here(env.directory().cell(&name.here())?),
        };
        Ok(Self { env: Arc::clone(env), to })
    }

    /// The entity's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        match &self.to {
            To::Here(cell) => cell.name(),
            To::There(name, _) => name,
        }
    }

    /// The entity's cell: its mailbox and counters; `None` for one of another node.
    #[must_use]
    pub fn cell(&self) -> Option<&Arc<EntityCell>> {
        match &self.to {
            To::Here(cell) => Some(cell),
            To::There(..) => None,
        }
    }

    /// Calls with an encoded command and waits for the encoded reply, which is sent after the commit.
    ///
    /// # Errors
    /// [`CallFailure`]; its kind says whether to retry.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the command may still be applied.
    pub async fn call(&self, payload: Bytes, options: CallOptions) -> CallResult {
        let ticket = self.env.session().begin();
        self.call_as(&ticket, payload, options).await
    }

    /// [`Self::call`] under a ticket the caller keeps: after `Unknown`, calling again under the same ticket gets
    /// the first answer, or runs the command if it never ran.
    ///
    /// # Errors
    /// As [`Self::call`].
    ///
    /// # Cancel safety
    /// As [`Self::call`].
    pub async fn call_as(&self, ticket: &Ticket, payload: Bytes, options: CallOptions) -> CallResult {
        self.call_under(ticket.id(), ticket.settled_below(), payload, options).await
    }

    /// [`Self::call`] under an id that the caller numbers itself (a client of another process).
    ///
    /// # Errors
    /// As [`Self::call`].
    ///
    /// # Cancel safety
    /// As [`Self::call`].
    pub async fn call_under(
        &self,
        id: CommandId,
        settled_below: u64,
        payload: Bytes,
        options: CallOptions,
    ) -> CallResult {
        let fail = |kind| Err(CallFailure { entity: self.name().clone(), id: Some(id), kind });
        let cell = match &self.to {
            To::Here(cell) => cell,
            To::There(name, remote) => {
                let CallOptions { priority, cause, deadline } = options;
                let command = RemoteCommand { id, settled_below, payload, priority, cause };
                return remote.call(name.clone(), command, deadline).await.or_else(fail);
            }
        };
        if within::is_within(cell) {
            return fail(FailureKind::Refused(Refusal::WouldDeadlock));
        }
        if let Err(refusal) = check_size(cell, &payload) {
            return fail(FailureKind::Refused(refusal));
        }
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + options.deadline;
        let reply = ReplyPort::call(answer, self.name().clone(), id);
        let CallOptions { priority, cause, .. } = options;
        let begun = Arc::new(Begun::default());
        let call = Call {
            id,
            settled_below,
            payload,
            deadline: Some(deadline),
            priority,
            cause,
            reply,
            begun: Some(Arc::clone(&begun)),
            ticket: None,
        };
        cell.push_call(call).await;
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_dropped)) => fail(FailureKind::Unknown(Doubt::Lost)),
            Err(_elapsed) if begun.is_first() => fail(FailureKind::Unavailable(Unavailable::DeadlinePassed)),
            Err(_elapsed) => fail(FailureKind::Unknown(Doubt::DeadlinePassed)),
        }
    }

    /// Puts a command into the mailbox and does not wait for it. It is lost when the process ends before it is
    /// applied: for commands that must not be lost, see [`Self::enqueue`].
    ///
    /// # Errors
    /// [`CallFailure`] when it did not get a place.
    ///
    /// # Cancel safety
    /// Dropped while it waits for a place, nothing was put.
    pub async fn cast(&self, payload: Bytes, options: CallOptions) -> Result<(), CallFailure> {
        let ticket = self.env.session().begin();
        let (id, settled_below) = (ticket.id(), ticket.settled_below());
        let fail = |kind| CallFailure { entity: self.name().clone(), id: Some(id), kind };
        let cell = match &self.to {
            To::Here(cell) => cell,
            To::There(name, remote) => {
                let CallOptions { priority, cause, .. } = options;
                let command = RemoteCommand { id, settled_below, payload, priority, cause };
                return remote.cast(name.clone(), command).await.map_err(fail);
            }
        };
        check_size(cell, &payload).map_err(|refusal| fail(FailureKind::Refused(refusal)))?;
        let refused = Arc::new(Mutex::new(None));
        let told = Arc::clone(&refused);
        let reply = ReplyPort::told(Box::new(move |result| {
            *told.lock().unwrap_or_else(PoisonError::into_inner) = result.err();
        }));
        let CallOptions { priority, cause, .. } = options;
        let ticket = Some(ticket);
        let call =
            Call { id, settled_below, payload, deadline: None, priority, cause, reply, begun: None, ticket };
        cell.push_call(call).await;
        // A refusal is told before the push returns; later outcomes nobody waits for.
        let refused = refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        match refused {
            Some(kind @ FailureKind::Unavailable(_)) => Err(fail(kind)),
            Some(_) | None => Ok(()),
        }
    }

    /// Stores a command for the entity and answers once it is durable: it will be handled, whatever happens to
    /// this process.
    ///
    /// # Errors
    /// [`CallFailure`]; with kind `Unknown` it may be stored.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the command may be stored.
    pub async fn enqueue(&self, payload: Bytes, cause: Cause) -> Result<(), CallFailure> {
        let ticket = self.env.session().begin();
        self.enqueue_as(&ticket, payload, cause).await
    }

    /// [`Self::enqueue`] under a ticket the caller keeps: enqueued twice, it is handled once.
    ///
    /// # Errors
    /// As [`Self::enqueue`].
    ///
    /// # Cancel safety
    /// As [`Self::enqueue`].
    pub async fn enqueue_as(&self, ticket: &Ticket, payload: Bytes, cause: Cause) -> Result<(), CallFailure> {
        self.enqueue_under(ticket.id(), ticket.settled_below(), payload, cause).await
    }

    /// [`Self::enqueue`] under an id made elsewhere: the same one is executed at most once.
    ///
    /// # Errors
    /// As [`Self::enqueue`].
    ///
    /// # Cancel safety
    /// As [`Self::enqueue`].
    pub async fn enqueue_under(
        &self,
        id: CommandId,
        settled_below: u64,
        payload: Bytes,
        cause: Cause,
    ) -> Result<(), CallFailure> {
        let fail = |kind| CallFailure { entity: self.name().clone(), id: Some(id), kind };
        let refused = |why| fail(FailureKind::Unavailable(why));
        let cell = match &self.to {
            To::Here(cell) => cell,
            To::There(name, remote) => {
                let command = RemoteCommand { id, settled_below, payload, priority: 0, cause };
                return remote.enqueue(name.clone(), command).await.map_err(fail);
            }
        };
        check_size(cell, &payload).map_err(|refusal| fail(FailureKind::Refused(refusal)))?;
        if self.env.is_draining() {
            return Err(refused(Unavailable::Draining));
        }
        let store = self.env.store().current();
        let created = store.create(self.name()).await.map_err(|error| fail(FailureKind::from(&error)))?;
        let item =
            InboxItem { id, settled_below, to: self.name().clone(), payload, at: self.env.now(), cause };
        let (tell, told) = oneshot::channel();
        let record = Record::Inbox { entity: created.entity(), item: item.clone() };
        let cell = Arc::clone(cell);
        let done = Box::new(move |outcome: Result<Outcome, StoreError>| {
            // Here and not by the caller: a caller that stopped waiting leaves nothing unhandled.
            if let Ok(Outcome::Applied { position }) = &outcome {
                cell.push_inbox(*position, item);
            }
            drop(tell.send(outcome));
        });
        if store.submit(record, done).is_err() {
            return Err(refused(Unavailable::Store("the store's queue is full or closed".into())));
        }
        match told.await {
            Ok(Ok(Outcome::Applied { .. })) => Ok(()),
            Ok(Ok(Outcome::Fenced { .. } | Outcome::Conflict { .. })) => Err(refused(Unavailable::Fenced)),
            Ok(Err(error)) => Err(fail(FailureKind::from(&error))),
            Err(_dropped) => Err(fail(FailureKind::Unknown(Doubt::Lost))),
        }
    }

    /// Looks at the machine's state and answers when the version seen is durable. Nothing can change in `look`.
    ///
    /// # Errors
    /// [`CallFailure`]; a read changes nothing, so it may always be repeated.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn read<R: std::marker::Send + 'static>(
        &self,
        look: impl FnOnce(&dyn std::any::Any) -> R + std::marker::Send + 'static,
        deadline: Duration,
    ) -> Result<R, CallFailure> {
        let fail = |kind| CallFailure { entity: self.name().clone(), id: None, kind };
        let cell = self.cell().ok_or_else(|| {
            fail(FailureKind::Refused(Refusal::NotRemote("a look at the state".to_owned())))
        })?;
        let (tell, told) = oneshot::channel();
        let (failed, failure) = oneshot::channel();
        let reply = ReplyPort::told(Box::new(move |result| {
            let _ = failed.send(result.err());
        }));
        let read = Box::new(move |state: &dyn std::any::Any| {
            let seen = look(state);
            Box::new(move || drop(tell.send(seen))) as Box<dyn FnOnce() + std::marker::Send>
        });
        cell.push_read(read, reply);
        match tokio::time::timeout(deadline, told).await {
            Ok(Ok(seen)) => Ok(seen),
            Ok(Err(_dropped)) => {
                let kind =
                    failure.await.ok().flatten().unwrap_or(FailureKind::Unavailable(Unavailable::Stopped));
                Err(fail(kind))
            }
            Err(_elapsed) => Err(fail(FailureKind::Unavailable(Unavailable::DeadlinePassed))),
        }
    }
}

fn check_size(cell: &EntityCell, payload: &Bytes) -> Result<(), Refusal> {
    let limit = cell.kind().options.command_max_bytes;
    if payload.len() > limit {
        return Err(Refusal::TooLarge { what: "command".into(), bytes: payload.len(), limit });
    }
    Ok(())
}
