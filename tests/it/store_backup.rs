//! Backup, restore and verification of the redb store.

use std::{
    path::Path,
    sync::{LazyLock, atomic::AtomicU64},
};

use proptest::prelude::*;
use redb::{Database, ReadableTable, TableDefinition};
use stanchion::store::{Fault, OpenError, RedbStore, RestoreError, StoreOptions, restore, verify};
use stanchion_actors::{
    ids::{EntityId, Timestamp, Version},
    store::{History, Outcome, Store, StoreError, frame, key},
    testing::bytes::{cases, damaged},
};

use crate::support::{ask, assert_is_at, entry, name, one, open, own, rich, submit, write};

fn counter() -> AtomicU64 {
    AtomicU64::new(0)
}

async fn backed_up(dir: &Path) -> std::path::PathBuf {
    let (store, a) = (open(&dir.join("app.redb")), name("a"));
    let token = own(&store, &a).await;
    write(&store, token, &a, 1..=10, History::Forever, &counter()).await;
    let to = dir.join("backup");
    store.backup(to.clone(), false).await.unwrap();
    to
}

#[tokio::test]
async fn a_backup_taken_while_writing_restores_to_a_prefix_of_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (store, a) = (open(&dir.path().join("app.redb")), name("a"));
    let token = own(&store, &a).await;
    write(&store, token, &a, 1..=50, History::Forever, &counter()).await;
    store.fold().await.unwrap();
    write(&store, token, &a, 51..=80, History::Forever, &counter()).await;
    let waiting: Vec<_> =
        (81..=600).map(|v| ask(&store, one(token, rich(&a, v, History::Forever)))).collect();
    let to = dir.path().join("backup");
    store.backup(to.clone(), false).await.unwrap();
    for answered in waiting {
        assert!(matches!(answered.await.unwrap(), Ok(Outcome::Applied { .. })));
    }
    let refused = store.backup(to.clone(), false).await.unwrap_err();
    assert!(matches!(refused, StoreError::NotApplied(_)), "an existing file is not replaced unasked");
    let restored = dir.path().join("restored.redb");
    let report = restore(&to, &restored, false).unwrap();
    assert_eq!(report.id, store.id());
    assert_eq!(verify(&restored, &StoreOptions::default()).unwrap().faults, []);
    let copy = open(&restored);
    assert_eq!(copy.position(), report.position);
    let versions = report.position.0;
    assert!((80..=600).contains(&versions), "{versions}");
    assert_is_at(&copy, token.entity, &a, versions, History::Forever).await;
    store.backup(to.clone(), true).await.unwrap();
    assert_is_at(&store, token.entity, &a, 600, History::Forever).await;
    let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["app.redb", "app.redb-log", "backup", "restored.redb", "restored.redb-log"]);
}

#[tokio::test]
async fn a_flipped_byte_anywhere_in_a_backup_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let from = backed_up(dir.path()).await;
    let to = dir.path().join("restored.redb");
    let whole = std::fs::read(&from).unwrap();
    let step = whole.len() / 61;
    let tail = whole.len() - 70..whole.len();
    for at in (0..whole.len()).step_by(step).chain(tail) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&from, &bytes).unwrap();
        let refused = restore(&from, &to, false).unwrap_err();
        let damage = matches!(refused, RestoreError::Damaged { .. } | RestoreError::NotABackup(_));
        assert!(damage, "byte {at} of {}: {refused}", whole.len());
        assert!(!to.exists());
    }
    // Control: the untouched file is accepted.
    std::fs::write(&from, &whole).unwrap();
    restore(&from, &to, false).unwrap();
}

#[tokio::test]
async fn a_truncated_backup_and_one_with_more_behind_it_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let from = backed_up(dir.path()).await;
    let to = dir.path().join("restored.redb");
    let whole = std::fs::read(&from).unwrap();
    for len in [0, 1, 27, 28, 4096, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&from, &whole[..len]).unwrap();
        assert!(matches!(restore(&from, &to, false), Err(RestoreError::NotABackup(_))), "{len} bytes");
    }
    std::fs::write(&from, [whole.as_slice(), b"more"].concat()).unwrap();
    assert!(matches!(restore(&from, &to, false), Err(RestoreError::NotABackup(_))));
    // A hole in the middle, with the end in place.
    std::fs::write(&from, [&whole[..8192], &whole[16_384..]].concat()).unwrap();
    assert!(matches!(restore(&from, &to, false), Err(RestoreError::Damaged { .. })));
}

