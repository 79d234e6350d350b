//! What is derived from entries on the redb store: index and feed, upkeep of files, compacting.

use std::{
    io::Read,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use flate2::read::GzDecoder;
use redb::ReadableTable;
use stanchion::{
    port::{FeedFilter, History, ListQuery, Outcome, Record, Store, Token},
    store::{
        CompactError, CrashPoint, CrashPoints, OpenError, RedbStore, StoreFile, StoreOptions, VerifyReport,
        compact, testing::FaultyDisk, verify,
    },
};
use stanchion_actors::{
    ids::{EntityId, Name, Position, Timestamp},
    store::{Entry, key},
    testing::fixtures::EntryParts,
};

use crate::support::{entry, name, one, open, open_on, own, rich, small, submit, write};

async fn put(store: &RedbStore, token: Token, entry: Entry) {
    let outcome = submit(store, one(token, entry)).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
}

fn with_status(status: &str) -> ListQuery {
    ListQuery { status: Some(status.into()), ..ListQuery::default() }
}

async fn found(store: &RedbStore, status: &str) -> Vec<String> {
    let listed = store.list(with_status(status), 99).await.unwrap();
    listed.into_iter().map(|listed| listed.head.name.key.to_string()).collect()
}

/// A status that changes now and then, and a place in the feed, beside everything else.
fn telling(name: &Name, version: u64) -> Entry {
    const WORDS: [&str; 3] = ["open", "shut", ""];
    let word = |version: u64| WORDS[(version % 3) as usize];
    let entry = rich(name, version, History::Forever).fed();
    if version == 1 {
        entry.with_status(word(1))
    } else {
        entry.with_status_after(word(version - 1), word(version))
    }
}

fn sound(report: &VerifyReport) {
    assert_eq!(report.faults, []);
}

/// A file that format 1 left behind.
fn unpacked(file: &str) -> Vec<u8> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-1").join(file);
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(from).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

fn unpack(file: &str, to: &Path) {
    std::fs::write(to, unpacked(file)).unwrap();
}

#[tokio::test]
async fn a_closed_store_of_format_1_opens_and_gets_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    unpack("clean.redb.gz", &path);
    sound(&verify(&path, &StoreOptions::default()).unwrap());
    let store = open(&path);
    for _ in 0..2 {
        assert_eq!(found(&store, "completed").await, ["ok1", "ok2", "ok3"]);
        assert_eq!(found(&store, "failed").await, ["bad1"]);
        let feed = store.feed(Position(0), FeedFilter::default(), 9).await.unwrap();
        assert_eq!((feed.items.len(), feed.until), (0, store.position()));
        // Waits until the index is built.
        store.fold().await.unwrap();
    }
    store.close().await.unwrap();
    let report = verify(&path, &StoreOptions::default()).unwrap();
    sound(&report);
    assert_eq!(report.entities, 4);
}

#[tokio::test]
async fn the_log_of_a_killed_program_of_format_1_leaves_no_stale_row_in_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    unpack("crashed.redb.gz", &path);
    unpack("crashed.redb-log.gz", &dir.path().join("app.redb-log"));
    sound(&verify(&path, &StoreOptions::default()).unwrap());
    for built in [false, true] {
        let store = open(&path);
        assert_eq!(found(&store, "running").await, ["long1"]);
        assert_eq!(found(&store, "pending").await, [""; 0]);
        if built {
            store.fold().await.unwrap();
            assert_eq!(found(&store, "running").await, ["long1"]);
            assert_eq!(found(&store, "completed").await, ["ok1", "ok2", "ok3"]);
        }
        store.close().await.unwrap();
        sound(&verify(&path, &StoreOptions::default()).unwrap());
    }
}

#[tokio::test]
async fn a_store_of_format_1_cut_while_its_index_is_built_builds_it_again() {
    let disk = FaultyDisk::new();
    for (file, packed) in [(StoreFile::Data, "crashed.redb.gz"), (StoreFile::Log, "crashed.redb-log.gz")] {
        let content = unpacked(packed);
        disk.edit(file, |bytes| *bytes = content);
    }
    disk.keep_cuts(Arc::default());
    let store = open_on(&disk);
    store.fold().await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let cuts = disk.take_cuts();
    assert!(cuts.len() > 5, "{}", cuts.len());
    for cut in cuts {
        let survivors = cut.survivors(|number| number % 2 == 0);
        for _ in 0..2 {
            let store = open_on(&survivors);
            assert_eq!(found(&store, "running").await, ["long1"]);
            store.fold().await.unwrap();
            assert_eq!(found(&store, "running").await, ["long1"]);
            assert_eq!(found(&store, "pending").await, [""; 0]);
            store.close().await.unwrap();
            sound(&verify("memory.redb", &small(&survivors)).unwrap());
        }
    }
}

