//! The list of what applied, and lookups that walk all of it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    ids::{EntityId, Origin, Position, Version},
    store::{
        Change, Checkpoint, Consumed, DedupOp, DedupRecord, EffectOp, Entry, History, InboxItem, Loaded,
        TimerOp,
    },
};

pub(super) enum Applied {
    Entry(EntityId, Box<Entry>),
    Inbox(EntityId, InboxItem),
    Done(EntityId, u64),
    Definition([u8; 32], Bytes),
    Purge(EntityId),
}

/// What a store must hold.
#[derive(Default)]
pub(super) struct Model {
    /// The n-th of them has position n, from 1.
    pub(super) applied: Vec<Applied>,
}

/// Everything of one entity.
#[derive(Default)]
pub(super) struct Found {
    pub(super) loaded: Loaded,
    pub(super) entries: Vec<Entry>,
    pub(super) rows: BTreeMap<Bytes, Bytes>,
}

impl Model {
    pub(super) fn position(&self) -> Position {
        Position(self.applied.len() as u64)
    }

    pub(super) fn find(&self, entity: EntityId) -> Found {
        let mut found = Found::default();
        for (position, applied) in (1..).map(Position).zip(&self.applied) {
            match applied {
                Applied::Entry(of, entry) => {
                    if *of == entity {
                        found.take(entry);
                    }
                    entry.consumed.iter().for_each(|consumed| found.consume(entity, *of, *consumed));
                }
                Applied::Inbox(of, item) if *of == entity => {
                    found.loaded.inbox.push((position, item.clone()))
                }
                Applied::Done(sender, seq) if *sender == entity => found.settle(*seq),
                Applied::Purge(of) if *of == entity => found = Found::default(),
                Applied::Inbox(..) | Applied::Done(..) | Applied::Purge(_) | Applied::Definition(..) => {}
            }
        }
        found
    }

    /// Places of the feed.
    pub(super) fn feed(&self) -> Vec<(Position, EntityId, Version)> {
        let places = (1..).map(Position).zip(&self.applied).filter_map(|(position, applied)| match applied {
            Applied::Entry(of, entry) if entry.head.feed => Some((position, *of, entry.head.version)),
            _ => None,
        });
        places.collect()
    }

    pub(super) fn definitions(&self) -> BTreeMap<[u8; 32], Bytes> {
        let definitions = self.applied.iter().filter_map(|applied| match applied {
            Applied::Definition(hash, bytes) => Some((*hash, bytes.clone())),
            _ => None,
        });
        definitions.collect()
    }
}

impl Found {
    fn take(&mut self, entry: &Entry) {
        let state = match &entry.change {
            Change::State(state) => Some(state),
            Change::Events { snapshot, .. } => snapshot.as_ref(),
        };
        self.loaded.tail.push(entry.clone());
        if let Some(state) = state {
            self.loaded.tail.clear();
            self.loaded.checkpoint = Some(Checkpoint { head: entry.head.clone(), state: state.clone() });
        }
        self.entries.push(entry.clone());
        for row in &entry.rows {
            match &row.value {
                Some(value) => drop(self.rows.insert(row.key.clone(), value.clone())),
                None => drop(self.rows.remove(&row.key)),
            }
        }
        self.loaded.messages.extend(entry.messages.iter().cloned());
        self.take_timers_and_effects(entry);
        self.take_dedup(entry);
    }

    fn take_timers_and_effects(&mut self, entry: &Entry) {
        let Loaded { timers, effects, .. } = &mut self.loaded;
        for op in &entry.timers {
            match op {
                TimerOp::Set(timer) => timers.push(timer.clone()),
                TimerOp::Clear { id, .. } => timers.retain(|timer| timer.id != *id),
            }
        }
        for op in &entry.effects {
            match op {
                EffectOp::Start(effect) => effects.push(effect.clone()),
                EffectOp::End { id } => effects.retain(|effect| effect.id != *id),
            }
        }
    }

    fn take_dedup(&mut self, entry: &Entry) {
        let Loaded { answers, origins, .. } = &mut self.loaded;
        for op in &entry.dedup {
            match op {
                DedupOp::Remember(record) => {
                    answers.retain(|answer| !in_place(answer, &record.id.origin, record.slot));
                    answers.push(record.clone());
                }
                DedupOp::Forget(origin, slot) => {
                    answers.retain(|answer| !in_place(answer, origin, *slot));
                }
                DedupOp::Origin(origin, record) => {
                    origins.retain(|(known, _)| known != origin);
                    origins.push((*origin, *record));
                }
                DedupOp::Drop(origin) => origins.retain(|(known, _)| known != origin),
            }
        }
    }

    fn consume(&mut self, me: EntityId, by: EntityId, consumed: Consumed) {
        match consumed {
            Consumed::Message { sender, seq } if sender == me => self.settle(seq),
            Consumed::Inbox { position } if by == me => self.loaded.inbox.retain(|(at, _)| *at != position),
            Consumed::Message { .. } | Consumed::Inbox { .. } => {}
        }
    }

    fn settle(&mut self, seq: u64) {
        self.loaded.messages.retain(|message| message.seq != seq);
    }

    pub(super) fn version(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The first version that must still be there.
    pub(super) fn first_kept(&self) -> u64 {
        let (Some(last), Some(stored)) = (self.entries.last(), &self.loaded.checkpoint) else { return 1 };
        let first = match last.head.history {
            History::Forever => 1,
            History::None => u64::MAX,
            History::Last(kept) => (self.version() + 1).saturating_sub(kept),
            History::ForMicros(micros) => {
                let oldest = last.head.updated.0 - i64::try_from(micros).unwrap_or(i64::MAX);
                let young = self.entries.iter().find(|entry| entry.head.updated.0 > oldest);
                young.map_or(u64::MAX, |entry| entry.head.version.0)
            }
        };
        first.clamp(1, stored.head.version.0 + 1)
    }
}

fn in_place(answer: &DedupRecord, origin: &Origin, slot: u32) -> bool {
    answer.id.origin == *origin && answer.slot == slot
}
