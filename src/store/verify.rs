//! Checking a closed store: every checksum, and that the tables say the same.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use redb::{Database, ReadableDatabase, ReadableTable};
use stanchion_actors::{
    ids::{EntityId, Name, Version},
    store::{
        Checkpoint, DedupRecord, Effect, Head, History, InboxItem, OriginRecord, OutMessage, Parked,
        StoreError, Table, Timer, key, parse_feed, unframe,
    },
};

use super::{
    derived::Derived,
    memtable::version_of,
    open::{Inspected, Opener},
    open_error::OpenError,
    options::StoreOptions,
    pack::unpack,
    queries::parse_due,
    tables::{DataMeta, corrupt, decode_row, hex, name, owned, read_error, rows},
    view::{Snapshot, View},
};

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Table of the row; `file` for what lies below tables.
    pub table: &'static str,
    /// The row's key in hexadecimal; empty when it is no row.
    pub key: String,
    /// What does not hold.
    pub cause: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Entities checked.
    pub entities: u64,
    /// Entries of histories checked.
    pub entries: u64,
    /// Rows checked.
    pub rows: u64,
    /// All that does not hold; empty for a sound store.
    pub faults: Vec<Fault>,
}

impl VerifyReport {
    pub(super) fn fault(&mut self, table: &'static str, key: &[u8], cause: impl ToString) {
        self.faults.push(Fault { table, key: hex(key), cause: cause.to_string() });
    }

    fn error(&mut self, error: StoreError) {
        self.faults.push(match error {
            StoreError::Corrupt { table, key, cause } => Fault { table, key, cause },
            other => Fault { table: "file", key: String::new(), cause: other.to_string() },
        });
    }

    pub(super) fn take<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        result.map_err(|error| self.error(error)).ok()
    }
}

/// Checks the closed store at `path`, with what its log holds. Reads everything; blocks for as long as that takes.
///
/// # Errors
/// [`OpenError`] when the store is open elsewhere, or does not open at all.
pub fn verify(path: impl AsRef<Path>, options: &StoreOptions) -> Result<VerifyReport, OpenError> {
    let options = StoreOptions { must_exist: true, ..options.clone() };
    let path = path.as_ref();
    let opener = Opener::new(path, &options);
    let Inspected { mut data, mem, gone, meta, last, .. } = opener.sheltered(|| opener.inspect())?;
    let mut report = VerifyReport::default();
    match catch_unwind(AssertUnwindSafe(|| data.check_integrity())) {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => report.fault("file", &[], "the file had to be repaired"),
        Ok(Err(error)) => report.fault("file", &[], error),
        Err(_) => report.fault("file", &[], "the check of the file panicked"),
    }
    if !report.faults.is_empty() {
        return Ok(report);
    }
    let data = Arc::new(data);
    let view = View::new(mem, gone, data.clone(), None);
    let checked = catch_unwind(AssertUnwindSafe(|| {
        let states = check_rows(&data, &meta, &mut report);
        match view.snapshot() {
            Ok(snapshot) => check_entities(&snapshot, &states, Derived::new(&meta, last), &mut report),
            Err(error) => report.error(error),
        }
    }));
    if checked.is_err() {
        report.fault("file", &[], "reading panicked");
    }
    Ok(report)
}

/// Decodes every stored row; answers the entities that have a stored state.
fn check_rows(data: &Database, meta: &DataMeta, report: &mut VerifyReport) -> Vec<EntityId> {
    let mut states = Vec::new();
    for table in Table::ALL.into_iter().filter(|table| meta.has(*table)) {
        let checked = (|| {
            let stored =
                data.begin_read().map_err(read_error)?.open_table(rows(table)).map_err(read_error)?;
            for row in stored.iter().map_err(read_error)? {
                let (key, value) = row.map_err(read_error)?;
                report.rows += 1;
                let checked = check_row(table, key.value(), value.value());
                if let Some(Some(entity)) = report.take(checked) {
                    states.push(entity);
                }
            }
            Ok(())
        })();
        report.take(checked);
    }
    states
}

/// Decodes one row; answers the entity whose state it is.
fn check_row(table: Table, key: &[u8], value: &[u8]) -> Result<Option<EntityId>, StoreError> {
    match table {
        Table::Name | Table::Index => decode_row::<EntityId>(table, key, value).map(drop)?,
        Table::Feed => {
            parse_feed(key, value).map_err(|e| corrupt(name(table), key, e))?;
        }
        Table::Due => parse_due(key).map(drop)?,
        Table::Definition => {
            unframe(key, value).map_err(|e| corrupt(name(table), key, e))?;
        }
        Table::History => check_history_row(key, value)?,
        Table::Entity | Table::Work => return check_tagged(table, key, value),
    }
    Ok(None)
}

fn check_history_row(key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    let damage = |cause: &str| corrupt(name(Table::History), key, cause);
    let items = unpack(key, &owned(value))?;
    let first = super::pack::first_version(key).ok_or_else(|| damage("the key is short"))?;
    if items.first().is_none_or(|item| item.version != first) {
        return Err(damage("the first version is not the key's"));
    }
    if !items.is_sorted_by(|a, b| a.version < b.version) {
        return Err(damage("versions do not ascend"));
    }
    Ok(())
}