#[tokio::test]
async fn index_and_feed_of_a_store_cut_at_any_sync_say_the_same_as_its_entries() {
    let disk = FaultyDisk::new();
    let marker = Arc::new(AtomicU64::new(0));
    disk.keep_cuts(marker.clone());
    let store = open_on(&disk);
    let (a, b) = (name("a"), name("b"));
    let (one_token, two_token) = (own(&store, &a).await, own(&store, &b).await);
    for version in 1..=25 {
        put(&store, one_token, telling(&a, version)).await;
        put(&store, two_token, telling(&b, version)).await;
        if version % 8 == 0 {
            store.fold().await.unwrap();
        }
    }
    submit(&store, Record::Purge { token: two_token }).await.unwrap();
    store.fold().await.unwrap();
    drop(store);
    let cuts = disk.take_cuts();
    assert!(cuts.len() > 30, "{}", cuts.len());
    for cut in cuts {
        let survivors = cut.survivors(|number| number % 2 == 0);
        let Ok(report) = verify("memory.redb", &small(&survivors)) else { continue };
        sound(&report);
    }
}

/// Changes rows of a closed file behind the store's back.
fn spoil(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let db = redb::Database::create(path).unwrap();
    let mut txn = db.begin_write().unwrap();
    txn.set_quick_repair(true);
    change(&txn);
    txn.commit().unwrap();
}

type Raw = redb::TableDefinition<'static, &'static [u8], &'static [u8]>;
const INDEX: Raw = redb::TableDefinition::new("index");
const FEED: Raw = redb::TableDefinition::new("feed");

#[tokio::test]
async fn verify_finds_every_row_of_index_and_feed_that_is_missing_or_too_many() {
    type Damage = fn(&redb::WriteTransaction);
    let faults: [(&str, Damage); 4] = [
        ("the entity with this value is not found by it", |txn| {
            let key = key::index(&name("a"), key::STATUS, "open");
            assert!(txn.open_table(INDEX).unwrap().remove(key.as_slice()).unwrap().is_some());
        }),
        ("no entity has this value", |txn| {
            let key = key::index(&name("a"), key::STATUS, "shut");
            let value = stanchion_actors::store::encode_framed(&key, 1, &EntityId(1)).unwrap();
            txn.open_table(INDEX).unwrap().insert(key.as_slice(), value.as_slice()).unwrap();
        }),
        ("lacks this entry", |txn| {
            let key = key::feed(Position(2));
            assert!(txn.open_table(FEED).unwrap().remove(key.as_slice()).unwrap().is_some());
        }),
        ("versions of the entity do not ascend", |txn| {
            let mut feed = txn.open_table(FEED).unwrap();
            let (from, to) = (key::feed(Position(1)), key::feed(Position(9)));
            let row = feed.get(from.as_slice()).unwrap().unwrap().value().to_vec();
            let (_, body) = stanchion_actors::store::unframe(&from, &row).unwrap();
            let row = stanchion_actors::store::frame(&to, 1, body);
            feed.insert(to.as_slice(), row.as_slice()).unwrap();
        }),
    ];
    for (cause, fault) in faults {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.redb");
        let store = open(&path);
        let a = name("a");
        let token = own(&store, &a).await;
        for version in 1..=3 {
            put(&store, token, telling(&a, version)).await;
        }
        put(&store, token, telling(&a, 4).with_status_after("open", "open")).await;
        store.close().await.unwrap();
        drop(store);
        spoil(&path, fault);
        let report = verify(&path, &StoreOptions::default()).unwrap();
        assert!(report.faults.iter().any(|fault| fault.cause == cause), "{cause}: {:?}", report.faults);
    }
}

