//! One item of the mailbox, handled: the way from an input to an entry and to who is answered.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    active::{Active, Broken, DecideError, panic_text},
    ctx::Recorder,
    dedup::{Handled, Seen, fingerprint},
    machine::{Completion, Input},
    mail::{Call, Item, Message, ReadFn, ReplyPort},
    record::Draft,
    transact::Prepare,
};
use crate::{
    error::{FailureKind, Refusal, Unavailable},
    ids::{CommandId, EntityId, Name, Position, Timestamp},
    store::{Consumed, Due, InboxItem, Parked},
};

/// An input that found the outbox full is tried again after this long.
const PUT_BACK_AFTER: std::time::Duration = std::time::Duration::from_millis(50);

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
            Item::Recover => self.handle_recover(),
            Item::Reoffer => {
                self.reoffer = true;
                Ok(())
            }
            Item::CrashLooped(why) => self.handle_crash_loop(&why),
            Item::Continue => self.handle_continue(),
            Item::Prepare(prepare) => self.handle_prepare(prepare),
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

    fn handle_messages(&mut self, mut messages: VecDeque<Message>) -> Result<(), Broken> {
        while self.has_room() {
            let Some(message) = messages.pop_front() else { return Ok(()) };
            if let Err(kind) = self.handle_message(message)? {
                // Order: what comes after a message that has to go again, goes again after it.
                for later in messages {
                    later.reply.answer(Err(kind.clone()));
                }
                return Ok(());
            }
        }
        if !messages.is_empty() {
            self.cell.unpop(Item::Rest(self.token, messages));
        }
        Ok(())
    }

    /// `Err` inside: those after it must go again, and so must the message itself unless it was refused. A
    /// refused message goes back to its sender first: what was consumed is known by its number alone, so nothing
    /// after it may be consumed while the store holds it.
    fn handle_message(&mut self, message: Message) -> Result<Result<(), FailureKind>, Broken> {
        let Message { sender, seq, payload, cause, reply } = message;
        if self.dedup.consumed(sender, seq) {
            self.hold(self.version(), reply, Ok(Bytes::new()));
            return Ok(Ok(()));
        }
        let now = self.env.now();
        let outcome = self.decide(&Input::Command(&payload), &cause, now).and_then(|(decided, recorder)| {
            self.check_limits(&decided, &recorder).map(|()| (decided, recorder)).map_err(DecideError::Limit)
        });
        let (decided, recorder) = match outcome {
            Ok(decided) => decided,
            Err(error) => {
                let kind = error.kind();
                self.hold(self.version(), reply, Err(kind.clone()));
                self.undecided()?;
                let again = matches!(kind, FailureKind::Unavailable(_) | FailureKind::Unknown(_));
                return Ok(Err(if again { kind } else { FailureKind::Unavailable(Unavailable::Stopped) }));
            }
        };
        if let Err(broken) = self.accept() {
            reply.answer(Err(broken.0.clone()));
            return Err(broken);
        }
        let dedup = vec![self.dedup.consume(sender, seq, now)];
        let consumed = vec![Consumed::Message { sender, seq }];
        let draft = Draft { consumed, dedup, cause, ..Draft::default() };
        let version = self.record(decided.change, recorder, draft, now)?;
        self.go_on(decided.more);
        self.hold(version, reply, Ok(decided.reply));
        Ok(Ok(()))
    }

    fn handle_inbox(&mut self, position: Position, item: InboxItem) -> Result<(), Broken> {
        let now = self.env.now();
        let print = fingerprint(&item.payload);
        let consumed = vec![Consumed::Inbox { position }];
        let back = ReplyPort::requeue(std::sync::Arc::clone(&self.cell), Item::Inbox(position, item.clone()));
        // Its session was young when it was stored; how long it lay here says nothing.
        match self.dedup.seen(&item.id, print, self.oldest_session(item.at)) {
            Seen::New => {}
            Seen::Answered(..) => {
                return self.consume_only(Draft { consumed, ..Draft::default() }, back, now);
            }
            seen @ (Seen::Expired | Seen::Conflict) => {
                let why = if seen == Seen::Expired { Refusal::Expired } else { Refusal::IdConflict };
                let parked = vec![parked("inbox", item.payload, &FailureKind::Refused(why), now)];
                let draft = Draft { consumed, parked, cause: item.cause, ..Draft::default() };
                return self.consume_only(draft, back, now);
            }
        }
        let outcome = if self.cell.take_poison(print) {
            Err(DecideError::Poison("evolve".to_owned()))
        } else {
            self.decide(&Input::Command(&item.payload), &item.cause, now)
        };
        let accepted = outcome.and_then(|(decided, recorder)| {
            self.check_limits(&decided, &recorder).map(|()| (decided, recorder)).map_err(DecideError::Limit)
        });
        let settled_below = item.settled_below;
        match accepted {
            Ok((decided, recorder)) => {
                self.accept().inspect_err(|_| self.cell.poison(print))?;
                let handled =
                    Handled { id: item.id, fingerprint: print, reply: decided.reply, settled_below };
                let dedup = self.dedup.remember(handled, self.version().next(), now);
                let draft = Draft { consumed, dedup, cause: item.cause, ..Draft::default() };
                let version = self.record(decided.change, recorder, draft, now)?;
                self.go_on(decided.more);
                self.hold(version, back, Ok(Bytes::new()));
                Ok(())
            }
            Err(DecideError::Limit(kind @ FailureKind::Unavailable(_))) => {
                self.put_back_later(back, kind);
                self.undecided()
            }
            Err(error) => {
                if matches!(error, DecideError::Limit(_)) {
                    self.undecided().inspect_err(|_| self.cell.poison(print))?;
                }
                let handled = Handled { id: item.id, fingerprint: print, reply: Bytes::new(), settled_below };
                let dedup = self.dedup.remember(handled, self.version().next(), now);
                let parked = vec![parked("inbox", item.payload, &error.kind(), now)];
                let draft = Draft { consumed, parked, dedup, cause: item.cause, ..Draft::default() };
                self.consume_only(draft, back, now)
            }
        }
    }

    fn handle_timer(&mut self, id: String) -> Result<(), Broken> {
        let now = self.env.now();
        let Some(timer) = self.timers.get(&id).cloned() else { return Ok(()) };
        if timer.due > now {
            // Set anew since it fired, or the clock went back: its time will come.
            let due = Due { due: timer.due, entity: self.entity, timer: id };
            self.env.services().timers.cast(super::timers::TimersMsg::Arm(due));
            return Ok(());
        }
        let back = ReplyPort::requeue(std::sync::Arc::clone(&self.cell), Item::Timer(id.clone()));
        let draft = Draft { fired: Some(id), ..Draft::default() };
        self.handle_own(&Input::Timer(&timer), draft, back, ("timer", timer.payload.clone()), now)
    }

    fn handle_completion(
        &mut self,
        completion: Completion,
        returned: Option<(EntityId, u64)>,
    ) -> Result<(), Broken> {
        let now = self.env.now();
        let mut draft = Draft::default();
        match &completion {
            Completion::Succeeded { effect, attempt, .. } | Completion::Failed { effect, attempt, .. } => {
                // A late end of an attempt that is no longer the current one says nothing.
                if !self.is_current(effect, *attempt) {
                    return Ok(());
                }
                draft.ended = Some(effect.clone());
            }
            Completion::Returned { .. } => {
                if let Some((sender, seq)) = returned {
                    let Some(to) = self.returned_to(&completion, seq) else { return Ok(()) };
                    draft.returned = Some((seq, to));
                    draft.consumed.push(Consumed::Message { sender, seq });
                }
            }
        }
        let payload = crate::store::encode(&completion).map(Bytes::from).unwrap_or_default();
        let back = ReplyPort::requeue(
            std::sync::Arc::clone(&self.cell),
            Item::Completion(completion.clone(), returned),
        );
        self.handle_own(&Input::Completion(&completion), draft, back, ("completion", payload), now)
    }

    /// To whom a message was that came back; `None` when it was consumed before.
    fn returned_to(&mut self, completion: &Completion, seq: u64) -> Option<Name> {
        let Completion::Returned { to, .. } = completion else { return None };
        let (kind, key) = to.split_once('/')?;
        let to = Name::new(kind, key).ok()?;
        if self.cell.returning(seq).is_none() {
            let settled = super::outbox::OutboxMsg::Returned { sender: self.entity, to, seq };
            self.env.services().outbox.cast(settled);
            return None;
        }
        (!self.returned.contains(&seq)).then_some(to)
    }

    /// An input that nobody waits for: when it cannot be handled it is parked, and the entity goes on.
    fn handle_own(
        &mut self,
        input: &Input<'_>,
        mut draft: Draft,
        back: ReplyPort,
        what: (&str, Bytes),
        now: Timestamp,
    ) -> Result<(), Broken> {
        let cause = draft.cause.clone();
        let print = fingerprint(&what.1);
        let outcome = if self.cell.take_poison(print) {
            Err(DecideError::Poison("evolve".to_owned()))
        } else {
            self.decide(input, &cause, now).and_then(|(decided, recorder)| {
                self.check_limits(&decided, &recorder)
                    .map(|()| (decided, recorder))
                    .map_err(DecideError::Limit)
            })
        };
        match outcome {
            Ok((decided, recorder)) => {
                self.accept().inspect_err(|_| self.cell.poison(print))?;
                if decided.change.is_none() && recorder.is_empty() && draft.is_empty() {
                    back.answer(Ok(Bytes::new()));
                    return Ok(());
                }
                let version = self.record(decided.change, recorder, draft, now)?;
                self.go_on(decided.more);
                self.hold(version, back, Ok(Bytes::new()));
                Ok(())
            }
            Err(DecideError::Limit(kind @ FailureKind::Unavailable(_))) => {
                self.put_back_later(back, kind);
                self.undecided()
            }
            Err(error) => {
                if matches!(error, DecideError::Limit(_)) {
                    self.undecided().inspect_err(|_| self.cell.poison(print))?;
                }
                draft.parked.push(parked(what.0, what.1, &error.kind(), now));
                self.consume_only(draft, back, now)
            }
        }
    }

    /// What was decided is not recorded: a machine that decided in place has to be read anew.
    fn undecided(&self) -> Result<(), Broken> {
        if self.machine.decides_in_place() {
            return Err(Broken(FailureKind::Unavailable(Unavailable::Stopped)));
        }
        Ok(())
    }

    /// The input cannot be handled at this moment: it goes back into the mailbox after a while.
    fn put_back_later(&self, back: ReplyPort, kind: FailureKind) {
        self.env.later(PUT_BACK_AFTER, move || back.answer(Err(kind)));
    }

    /// An entry that changes nothing but what it consumes.
    fn consume_only(&mut self, draft: Draft, back: ReplyPort, now: Timestamp) -> Result<(), Broken> {
        let next_effect = self.head.as_ref().map_or(1, |head| head.next_effect);
        let recorder = Recorder::new(self.cell.name().clone(), now, self.version(), next_effect, 0);
        let version = self.record(None, recorder, draft, now)?;
        self.hold(version, back, Ok(Bytes::new()));
        Ok(())
    }

    /// Takes up again what was in flight when the entity's last life ended.
    fn handle_recover(&mut self) -> Result<(), Broken> {
        let Some(head) = &self.head else { return Ok(()) };
        // Nothing of this process has changed it: what it had in flight was another process's.
        let first = head.updated < self.env.began();
        let before: Vec<String> = self.effects.keys().cloned().collect();
        let now = self.env.now();
        let back = ReplyPort::requeue(std::sync::Arc::clone(&self.cell), Item::Recover);
        let draft = Draft::default();
        let known = self.afters.len();
        self.handle_own(&Input::Recovered { first }, draft, back, ("recovery", Bytes::new()), now)?;
        let restarted: Vec<String> = self
            .afters
            .iter()
            .skip(known)
            .filter_map(|(_, after)| match after {
                super::after::After::Start(effect) => Some(effect.id.clone()),
                _ => None,
            })
            .collect();
        let version = self.version();
        for id in before.into_iter().filter(|id| !restarted.contains(id)) {
            if let Some(effect) = self.effects.get(&id) {
                self.afters.push_back((version, super::after::After::Start(effect.clone())));
            }
        }
        Ok(())
    }

    fn handle_crash_loop(&mut self, why: &str) -> Result<(), Broken> {
        let now = self.env.now();
        let back = ReplyPort::requeue(std::sync::Arc::clone(&self.cell), Item::CrashLooped(why.to_owned()));
        let draft = Draft::default();
        self.handle_own(&Input::CrashLooped(why), draft, back, ("crash loop", Bytes::new()), now)
    }

    /// A decision that was cut goes on in an entry of its own.
    fn go_on(&self, more: bool) {
        if more {
            self.cell.push_internal(Item::Continue);
        }
    }

    fn handle_continue(&mut self) -> Result<(), Broken> {
        let now = self.env.now();
        let back = ReplyPort::requeue(std::sync::Arc::clone(&self.cell), Item::Continue);
        self.handle_own(&Input::Continue, Draft::default(), back, ("continuation", Bytes::new()), now)
    }

    fn handle_prepare(&mut self, prepare: Prepare) -> Result<(), Broken> {
        if prepare.is_given_up() {
            return Ok(());
        }
        let now = self.env.now();
        let mut replies = Vec::with_capacity(prepare.commands.len());
        let version_before = self.version();
        for (index, payload) in prepare.commands.iter().enumerate() {
            if !self.has_room() {
                let what = "transaction".to_owned();
                let (bytes, limit) = (self.gather.bytes(), crate::store::CHAIN_MAX_BYTES);
                prepare.refuse(index, FailureKind::Refused(Refusal::TooLarge { what, bytes, limit }));
                return Err(Broken(FailureKind::Unavailable(Unavailable::Stopped)));
            }
            match self.prepare_one(payload, &prepare.cause, now) {
                Ok(reply) => replies.push(reply),
                Err(PrepareError::Refused(kind)) => {
                    prepare.refuse(index, kind);
                    self.undecided()?;
                    // Earlier commands of the same entity were accepted on speculative state: start over.
                    return if self.version() == version_before {
                        Ok(())
                    } else {
                        Err(Broken(FailureKind::Unavailable(Unavailable::Stopped)))
                    };
                }
                Err(PrepareError::Broken(broken)) => return Err(broken),
            }
        }
        let version = self.gather.version();
        let chain = std::mem::replace(&mut self.gather, crate::store::Chain::new(self.token, version));
        let done = self.pipeline.depart(version, true);
        prepare.prepared(chain, done, replies, &self.cell);
        Ok(())
    }

    fn prepare_one(
        &mut self,
        payload: &[u8],
        cause: &crate::ids::Cause,
        now: Timestamp,
    ) -> Result<Bytes, PrepareError> {
        let (decided, recorder) = self
            .decide(&Input::Command(payload), cause, now)
            .map_err(|error| PrepareError::Refused(error.kind()))?;
        self.check_limits(&decided, &recorder).map_err(PrepareError::Refused)?;
        self.accept().map_err(PrepareError::Broken)?;
        if decided.change.is_some() || !recorder.is_empty() {
            let draft = Draft { cause: cause.clone(), ..Draft::default() };
            self.record(decided.change, recorder, draft, now).map_err(PrepareError::Broken)?;
            self.go_on(decided.more);
        }
        Ok(decided.reply)
    }
}

enum PrepareError {
    Refused(FailureKind),
    Broken(Broken),
}

fn parked(what: &str, payload: Bytes, kind: &FailureKind, now: Timestamp) -> Parked {
    let why = match kind {
        FailureKind::Rejected(_) => "rejected by the handler".to_owned(),
        FailureKind::Refused(refusal) => refusal.to_string(),
        FailureKind::Unavailable(why) => why.to_string(),
        FailureKind::Unknown(why) => why.to_string(),
        FailureKind::Fatal(why) => why.clone(),
    };
    Parked { what: what.to_owned(), at: now, payload, why }
}
