//! Entries and stores for the tests of the redb store.
#![allow(dead_code, reason = "each test target uses its part")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use stanchion::store::{RedbStore, StoreOptions, testing::FaultyDisk};
use stanchion_actors::{
    ids::{CommandId, EntityId, Name, Origin, Timestamp, Version},
    store::{
        Activated, Chain, Change, DedupOp, DedupRecord, Effect, EffectOp, Entry, Head, History, Incarnation,
        Loaded, OutMessage, Outcome, Record, RowOp, Store, StoreError, Timer, TimerOp, Token,
    },
};
use tokio::sync::oneshot;

pub(crate) fn name(key: &str) -> Name {
    Name::new("thing", key).unwrap()
}

/// An entry that holds its full state.
pub(crate) fn entry(name: &Name, version: u64, state: &[u8], history: History) -> Entry {
    let head = Head {
        name: name.clone(),
        schema: 1,
        version: Version(version),
        created: Timestamp(1),
        updated: Timestamp(version as i64),
        status: String::new(),
        next_message: version,
        next_effect: version,
        state_crc: crc32c::crc32c(state),
        history,
        feed: false,
    };
    Entry {
        head,
        change: Change::State(Bytes::copy_from_slice(state)),
        rows: vec![],
        messages: vec![],
        timers: vec![],
        effects: vec![],
        dedup: vec![],
        consumed: vec![],
        parked: Vec::new(),
        status_before: None,
        cause: Default::default(),
    }
}

/// An entry that touches every table, determined by `name` and `version`.
pub(crate) fn rich(name: &Name, version: u64, history: History) -> Entry {
    let mut entry = entry(name, version, format!("{name} at {version}").as_bytes(), history);
    if !version.is_multiple_of(3) {
        let snapshot = None;
        entry.change = Change::Events { events: vec![Bytes::from(format!("event {version}"))], snapshot };
    }
    let key = Bytes::from(format!("row {}", version % 5));
    let value = (!version.is_multiple_of(4)).then(|| Bytes::from(format!("value {version}")));
    entry.rows = vec![RowOp { key, value }];
    let timer =
        Timer { id: format!("t{}", version % 2), due: Timestamp(version as i64), payload: Bytes::new() };
    if version > 2 {
        let due = Timestamp(version as i64 - 2);
        entry.timers.push(TimerOp::Clear { id: timer.id.clone(), due });
    }
    entry.timers.push(TimerOp::Set(timer));
    entry.messages = vec![OutMessage {
        seq: version,
        to: self::name("receiver"),
        payload: Bytes::from_static(b"hello"),
        at: Timestamp(1),
        expires: None,
        cause: Default::default(),
    }];
    if version > 3 {
        entry.effects.push(EffectOp::End { id: format!("e{}", version - 3) });
    }
    entry.effects.push(EffectOp::Start(Effect {
        id: format!("e{version}"),
        activity: "act".into(),
        attempt: 1,
        input: Bytes::new(),
        timeout_ms: 0,
        requires: Vec::new(),
        cause: Default::default(),
    }));
    let id = |seq| CommandId { origin: Origin::Session(uuid::Uuid::from_u128(7)), seq };
    let reply = Bytes::from(format!("reply {version}"));
    let slot = |version: u64| u32::try_from(version).unwrap();
    entry.dedup.push(DedupOp::Remember(DedupRecord {
        id: id(version),
        fingerprint: 1,
        reply,
        slot: slot(version),
        settled_below: 0,
        at: entry.head.updated,
    }));
    if version > 4 {
        entry.dedup.push(DedupOp::Forget(id(version - 4).origin, slot(version - 4)));
    }
    entry
}

pub(crate) fn ask(store: &RedbStore, record: Record) -> oneshot::Receiver<Result<Outcome, StoreError>> {
    let (answer, waiting) = oneshot::channel();
    store.submit(record, Box::new(move |result| drop(answer.send(result)))).unwrap();
    waiting
}

pub(crate) async fn submit(store: &RedbStore, record: Record) -> Result<Outcome, StoreError> {
    ask(store, record).await.unwrap()
}

