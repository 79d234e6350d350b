//! An activated entity: decides, records entries, gathers them into chains.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    after::After,
    cell::EntityCell,
    ctx::Recorder,
    dedup::{Dedup, before},
    machine::{Decided, Input, Machine, NotAccepted, Restored, Unreadable},
    mail::{Held, ReplyPort},
    pipeline::{Look, Pipeline},
    purge::PurgeError,
    record::Draft,
    within::Within,
};
use crate::{
    env::Env,
    error::{FailureKind, Refusal, Unavailable},
    ids::{Cause, EntityId, Position, Timestamp, Version},
    store::{
        Chain, Change, DedupOp, Effect, Head, Loaded, Record, RefusedWhy, Store, StoreError, Timer, Token,
    },
};

/// Rows read at a time.
const RESTORE_PAGE: usize = 1_024;

/// The first key after this one.
fn after(key: &[u8]) -> Bytes {
    let mut next = key.to_vec();
    next.push(0);
    Bytes::from(next)
}

/// The machine's state can no longer be trusted, or the store refused it: activate again.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) FailureKind);

/// State of one activation.
pub(crate) struct Active {
    pub(super) env: Arc<Env>,
    pub(super) cell: Arc<EntityCell>,
    pub(super) entity: EntityId,
    pub(super) token: Token,
    pub(super) machine: Box<dyn Machine>,
    /// Head at the speculative version; `None` before the first entry.
    pub(super) head: Option<Head>,
    pub(super) dedup: Dedup,
    pub(super) timers: HashMap<String, Timer>,
    pub(super) effects: HashMap<String, Effect>,
    /// Origins forgotten at activation; leaves with the next entry.
    pub(super) forget: Vec<DedupOp>,
    /// Event entries since the last checkpoint.
    pub(super) since_checkpoint: u64,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) gather: Chain,
    /// Replies of gathering entries.
    pub(super) held: Vec<(Version, Held)>,
    pub(super) afters: VecDeque<(Version, After)>,
    /// Stored commands that went back into the mailbox for a while.
    pub(super) put_back: HashSet<Position>,
    /// Consecutive panics on one input.
    pub(super) panics: u32,
    /// The outbox asked for all that is pending.
    pub(super) reoffer: bool,
    /// The outbox has been told of this activation.
    pub(super) offered: bool,
    /// Returned messages that entries of this activation consume.
    pub(super) returned: HashSet<u64>,
    /// The store's queue was full: the cell is woken in a moment.
    pub(crate) retry_planned: bool,
}

impl Active {
    /// From what the store gave. Effects in flight, undelivered messages and timers are taken up again.
    pub(crate) fn restore(
        env: Arc<Env>,
        cell: Arc<EntityCell>,
        token: Token,
        mut machine: Box<dyn Machine>,
        loaded: Loaded,
    ) -> Result<Self, Unreadable> {
        let head = loaded.head().cloned();
        if let Some(head) = &head {
            let known = cell.kind().schema;
            if head.schema > known {
                return Err(Unreadable(format!(
                    "state has schema version {}, this program knows up to {known}: use a newer program",
                    head.schema
                )));
            }
        }
        restore_machine(machine.as_mut(), &loaded)?;
        let version = head.as_ref().map_or(Version(0), |head| head.version);
        let mut dedup = Dedup::restore(loaded.origins, loaded.answers, version);
        let forget = dedup.expire(cell.kind().options.origin_ttl, env.now());
        cell.activations.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let had_outgoing = cell.undelivered() > 0;
        cell.pending_are(loaded.messages.iter().map(|message| message.seq), u64::MAX);
        let mut active = Self {
            entity: token.entity,
            token,
            machine,
            head,
            dedup,
            timers: loaded.timers.into_iter().map(|timer| (timer.id.clone(), timer)).collect(),
            effects: loaded.effects.into_iter().map(|effect| (effect.id.clone(), effect)).collect(),
            forget,
            since_checkpoint: loaded.tail.len() as u64,
            pipeline: Pipeline::new(Arc::clone(&cell), version, env.observer()),
            gather: Chain::new(token, version),
            held: Vec::new(),
            afters: VecDeque::new(),
            put_back: HashSet::new(),
            panics: 0,
            reoffer: false,
            returned: HashSet::new(),
            retry_planned: false,
            offered: had_outgoing || !loaded.messages.is_empty(),
            env,
            cell,
        };
        active.arm_timers();
        if active.offered {
            active.afters.push_back((version, After::Deliver(loaded.messages, true)));
        }
        Ok(active)
    }

    fn arm_timers(&mut self) {
        let entity = self.entity;
        let version = self.version();
        for timer in self.timers.values() {
            let due = crate::store::Due { due: timer.due, entity, timer: timer.id.clone() };
            self.afters.push_back((version, After::Arm(due)));
        }
    }

