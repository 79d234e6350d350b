//! The cell of an entity: its mailbox and its owner slot. It outlives the entity's actors, so no message is lost
//! when one dies.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::ActorRef;
use stanchion_sync::{Claim, Doorbell, Gate, GateRefusal, OwnerSlot, Permit};
use tokio::{sync::watch, time::Instant};

use super::{
    machine::Kind,
    mail::{Call, Item, ReadFn, ReplyPort},
    msg::{EntityMsg, Supervisors},
    policy::MailboxPolicy,
};
use crate::{
    error::{FailureKind, Unavailable},
    ids::{EntityId, Name, Position},
    store::InboxItem,
};

/// Counters of one entity's mailbox: `accepted + rejected + dropped_newest` commands were sent, and
/// `accepted - dropped_oldest - shed` were or will be handled.
#[derive(Debug, Default)]
pub struct MailboxStats {
    /// Commands that got a place.
    pub accepted: AtomicU64,
    /// Commands refused: full.
    pub rejected: AtomicU64,
    /// Commands dropped by policy DropOldest.
    pub dropped_oldest: AtomicU64,
    /// New commands that got no place under a policy that drops.
    pub dropped_newest: AtomicU64,
    /// Waiting commands dropped by policy Shed.
    pub shed: AtomicU64,
}

#[derive(Default)]
struct Queues {
    /// From outside, each holding a place of the gate.
    external: VecDeque<(Item, Option<Permit>)>,
    /// From the system itself: bounded by what the entity has started.
    internal: VecDeque<Item>,
    /// Positions of the inbox commands among them.
    inbox: HashSet<Position>,
}

/// One entity as the process knows it.
pub struct EntityCell {
    name: Name,
    kind: Arc<Kind>,
    gate: Arc<Gate>,
    queues: Mutex<Queues>,
    bell: Doorbell,
    slot: OwnerSlot<ActorRef<EntityMsg>>,
    supervisors: Arc<Supervisors>,
    entity: OnceLock<EntityId>,
    draining: Arc<AtomicBool>,
    /// Why no actor may start, when it crashed too often.
    blocked: Mutex<Option<String>>,
    /// The last durable status that differed from the one before.
    status: watch::Sender<String>,
    made: Instant,
    /// Last time an actor looked at the mailbox, in milliseconds after `made`.
    last_used_ms: AtomicU64,
    /// Messages recorded and not yet settled: number to whether it is on its way back.
    outgoing: Mutex<BTreeMap<u64, bool>>,
    /// The input that nobody waits for on which folding panicked; parked when it comes again.
    poison: Mutex<Option<u64>>,
    /// Activations so far: what was decided under an earlier one is void.
    pub(crate) activations: AtomicU64,
    /// Counters.
    pub stats: MailboxStats,
}

impl std::fmt::Debug for EntityCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EntityCell({})", self.name)
    }
}