#[tokio::test]
async fn a_list_by_status_reads_no_entity_of_another_status() {
    const ENTITIES: Raw = redb::TableDefinition::new("e");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    let store = open(&path);
    let (a, b) = (name("a"), name("b"));
    let (token, other) = (own(&store, &a).await, own(&store, &b).await);
    put(&store, token, entry(&a, 1, b"a", History::None).with_status("parked")).await;
    put(&store, other, entry(&b, 1, b"b", History::None).with_status("running")).await;
    store.close().await.unwrap();
    drop(store);
    // Whoever reads the state of b finds it damaged.
    spoil(&path, |txn| {
        let key = key::checkpoint(other.entity);
        txn.open_table(ENTITIES).unwrap().insert(key.as_slice(), b"damaged".as_slice()).unwrap();
    });
    let store = open(&path);
    assert_eq!(found(&store, "parked").await, ["a"]);
    assert!(store.list(with_status("running"), 9).await.is_err());
    assert!(store.list(ListQuery::default(), 9).await.is_err());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_purged_entity_leaves_the_file_in_slices_and_nothing_of_it_is_seen_meanwhile() {
    let disk = FaultyDisk::new();
    let (store, a, b) = (open_on(&disk), name("a"), name("b"));
    let (token, other) = (own(&store, &a).await, own(&store, &b).await);
    let none = AtomicU64::new(0);
    write(&store, token, &a, 1..=300, History::Forever, &none).await;
    write(&store, other, &b, 1..=5, History::Forever, &none).await;
    store.fold().await.unwrap();
    submit(&store, Record::Purge { token }).await.unwrap();
    let (folds, mut slices) = (store.stats().folds, 0);
    disk.keep_cuts(Arc::default());
    store.fold().await.unwrap();
    assert_eq!(store.stats().folds, folds + 1);
    store.close().await.unwrap();
    drop(store);
    for cut in disk.take_cuts() {
        let survivors = cut.survivors(|_| false);
        let report = verify("memory.redb", &small(&survivors)).unwrap();
        sound(&report);
        assert!(report.entities <= 2);
        let store = open_on(&survivors);
        if store.resolve(&a).await.unwrap().is_none() {
            slices += 1;
            assert_eq!(store.load(token.entity).await.unwrap(), None);
            assert_eq!(store.work(None, 9).await.unwrap(), [other.entity]);
            store.fold().await.unwrap();
            assert_eq!(store.load(token.entity).await.unwrap(), None);
        }
        store.close().await.unwrap();
        sound(&verify("memory.redb", &small(&survivors)).unwrap());
    }
    assert!(slices > 20, "it took {slices} commits, each of a slice");
    let rest = verify("memory.redb", &small(&disk)).unwrap();
    assert!(rest.rows < 60, "nothing of it is left: {rest:?}");
}

/// A store with some history behind it, closed.
async fn aged(path: &Path) -> Token {
    let store = open(path);
    let (a, b) = (name("a"), name("b"));
    let (token, other) = (own(&store, &a).await, own(&store, &b).await);
    for version in 1..=40 {
        put(&store, token, telling(&a, version)).await;
    }
    for version in 1..=400 {
        put(&store, other, entry(&b, version, &[7; 3000], History::Forever)).await;
    }
    store.fold().await.unwrap();
    submit(&store, Record::Purge { token: other }).await.unwrap();
    store.close().await.unwrap();
    token
}

async fn is_whole(path: &Path, token: Token) {
    sound(&verify(path, &StoreOptions::default()).unwrap());
    let store = open(path);
    let loaded = store.load(token.entity).await.unwrap().unwrap();
    assert_eq!(loaded.head().unwrap().version.0, 40);
    assert_eq!(store.feed(Position(0), FeedFilter::default(), 99).await.unwrap().items.len(), 40);
    assert_eq!(store.list(ListQuery::default(), 9).await.unwrap().len(), 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_compacted_store_is_smaller_and_holds_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    let token = aged(&path).await;
    let store = open(&path);
    let before = (
        store.load(token.entity).await.unwrap(),
        store.feed(Position(0), FeedFilter::default(), 999).await.unwrap(),
        store.due(Timestamp(i64::MAX), None, 99).await.unwrap(),
        found(&store, "shut").await,
        store.position(),
        store.id(),
    );
    store.close().await.unwrap();
    drop(store);
    let done = compact(&path, &StoreOptions::default()).unwrap();
    assert!(done.after < done.before / 2, "{done:?}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), done.after);
    sound(&verify(&path, &StoreOptions::default()).unwrap());
    let store = open(&path);
    let after = (
        store.load(token.entity).await.unwrap(),
        store.feed(Position(0), FeedFilter::default(), 999).await.unwrap(),
        store.due(Timestamp(i64::MAX), None, 99).await.unwrap(),
        found(&store, "shut").await,
        store.position(),
        store.id(),
    );
    assert_eq!(after, before);
    let again = name("again");
    let token = own(&store, &again).await;
    assert!(token.entity > EntityId(2), "numbers go on");
    put(&store, token, telling(&again, 1)).await;
    store.close().await.unwrap();
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["app.redb"]);
}

#[tokio::test]
async fn a_store_in_use_or_missing_is_not_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    let missing = compact(&path, &StoreOptions::default());
    assert!(matches!(missing, Err(CompactError::Open(OpenError::Missing(_)))), "{missing:?}");
    assert!(!path.exists());
    let store = open(&path);
    let held = compact(&path, &StoreOptions::default());
    assert!(matches!(held, Err(CompactError::Open(OpenError::Locked { .. }))), "{held:?}");
    store.close().await.unwrap();
}

/// Copies the files at one point, as a kill there would leave them.
struct CopyAt {
    point: CrashPoint,
    from: std::path::PathBuf,
    to: std::path::PathBuf,
}

impl CrashPoints for CopyAt {
    fn reach(&self, point: CrashPoint) {
        if point == self.point {
            for file in std::fs::read_dir(&self.from).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), self.to.join(file.file_name())).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_kill_at_any_point_of_compacting_leaves_the_old_file_or_the_new_one() {
    use CrashPoint::{AfterCopied, AfterReplaced, BeforeLogRemoved, BeforeReplaced};
    for point in [BeforeLogRemoved, AfterCopied, BeforeReplaced, AfterReplaced] {
        let (dir, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join("app.redb");
        let token = aged(&path).await;
        let hook = CopyAt { point, from: dir.path().into(), to: killed.path().into() };
        compact(&path, &StoreOptions::default().crash_points(Arc::new(hook))).unwrap();
        let left = killed.path().join("app.redb");
        assert!(left.exists(), "{point:?} was reached");
        is_whole(&left, token).await;
        compact(&left, &StoreOptions::default()).unwrap();
        is_whole(&left, token).await;
        let names: Vec<_> =
            std::fs::read_dir(killed.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["app.redb"], "what the kill left behind is gone");
    }
}
