//! Delivers messages between entities: per sender and receiver in order, at least once, until consumed.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{
    cell::EntityCell,
    far,
    machine::{Completion, Returned},
    mail::{Item, Message, ReplyPort},
};
use crate::{
    env::Env,
    error::{FailureKind, Refusal},
    health::{Counter, Vital},
    ids::{EntityId, Name, Origin},
    remote::Remote,
    store::OutMessage,
    task::ActorGuard,
};

/// Messages of one lane that are on their way together.
const WINDOW: usize = 64;
/// Payload of a lane to another node that is on its way together, in bytes, unless it is of one message.
const FAR_WINDOW_BYTES: usize = 1 << 20;
/// First and longest wait before a lane that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Messages of the outbox.
#[derive(Debug)]
pub enum OutboxMsg {
    /// Messages of a sender that are durable, ascending.
    Offer {
        /// The sender.
        sender: Arc<EntityCell>,
        /// Its number.
        entity: EntityId,
        /// The messages.
        messages: Vec<OutMessage>,
        /// Whether these are all that are pending; else only the new ones.
        complete: bool,
    },
    /// What became of one.
    Settled {
        /// The sender.
        sender: EntityId,
        /// The receiver.
        to: Name,
        /// Its number.
        seq: u64,
        /// Consumed, or why not.
        result: Result<Bytes, FailureKind>,
    },
    /// A message that went back to its sender is consumed there.
    Returned {
        /// The sender.
        sender: EntityId,
        /// The receiver.
        to: Name,
        /// Its number.
        seq: u64,
    },
    /// The sender sleeps: what it sends when it wakes, it offers whole.
    Asleep {
        /// The sender.
        sender: EntityId,
    },
    /// Try a lane again.
    Retry {
        /// The sender.
        sender: EntityId,
        /// The receiver.
        to: Name,
    },
}

#[cfg(feature = "cluster")]
impl ractor::Message for OutboxMsg {}

/// One sender's messages to one receiver.
#[derive(Debug, Default)]
struct Lane {
    /// Not settled, ascending; the first `on_way` are in the receiver's mailbox.
    waiting: VecDeque<OutMessage>,
    on_way: usize,
    /// Answers still to come for those on their way.
    unanswered: usize,
    /// Numbers on their way that were not consumed: they go again, or back.
    again: HashSet<u64>,
    /// Numbers that may have been consumed, although nobody could say so: they never expire.
    doubtful: HashSet<u64>,
    /// One of those on their way was refused.
    refused: bool,
    failures: u32,
    retry_planned: bool,
}

struct Sender {
    cell: Arc<EntityCell>,
    /// Highest number taken into a lane.
    offered: u64,
    lanes: HashMap<Name, Lane>,
}

impl Sender {
    /// Whether the message is in its lane.
    fn has(&self, message: &OutMessage) -> bool {
        let lane = self.lanes.get(&message.to);
        lane.is_some_and(|lane| lane.waiting.binary_search_by_key(&message.seq, |known| known.seq).is_ok())
    }
}

/// Delivers messages.
#[derive(Debug)]
pub struct OutboxActor;

/// State of the outbox: a view of the store's pending messages.
pub struct OutboxState {
    env: Arc<Env>,
    senders: HashMap<EntityId, Sender>,
    /// Lanes that are tried again, because their last window did not arrive.
    failing: HashSet<(EntityId, Name)>,
    vital: Vital,
    delivered: Counter,
    refused: Counter,
    retried: Counter,
    _counted: ActorGuard,
}

impl Actor for OutboxActor {
    type Msg = OutboxMsg;
    type State = OutboxState;
    type Arguments = Arc<Env>;

