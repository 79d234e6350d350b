//! What is derived from entries and must say the same as they: timers by time, the index, the feed.

use std::collections::{BTreeSet, HashMap};

use stanchion_actors::{
    ids::{EntityId, Position, Version},
    store::{Head, Table, Timer, key, parse_feed},
};

use super::{
    tables::{DataMeta, decode_row, name},
    verify::{VerifyReport, pages},
    view::Snapshot,
};

/// What the derived tables are compared with.
pub(super) struct Derived {
    indexed: bool,
    has_feed: bool,
    /// Last position of the store.
    last: Position,
    /// Keys of the index as the heads give them.
    index: BTreeSet<Vec<u8>>,
    /// Places of the feed by entity, and its kind.
    feed: HashMap<EntityId, (String, BTreeSet<Version>)>,
}

impl Derived {
    pub(super) fn new(meta: &DataMeta, last: Position) -> Self {
        let (indexed, has_feed) = (meta.indexed, meta.has(Table::Feed));
        Self { indexed, has_feed, last, index: BTreeSet::new(), feed: HashMap::new() }
    }

    /// Reads the feed, whose order must be that of the versions of each entity.
    pub(super) fn read_feed(&mut self, snapshot: &Snapshot, report: &mut VerifyReport) {
        if !self.has_feed {
            return;
        }
        let (last, feed) = (self.last, &mut self.feed);
        pages(snapshot, Table::Feed, report, |report, row_key, row| {
            let Ok(item) = parse_feed(row_key, row) else { return };
            if item.position > last {
                report.fault(name(Table::Feed), row_key, "nothing was committed here yet");
            }
            let (kind, versions) = feed.entry(item.entity).or_insert((item.kind.clone(), BTreeSet::new()));
            if versions.last().is_some_and(|before| *before >= item.version) {
                report.fault(name(Table::Feed), row_key, "versions of the entity do not ascend");
            }
            if *kind != item.kind {
                report.fault(name(Table::Feed), row_key, "the entity is of another kind elsewhere");
            }
            versions.insert(item.version);
        });
    }

    /// Notes what the derived tables must say of an entity, and compares its places in the feed.
    pub(super) fn expect(&mut self, entity: EntityId, head: &Head, report: &mut VerifyReport) {
        if !head.status.is_empty() {
            self.index.insert(key::index(&head.name, key::STATUS, &head.status));
        }
        let place = key::entity(entity);
        let Some((kind, versions)) = self.feed.get(&entity) else { return };
        if *kind != *head.name.kind {
            report.fault(name(Table::Feed), &place, format!("{} is called a {kind} there", head.name));
        }
        if versions.last().is_some_and(|last| *last > head.version) {
            report.fault(name(Table::Feed), &place, format!("{} has not got that far", head.name));
        }
    }

    /// Compares an entry with its place in the feed.
    pub(super) fn compare_entry(&self, entity: EntityId, head: &Head, report: &mut VerifyReport) {
        if !self.has_feed {
            return;
        }
        let found = self.feed.get(&entity).is_some_and(|(_, versions)| versions.contains(&head.version));
        if found != head.feed {
            let key = key::history(entity, head.version);
            let cause = if found { "has a place for this entry" } else { "lacks this entry" };
            report.fault(name(Table::Feed), &key, cause);
        }
    }

    /// Compares the rest, once every entity was noted.
    pub(super) fn check(mut self, snapshot: &Snapshot, report: &mut VerifyReport) {
        check_timers(snapshot, report);
        if !self.indexed {
            return;
        }
        pages(snapshot, Table::Index, report, |report, row_key, row| {
            let owner = decode_row::<EntityId>(Table::Index, row_key, row).ok();
            let head = owner.and_then(|entity| snapshot.head(entity).ok().flatten());
            let own = head.map(|head| key::index(&head.name, key::STATUS, &head.status));
            if !self.index.remove(row_key) || own.as_deref() != Some(row_key) {
                report.fault(name(Table::Index), row_key, "no entity has this value");
            }
        });
        for row_key in self.index {
            report.fault(name(Table::Index), &row_key, "the entity with this value is not found by it");
        }
    }
}

/// Timers of entities and rows by time are the same.
fn check_timers(snapshot: &Snapshot, report: &mut VerifyReport) {
    let mut of_entities = BTreeSet::new();
    pages(snapshot, Table::Entity, report, |_, row_key, value| {
        if row_key.get(8) != Some(&key::TIMER) {
            return;
        }
        let entity = row_key.first_chunk().map(|entity| EntityId(u64::from_be_bytes(*entity)));
        if let (Some(entity), Ok(timer)) = (entity, decode_row::<Timer>(Table::Entity, row_key, value)) {
            of_entities.insert(key::due(timer.due, entity, &timer.id));
        }
    });
    pages(snapshot, Table::Due, report, |report, key, _| {
        if !of_entities.remove(key) {
            report.fault(name(Table::Due), key, "no entity has this timer");
        }
    });
    for key in of_entities {
        report.fault(name(Table::Due), &key, "the timer has no row by time");
    }
}
