//! One item of the mailbox, handled: the way from an input to an entry and to who is answered.

use bytes::Bytes;

use super::{
    active::{Active, Broken, DecideError, panic_text},
    dedup::{Handled, Seen, fingerprint},
    machine::Input,
    mail::{Call, Item, ReadFn, ReplyPort},
    record::Draft,
};
use crate::{
    error::{FailureKind, Refusal, Unavailable},
    ids::{CommandId, Timestamp},
};

impl Active {
    /// Handles one item.
    ///
    /// # Errors
    /// [`Broken`]: this activation is over; the item was answered or put back.
    pub(crate) fn handle(&mut self, item: Item) -> Result<(), Broken> {
        match item {
            Item::Call(call) => self.handle_call(call),
            Item::Read(read, reply) => {
                self.handle_read(read, reply);
                Ok(())
            }
            Item::Messages(messages) => self.handle_messages(messages),
            Item::Rest(token, messages) if token == self.token => self.handle_messages(messages),
            // Those before them were handled by an activation that is over, and may have to go again first.
            Item::Rest(_, messages) => {
                for message in messages {
                    message.reply.answer(Err(FailureKind::Unavailable(Unavailable::Stopped)));
                }
                Ok(())
            }
            Item::Inbox(position, item) => self.handle_inbox(position, item),
            Item::Timer(id) => self.handle_timer(id),
            Item::Completion(completion, returned) => self.handle_completion(completion, returned),
            Item::Placing(effect, attempt, placing) => self.handle_placing(effect, attempt, placing),
            Item::Recover => self.handle_recover(),
            Item::Delivered(numbers) => self.handle_delivered(numbers),
            Item::Reoffer => {
                self.reoffer = true;
                Ok(())
            }
            Item::CrashLooped(why) => self.handle_crash_loop(&why),
            Item::Continue => self.handle_continue(),
            Item::Prepare(prepare) => self.handle_prepare(prepare),
            // Taken by the actor itself, which ends this activation for it.
            Item::Purge(purge) => {
                purge.answer(Err(self.busy("is at work")));
                Ok(())
            }
        }
    }

    fn handle_call(&mut self, call: Call) -> Result<(), Broken> {
        let Call { id, settled_below, payload, deadline, cause, reply, begun, ticket: _ticket, .. } = call;
        let passed = deadline.is_some_and(|deadline| deadline <= tokio::time::Instant::now());
        // The caller may have given up first; then it was told that the command does not run.
        let given_up = begun.is_some_and(|begun| !begun.is_first());
        if passed || given_up {
            reply.answer(Err(FailureKind::Unavailable(Unavailable::DeadlinePassed)));
            return Ok(());
        }
        let now = self.env.now();
        let print = fingerprint(&payload);
        let Some(reply) = self.answer_if_seen(&id, print, now, reply) else { return Ok(()) };
        let (decided, recorder) = match self.decide(&Input::Command(&payload), &cause, now) {
            Ok(decided) => decided,
            Err(DecideError::Limit(kind)) => {
                self.hold(self.version(), reply, Err(kind));
                return self.undecided();
            }
            Err(error) => {
                self.hold(self.version(), reply, Err(error.kind()));
                return Ok(());
            }
        };
        if let Err(kind) = self.check_limits(&decided, &recorder) {
            self.hold(self.version(), reply, Err(kind));
            return self.undecided();
        }
        if decided.change.is_none() && recorder.is_empty() {
            self.hold(self.version(), reply, Ok(decided.reply));
            return Ok(());
        }
        if let Err(broken) = self.accept() {
            reply.answer(Err(broken.0.clone()));
            return Err(broken);
        }
        let settled_below = self.settled(settled_below);
        let handled = Handled { id, fingerprint: print, reply: decided.reply.clone(), settled_below };
        let dedup = self.dedup.remember(handled, self.version().next(), now);
        match self.record(decided.change, recorder, Draft { dedup, cause, ..Draft::default() }, now) {
            Ok(version) => {
                self.go_on(decided.more);
                self.hold(version, reply, Ok(decided.reply));
                Ok(())
            }
            Err(broken) => {
                reply.answer(Err(broken.0.clone()));
                Err(broken)
            }
        }
    }

    /// Answers a command that was seen before; gives the port back for one that is new.
    fn answer_if_seen(
        &mut self,
        id: &CommandId,
        print: u64,
        now: Timestamp,
        reply: ReplyPort,
    ) -> Option<ReplyPort> {
        match self.dedup.seen(id, print, self.oldest_session(now)) {
            Seen::New => return Some(reply),
            Seen::Answered(answer, version) => self.hold(version, reply, Ok(answer)),
            Seen::Expired => self.hold(self.version(), reply, Err(FailureKind::Refused(Refusal::Expired))),
            Seen::Conflict => {
                self.hold(self.version(), reply, Err(FailureKind::Refused(Refusal::IdConflict)));
            }
        }
        None
    }

    fn handle_read(&mut self, read: ReadFn, reply: ReplyPort) {
        let machine = &self.machine;
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(machine.state())));
        match looked {
            Ok(publish) => {
                let told = ReplyPort::told(Box::new(move |result| match result {
                    Ok(_) => {
                        publish();
                        reply.answer(Ok(Bytes::new()));
                    }
                    Err(kind) => reply.answer(Err(kind)),
                }));
                self.hold(self.version(), told, Ok(Bytes::new()));
            }
            Err(panic) => {
                let why = Refusal::Poisoned(panic_text(panic.as_ref()));
                reply.answer(Err(FailureKind::Refused(why)));
            }
        }
    }
}