    async fn pre_start(
        &self,
        myself: ActorRef<OutboxMsg>,
        env: Arc<Env>,
    ) -> Result<OutboxState, ActorProcessingErr> {
        // Registered before the senders are asked: what commits after this is offered to this actor, what
        // committed before is found in the store.
        env.services().outbox.register(myself);
        let counted = env.tasks().actor("outbox");
        for cell in env.directory().cells() {
            if cell.undelivered() > 0 {
                cell.push_internal(Item::Reoffer);
            }
        }
        let vital = env.vitals().begin("outbox");
        vital.up();
        Ok(OutboxState {
            env,
            senders: HashMap::new(),
            failing: HashSet::new(),
            delivered: vital.counter("delivered"),
            refused: vital.counter("refused"),
            retried: vital.counter("retried"),
            vital,
            _counted: counted,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<OutboxMsg>,
        message: OutboxMsg,
        state: &mut OutboxState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            OutboxMsg::Offer { sender, entity, messages, complete } => {
                if complete || state.senders.contains_key(&entity) {
                    state.offer(&myself, sender, entity, messages, complete);
                } else {
                    // Unknown here: there may be older ones. The sender offers all it has.
                    sender.push_internal(Item::Reoffer);
                }
            }
            OutboxMsg::Settled { sender, to, seq, result } => {
                state.settled(&myself, sender, &to, seq, result);
            }
            OutboxMsg::Returned { sender, to, seq } => {
                // With a window on its way, its end takes out what is settled.
                if let Some(lane) = state.lane(sender, &to).filter(|lane| lane.on_way == 0) {
                    lane.waiting.retain(|message| message.seq != seq);
                }
                state.pump(&myself, sender, &to);
            }
            OutboxMsg::Asleep { sender } => state.forget(sender),
            OutboxMsg::Retry { sender, to } => {
                if let Some(lane) = state.lane(sender, &to) {
                    lane.retry_planned = false;
                }
                state.pump(&myself, sender, &to);
            }
        }
        Ok(())
    }
}

impl OutboxState {
    fn lane(&mut self, sender: EntityId, to: &Name) -> Option<&mut Lane> {
        self.senders.get_mut(&sender)?.lanes.get_mut(to)
    }

    fn offer(
        &mut self,
        myself: &ActorRef<OutboxMsg>,
        cell: Arc<EntityCell>,
        entity: EntityId,
        messages: Vec<OutMessage>,
        complete: bool,
    ) {
        let sender =
            self.senders.entry(entity).or_insert_with(|| Sender { cell, offered: 0, lanes: HashMap::new() });
        let mut touched: HashSet<Name> = HashSet::new();
        if complete {
            // What is settled in the store, and was not heard of here, is over.
            for (to, lane) in sender.lanes.iter_mut().filter(|(_, lane)| lane.on_way == 0) {
                lane.waiting.retain(|message| sender.cell.returning(message.seq).is_some());
                touched.insert(to.clone());
            }
        }
        for message in messages {
            // An activation offers all that is pending; what is in a lane already is not taken twice.
            if message.seq <= sender.offered {
                // Consumed after the sender had read it from the store: nobody would settle it any more.
                if complete && !sender.has(&message) {
                    sender.cell.settled(message.seq);
                }
                continue;
            }
            sender.offered = message.seq;
            touched.insert(message.to.clone());
            sender.lanes.entry(message.to.clone()).or_default().waiting.push_back(message);
        }
        for to in touched {
            self.pump(myself, entity, &to);
        }
    }

    /// Sends the next window of a lane, when the one before is answered.
    fn pump(&mut self, myself: &ActorRef<OutboxMsg>, sender: EntityId, to: &Name) {
        let now = self.env.now();
        let receiver = receiver(&self.env, to);
        let Some(from) = self.senders.get_mut(&sender) else { return };
        let Some(lane) = from.lanes.get_mut(to) else { return };
        if lane.on_way > 0 || lane.retry_planned {
            return;
        }
        if lane.is_returning(&from.cell) {
            return;
        }
        if matches!(receiver, Err(Refusal::NoCluster(_))) && !lane.waiting.is_empty() {
            // Not joined yet. They may have been sent before this process began: only their receiver can say no.
            return self.retry(myself, sender, to);
        }
        for message in &lane.waiting {
            let why = match (&receiver, message.expires) {
                (Err(refusal), _) => Returned::Refused(refusal.clone()),
                (Ok(_), Some(expires)) if expires <= now && !lane.doubtful.contains(&message.seq) => {
                    Returned::Expired
                }
                (Ok(_), _) => break,
            };
            give_back(&from.cell, sender, message, why);
        }
        if lane.is_returning(&from.cell) {
            return;
        }
        let Ok(receiver) = receiver else { return self.tidy(sender, to) };
        let far = matches!(receiver, Receiver::There(_));
        let count = if far { far_window(&lane.waiting) } else { lane.waiting.len().min(WINDOW) };
        if count == 0 {
            return self.tidy(sender, to);
        }
        lane.on_way = count;
        lane.unanswered = count;
        let window = lane.waiting.iter().take(count);
        match receiver {
            Receiver::Here(cell) => {
                cell.push_internal(Item::Messages(window.map(|m| delivery(myself, sender, m)).collect()));
            }
            Receiver::There(remote) => {
                let from = from.cell.name().clone();
                far::deliver(&self.env, myself, remote, (sender, from), to.clone(), window);
            }
        }
    }