impl EntityCell {
    pub(crate) fn new(
        name: Name,
        kind: Arc<Kind>,
        supervisors: Arc<Supervisors>,
        draining: Arc<AtomicBool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(kind.options.mailbox.capacity),
            name,
            kind,
            queues: Mutex::default(),
            bell: Doorbell::new(),
            slot: OwnerSlot::new(),
            supervisors,
            entity: OnceLock::new(),
            draining,
            blocked: Mutex::new(None),
            status: watch::Sender::default(),
            made: Instant::now(),
            last_used_ms: AtomicU64::new(0),
            outgoing: Mutex::default(),
            poison: Mutex::default(),
            activations: AtomicU64::new(0),
            stats: MailboxStats::default(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &Arc<Kind> {
        &self.kind
    }

    /// Its number, once known.
    #[must_use]
    pub fn entity(&self) -> Option<EntityId> {
        self.entity.get().copied()
    }

    pub(crate) fn set_entity(&self, entity: EntityId) {
        self.entity.get_or_init(|| entity);
    }

    /// Puts a command into the mailbox under the kind's policy; may wait for a place (policy Block).
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing was put.
    pub async fn push_call(self: &Arc<Self>, call: Call) {
        if self.draining.load(Ordering::Acquire) {
            return refuse(call, Unavailable::Draining);
        }
        if let Some(why) = self.blocked() {
            return refuse(call, Unavailable::CrashLoop(why));
        }
        match self.gate.try_acquire() {
            Ok(permit) => self.put(call, Some(permit)),
            Err(GateRefusal::Closed) => refuse(call, Unavailable::Draining),
            Err(GateRefusal::Full) => self.push_when_full(call).await,
        }
    }

    async fn push_when_full(self: &Arc<Self>, call: Call) {
        match self.kind.options.mailbox.policy {
            MailboxPolicy::Block(wait) => {
                let longest = tokio::time::Instant::now() + wait;
                let until = call.deadline.map_or(longest, |deadline| deadline.min(longest));
                match tokio::time::timeout_at(until, self.gate.acquire()).await {
                    Ok(Ok(permit)) => self.put(call, Some(permit)),
                    Ok(Err(_closed)) => refuse(call, Unavailable::Draining),
                    Err(_elapsed) => self.reject_full(call),
                }
            }
            MailboxPolicy::Reject => self.reject_full(call),
            MailboxPolicy::DropNewest => {
                self.stats.dropped_newest.fetch_add(1, Ordering::Relaxed);
                refuse(call, Unavailable::Dropped);
            }
            MailboxPolicy::DropOldest => self.replace(call, |_, _| true),
            MailboxPolicy::Shed => self.replace(call, |oldest, newest| oldest < newest),
        }
    }

    fn reject_full(&self, call: Call) {
        self.stats.rejected.fetch_add(1, Ordering::Relaxed);
        refuse(call, Unavailable::Full { capacity: self.kind.options.mailbox.capacity });
    }

    /// Takes the place of the waiting command of lowest priority (oldest first), if `yields(its, mine)`.
    fn replace(self: &Arc<Self>, call: Call, yields: impl Fn(u8, u8) -> bool) {
        let shed = self.kind.options.mailbox.policy == MailboxPolicy::Shed;
        let mut queues = self.lock();
        let mut calls = queues.external.iter().enumerate().filter_map(|(at, (item, _))| match item {
            Item::Call(waiting) => Some((waiting.priority, at)),
            _ => None,
        });
        let victim = if shed { calls.min() } else { calls.next() };
        let Some((_, at)) = victim.filter(|(priority, _)| yields(*priority, call.priority)) else {
            drop(queues);
            self.stats.dropped_newest.fetch_add(1, Ordering::Relaxed);
            return refuse(call, Unavailable::Dropped);
        };
        let (dropped, permit) = match queues.external.remove(at) {
            Some((item, permit)) => (Some(item), permit),
            None => (None, None),
        };
        queues.external.push_back((Item::Call(call), permit));
        drop(queues);
        self.stats.accepted.fetch_add(1, Ordering::Relaxed);
        let counter = if shed { &self.stats.shed } else { &self.stats.dropped_oldest };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(Item::Call(dropped)) = dropped {
            refuse(dropped, Unavailable::Dropped);
        }
        self.wake();
    }

    fn put(self: &Arc<Self>, call: Call, permit: Option<Permit>) {
        self.stats.accepted.fetch_add(1, Ordering::Relaxed);
        self.lock().external.push_back((Item::Call(call), permit));
        self.wake();
    }

    /// Puts a read; reads wait like calls but are not counted against the mailbox.
    pub(crate) fn push_read(self: &Arc<Self>, read: ReadFn, reply: ReplyPort) {
        if let Some(why) = self.blocked() {
            return reply.answer(Err(FailureKind::Unavailable(Unavailable::CrashLoop(why))));
        }
        let item = Item::Read(read, reply);
        self.lock().external.push_back((item, None));
        self.wake();
    }

    /// Puts what the system itself sends.
    pub fn push_internal(self: &Arc<Self>, item: Item) {
        self.lock().internal.push_back(item);
        self.wake();
    }

    /// Puts a command that is durable in the store, unless it lies here already.
    pub(crate) fn push_inbox(self: &Arc<Self>, position: Position, command: InboxItem) {
        {
            let mut queues = self.lock();
            if !queues.inbox.insert(position) {
                return;
            }
            queues.internal.push_back(Item::Inbox(position, command));
        }
        self.wake();
    }

    /// Takes the next item: the system's own first.
    pub(crate) fn pop(&self) -> Option<Item> {
        let mut queues = self.lock();
        if let Some(item) = queues.internal.pop_front() {
            if let Item::Inbox(position, _) = &item {
                queues.inbox.remove(position);
            }
            return Some(item);
        }
        queues.external.pop_front().map(|(item, _permit)| item)
    }

    /// Puts an item back to where it was taken from.
    pub(crate) fn unpop(&self, item: Item) {
        let mut queues = self.lock();
        match item {
            Item::Call(_) | Item::Read(..) => queues.external.push_front((item, None)),
            internal => queues.internal.push_front(internal),
        }
    }

    /// Answers everybody who waits with `why`: callers, transactions, and the outbox, which sends again. What
    /// nobody waits for stays.
    pub(crate) fn refuse_waiting(self: &Arc<Self>, why: &FailureKind) {
        let waiting: Vec<Item> = {
            let mut queues = self.lock();
            let external: Vec<Item> = queues.external.drain(..).map(|(item, _permit)| item).collect();
            let (refused, kept): (VecDeque<Item>, VecDeque<Item>) = std::mem::take(&mut queues.internal)
                .into_iter()
                .partition(|item| matches!(item, Item::Messages(_) | Item::Prepare(_)));
            queues.internal = kept;
            external.into_iter().chain(refused).collect()
        };
        for item in waiting {
            match item {
                Item::Call(call) => call.reply.answer(Err(why.clone())),
                Item::Read(_, reply) => reply.answer(Err(why.clone())),
                Item::Prepare(prepare) => prepare.refuse(0, why.clone()),
                Item::Messages(messages) | Item::Rest(_, messages) => {
                    messages.into_iter().for_each(|message| message.reply.answer(Err(why.clone())));
                }
                other => self.push_internal(other),
            }
        }
    }

    /// Number of messages recorded and not yet settled.
    #[must_use]
    pub fn undelivered(&self) -> u64 {
        self.outgoing().len() as u64
    }

    /// Messages were recorded.
    pub(crate) fn sent(&self, numbers: impl Iterator<Item = u64>) {
        self.outgoing().extend(numbers.map(|seq| (seq, false)));
    }

    /// These are all that are pending in the store, of those below `next`.
    pub(crate) fn pending_are(&self, numbers: impl Iterator<Item = u64>, next: u64) {
        let mut outgoing = self.outgoing();
        let later = outgoing.split_off(&next);
        let known = std::mem::replace(&mut *outgoing, later);
        outgoing.extend(numbers.map(|seq| (seq, known.get(&seq).copied().unwrap_or(false))));
    }

    /// A message was consumed, by its receiver or, returned, by its sender.
    pub(crate) fn settled(&self, seq: u64) {
        self.outgoing().remove(&seq);
    }

    /// Marks a message as on its way back; `false` when it is so already, or settled.
    pub(crate) fn start_return(&self, seq: u64) -> bool {
        self.outgoing().get_mut(&seq).is_some_and(|returning| !std::mem::replace(returning, true))
    }

    /// Whether a message is on its way back; `None` when it is settled.
    pub(crate) fn returning(&self, seq: u64) -> Option<bool> {
        self.outgoing().get(&seq).copied()
    }

    fn outgoing(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, bool>> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folding panicked on this input: the next activation parks it.
    pub(crate) fn poison(&self, input: u64) {
        *self.poison.lock().unwrap_or_else(PoisonError::into_inner) = Some(input);
    }

    /// Whether folding panicked on this input; forgets it.
    pub(crate) fn take_poison(&self, input: u64) -> bool {
        self.poison.lock().unwrap_or_else(PoisonError::into_inner).take_if(|known| *known == input).is_some()
    }

    /// Whether anything waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let queues = self.lock();
        queues.external.is_empty() && queues.internal.is_empty()
    }

    /// Whether an actor has it, or is about to.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.slot.owner().is_some()
    }

    pub(crate) fn has_internal(&self) -> bool {
        !self.lock().internal.is_empty()
    }

    /// Makes sure an actor looks at the mailbox.
    pub fn wake(self: &Arc<Self>) {
        if self.bell.ring() {
            self.deliver_wake();
        }
    }

    fn deliver_wake(self: &Arc<Self>) {
        if let Some((_, actor)) = self.slot.owner()
            && actor.cast(EntityMsg::Wake).is_ok()
        {
            return;
        }
        self.request_actor();
    }

    pub(crate) fn request_actor(self: &Arc<Self>) {
        if let Some(why) = self.blocked() {
            // Put by somebody who looked before it was blocked.
            self.bell.silence();
            return self.refuse_waiting(&FailureKind::Unavailable(Unavailable::CrashLoop(why)));
        }
        if let Some(claim) = self.slot.claim() {
            self.supervisors.start(Arc::clone(self), claim);
        }
    }

    /// The actor crashed too often: nobody starts it, and callers are told, until [`Self::unblock`].
    pub fn block(self: &Arc<Self>, why: &str) {
        *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
        self.refuse_waiting(&FailureKind::Unavailable(Unavailable::CrashLoop(why.to_owned())));
    }

    /// Why no actor may start, if so.
    #[must_use]
    pub fn blocked(&self) -> Option<String> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets actors start again, and starts one.
    pub fn unblock(self: &Arc<Self>) {
        *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.deliver_wake();
    }

    /// Makes the next actor park what can be parked, before it does anything else.
    pub fn push_crash_loop(self: &Arc<Self>, why: &str) {
        if !self.is_crash_looping() {
            self.lock().internal.push_front(Item::CrashLooped(why.to_owned()));
        }
    }

    /// Whether the next thing to do is to park.
    pub(crate) fn is_crash_looping(&self) -> bool {
        matches!(self.lock().internal.front(), Some(Item::CrashLooped(_)))
    }

    /// Follows the entity's status: told after the commit of each change.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<String> {
        self.status.subscribe()
    }

