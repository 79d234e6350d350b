//! The cell of a volatile actor: mailbox and owner slot. It outlives the actor.

use std::{
    any::Any,
    collections::VecDeque,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorRef, SpawnErr};
use stanchion_sync::{Claim, Doorbell, Gate, GateRefusal, OwnerSlot, Permit};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Volatile,
    actor::{Typed, VolatileArgs, VolatileMsg},
    directory::VolatileSupervisorMsg,
};
use crate::{
    entity::{Begun, MailboxOptions, MailboxPolicy, MailboxStats},
    env::{Env, Place},
    error::{CallError, Context, Unavailable},
    ids::Name,
};

/// The answer of a call.
pub(super) type Answer<V> = Result<<V as Volatile>::Reply, CallError<<V as Volatile>::Rejection>>;

/// A caller that waits.
pub(super) struct Caller<V: Volatile> {
    pub(super) answer: oneshot::Sender<Answer<V>>,
    pub(super) begun: Arc<Begun>,
    pub(super) deadline: Instant,
}

/// A command in the mailbox.
pub(super) struct Waiting<V: Volatile> {
    pub(super) command: V::Command,
    pub(super) priority: u8,
    pub(super) caller: Option<Caller<V>>,
}

impl<V: Volatile> Waiting<V> {
    /// Handles the command, unless nobody wants that any more. When `handle` panics, its caller finds nobody.
    pub(super) fn run(self, name: &Name, handle: impl FnOnce(V::Command) -> Result<V::Reply, V::Rejection>) {
        let Some(caller) = self.caller else {
            // A cast has nobody to be told of a rejection.
            let _ = handle(self.command);
            return;
        };
        if !caller.begun.is_first() {
            return;
        }
        let answer = if caller.deadline <= Instant::now() {
            Err(unavailable(name, Unavailable::DeadlinePassed))
        } else {
            handle(self.command).map_err(CallError::Rejected)
        };
        // The caller may have stopped waiting.
        let _ = caller.answer.send(answer);
    }

    fn refuse(self, name: &Name, why: Unavailable) {
        if let Some(caller) = self.caller {
            let _ = caller.answer.send(Err(unavailable(name, why)));
        }
    }
}

pub(super) fn unavailable<R>(name: &Name, why: Unavailable) -> CallError<R> {
    CallError::Unavailable(Context { entity: name.clone(), id: None, kind: why })
}

type Queue<V> = VecDeque<(Waiting<V>, Option<Permit>)>;

/// One volatile actor as the process knows it.
pub struct VolatileCell<V: Volatile> {
    name: Name,
    options: MailboxOptions,
    gate: Arc<Gate>,
    queue: Mutex<Queue<V>>,
    bell: Doorbell,
    slot: OwnerSlot<ActorRef<VolatileMsg>>,
    supervisor: Arc<Place<VolatileSupervisorMsg>>,
    blocked: Mutex<Option<String>>,
    stats: MailboxStats,
    /// When its actor began or looked at the mailbox the last time.
    used: Mutex<Instant>,
}