#[tokio::test]
async fn restoring_replaces_a_closed_store_only_when_forced_and_an_open_one_never() {
    let dir = tempfile::tempdir().unwrap();
    let from = backed_up(dir.path()).await;
    let to = dir.path().join("app.redb");
    let a = name("a");
    let store = open(&to);
    let token = own(&store, &a).await;
    write(&store, token, &a, 11..=12, History::Forever, &counter()).await;
    assert!(matches!(restore(&from, &to, false), Err(RestoreError::Exists(_))));
    assert!(matches!(restore(&from, &to, true), Err(RestoreError::Open(OpenError::Locked { .. }))));
    assert_is_at(&store, token.entity, &a, 12, History::Forever).await;
    drop(store);
    restore(&from, &to, true).unwrap();
    assert_is_at(&open(&to), token.entity, &a, 10, History::Forever).await;
}

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

const NAME: Rows = TableDefinition::new("name");
const ENTITY: Rows = TableDefinition::new("e");
const HISTORY: Rows = TableDefinition::new("history");
const DUE: Rows = TableDefinition::new("due");
const WORK: Rows = TableDefinition::new("work");

/// A closed store with one entity, damaged by `plant`; answers what verification finds.
async fn faults(plant: impl FnOnce(&redb::WriteTransaction, EntityId)) -> Vec<Fault> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    let (store, a) = (open(&path), name("a"));
    let token = own(&store, &a).await;
    write(&store, token, &a, 1..=12, History::Forever, &counter()).await;
    for version in 13..=40 {
        submit(&store, one(token, entry(&a, version, &[1; 900], History::Forever))).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let db = Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    plant(&txn, token.entity);
    txn.commit().unwrap();
    drop(db);
    let report = verify(&path, &StoreOptions::default()).unwrap();
    assert!(report.rows > 0);
    report.faults
}

fn change(txn: &redb::WriteTransaction, table: Rows, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
    let mut table = txn.open_table(table).unwrap();
    let mut value = table.get(key).unwrap().unwrap().value().to_vec();
    change(&mut value);
    table.insert(key, value.as_slice()).unwrap();
}

#[tokio::test]
async fn a_sound_store_verifies_without_a_fault() {
    assert_eq!(faults(|_, _| {}).await, []);
}

#[tokio::test]
async fn verify_finds_a_flipped_bit_in_each_table() {
    let found = faults(|txn, entity| change(txn, ENTITY, &key::checkpoint(entity), |v| v[30] ^= 1)).await;
    assert!(found.iter().any(|f| f.table == "e" && f.cause.contains("checksum")), "{found:?}");
    let found = faults(|txn, entity| {
        change(txn, HISTORY, &key::history(entity, Version(1)), |v| v[99] ^= 1);
    })
    .await;
    assert!(found.iter().any(|f| f.table == "history" && f.cause.contains("checksum")), "{found:?}");
    let found = faults(|txn, _| change(txn, NAME, &key::name(&name("a")), |v| v[7] ^= 1)).await;
    assert!(found.iter().any(|f| f.table == "name" && f.cause.contains("checksum")), "{found:?}");
    let found = faults(|txn, entity| change(txn, WORK, &key::message(entity, 3), |v| v[9] ^= 1)).await;
    assert!(found.iter().any(|f| f.table == "work" && f.cause.contains("checksum")), "{found:?}");
}

