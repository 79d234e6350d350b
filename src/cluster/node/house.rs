//! What other nodes ask of this one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use sha2::{Digest, Sha256};
use stanchion_actors::{
    entity::{ActivityCtx, CallOptions, EffectsMsg, EntityAddress, Failure, Item, Message, ReplyPort},
    env::Env,
    error::{CallFailure, Doubt, FailureKind, Refusal, Unavailable},
    ids::{Name, Origin},
    remote::{RemoteAttempt, RemoteCommand, RemoteMessage},
    store::{decode, encode},
    task::CancelToken,
    workflow::Workflows,
};
use tokio::sync::{mpsc::Sender, oneshot};

use super::{
    board::Board,
    wire::{Ask, Attempt, Gossip, Known, Told},
};
use crate::{
    cluster::{Handler, Incoming, IncomingDurable, Nack, NackReason, NodeId},
    control::{Desk, Request, collected},
};

/// A call without a deadline of its own; the gateway gives each one.
const DEADLINE: Duration = Duration::from_secs(30);

/// Attempts that run here for others, by node and ticket.
type Running = Arc<Mutex<HashMap<(String, u64), CancelToken>>>;

/// Takes what other nodes send.
pub(super) struct House {
    pub(super) env: Arc<Env>,
    pub(super) workflows: Workflows,
    pub(super) board: Arc<Board>,
    /// Addresses that gossip brought.
    pub(super) found: Sender<String>,
    pub(super) running: Running,
}

impl Handler for House {
    fn on_call(&self, from: &NodeId, call: Incoming) -> BoxFuture<'static, Result<Bytes, Nack>> {
        let Ok(ask) = decode::<Ask>(&call.body) else {
            return refused("the body of the call is not understood");
        };
        let left = call.time_left.unwrap_or(DEADLINE);
        let env = Arc::clone(&self.env);
        let told: BoxFuture<'static, Told> = match ask {
            Ask::Call { to, command } => {
                async move { Told::Called(call_entity(&env, &to, command, left).await) }.boxed()
            }
            Ask::Enqueue { to, command } => {
                async move { Told::Called(enqueue(&env, &to, command).await) }.boxed()
            }
            Ask::Deliver { from: sender, to, messages } => {
                let node = from.name.to_string();
                async move { Told::Delivered(deliver(&env, &node, &sender, &to, messages).await) }.boxed()
            }
            Ask::Run(attempt) => self.run(from, attempt),
            Ask::Stop { ticket } => {
                self.stop(from, ticket);
                async { Told::Ran(None) }.boxed()
            }
            Ask::Desk(request) => {
                let desk = Desk::of_parts(env, self.workflows.clone());
                async move { Told::Called(ask_desk(&desk, &request).await) }.boxed()
            }
        };
        told.map(|told| {
            encode(&told).map(Bytes::from).map_err(|error| nack(NackReason::Unknown, &error.to_string()))
        })
        .boxed()
    }

    fn on_cast(&self, from: &NodeId, cast: Incoming) -> BoxFuture<'static, ()> {
        let env = Arc::clone(&self.env);
        match decode::<Ask>(&cast.body) {
            Ok(Ask::Call { to, command }) => async move {
                let RemoteCommand { payload, priority, cause, .. } = command;
                let options = CallOptions { priority, cause, ..CallOptions::default() };
                if let Ok(address) = EntityAddress::new(&env, &to.here()) {
                    // Nobody waits for it.
                    let _ = address.cast(payload, options).await;
                }
            }
            .boxed(),
            Ok(Ask::Stop { ticket }) => {
                self.stop(from, ticket);
                async {}.boxed()
            }
            Ok(_) | Err(_) => async {}.boxed(),
        }
    }

    fn on_durable(&self, _: &NodeId, _: IncomingDurable) -> BoxFuture<'static, Result<(), Nack>> {
        // Messages come as calls, a window at a time: their outbox keeps them until it is answered.
        async { Err(nack(NackReason::UnknownKind, "messages come as calls")) }.boxed()
    }

    fn on_gossip(&self, from: &NodeId, body: Bytes) {
        let Ok(Gossip { nodes, reports }) = decode::<Gossip>(&body) else {
            return tracing::warn!(%from, "gossip is not understood");
        };
        for known in &nodes {
            self.board.learn_address(known);
            // Dialling again changes nothing; what does not get through now comes with the next gossip.
            let _ = self.found.try_send(known.address.clone());
        }
        self.board.learn(reports, from.name.as_str(), self.env.now());
    }
}