impl<V: Volatile> VolatileCell<V> {
    pub(super) fn new(
        name: Name,
        options: MailboxOptions,
        supervisor: Arc<Place<VolatileSupervisorMsg>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(options.capacity),
            name,
            options,
            queue: Mutex::default(),
            bell: Doorbell::new(),
            slot: OwnerSlot::new(),
            supervisor,
            blocked: Mutex::default(),
            stats: MailboxStats::default(),
            used: Mutex::new(Instant::now()),
        })
    }

    pub(super) fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether nothing waits and its actor has had nothing to do for as long as its kind may.
    pub(super) fn is_idle(&self) -> bool {
        let used = *self.used.lock().unwrap_or_else(PoisonError::into_inner);
        V::IDLE_MAX.is_some_and(|longest| used.elapsed() >= longest) && self.lock().is_empty()
    }

    /// The actor is about to end: nobody else may start before it is gone.
    pub(super) fn leave(&self, generation: u64) -> bool {
        self.slot.leave(generation)
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    pub(super) fn stats(&self) -> &MailboxStats {
        &self.stats
    }

    /// Puts a command into the mailbox under the kind's policy; may wait for a place (policy Block). Who was
    /// refused is told so.
    pub(super) async fn push(self: &Arc<Self>, waiting: Waiting<V>) -> Result<(), Unavailable> {
        if let Some(why) = self.blocked() {
            return Err(Unavailable::CrashLoop(why));
        }
        match self.gate.try_acquire() {
            Ok(permit) => {
                self.put(waiting, permit);
                Ok(())
            }
            Err(GateRefusal::Closed) => Err(Unavailable::Stopped),
            Err(GateRefusal::Full) => self.push_when_full(waiting).await,
        }
    }

    async fn push_when_full(self: &Arc<Self>, waiting: Waiting<V>) -> Result<(), Unavailable> {
        match self.options.policy {
            MailboxPolicy::Block(wait) => {
                let longest = Instant::now() + wait;
                let deadline = waiting.caller.as_ref().map(|caller| caller.deadline);
                let until = deadline.map_or(longest, |deadline| deadline.min(longest));
                match tokio::time::timeout_at(until, self.gate.acquire()).await {
                    Ok(Ok(permit)) => {
                        self.put(waiting, permit);
                        Ok(())
                    }
                    Ok(Err(_closed)) => Err(Unavailable::Stopped),
                    Err(_elapsed) => Err(self.full()),
                }
            }
            MailboxPolicy::Reject => Err(self.full()),
            MailboxPolicy::DropNewest => Err(self.dropped()),
            MailboxPolicy::DropOldest | MailboxPolicy::Shed => self.replace(waiting),
        }
    }

    fn full(&self) -> Unavailable {
        self.stats.rejected.fetch_add(1, Ordering::Relaxed);
        Unavailable::Full { capacity: self.options.capacity }
    }

    fn dropped(&self) -> Unavailable {
        self.stats.dropped_newest.fetch_add(1, Ordering::Relaxed);
        Unavailable::Dropped
    }

    /// Takes the place of the oldest command, or of the least important one if that is less important.
    fn replace(self: &Arc<Self>, waiting: Waiting<V>) -> Result<(), Unavailable> {
        let shed = self.options.policy == MailboxPolicy::Shed;
        let mut queue = self.lock();
        let at = if shed {
            let least = queue.iter().enumerate().map(|(at, (known, _))| (known.priority, at)).min();
            least.filter(|(priority, _)| *priority < waiting.priority).map(|(_, at)| at)
        } else {
            Some(0)
        };
        let Some((victim, permit)) = at.and_then(|at| queue.remove(at)) else {
            drop(queue);
            return Err(self.dropped());
        };
        queue.push_back((waiting, permit));
        drop(queue);
        self.stats.accepted.fetch_add(1, Ordering::Relaxed);
        let counter = if shed { &self.stats.shed } else { &self.stats.dropped_oldest };
        counter.fetch_add(1, Ordering::Relaxed);
        victim.refuse(&self.name, Unavailable::Dropped);
        self.ring();
        Ok(())
    }

    fn put(self: &Arc<Self>, waiting: Waiting<V>, permit: Permit) {
        self.stats.accepted.fetch_add(1, Ordering::Relaxed);
        self.lock().push_back((waiting, Some(permit)));
        self.ring();
    }

    pub(super) fn pop(&self) -> Option<Waiting<V>> {
        self.lock().pop_front().map(|(waiting, _permit)| waiting)
    }

    pub(super) fn silence(&self) {
        self.bell.silence();
    }

    pub(super) fn own(&self, claim: &Claim, actor: ActorRef<VolatileMsg>) -> bool {
        self.slot.own(claim, actor)
    }

    /// Generation and actor in charge.
    pub(super) fn owner(&self) -> Option<(u64, ActorRef<VolatileMsg>)> {
        self.slot.owner()
    }

    fn ring(self: &Arc<Self>) {
        if self.bell.ring() {
            self.deliver_wake();
        }
    }

    fn deliver_wake(self: &Arc<Self>) {
        if let Some((_, actor)) = self.slot.owner()
            && actor.cast(VolatileMsg::Wake).is_ok()
        {
            return;
        }
        self.request_actor();
    }

    fn request_actor(self: &Arc<Self>) {
        if let Some(why) = self.blocked() {
            // Put by somebody who looked before it was blocked.
            self.bell.silence();
            return self.refuse_waiting(&Unavailable::CrashLoop(why));
        }
        if let Some(claim) = self.slot.claim() {
            let cell: Arc<dyn VolatileChild> = Arc::<Self>::clone(self);
            // A supervisor that is down finds the claimed cell when it starts.
            self.supervisor.cast(VolatileSupervisorMsg::Start { cell, claim });
        }
    }

    fn blocked(&self) -> Option<String> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue<V>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the supervisor of volatile actors does with each of them.
pub trait VolatileChild: Any + Send + Sync {
    /// Its name.
    fn name(&self) -> &Name;
    /// Starts an actor under the claim, linked to its supervisor.
    fn spawn(
        self: Arc<Self>,
        env: Arc<Env>,
        claim: Claim,
        supervisor: ActorCell,
    ) -> BoxFuture<'static, Result<ActorCell, SpawnErr>>;
    /// The actor of this generation is gone; another one is asked for if anything waits.
    fn vacate(self: Arc<Self>, generation: u64);
    /// Frees the slot whoever has it: for a supervisor that starts anew.
    fn reset(self: Arc<Self>);
    /// Asks its actor to end, if it has been idle for as long as its kind may.
    fn passivate_if_idle(&self);
    /// Whether it has neither an actor nor anything to do, and may be forgotten when nobody holds it.
    fn is_unused(&self) -> bool;
    /// It crashed too often: callers are told so until [`Self::unblock`].
    fn block(&self, why: &str);
    /// Whether it is blocked.
    fn is_blocked(&self) -> bool;
    /// Lets actors start again.
    fn unblock(self: Arc<Self>);
    /// Answers everybody who waits.
    fn refuse_waiting(&self, why: &Unavailable);
    /// For the way back to the type.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<V: Volatile> VolatileChild for VolatileCell<V> {
    fn name(&self) -> &Name {
        &self.name
    }

    fn spawn(
        self: Arc<Self>,
        env: Arc<Env>,
        claim: Claim,
        supervisor: ActorCell,
    ) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> {
        Box::pin(async move {
            let args = VolatileArgs { env, cell: self, claim };
            let (actor, _join) = Actor::spawn_linked(None, Typed::<V>(PhantomData), args, supervisor).await?;
            Ok(actor.get_cell())
        })
    }

    fn vacate(self: Arc<Self>, generation: u64) {
        self.bell.silence();
        if self.slot.vacate(generation) && !self.lock().is_empty() {
            self.request_actor();
        }
    }

    fn reset(self: Arc<Self>) {
        if let Some(generation) = self.slot.state().generation() {
            self.vacate(generation);
        }
    }

    fn passivate_if_idle(&self) {
        if self.is_idle()
            && let Some((_, actor)) = self.slot.owner()
        {
            let _ = actor.cast(VolatileMsg::Passivate);
        }
    }

    fn is_unused(&self) -> bool {
        self.lock().is_empty() && self.slot.state().generation().is_none() && self.blocked().is_none()
    }

    fn block(&self, why: &str) {
        *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
        self.refuse_waiting(&Unavailable::CrashLoop(why.to_owned()));
    }

    fn is_blocked(&self) -> bool {
        self.blocked().is_some()
    }

    fn unblock(self: Arc<Self>) {
        *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if !self.lock().is_empty() {
            self.deliver_wake();
        }
    }

    fn refuse_waiting(&self, why: &Unavailable) {
        let waiting = std::mem::take(&mut *self.lock());
        for (waiting, _permit) in waiting {
            waiting.refuse(&self.name, why.clone());
        }
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
