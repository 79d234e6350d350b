//! The cell of an entity: its mailbox and its owner slot. It outlives the entity's actors, so no message is lost
//! when one dies.

mod admit;
mod outgoing;
mod owner;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::ActorRef;
use stanchion_sync::{Doorbell, Gate, OwnerSlot, Permit};
use tokio::{sync::watch, time::Instant};

use super::{
    machine::Kind,
    mail::Item,
    msg::{EntityMsg, Supervisors},
};
use crate::{
    error::{CallFailure, FailureKind},
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
    /// Its number; 0: not known.
    entity: AtomicU64,
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
            entity: AtomicU64::new(0),
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
        let number = self.entity.load(Ordering::Acquire);
        (number != 0).then_some(EntityId(number))
    }

    /// Sets its number; answers the one it had, if another: one under which nothing was stored.
    pub(crate) fn set_entity(&self, entity: EntityId) -> Option<EntityId> {
        let before = self.entity.swap(entity.0, Ordering::AcqRel);
        (before != 0 && before != entity.0).then_some(EntityId(before))
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
            // In the order they were stored: what a later one calls settled has been handled before it.
            let later = |item: &Item| matches!(item, Item::Inbox(other, _) if *other > position);
            let place = queues.internal.iter().position(later).unwrap_or(queues.internal.len());
            queues.internal.insert(place, Item::Inbox(position, command));
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
                .partition(|item| matches!(item, Item::Messages(_) | Item::Prepare(_) | Item::Purge(_)));
            queues.internal = kept;
            external.into_iter().chain(refused).collect()
        };
        for item in waiting {
            match item {
                Item::Call(call) => call.reply.answer(Err(why.clone())),
                Item::Read(_, reply) => reply.answer(Err(why.clone())),
                Item::Prepare(prepare) => prepare.refuse(0, why.clone()),
                Item::Purge(purge) => {
                    let (entity, kind) = (self.name().clone(), why.clone());
                    purge.answer(Err(CallFailure { entity, id: None, kind }.into()));
                }
                Item::Messages(messages) | Item::Rest(_, messages) => {
                    messages.into_iter().for_each(|message| message.reply.answer(Err(why.clone())));
                }
                other => self.push_internal(other),
            }
        }
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
