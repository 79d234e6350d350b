//! Who gets a place in the mailbox, and what happens when it is full.

use std::sync::{Arc, atomic::Ordering};

use stanchion_sync::{GateRefusal, Permit};

use super::EntityCell;
use crate::{
    entity::{
        mail::{Call, Item, ReadFn, ReplyPort},
        policy::MailboxPolicy,
    },
    error::{FailureKind, Unavailable},
};

impl EntityCell {
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
}

fn refuse(call: Call, why: Unavailable) {
    call.reply.answer(Err(FailureKind::Unavailable(why)));
}