    pub(crate) fn publish_status(&self, status: String) {
        self.status.send_replace(status);
    }

    /// An actor looks at the mailbox.
    pub(crate) fn touch(&self) {
        let ms = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_used_ms.store(ms, Ordering::Relaxed);
    }

    /// How long no actor had to look at the mailbox.
    #[must_use]
    pub fn idle_for(&self) -> Duration {
        self.made.elapsed().saturating_sub(Duration::from_millis(self.last_used_ms.load(Ordering::Relaxed)))
    }

    /// The owner says so before it looks for work.
    pub(crate) fn silence(&self) {
        self.bell.silence();
    }

    /// The started actor takes the slot.
    pub fn own(&self, claim: &Claim, actor: ActorRef<EntityMsg>) -> bool {
        self.slot.own(claim, actor)
    }

    /// The actor of this generation is gone: frees the slot, and asks for another actor if anything waits.
    ///
    /// The bell is silenced first: a wake that the dead actor never saw would otherwise swallow all later ones.
    pub fn vacate(self: &Arc<Self>, generation: u64) {
        self.bell.silence();
        // A wake between the two found the dead actor still in the slot: the bell tells of it.
        if self.slot.vacate(generation) && (self.bell.is_ringing() || !self.is_idle()) {
            self.request_actor();
        }
    }

    /// Frees the slot whoever has it: for a supervisor that starts anew and knows that its children are gone. What
    /// they had in flight is taken up by another actor.
    pub fn reset(self: &Arc<Self>) {
        if let Some(generation) = self.slot.state().generation() {
            self.vacate(generation);
            self.wake();
        }
    }

    /// The owner is about to end: nobody else may start before it is gone.
    pub(crate) fn leave(&self, generation: u64) -> bool {
        self.slot.leave(generation)
    }

    /// Generation and actor in charge.
    #[must_use]
    pub fn owner(&self) -> Option<(u64, ActorRef<EntityMsg>)> {
        self.slot.owner()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refuse(call: Call, why: Unavailable) {
    call.reply.answer(Err(FailureKind::Unavailable(why)));
}