    fn settled(
        &mut self,
        myself: &ActorRef<OutboxMsg>,
        sender: EntityId,
        to: &Name,
        seq: u64,
        result: Result<Bytes, FailureKind>,
    ) {
        let Some(from) = self.senders.get_mut(&sender) else { return };
        let Some(lane) = from.lanes.get_mut(to) else { return };
        lane.unanswered = lane.unanswered.saturating_sub(1);
        match &result {
            Ok(_) => self.delivered.add(1),
            Err(FailureKind::Rejected(_) | FailureKind::Refused(_)) => self.refused.add(1),
            Err(_) => self.retried.add(1),
        }
        match result {
            Ok(_) => {
                lane.failures = 0;
                lane.doubtful.remove(&seq);
                from.cell.settled(seq);
            }
            Err(FailureKind::Rejected(why)) => lane.back(&from.cell, sender, seq, Returned::Rejected(why)),
            Err(FailureKind::Refused(why)) => lane.back(&from.cell, sender, seq, Returned::Refused(why)),
            Err(FailureKind::Unavailable(_)) => drop(lane.again.insert(seq)),
            Err(FailureKind::Unknown(_) | FailureKind::Fatal(_)) => {
                lane.again.insert(seq);
                lane.doubtful.insert(seq);
            }
        }
        if lane.unanswered > 0 {
            return;
        }
        let sent: Vec<OutMessage> = lane.waiting.drain(..lane.on_way.min(lane.waiting.len())).collect();
        lane.on_way = 0;
        let again = std::mem::take(&mut lane.again);
        if self.env.way_to(to).is_ok_and(|way| way.is_some()) {
            // Whoever consumed them has another store: the sender's own entry takes them out of its outbox.
            let consumed = sent.iter().map(|message| message.seq).filter(|seq| !again.contains(seq));
            let consumed: Vec<u64> = consumed.collect();
            if !consumed.is_empty() {
                from.cell.push_internal(Item::Delivered(consumed));
            }
        }
        for message in sent.iter().filter(|message| !again.contains(&message.seq)) {
            // Once more: the sender may have counted it anew meanwhile.
            from.cell.settled(message.seq);
        }
        let open = |message: &OutMessage| from.cell.returning(message.seq).is_some();
        for message in sent.into_iter().rev().filter(|message| again.contains(&message.seq) && open(message))
        {
            lane.waiting.push_front(message);
        }
        if std::mem::take(&mut lane.refused) {
            // Those after it go on when the sender has consumed it.
            lane.failures = 0;
            self.is_failing(sender, to, false);
            self.pump(myself, sender, to);
        } else if !again.is_empty() {
            self.retry(myself, sender, to);
        } else {
            self.is_failing(sender, to, false);
            self.pump(myself, sender, to);
        }
    }

    /// Tries a lane again after a while.
    fn retry(&mut self, myself: &ActorRef<OutboxMsg>, sender: EntityId, to: &Name) {
        let Some(lane) = self.lane(sender, to) else { return };
        lane.failures = lane.failures.saturating_add(1);
        lane.retry_planned = true;
        let wait = RETRY.0.saturating_mul(1 << lane.failures.min(7)).min(RETRY.1);
        let (myself, to) = (myself.clone(), to.clone());
        self.is_failing(sender, &to, true);
        self.env.later(wait, move || drop(myself.cast(OutboxMsg::Retry { sender, to })));
    }