pub(crate) async fn own(store: &RedbStore, name: &Name) -> Token {
    let entity = store.create(name).await.unwrap().entity();
    match store.activate(entity, Incarnation(1)).await.unwrap() {
        Activated::Granted(token) => token,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn one(token: Token, entry: Entry) -> Record {
    let mut chain = Chain::new(token, Version(entry.head.version.0 - 1));
    chain.push(entry).unwrap();
    Record::Chain(chain)
}

pub(crate) fn open(path: &Path) -> RedbStore {
    RedbStore::open(path, StoreOptions::default()).unwrap()
}

/// Small limits, so that a few entries freeze, fold and wait.
pub(crate) fn small(disk: &FaultyDisk) -> StoreOptions {
    let mut options = StoreOptions::default();
    options.backends = Some(Arc::new(disk.clone()));
    options.log_max_bytes = 64 << 10;
    options.fold_bytes = 8 << 10;
    options.slice_bytes = 1 << 10;
    options.data_cache_bytes = 1 << 20;
    options.log_cache_bytes = 1 << 20;
    options
}

pub(crate) fn open_on(disk: &FaultyDisk) -> RedbStore {
    RedbStore::open("memory.redb", small(disk)).unwrap()
}

/// Writes `versions` of `rich` entries, one after the other; `acked` counts the answers.
pub(crate) async fn write(
    store: &RedbStore,
    token: Token,
    name: &Name,
    versions: std::ops::RangeInclusive<u64>,
    history: History,
    acked: &AtomicU64,
) {
    for version in versions {
        let outcome = submit(store, one(token, rich(name, version, history))).await.unwrap();
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
        acked.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a memory without any store would hold after `versions` rich entries.
pub(crate) fn expected(name: &Name, versions: u64, history: History) -> Loaded {
    let entries: Vec<Entry> = (1..=versions).map(|version| rich(name, version, history)).collect();
    let mut loaded = Loaded::default();
    let mut timers = std::collections::BTreeMap::new();
    let mut effects = std::collections::BTreeMap::new();
    for entry in entries {
        if let Change::State(state) = &entry.change {
            let (head, state) = (entry.head.clone(), state.clone());
            loaded.checkpoint = Some(stanchion_actors::store::Checkpoint { head, state });
            loaded.tail.clear();
        } else {
            loaded.tail.push(entry.clone());
        }
        loaded.messages.extend(entry.messages.iter().cloned());
        for op in &entry.timers {
            match op {
                TimerOp::Set(timer) => drop(timers.insert(timer.id.clone(), timer.clone())),
                TimerOp::Clear { id, .. } => drop(timers.remove(id)),
            }
        }
        for op in &entry.effects {
            match op {
                EffectOp::Start(effect) => drop(effects.insert(effect.id.clone(), effect.clone())),
                EffectOp::End { id } => drop(effects.remove(id)),
            }
        }
        for op in &entry.dedup {
            match op {
                DedupOp::Remember(record) => loaded.answers.push(record.clone()),
                DedupOp::Forget(_, slot) => loaded.answers.retain(|record| record.slot != *slot),
                _ => {}
            }
        }
    }
    loaded.timers = timers.into_values().collect();
    loaded.effects = effects.into_values().collect();
    loaded
}

/// The rows that `versions` rich entries leave.
pub(crate) fn expected_rows(versions: u64) -> Vec<(Bytes, Bytes)> {
    let mut rows = std::collections::BTreeMap::new();
    for version in 1..=versions {
        for row in rich(&name("any"), version, History::None).rows {
            match row.value {
                Some(value) => drop(rows.insert(row.key, value)),
                None => drop(rows.remove(&row.key)),
            }
        }
    }
    rows.into_iter().collect()
}

/// Everything of one entity is as `versions` rich entries leave it.
pub(crate) async fn assert_is_at(
    store: &RedbStore,
    entity: EntityId,
    name: &Name,
    versions: u64,
    history: History,
) {
    let loaded = store.load(entity).await.unwrap();
    let expected = (versions > 0).then(|| expected(name, versions, history));
    assert_eq!(loaded, expected, "{name} at {versions}");
    let rows = store.rows(entity, Bytes::new(), Bytes::new(), 100).await.unwrap();
    assert_eq!(rows, expected_rows(versions), "rows of {name} at {versions}");
}