    /// Reads back the private rows that the machine asks for.
    pub(crate) async fn restore_rows(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        for key in self.machine.rows_needed() {
            if let Some(value) = store.row(self.entity, key.clone()).await? {
                self.machine.restore_row(&key, &value);
            }
        }
        let Some((mut from, to)) = self.machine.rows_range() else { return Ok(()) };
        loop {
            let rows = store.rows(self.entity, from, to.clone(), RESTORE_PAGE).await?;
            for (key, value) in &rows {
                self.machine.restore_row(key, value);
            }
            match rows.last() {
                Some((last, _)) if rows.len() == RESTORE_PAGE => from = after(last),
                _ => return Ok(()),
            }
        }
    }

    /// Lets the machine look at the rows given back.
    pub(crate) fn check_rows(&mut self) -> Result<(), Unreadable> {
        self.machine.rows_restored()
    }

    /// Offers every pending message to an outbox that does not know them.
    pub(crate) async fn offer_pending(&mut self) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.reoffer) {
            return Ok(());
        }
        let loaded = self.env.store().current().load(self.entity).await?.unwrap_or_default();
        let next = loaded.head().map_or(1, |head| head.next_message);
        self.cell.pending_are(loaded.messages.iter().map(|message| message.seq), next);
        After::Deliver(loaded.messages, true).perform(&self.env, &self.cell, self.entity);
        Ok(())
    }

    /// The right this activation writes under.
    pub(crate) fn token(&self) -> Token {
        self.token
    }

    /// The speculative version.
    pub(crate) fn version(&self) -> Version {
        self.head.as_ref().map_or(Version(0), |head| head.version)
    }

    /// Whether nothing gathers, nothing is at the store, nothing is to be done after a commit.
    pub(crate) fn is_quiet(&self) -> bool {
        self.gather.is_empty() && self.afters.is_empty() && matches!(self.pipeline.look(false), Look::Free)
    }

    /// Asks to be woken when nothing is at the store any more.
    pub(crate) fn wake_when_quiet(&self) {
        if matches!(self.pipeline.look(true), Look::Free | Look::Failed(_)) {
            self.cell.wake();
        }
    }

    /// Whether an effect runs, or a message is on its way back.
    pub(crate) fn has_started(&self) -> bool {
        !self.effects.is_empty() || !self.returned.is_empty()
    }

    /// Why the entity is not removed, if so.
    pub(crate) fn in_the_way(&self) -> Option<PurgeError> {
        if self.has_started() {
            return Some(self.busy("has activities that have not ended"));
        }
        if self.cell.undelivered() > 0 {
            return Some(self.busy("has messages that are not delivered yet"));
        }
        self.machine.may_be_removed().err().map(|why| self.busy(why))
    }

    pub(super) fn busy(&self, why: &'static str) -> PurgeError {
        PurgeError::Busy { entity: self.cell.name().clone(), why }
    }

    /// The outbox may forget this entity, which is about to sleep.
    pub(crate) fn say_goodbye(&self) {
        if self.offered {
            self.env.services().outbox.cast(super::outbox::OutboxMsg::Asleep { sender: self.entity });
        }
    }

    /// Whether another input may be handled before the chain has to leave.
    pub(crate) fn has_room(&self) -> bool {
        !self.gather.is_full()
    }

    /// Answers when `version` is durable.
    pub(super) fn hold(&mut self, version: Version, port: ReplyPort, result: Result<Bytes, FailureKind>) {
        let held = Held::new(port, result);
        if version > self.gather.expect() {
            self.held.push((version, held));
        } else {
            self.pipeline.hold(version, held);
        }
    }

    /// Decides on an input, and on acceptance makes the staged state current.
    pub(super) fn decide(
        &mut self,
        input: &Input<'_>,
        cause: &Cause,
        now: Timestamp,
    ) -> Result<(Decided, Recorder), DecideError> {
        let next_effect = self.head.as_ref().map_or(1, |head| head.next_effect);
        loop {
            let mut recorder = Recorder::new(
                self.cell.name().clone(),
                now,
                self.version(),
                next_effect,
                self.env.next_seed(),
            );
            recorder.cause = cause.clone();
            let machine = &mut self.machine;
            let _within = Within::enter(&self.cell);
            match catch_unwind(AssertUnwindSafe(|| machine.decide(input, &mut recorder))) {
                Ok(Ok(decided)) => {
                    self.panics = 0;
                    return Ok((decided, recorder));
                }
                Ok(Err(refused)) => {
                    self.panics = 0;
                    let refused = DecideError::NotAccepted(refused);
                    return Err(if self.machine.is_sound() {
                        refused
                    } else {
                        DecideError::Limit(refused.kind())
                    });
                }
                Err(panic) if !self.machine.is_sound() => std::panic::resume_unwind(panic),
                Err(panic) => {
                    self.panics += 1;
                    if self.panics >= self.cell.kind().options.poison_after {
                        self.panics = 0;
                        return Err(DecideError::Poison(panic_text(panic.as_ref())));
                    }
                }
            }
        }
    }

    /// The staged state becomes current; a panic while it does leaves the machine unusable.
    pub(super) fn accept(&mut self) -> Result<(), Broken> {
        let machine = &mut self.machine;
        catch_unwind(AssertUnwindSafe(|| machine.accept()))
            .map_err(|panic| Broken(FailureKind::Refused(Refusal::Poisoned(panic_text(panic.as_ref())))))
    }

    /// Records an entry. The staged state was accepted before.
    pub(super) fn record(
        &mut self,
        change: Option<Change>,
        recorder: Recorder,
        draft: Draft,
        now: Timestamp,
    ) -> Result<Version, Broken> {
        let entry = self.entry(change, recorder, draft, now)?;
        let version = entry.head.version;
        metrics::counter!("stanchion_transitions_total").increment(1);
        self.head = Some(entry.head.clone());
        self.gather
            .push(entry)
            .map_err(|e| Broken(FailureKind::Unavailable(Unavailable::Store(e.to_string()))))?;
        Ok(version)
    }

    /// Hands the gathered chain to the store, if the one before is back.
    pub(crate) fn submit(&mut self) -> Result<(), Broken> {
        if self.gather.is_empty() {
            return match self.pipeline.look(!self.afters.is_empty()) {
                Look::Failed(kind) => Err(Broken(kind)),
                Look::Busy | Look::Free => Ok(()),
            };
        }
        match self.pipeline.look(true) {
            Look::Busy => return Ok(()),
            Look::Failed(kind) => return Err(Broken(kind)),
            Look::Free => {}
        }
        let version = self.gather.version();
        let chain = std::mem::replace(&mut self.gather, Chain::new(self.token, version));
        // A single caller's chain needs no second look at the entity: the store answers by itself.
        let done = self.pipeline.depart(version, !self.afters.is_empty());
        for (version, held) in self.held.drain(..) {
            self.pipeline.hold(version, held);
        }
        let Err(refused) = self.env.store().submit(Record::Chain(chain), done) else { return Ok(()) };
        match (refused.why, refused.record) {
            (RefusedWhy::Full, Record::Chain(chain)) => {
                self.gather = chain;
                self.pipeline.turned_back();
                drop(refused.done);
                if !std::mem::replace(&mut self.retry_planned, true) {
                    self.env.store().retry_later(&self.env, &self.cell);
                }
                Ok(())
            }
            _ => {
                (refused.done)(Err(crate::store::StoreError::NotApplied("store is closed".into())));
                Err(Broken(FailureKind::Unavailable(Unavailable::Store("store is closed".into()))))
            }
        }
    }

    /// Does what waited for versions that are durable now.
    pub(crate) fn perform_afters(&mut self) {
        let durable = self.pipeline.durable();
        while let Some((version, _)) = self.afters.front() {
            if *version > durable {
                break;
            }
            if let Some((_, after)) = self.afters.pop_front() {
                match &after {
                    // It has ended or was tried again meanwhile; should that not become durable, the next
                    // activation starts it.
                    After::Start(effect) if !self.is_current(&effect.id, effect.attempt) => continue,
                    After::Returned(seq, _) => drop(self.returned.remove(seq)),
                    After::Start(_)
                    | After::Cancel(_)
                    | After::Deliver(..)
                    | After::Arm(_)
                    | After::Publish(_) => {}
                }
                after.perform(&self.env, &self.cell, self.entity);
            }
        }
    }

    /// Whether this is the attempt of the effect that counts.
    pub(super) fn is_current(&self, effect: &str, attempt: u32) -> bool {
        self.effects.get(effect).is_some_and(|known| known.attempt == attempt)
    }

    /// The earliest time a session must have been made, to be taken for new.
    pub(super) fn oldest_session(&self, now: Timestamp) -> Timestamp {
        before(now, self.cell.kind().options.origin_ttl)
    }
}