fn check_tagged(table: Table, key: &[u8], value: &[u8]) -> Result<Option<EntityId>, StoreError> {
    let tag = key.get(8).copied();
    match (table, tag) {
        (Table::Entity, Some(key::CHECKPOINT)) => {
            decode_row::<Checkpoint>(table, key, value)?;
            return Ok(key.first_chunk().map(|entity| EntityId(u64::from_be_bytes(*entity))));
        }
        (Table::Entity, Some(key::ROW)) => {
            unframe(key, value).map_err(|e| corrupt(name(table), key, e))?;
        }
        (Table::Entity, Some(key::ORIGIN)) => {
            decode_row::<(stanchion_actors::ids::Origin, OriginRecord)>(table, key, value)?;
        }
        (Table::Entity, Some(key::ANSWER)) => decode_row::<DedupRecord>(table, key, value).map(drop)?,
        (Table::Entity, Some(key::PARKED)) => decode_row::<Parked>(table, key, value).map(drop)?,
        (Table::Entity, Some(key::TIMER)) => decode_row::<Timer>(table, key, value).map(drop)?,
        (Table::Work, Some(key::MESSAGE)) => decode_row::<OutMessage>(table, key, value).map(drop)?,
        (Table::Work, Some(key::INBOX)) => decode_row::<InboxItem>(table, key, value).map(drop)?,
        (Table::Work, Some(key::EFFECT)) => decode_row::<Effect>(table, key, value).map(drop)?,
        _ => return Err(corrupt(name(table), key, "the tag is not known")),
    }
    Ok(None)
}

/// Rows read at once.
const PAGE: usize = 512;

/// Gives every row of a table to `each`.
pub(super) fn pages(
    snapshot: &Snapshot,
    table: Table,
    report: &mut VerifyReport,
    mut each: impl FnMut(&mut VerifyReport, &[u8], &[u8]),
) {
    let mut from = Vec::new();
    loop {
        let Some(page) = report.take(snapshot.range(table, from, None, PAGE)) else { return };
        for (key, value) in &page {
            each(report, key, value);
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => from = [last.as_slice(), &[0]].concat(),
            _ => return,
        }
    }
}

fn check_entities(snapshot: &Snapshot, states: &[EntityId], mut derived: Derived, report: &mut VerifyReport) {
    derived.read_feed(snapshot, report);
    let mut named = HashSet::new();
    pages(snapshot, Table::Name, report, |report, key, value| {
        let Ok(entity) = decode_row::<EntityId>(Table::Name, key, value) else { return };
        report.entities += 1;
        if !named.insert(entity) {
            report.fault(name(Table::Name), key, format!("entity {entity} has two names"));
        }
        let checked = check_entity(snapshot, entity, key, &mut derived, report);
        report.take(checked);
    });
    for entity in states {
        if let Some(Some(_)) = report.take(snapshot.checkpoint(*entity))
            && !named.contains(entity)
        {
            report.fault(name(Table::Entity), &key::checkpoint(*entity), "no name leads to this entity");
        }
    }
    derived.check(snapshot, report);
}

fn check_entity(
    snapshot: &Snapshot,
    entity: EntityId,
    name_key: &[u8],
    derived: &mut Derived,
    report: &mut VerifyReport,
) -> Result<(), StoreError> {
    let Some(head) = snapshot.head(entity)? else {
        if snapshot.prefix(Table::Work, &key::entity(entity))?.is_empty() {
            report.fault(name(Table::Name), name_key, format!("entity {entity} has nothing"));
        }
        return Ok(());
    };
    let own: &Name = &head.name;
    if key::name(own) != name_key {
        report.fault(name(Table::Name), name_key, format!("entity {entity} calls itself {own}"));
    }
    derived.expect(entity, &head, report);
    let state = snapshot.checkpoint(entity)?;
    if let Some(state) = &state
        && crc32c::crc32c(&state.state) != state.head.state_crc
    {
        report.fault(name(Table::Entity), &key::checkpoint(entity), "the state is not what its head says");
    }
    check_history(snapshot, entity, &head, state.as_ref(), derived, report)
}

fn check_history(
    snapshot: &Snapshot,
    entity: EntityId,
    head: &Head,
    checkpoint: Option<&Checkpoint>,
    derived: &Derived,
    report: &mut VerifyReport,
) -> Result<(), StoreError> {
    let state = version_of(checkpoint.map(|checkpoint| &checkpoint.head));
    let items = snapshot.history(entity, Version(1), usize::MAX, |_| true)?;
    let mut before: Option<Version> = None;
    for item in &items {
        report.entries += 1;
        let entry = item.entry(entity)?;
        let key = key::history(entity, item.version);
        if entry.head.version != item.version {
            report.fault(name(Table::History), &key, format!("the entry has version {}", entry.head.version));
        }
        derived.compare_entry(entity, &entry.head, report);
        if let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.head.version == item.version)
            && (entry.head != checkpoint.head || entry.change.state() != Some(&checkpoint.state))
        {
            let key = key::checkpoint(entity);
            report.fault(name(Table::Entity), &key, "the state is not that of the entry that wrote it");
        }
        let kept_all = entry.head.history != History::None || item.version > state;
        if kept_all && before.is_some_and(|before| before.next() != item.version && before != state) {
            report.fault(name(Table::History), &key, "versions have a gap");
        }
        before = Some(item.version);
    }
    let reached = before.unwrap_or(state).max(state);
    if reached != head.version {
        let key = key::history(entity, reached);
        report.fault(name(Table::History), &key, format!("ends before version {}", head.version));
    }
    let first_tail = items.iter().find(|item| item.version > state);
    if first_tail.is_some_and(|item| item.version != state.next()) {
        report.fault(name(Table::History), &key::history(entity, state.next()), "recovery lacks entries");
    }
    if head.history != History::None && state == head.version && before.is_some_and(|last| last < state) {
        report.fault(name(Table::History), &key::history(entity, state), "the last entry is missing");
    }
    Ok(())
}
