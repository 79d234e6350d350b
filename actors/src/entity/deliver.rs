//! Messages of other entities and commands from the store: handled, consumed and settled in one entry.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    active::{Active, Broken, DecideError},
    ctx::Recorder,
    dedup::{Handled, Seen, fingerprint},
    machine::Input,
    mail::{Item, Message, ReplyPort},
    own::parked,
    record::Draft,
};
use crate::{
    error::{FailureKind, Refusal, Unavailable},
    ids::{CommandId, Origin, Position, Version},
    store::{Consumed, InboxItem},
};

impl Active {
    pub(super) fn handle_messages(&mut self, mut messages: VecDeque<Message>) -> Result<(), Broken> {
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
        if self.dedup.consumed(&sender, seq) {
            self.hold(self.version(), reply, Ok(Bytes::new()));
            return Ok(Ok(()));
        }
        if let Some((kind, version)) = self.dedup.refused(&sender, seq) {
            self.hold(version, reply, Err(kind));
            return Ok(Err(FailureKind::Unavailable(Unavailable::Stopped)));
        }
        let now = self.env.now();
        let outcome = self.decide(&Input::Command(&payload), &cause, now).and_then(|(decided, recorder)| {
            self.check_limits(&decided, &recorder).map(|()| (decided, recorder)).map_err(DecideError::Limit)
        });
        let (decided, recorder) = match outcome {
            Ok(decided) => decided,
            Err(error) => {
                let kind = error.kind();
                let again = matches!(kind, FailureKind::Unavailable(_) | FailureKind::Unknown(_));
                let version = match sender {
                    Origin::Session(_) if !again => {
                        self.refuse_far(CommandId { origin: sender, seq }, &payload, &kind)?
                    }
                    Origin::Session(_) | Origin::Entity(_) => self.version(),
                };
                self.hold(version, reply, Err(kind.clone()));
                self.undecided()?;
                return Ok(Err(if again { kind } else { FailureKind::Unavailable(Unavailable::Stopped) }));
            }
        };
        if let Err(broken) = self.accept() {
            reply.answer(Err(broken.0.clone()));
            return Err(broken);
        }
        let dedup = vec![self.dedup.consume(sender, seq, now)];
        // The outbox of another node is that node's to settle.
        let consumed = match sender {
            Origin::Entity(sender) => vec![Consumed::Message { sender, seq }],
            Origin::Session(_) => Vec::new(),
        };
        let draft = Draft { consumed, dedup, cause, ..Draft::default() };
        let version = self.record(decided.change, recorder, draft, now)?;
        self.go_on(decided.more);
        self.hold(version, reply, Ok(decided.reply));
        Ok(Ok(()))
    }

    /// Records that a message of another node is refused, before its sender hears of it: what was sent twice may come
    /// after that, when the answer would be another one.
    fn refuse_far(&mut self, id: CommandId, payload: &[u8], why: &FailureKind) -> Result<Version, Broken> {
        let now = self.env.now();
        let dedup = self.dedup.refuse(id, payload, why, self.version().next(), now);
        let dedup = dedup.map_err(|error| Broken(FailureKind::Fatal(error.to_string())))?;
        let next_effect = self.head.as_ref().map_or(1, |head| head.next_effect);
        let recorder = Recorder::new(self.cell.name().clone(), now, self.version(), next_effect, 0);
        self.record(None, recorder, Draft { dedup, ..Draft::default() }, now)
    }

    /// What another node has committed leaves the outbox of this entity.
    pub(super) fn handle_delivered(&mut self, numbers: Vec<u64>) -> Result<(), Broken> {
        let sender = self.entity;
        let consumed = numbers.iter().map(|seq| Consumed::Message { sender, seq: *seq }).collect();
        let back = ReplyPort::requeue(std::sync::Arc::clone(&self.cell), Item::Delivered(numbers));
        self.consume_only(Draft { consumed, ..Draft::default() }, back, self.env.now())
    }

    pub(super) fn handle_inbox(&mut self, position: Position, item: InboxItem) -> Result<(), Broken> {
        let now = self.env.now();
        let print = fingerprint(&item.payload);
        let consumed = vec![Consumed::Inbox { position }];
        let back = ReplyPort::requeue(std::sync::Arc::clone(&self.cell), Item::Inbox(position, item.clone()));
        // Its session was young when it was stored; how long it lay here says nothing.
        self.put_back.remove(&position);
        match self.dedup.seen_stored(&item.id, print, self.oldest_session(item.at)) {
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
        let settled_below = self.settled(item.settled_below);
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
                self.put_back.insert(position);
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
}