impl Drop for Active {
    /// Entries that were never handed over leave no doubt; a chain at the store answers by itself.
    fn drop(&mut self) {
        for (_, held) in self.held.drain(..) {
            held.stop();
        }
    }
}

fn restore_machine(machine: &mut dyn Machine, loaded: &Loaded) -> Result<(), Unreadable> {
    let stored = Restored::of(loaded);
    catch_unwind(AssertUnwindSafe(|| machine.restore(&stored))).unwrap_or_else(|panic| {
        Err(Unreadable(format!("restoring panicked: {}", panic_text(panic.as_ref()))))
    })
}

/// Why an input was not accepted.
#[derive(Debug)]
pub(crate) enum DecideError {
    /// By the handler or a check.
    NotAccepted(NotAccepted),
    /// The handler panicked too often.
    Poison(String),
    /// Over a limit.
    Limit(FailureKind),
}

impl DecideError {
    /// What the sender is told.
    pub(crate) fn kind(self) -> FailureKind {
        match self {
            Self::NotAccepted(NotAccepted::Rejected(bytes)) => FailureKind::Rejected(bytes),
            Self::NotAccepted(NotAccepted::Refused(refusal)) => FailureKind::Refused(refusal),
            Self::Poison(text) => FailureKind::Refused(Refusal::Poisoned(text)),
            Self::Limit(kind) => kind,
        }
    }
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "panic without a text".to_owned()
    }
}
