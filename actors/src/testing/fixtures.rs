//! Entries, commands and names for tests.

use bytes::Bytes;

use crate::{
    ids::{Cause, CommandId, EntityId, Name, Origin, Position, Timestamp, Version},
    store::{
        Chain, Change, Consumed, DedupOp, DedupRecord, Effect, EffectOp, Entry, Head, History, InboxItem,
        OriginRecord, OutMessage, RowOp, Timer, TimerOp, Token,
    },
};

/// Time of version 0; each version is one microsecond later.
pub const START: Timestamp = Timestamp(1_700_000_000_000_000);

/// A name of kind `thing`.
#[must_use]
pub fn name(key: &str) -> Name {
    name_of("thing", key)
}

/// A name, unchecked.
#[must_use]
pub fn name_of(kind: &str, key: &str) -> Name {
    Name { kind: kind.into(), key: key.into() }
}

/// A head at `version`, everything kept.
#[must_use]
pub fn head(name: &Name, version: u64) -> Head {
    let micros = i64::try_from(version).unwrap_or(i64::MAX);
    Head {
        name: name.clone(),
        schema: 1,
        version: Version(version),
        created: Timestamp(START.0.saturating_add(1)),
        updated: Timestamp(START.0.saturating_add(micros)),
        status: String::new(),
        next_message: 1,
        next_effect: 1,
        state_crc: 0,
        history: History::Forever,
        feed: false,
    }
}

fn entry(head: Head, change: Change) -> Entry {
    Entry {
        head,
        change,
        rows: Vec::new(),
        messages: Vec::new(),
        timers: Vec::new(),
        effects: Vec::new(),
        dedup: Vec::new(),
        consumed: Vec::new(),
        parked: Vec::new(),
        status_before: None,
        cause: Cause::default(),
    }
}

/// An entry with a full state.
#[must_use]
pub fn state_entry(name: &Name, version: u64, state: &[u8]) -> Entry {
    let head = Head { state_crc: crc32c::crc32c(state), ..head(name, version) };
    entry(head, Change::State(Bytes::copy_from_slice(state)))
}

/// An entry with events, and the full state after them if given.
#[must_use]
pub fn event_entry(name: &Name, version: u64, events: &[&[u8]], snapshot: Option<&[u8]>) -> Entry {
    let events = events.iter().map(|event| Bytes::copy_from_slice(event)).collect();
    entry(head(name, version), Change::Events { events, snapshot: snapshot.map(Bytes::copy_from_slice) })
}

/// A chain of `entries` on top of `expect`.
///
/// # Errors
/// What [`Chain::push`] says.
pub fn chain(token: Token, expect: u64, entries: Vec<Entry>) -> Result<Chain, String> {
    let mut chain = Chain::new(token, Version(expect));
    entries.into_iter().try_for_each(|entry| chain.push(entry)).map_err(|e| e.to_string())?;
    Ok(chain)
}

/// The id of the `seq`-th command of a client session.
#[must_use]
pub fn command(session: u128, seq: u64) -> CommandId {
    CommandId { origin: Origin::Session(uuid::Uuid::from_u128(session)), seq }
}

/// A command for `to`, enqueued.
#[must_use]
pub fn inbox_item(to: &Name, seq: u64, payload: &[u8]) -> InboxItem {
    let payload = Bytes::copy_from_slice(payload);
    InboxItem {
        id: command(7, seq),
        settled_below: 1,
        to: to.clone(),
        payload,
        at: START,
        cause: Cause::default(),
    }
}

/// A message to `to`.
#[must_use]
pub fn message(seq: u64, to: &Name, payload: &[u8]) -> OutMessage {
    let payload = Bytes::copy_from_slice(payload);
    OutMessage { seq, to: to.clone(), payload, at: START, expires: None, cause: Cause::default() }
}

/// A timer.
#[must_use]
pub fn timer(id: &str, due: i64) -> Timer {
    Timer { id: id.into(), due: Timestamp(due), payload: Bytes::new() }
}

/// An effect.
#[must_use]
pub fn effect(id: &str) -> Effect {
    let (activity, input) = ("charge".into(), Bytes::from_static(b"input"));
    Effect {
        id: id.into(),
        activity,
        attempt: 1,
        input,
        timeout_ms: 0,
        requires: Vec::new(),
        cause: Cause::default(),
    }
}