    /// Notes whether the last window of a lane did not arrive.
    fn is_failing(&mut self, sender: EntityId, to: &Name, failing: bool) {
        if failing {
            self.failing.insert((sender, to.clone()));
        } else if self.failing.is_empty() || !self.failing.remove(&(sender, to.clone())) {
            return;
        }
        let lanes = self.failing.len();
        self.vital
            .tell_wrong((lanes > 0).then(|| format!("messages of {lanes} senders and receivers go again")));
    }

    /// Drops an empty lane, and the sender with the last one if it sleeps.
    fn tidy(&mut self, sender: EntityId, to: &Name) {
        let Some(from) = self.senders.get_mut(&sender) else { return };
        if from.lanes.get(to).is_some_and(|lane| lane.waiting.is_empty() && lane.on_way == 0) {
            from.lanes.remove(to);
            self.is_failing(sender, to, false);
        }
        let Some(from) = self.senders.get(&sender) else { return };
        if !from.cell.is_active() {
            self.forget(sender);
        }
    }

    /// Drops a sender without lanes.
    fn forget(&mut self, sender: EntityId) {
        if self.senders.get(&sender).is_some_and(|from| from.lanes.is_empty())
            && let Some(from) = self.senders.remove(&sender)
        {
            self.env.directory().forget(&from.cell);
        }
    }
}

impl Lane {
    /// Whether the first one is on its way back: until its sender has consumed it, none after it is delivered.
    fn is_returning(&self, sender: &EntityCell) -> bool {
        self.waiting.front().is_some_and(|first| sender.returning(first.seq) == Some(true))
    }

    /// The receiver refused a message.
    fn back(&mut self, cell: &Arc<EntityCell>, sender: EntityId, seq: u64, why: Returned) {
        self.again.insert(seq);
        self.refused = true;
        self.doubtful.remove(&seq);
        if let Some(message) = self.waiting.iter().find(|message| message.seq == seq) {
            give_back(cell, sender, message, why);
        }
    }
}

/// How many of those that wait go to another node together: they travel as one message, which has a limit.
fn far_window(waiting: &VecDeque<OutMessage>) -> usize {
    let mut bytes = 0;
    let fits = |message: &&OutMessage| {
        bytes += message.payload.len();
        bytes <= FAR_WINDOW_BYTES
    };
    // One alone may be larger.
    waiting.iter().take(WINDOW).take_while(fits).count().max(1).min(waiting.len())
}

/// Where a receiver is.
enum Receiver {
    Here(Arc<EntityCell>),
    There(Arc<dyn Remote>),
}

fn receiver(env: &Env, to: &Name) -> Result<Receiver, Refusal> {
    match env.way_to(to)? {
        Some(remote) => Ok(Receiver::There(remote)),
        None => env.directory().cell(&to.here()).map(Receiver::Here),
    }
}

fn delivery(myself: &ActorRef<OutboxMsg>, sender: EntityId, message: &OutMessage) -> Message {
    let (myself, to, seq) = (myself.clone(), message.to.clone(), message.seq);
    let reply = ReplyPort::told(Box::new(move |result| {
        let _ = myself.cast(OutboxMsg::Settled { sender, to, seq, result });
    }));
    Message {
        sender: Origin::Entity(sender),
        seq,
        payload: message.payload.clone(),
        cause: message.cause.clone(),
        reply,
    }
}

/// Returns a message to its sender, whose entry consumes it; once.
fn give_back(cell: &Arc<EntityCell>, sender: EntityId, message: &OutMessage, why: Returned) {
    if !cell.start_return(message.seq) {
        return;
    }
    metrics::counter!("stanchion_messages_returned_total").increment(1);
    let (to, payload) = (message.to.to_string(), message.payload.clone());
    let completion = Completion::Returned { seq: message.seq, to, payload, why };
    cell.push_internal(Item::Completion(completion, Some((sender, message.seq))));
}
