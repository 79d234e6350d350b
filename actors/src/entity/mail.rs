//! What lies in an entity's mailbox, and who is answered.

use std::{
    any::Any,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{
    cell::EntityCell,
    machine::{Completion, Placing},
    purge::Purge,
    session::Ticket,
    transact::Prepare,
};
use crate::{
    error::{CallFailure, Doubt, FailureKind, Unavailable},
    ids::{Cause, CommandId, EntityId, Name, Origin, Position},
    store::{InboxItem, Token},
};

/// Result of a call on the wire: the encoded reply.
pub type CallResult = Result<Bytes, CallFailure>;

/// A command from outside, in the bounded part of the mailbox.
#[derive(Debug)]
pub struct Call {
    /// Its id; kept open by the caller's ticket.
    pub id: CommandId,
    /// Below which number its origin is settled.
    pub settled_below: u64,
    /// Encoded command.
    pub payload: Bytes,
    /// Not run after this time.
    pub deadline: Option<Instant>,
    /// For policy Shed: larger is more important; default 0.
    pub priority: u8,
    /// Trace, correlation, causation.
    pub cause: Cause,
    /// Who is answered.
    pub reply: ReplyPort,
    /// Shared with a caller that waits.
    pub begun: Option<Arc<Begun>>,
    /// The ticket of a cast, which nobody else holds.
    pub ticket: Option<Ticket>,
}

/// Decides the race between the deadline of a call and its actor: whoever asks first wins.
#[derive(Debug, Default)]
pub struct Begun(AtomicBool);

impl Begun {
    /// True for the first who asks.
    #[must_use]
    pub fn is_first(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Looks at the state; answers when the version it saw is durable.
pub type ReadFn = Box<dyn FnOnce(&dyn Any) -> Box<dyn FnOnce() + Send> + Send>;

/// Anything in the mailbox.
pub enum Item {
    /// A command from outside.
    Call(Call),
    /// A typed read: returns what to run when the seen version is durable.
    Read(ReadFn, ReplyPort),
    /// Messages of another entity, in order: one that fails keeps the later ones from being handled.
    Messages(VecDeque<Message>),
    /// A command that was durably enqueued.
    Inbox(Position, InboxItem),
    /// A timer's time has come.
    Timer(String),
    /// An attempt of an effect, by its id and number, looks for a node that can run it.
    Placing(String, u32, Placing),
    /// Something the entity started has ended.
    Completion(Completion, Option<(EntityId, u64)>),
    /// What an activation had no room for, of messages it had begun to handle.
    Rest(Token, VecDeque<Message>),
    /// Takes up again what was in flight: after an activation, or after the runner of effects restarted.
    Recover,
    /// Messages of its own that another node has committed: they leave the store.
    Delivered(Vec<u64>),
    /// The outbox restarted: offer what is pending again.
    Reoffer,
    /// A prepared part of a transaction.
    Prepare(Prepare),
    /// Removes the entity.
    Purge(Purge),
    /// The actor crashed too often.
    CrashLooped(String),
    /// A decision was cut: go on.
    Continue,
}

/// A message of another entity.
#[derive(Debug)]
pub struct Message {
    /// Who sent it: an entity of this store, or what stands for one of another node.
    pub sender: Origin,
    /// The message's number at its sender.
    pub seq: u64,
    /// Encoded command.
    pub payload: Bytes,
    /// Trace, correlation, causation.
    pub cause: Cause,
    /// Told what became of it.
    pub reply: ReplyPort,
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Call(_) => "Call",
            Self::Read(..) => "Read",
            Self::Messages(_) => "Messages",
            Self::Inbox(..) => "Inbox",
            Self::Timer(_) => "Timer",
            Self::Placing(..) => "Placing",
            Self::Completion(..) => "Completion",
            Self::Rest(..) => "Rest",
            Self::Recover => "Recover",
            Self::Delivered(_) => "Delivered",
            Self::Reoffer => "Reoffer",
            Self::Prepare(_) => "Prepare",
            Self::Purge(_) => "Purge",
            Self::CrashLooped(_) => "CrashLooped",
            Self::Continue => "Continue",
        };
        f.write_str(name)
    }
}

/// Told the outcome of an item, once.
pub type Told = Box<dyn FnOnce(Result<Bytes, FailureKind>) + Send>;

/// Who is answered: exactly once, at the latest when dropped (then the outcome is unknown).
#[derive(Default)]
pub struct ReplyPort(Port);

#[derive(Default)]
enum Port {
    #[default]
    None,
    Call(oneshot::Sender<CallResult>, Name, CommandId),
    Told(Told),
    Requeue(Arc<EntityCell>, Box<Item>),
}

impl std::fmt::Debug for ReplyPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplyPort")
    }
}

impl ReplyPort {
    /// Nobody.
    #[must_use]
    pub fn none() -> Self {
        Self(Port::None)
    }

    /// A caller.
    #[must_use]
    pub fn call(sender: oneshot::Sender<CallResult>, entity: Name, id: CommandId) -> Self {
        Self(Port::Call(sender, entity, id))
    }

    /// A function.
    #[must_use]
    pub fn told(told: Told) -> Self {
        Self(Port::Told(told))
    }

    /// Nobody; but when the item was not applied, it goes back into the mailbox.
    #[must_use]
    pub fn requeue(cell: Arc<EntityCell>, item: Item) -> Self {
        Self(Port::Requeue(cell, Box::new(item)))
    }

    /// Answers.
    pub fn answer(mut self, result: Result<Bytes, FailureKind>) {
        deliver(std::mem::take(&mut self.0), result);
    }

    /// Whether a caller stopped waiting.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        matches!(&self.0, Port::Call(sender, ..) if sender.is_closed())
    }
}

fn deliver(port: Port, result: Result<Bytes, FailureKind>) {
    match port {
        Port::None => {}
        Port::Call(sender, entity, id) => {
            let result = result.map_err(|kind| CallFailure { entity, id: Some(id), kind });
            // A caller that stopped waiting has its answer in the dedup record.
            let _ = sender.send(result);
        }
        Port::Told(told) => told(result),
        Port::Requeue(cell, item) => {
            let again = matches!(
                result,
                Err(FailureKind::Unavailable(_) | FailureKind::Unknown(_) | FailureKind::Fatal(_))
            );
            match *item {
                _ if !again => {}
                Item::Inbox(position, command) => cell.push_inbox(position, command),
                item => cell.push_internal(item),
            }
        }
    }
}

impl Drop for ReplyPort {
    fn drop(&mut self) {
        deliver(std::mem::take(&mut self.0), Err(FailureKind::Unknown(Doubt::Lost)));
    }
}

/// A reply that waits until the version it shows is durable.
#[derive(Debug)]
pub(crate) struct Held {
    port: ReplyPort,
    result: Result<Bytes, FailureKind>,
}

impl Held {
    /// A reply for `port`.
    #[must_use]
    pub(super) fn new(port: ReplyPort, result: Result<Bytes, FailureKind>) -> Self {
        Self { port, result }
    }

    /// The version is durable.
    pub(super) fn release(self) {
        self.port.answer(self.result);
    }

    /// The version will not become durable.
    pub(super) fn fail(self, kind: FailureKind) {
        self.port.answer(Err(kind));
    }

    /// The entry was never handed to the store.
    pub(super) fn stop(self) {
        self.fail(FailureKind::Unavailable(Unavailable::Stopped));
    }
}