/// Adds parts to an entry.
pub trait EntryParts: Sized {
    /// Puts a private row.
    #[must_use]
    fn with_row(self, key: &[u8], value: &[u8]) -> Self;
    /// Deletes a private row.
    #[must_use]
    fn without_row(self, key: &[u8]) -> Self;
    /// Sends [`message`] `seq` to `to`.
    #[must_use]
    fn with_message(self, seq: u64, to: &Name) -> Self;
    /// Sets a timer.
    #[must_use]
    fn with_timer(self, id: &str, due: i64) -> Self;
    /// Clears a timer.
    #[must_use]
    fn without_timer(self, id: &str, due: i64) -> Self;
    /// Starts [`effect`] `id`.
    #[must_use]
    fn with_effect(self, id: &str) -> Self;
    /// Ends an effect.
    #[must_use]
    fn without_effect(self, id: &str) -> Self;
    /// Remembers an answer.
    #[must_use]
    fn with_answer(self, id: CommandId, reply: &[u8]) -> Self;
    /// Forgets an answer.
    #[must_use]
    fn without_answer(self, id: CommandId) -> Self;
    /// Updates an origin.
    #[must_use]
    fn with_origin(self, origin: Origin, settled_below: u64) -> Self;
    /// Forgets an origin.
    #[must_use]
    fn without_origin(self, origin: Origin) -> Self;
    /// Consumes a message.
    #[must_use]
    fn consuming(self, sender: EntityId, seq: u64) -> Self;
    /// Consumes an inbox command.
    #[must_use]
    fn consuming_inbox(self, position: Position) -> Self;
    /// Sets the status word of a first entry.
    #[must_use]
    fn with_status(self, status: &str) -> Self;
    /// Changes the status word that an earlier entry set.
    #[must_use]
    fn with_status_after(self, before: &str, status: &str) -> Self;
    /// Gives the entry a place in the feed.
    #[must_use]
    fn fed(self) -> Self;
    /// Sets how long entries are kept.
    #[must_use]
    fn keeping(self, history: History) -> Self;
    /// Sets the time of the entry, in microseconds after [`START`].
    #[must_use]
    fn at(self, micros: i64) -> Self;
}

impl EntryParts for Entry {
    fn with_row(mut self, key: &[u8], value: &[u8]) -> Self {
        let value = Some(Bytes::copy_from_slice(value));
        self.rows.push(RowOp { key: Bytes::copy_from_slice(key), value });
        self
    }

    fn without_row(mut self, key: &[u8]) -> Self {
        self.rows.push(RowOp { key: Bytes::copy_from_slice(key), value: None });
        self
    }

    fn with_message(mut self, seq: u64, to: &Name) -> Self {
        self.messages.push(message(seq, to, &seq.to_be_bytes()));
        self.head.next_message = seq.saturating_add(1);
        self
    }

    fn with_timer(mut self, id: &str, due: i64) -> Self {
        self.timers.push(TimerOp::Set(timer(id, due)));
        self
    }

    fn without_timer(mut self, id: &str, due: i64) -> Self {
        self.timers.push(TimerOp::Clear { id: id.into(), due: Timestamp(due) });
        self
    }

    fn with_effect(mut self, id: &str) -> Self {
        self.effects.push(EffectOp::Start(effect(id)));
        self
    }

    fn without_effect(mut self, id: &str) -> Self {
        self.effects.push(EffectOp::End { id: id.into() });
        self
    }

    fn with_answer(mut self, id: CommandId, reply: &[u8]) -> Self {
        let reply = Bytes::copy_from_slice(reply);
        self.dedup.push(DedupOp::Remember(answer(id, reply, self.head.updated)));
        self
    }

    fn without_answer(mut self, id: CommandId) -> Self {
        self.dedup.push(DedupOp::Forget(id.origin, slot(id)));
        self
    }

    fn with_origin(mut self, origin: Origin, settled_below: u64) -> Self {
        let record = OriginRecord { settled_below, last_use: self.head.updated };
        self.dedup.push(DedupOp::Origin(origin, record));
        self
    }

    fn without_origin(mut self, origin: Origin) -> Self {
        self.dedup.push(DedupOp::Drop(origin));
        self
    }

    fn consuming(mut self, sender: EntityId, seq: u64) -> Self {
        self.consumed.push(Consumed::Message { sender, seq });
        self
    }

    fn consuming_inbox(mut self, position: Position) -> Self {
        self.consumed.push(Consumed::Inbox { position });
        self
    }

    fn with_status(mut self, status: &str) -> Self {
        self.head.status = status.into();
        self
    }

    fn with_status_after(mut self, before: &str, status: &str) -> Self {
        self.head.status = status.into();
        self.status_before = (before != status).then(|| before.to_owned());
        self
    }

    fn fed(mut self) -> Self {
        self.head.feed = true;
        self
    }

    fn keeping(mut self, history: History) -> Self {
        self.head.history = history;
        self
    }

    fn at(mut self, micros: i64) -> Self {
        self.head.updated = Timestamp(START.0.saturating_add(micros));
        self
    }
}

fn slot(id: CommandId) -> u32 {
    u32::try_from(id.seq & u64::from(u32::MAX)).unwrap_or_default()
}

/// The record of an answer, in a place of its own.
pub fn answer(id: CommandId, reply: Bytes, at: Timestamp) -> DedupRecord {
    DedupRecord { id, fingerprint: id.seq, reply, slot: slot(id), settled_below: 0, at }
}
