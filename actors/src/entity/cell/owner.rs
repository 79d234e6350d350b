//! Who looks at the mailbox: at most one actor; another one when it is gone; none while the entity is blocked.

use std::sync::{Arc, PoisonError};

use ractor::ActorRef;
use stanchion_sync::Claim;

use super::EntityCell;
use crate::{
    entity::{mail::Item, msg::EntityMsg},
    error::{FailureKind, Unavailable},
};

impl EntityCell {
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
}