impl House {
    fn running(&self) -> MutexGuard<'_, HashMap<(String, u64), CancelToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, from: &NodeId, attempt: Attempt) -> BoxFuture<'static, Told> {
        let Attempt { ticket, activity, input, timeout_ms, idempotency_key, number, cause } = attempt;
        let cancel = CancelToken::new();
        let key = (from.name.to_string(), ticket);
        self.running().insert(key.clone(), cancel.clone());
        let listed = Listed { running: Arc::clone(&self.running), key };
        let ctx = ActivityCtx::new(idempotency_key, number, cancel, cause);
        let attempt = RemoteAttempt { activity, input, timeout_ms, requires: Vec::new(), ctx };
        // One that drains begins nothing: another node takes it.
        let runner = self.env.services().effects.actor().filter(|_| !self.env.is_draining());
        async move {
            let Some(runner) = runner else {
                return Told::Ran(Some(Err(Failure::retryable(NOT_HERE, "this node runs no activities"))));
            };
            let asked = runner.call(|reply| EffectsMsg::Foreign { attempt, reply }, None).await;
            drop(listed);
            match asked {
                Ok(ractor::rpc::CallResult::Success(ended)) => Told::Ran(ended),
                // Its runner ended with it: another node may take it.
                _ => Told::Ran(Some(Err(Failure::retryable(NOT_HERE, "the runner of this node ended")))),
            }
        }
        .boxed()
    }

    fn stop(&self, from: &NodeId, ticket: u64) {
        if let Some(cancel) = self.running().get(&(from.name.to_string(), ticket)) {
            cancel.cancel();
        }
    }

    /// A node is lost: nobody waits for what runs here for it, and it may run it elsewhere.
    pub(super) fn stop_all_of(&self, node: &str) {
        self.running().iter().filter(|((of, _), _)| of == node).for_each(|(_, cancel)| cancel.cancel());
    }
}

/// Code of an attempt that a node could not run.
pub(super) const NOT_HERE: &str = "activity.not_here";