#[tokio::test]
async fn verify_finds_what_whole_rows_say_against_each_other() {
    let found = faults(|txn, entity| {
        let mut table = txn.open_table(HISTORY).unwrap();
        let (from, to) = (key::history(entity, Version(2)), key::history(entity, Version(30)));
        let keys: Vec<Vec<u8>> = table
            .range(from.as_slice()..to.as_slice())
            .unwrap()
            .map(|r| r.unwrap().0.value().to_vec())
            .collect();
        table.remove(keys[0].as_slice()).unwrap();
    })
    .await;
    assert!(found.iter().any(|f| f.cause.contains("gap")), "{found:?}");
    let found = faults(|txn, entity| {
        let row = key::due(Timestamp(77), entity, "t9");
        txn.open_table(DUE).unwrap().insert(row.as_slice(), [].as_slice()).unwrap();
    })
    .await;
    assert!(found.iter().any(|f| f.table == "due" && f.cause.contains("no entity")), "{found:?}");
    let found = faults(|txn, entity| {
        txn.open_table(DUE).unwrap().remove(key::due(Timestamp(12), entity, "t0").as_slice()).unwrap();
    })
    .await;
    assert!(found.iter().any(|f| f.table == "due" && f.cause.contains("no row by time")), "{found:?}");
    let found = faults(|txn, _| {
        let name = key::name(&name("b"));
        let value = frame(&name, 1, &stanchion_actors::store::encode(&EntityId(1)).unwrap());
        txn.open_table(NAME).unwrap().insert(name.as_slice(), value.as_slice()).unwrap();
    })
    .await;
    assert!(found.iter().any(|f| f.cause.contains("two names")), "{found:?}");
}

/// Changes the stored state of an entity, with checksums that hold.
fn change_state(
    txn: &redb::WriteTransaction,
    entity: EntityId,
    plant: impl FnOnce(&mut stanchion_actors::store::Checkpoint),
) {
    let row = key::checkpoint(entity);
    change(txn, ENTITY, &row, |value| {
        let (schema, body) = stanchion_actors::store::unframe(&row, value).unwrap();
        let mut checkpoint = stanchion_actors::store::decode(body).unwrap();
        plant(&mut checkpoint);
        *value = frame(&row, schema, &stanchion_actors::store::encode(&checkpoint).unwrap());
    });
}

#[tokio::test]
async fn verify_finds_a_state_that_is_not_what_its_head_says() {
    let another = bytes::Bytes::from_static(b"another state");
    let found = faults(|txn, entity| change_state(txn, entity, |stored| stored.state = another)).await;
    assert!(found.iter().any(|f| f.table == "e" && f.cause.contains("its head says")), "{found:?}");
}

#[tokio::test]
async fn verify_finds_a_state_that_no_entry_wrote() {
    let found = faults(|txn, entity| {
        change_state(txn, entity, |stored| {
            stored.state = bytes::Bytes::from_static(b"another state");
            stored.head.state_crc = crc32c::crc32c(&stored.state);
        });
    })
    .await;
    assert!(found.iter().any(|f| f.table == "e" && f.cause.contains("that wrote it")), "{found:?}");
}

#[tokio::test]
async fn a_store_of_a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    open(&path).close().await.unwrap();
    let db = Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let meta: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
        let mut table = txn.open_table(meta).unwrap();
        let framed = table.get("store").unwrap().unwrap().value().to_vec();
        let (_, body) = stanchion_actors::store::unframe(b"store", &framed).unwrap();
        // The field "f" holds the format, a small number in one byte.
        let at = body.windows(2).position(|part| part == [0xA1, b'f']).unwrap() + 2;
        let mut newer = body.to_vec();
        newer[at] = 9;
        table.insert("store", frame(b"store", 1, &newer).as_slice()).unwrap();
    }
    txn.commit().unwrap();
    drop(db);
    let refused = RedbStore::open(&path, StoreOptions::default()).unwrap_err();
    assert!(matches!(refused, OpenError::NewerFormat { found: 9, .. }), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(50), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_restored_whole_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), seed: u64) {
        static VALID: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let dir = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            std::fs::read(runtime.block_on(backed_up(dir.path()))).unwrap()
        });
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("backup"), dir.path().join("restored.redb"));
        for bytes in [bytes, damaged(&VALID, seed)] {
            std::fs::write(&from, &bytes).unwrap();
            match restore(&from, &to, true) {
                Ok(_) => assert_eq!(bytes, *VALID, "a damaged backup is never restored"),
                Err(error) => assert!(!to.exists(), "{error}"),
            }
        }
    }
}
