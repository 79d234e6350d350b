//! The redb store through its port.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use stanchion::store::{RedbStore, StoreOptions};
use stanchion_actors::{
    ids::{EntityId, Name, Timestamp, Version},
    store::{
        Activated, Chain, Change, Entry, Head, History, HistoryPage, Incarnation, Outcome, Record, Store,
        StoreError, Token,
    },
};
use tokio::sync::oneshot;

fn name(key: &str) -> Name {
    Name::new("thing", key).unwrap()
}

fn entry(name: &Name, version: u64, state: &[u8], history: History) -> Entry {
    let head = Head {
        name: name.clone(),
        schema: 1,
        version: Version(version),
        created: Timestamp(1),
        updated: Timestamp(version as i64),
        status: String::new(),
        next_message: 1,
        next_effect: 1,
        state_crc: crc32c::crc32c(state),
        history,
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
        cause: Default::default(),
    }
}

async fn submit(store: &RedbStore, record: Record) -> Result<Outcome, StoreError> {
    let (answer, waiting) = oneshot::channel();
    store.submit(record, Box::new(move |result| drop(answer.send(result)))).unwrap();
    waiting.await.unwrap()
}

async fn own(store: &RedbStore, name: &Name) -> (EntityId, Token) {
    let entity = store.create(name).await.unwrap().entity();
    match store.activate(entity, Incarnation(1)).await.unwrap() {
        Activated::Granted(token) => (entity, token),
        other => panic!("{other:?}"),
    }
}

fn open(path: &Path) -> RedbStore {
    RedbStore::open(path, StoreOptions::default()).unwrap()
}

async fn write(store: &RedbStore, token: Token, name: &Name, from: u64, count: u64, history: History) {
    for version in from..from + count {
        let mut chain = Chain::new(token, Version(version - 1));
        chain.push(entry(name, version, format!("state {version}").as_bytes(), history)).unwrap();
        let outcome = submit(store, Record::Chain(chain)).await.unwrap();
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    }
}

#[tokio::test]
async fn what_was_applied_is_there_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    let a = name("a");
    let store = open(&path);
    let (entity, token) = own(&store, &a).await;
    write(&store, token, &a, 1, 20, History::Forever).await;
    let before = store.load(entity).await.unwrap().unwrap();
    store.close().await.unwrap();
    assert!(!dir.path().join("app.redb-log").exists(), "at rest there is one file");
    drop(store);
    let store = Arc::new(open(&path));
    assert_eq!(store.resolve(&a).await.unwrap(), Some(entity));
    assert_eq!(store.load(entity).await.unwrap().unwrap(), before);
    let HistoryPage::Entries(entries) = store.history(entity, Version(3), 5).await.unwrap() else { panic!() };
    assert_eq!(entries.iter().map(|e| e.head.version.0).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    let (_, token) = own(&store, &a).await;
    write(&store, token, &a, 21, 1, History::Forever).await;
}