/// An attempt in the list; dropped, it is no longer there.
struct Listed {
    running: Running,
    key: (String, u64),
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

async fn call_entity(
    env: &Arc<Env>,
    to: &Name,
    command: RemoteCommand,
    left: Duration,
) -> Result<Bytes, FailureKind> {
    let address = EntityAddress::new(env, &to.here()).map_err(FailureKind::Refused)?;
    let RemoteCommand { id, settled_below, payload, priority, cause } = command;
    let options = CallOptions { deadline: left, priority, cause };
    address.call_under(id, settled_below, payload, options).await.map_err(kind_of)
}

async fn enqueue(env: &Arc<Env>, to: &Name, command: RemoteCommand) -> Result<Bytes, FailureKind> {
    let address = EntityAddress::new(env, &to.here()).map_err(FailureKind::Refused)?;
    let RemoteCommand { id, settled_below, payload, cause, .. } = command;
    let stored = address.enqueue_under(id, settled_below, payload, cause).await;
    stored.map(|()| Bytes::new()).map_err(kind_of)
}

fn kind_of(failure: CallFailure) -> FailureKind {
    failure.kind
}

/// Puts the messages into the receiver's mailbox in order; what became of each.
async fn deliver(
    env: &Arc<Env>,
    node: &str,
    sender: &Name,
    to: &Name,
    messages: Vec<RemoteMessage>,
) -> Vec<Result<Bytes, FailureKind>> {
    let cell = match env.directory().cell(&to.here()) {
        Ok(cell) => cell,
        Err(refusal) => return messages.iter().map(|_| Err(FailureKind::Refused(refusal.clone()))).collect(),
    };
    let limit = cell.kind().options.command_max_bytes;
    let sender = stands_for(node, sender);
    let mut answers = Vec::with_capacity(messages.len());
    let mut window = std::collections::VecDeque::with_capacity(messages.len());
    for RemoteMessage { seq, payload, cause } in messages {
        let (tell, told) = oneshot::channel();
        let reply = ReplyPort::told(Box::new(move |result| drop(tell.send(result))));
        answers.push(told);
        if payload.len() > limit {
            let bytes = payload.len();
            reply.answer(Err(FailureKind::Refused(Refusal::TooLarge {
                what: "message".into(),
                bytes,
                limit,
            })));
            // Those after it go again when its sender has it back.
            break;
        }
        window.push_back(Message { sender, seq, payload, cause, reply });
    }
    cell.push_internal(Item::Messages(window));
    let mut results = Vec::with_capacity(answers.len());
    for answer in answers {
        results.push(answer.await.unwrap_or(Err(FailureKind::Unknown(Doubt::Lost))));
    }
    results
}

/// The origin that stands for a sender of another node: made of its name, so it is the same for ever.
fn stands_for(node: &str, sender: &Name) -> Origin {
    let here = sender.here();
    let mut hash = Sha256::new();
    for part in [node, &here.kind, &here.key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
    Origin::Session(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// The lines of the answer and what ended them, encoded.
async fn ask_desk(desk: &Desk, request: &[u8]) -> Result<Bytes, FailureKind> {
    let malformed = |error: &dyn ToString| FailureKind::Refused(Refusal::Malformed(error.to_string()));
    let request = decode::<Request>(request).map_err(|error| malformed(&error))?;
    encode(&collected(desk, request).await).map(Bytes::from).map_err(|error| malformed(&error))
}

fn nack(reason: NackReason, what: &str) -> Nack {
    Nack::new(reason, what)
}

fn refused(what: &'static str) -> BoxFuture<'static, Result<Bytes, Nack>> {
    async move { Err(nack(NackReason::UnknownKind, what)) }.boxed()
}

/// What a gateway says of a call that has no answer, as an address tells it.
pub(super) fn kind_of_end(end: &crate::cluster::CallEnd, node: &str) -> FailureKind {
    use crate::cluster::CallEnd;
    let node = node.to_owned();
    match end {
        CallEnd::Rejected(nack) => FailureKind::Refused(Refusal::Malformed(nack.to_string())),
        CallEnd::TooLarge { bytes, limit } => FailureKind::Refused(Refusal::TooLarge {
            what: "message to another node".into(),
            bytes: *bytes,
            limit: *limit,
        }),
        CallEnd::Name => FailureKind::Refused(Refusal::Malformed(end.to_string())),
        CallEnd::Unavailable(nack) if nack.reason == NackReason::Expired => {
            FailureKind::Unavailable(Unavailable::DeadlinePassed)
        }
        CallEnd::Unavailable(_) | CallEnd::Overloaded { .. } => {
            FailureKind::Unavailable(Unavailable::Overloaded(node))
        }
        CallEnd::Unreachable | CallEnd::Stopping => FailureKind::Unavailable(Unavailable::Unreachable(node)),
        CallEnd::Expired => FailureKind::Unavailable(Unavailable::DeadlinePassed),
        CallEnd::Deadline => FailureKind::Unknown(Doubt::DeadlinePassed),
        CallEnd::Lost | CallEnd::Unknown(_) => FailureKind::Unknown(Doubt::Lost),
    }
}

/// The addresses that a node knows, itself first.
pub(super) fn nodes_known(board: &Board, own: Option<Known>) -> Vec<Known> {
    let mut nodes: Vec<Known> = own.into_iter().collect();
    let others =
        board.addresses().into_iter().filter(|known| nodes.first().is_none_or(|own| own.name != known.name));
    let others: Vec<Known> = others.collect();
    nodes.extend(others);
    nodes
}
