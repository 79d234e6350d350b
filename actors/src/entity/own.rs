//! Inputs that nobody waits for: timers, completions, recovery. What cannot be handled is parked.

use bytes::Bytes;

use super::{
    active::{Active, Broken, DecideError},
    ctx::Recorder,
    dedup::fingerprint,
    machine::{Completion, Input, Placing},
    mail::{Item, ReplyPort},
    record::Draft,
};
use crate::{
    error::{FailureKind, Unavailable},
    ids::{EntityId, Name, Timestamp},
    store::{Consumed, Due, Parked},
};

/// An input that found the outbox full is tried again after this long.
const PUT_BACK_AFTER: std::time::Duration = std::time::Duration::from_millis(50);

impl Active {
    pub(super) fn handle_timer(&mut self, id: String) -> Result<(), Broken> {
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

    pub(super) fn handle_completion(
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

    /// An attempt waits for a node that can run it, or such a node was found: then the attempt is over.
    pub(super) fn handle_placing(
        &mut self,
        effect: String,
        attempt: u32,
        placing: Placing,
    ) -> Result<(), Broken> {
        if !self.is_current(&effect, attempt) {
            return Ok(());
        }
        let now = self.env.now();
        let ended = (placing == Placing::Found).then(|| effect.clone());
        let draft = Draft { ended, ..Draft::default() };
        let item = Item::Placing(effect.clone(), attempt, placing);
        let back = ReplyPort::requeue(std::sync::Arc::clone(&self.cell), item);
        let input = Input::Placing { effect: &effect, attempt, placing };
        self.handle_own(&input, draft, back, ("placing", Bytes::from(effect.clone())), now)
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
            Err(DecideError::Limit(kind)) if self.is_parked_for(input) => {
                // Taking the run up again would come to the same decision, for ever.
                self.cell.push_crash_loop(&format!("what it decided cannot be recorded: {}", told(&kind)));
                Err(Broken(FailureKind::Unavailable(Unavailable::Stopped)))
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

    /// Whether a decision on this input that may not be recorded parks the entity.
    fn is_parked_for(&self, input: &Input<'_>) -> bool {
        let parks = self.cell.kind().is_run && self.machine.decides_in_place();
        parks && !matches!(input, Input::CrashLooped(_))
    }

    /// What was decided is not recorded: a machine that decided in place has to be read anew.
    pub(super) fn undecided(&self) -> Result<(), Broken> {
        if self.machine.decides_in_place() {
            return Err(Broken(FailureKind::Unavailable(Unavailable::Stopped)));
        }
        Ok(())
    }

    /// What an origin has settled, as far as it may be forgotten: while a stored command waits its turn again, the
    /// answers that a copy of it may ask for are kept.
    pub(super) fn settled(&self, below: u64) -> u64 {
        if self.put_back.is_empty() { below } else { 0 }
    }

    /// The input cannot be handled at this moment: it goes back into the mailbox after a while.
    pub(super) fn put_back_later(&self, back: ReplyPort, kind: FailureKind) {
        self.env.later(PUT_BACK_AFTER, move || back.answer(Err(kind)));
    }

    /// An entry that changes nothing but what it consumes.
    pub(super) fn consume_only(
        &mut self,
        draft: Draft,
        back: ReplyPort,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let next_effect = self.head.as_ref().map_or(1, |head| head.next_effect);
        let recorder = Recorder::new(self.cell.name().clone(), now, self.version(), next_effect, 0);
        let version = self.record(None, recorder, draft, now)?;
        self.hold(version, back, Ok(Bytes::new()));
        Ok(())
    }

    /// Takes up again what was in flight when the entity's last life ended.
    pub(super) fn handle_recover(&mut self) -> Result<(), Broken> {
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

    pub(super) fn handle_crash_loop(&mut self, why: &str) -> Result<(), Broken> {
        let now = self.env.now();
        let back = ReplyPort::requeue(std::sync::Arc::clone(&self.cell), Item::CrashLooped(why.to_owned()));
        let draft = Draft::default();
        self.handle_own(&Input::CrashLooped(why), draft, back, ("crash loop", Bytes::new()), now)
    }

    /// A decision that was cut goes on in an entry of its own.
    pub(super) fn go_on(&self, more: bool) {
        if more {
            self.cell.push_internal(Item::Continue);
        }
    }

    pub(super) fn handle_continue(&mut self) -> Result<(), Broken> {
        let now = self.env.now();
        let back = ReplyPort::requeue(std::sync::Arc::clone(&self.cell), Item::Continue);
        self.handle_own(&Input::Continue, Draft::default(), back, ("continuation", Bytes::new()), now)
    }
}

pub(super) fn parked(what: &str, payload: Bytes, kind: &FailureKind, now: Timestamp) -> Parked {
    Parked { what: what.to_owned(), at: now, payload, why: told(kind) }
}

/// A failure in words.
fn told(kind: &FailureKind) -> String {
    match kind {
        FailureKind::Rejected(_) => "rejected by the handler".to_owned(),
        FailureKind::Refused(refusal) => refusal.to_string(),
        FailureKind::Unavailable(why) => why.to_string(),
        FailureKind::Unknown(why) => why.to_string(),
        FailureKind::Fatal(why) => why.clone(),
    }
}
