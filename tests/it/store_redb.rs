//! The redb store through its port.

use std::{
    io,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use stanchion::store::{
    Backends, OpenError, RedbStore, StoreFile, StoreOptions,
    testing::{DiskCall, FaultyDisk},
};
use stanchion_actors::{
    ids::{CommandId, Origin, Timestamp, Version},
    store::{
        Activated, Created, History, HistoryPage, InboxItem, Incarnation, ListQuery, Outcome, Record,
        RefusedWhy, Store, StoreError,
    },
};

use crate::support::{
    ask, assert_is_at, entry, expected, name, one, open, open_on, own, rich, small, submit, write,
};

fn counter() -> AtomicU64 {
    AtomicU64::new(0)
}

/// Copies both files as they are, as a crash would leave them once everything is synced.
fn copy_files(from: &Path, to: &Path) {
    for suffix in ["", "-log"] {
        let file = |path: &Path| format!("{}{suffix}", path.display());
        std::fs::copy(file(from), file(to)).unwrap();
    }
}

#[tokio::test]
async fn what_was_applied_is_there_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    let a = name("a");
    let store = open(&path);
    let token = own(&store, &a).await;
    write(&store, token, &a, 1..=20, History::Forever, &counter()).await;
    store.close().await.unwrap();
    assert!(!dir.path().join("app.redb-log").exists(), "at rest there is one file");
    let late = store.submit(one(token, rich(&a, 21, History::Forever)), Box::new(|_| {})).unwrap_err();
    assert_eq!(late.why, RefusedWhy::Closed);
    drop(store);
    let store = open(&path);
    assert_eq!(store.resolve(&a).await.unwrap(), Some(token.entity));
    assert_eq!(store.create(&a).await.unwrap(), Created::Exists(token.entity));
    assert_is_at(&store, token.entity, &a, 20, History::Forever).await;
    let HistoryPage::Entries(entries) = store.history(token.entity, Version(3), 5).await.unwrap() else {
        panic!()
    };
    assert_eq!(entries.iter().map(|e| e.head.version.0).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
    assert_eq!(store.position().0, 20);
    let token = own(&store, &a).await;
    write(&store, token, &a, 21..=21, History::Forever, &counter()).await;
}

#[tokio::test]
async fn files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    let _store = open(&path);
    for file in ["app.redb", "app.redb-log"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
}

#[tokio::test]
async fn a_copy_of_an_open_store_recovers_from_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("app.redb"), dir.path().join("copy.redb"));
    let (a, store) = (name("a"), open(&path));
    let token = own(&store, &a).await;
    write(&store, token, &a, 1..=9, History::Forever, &counter()).await;
    copy_files(&path, &copy);
    let again = open(&copy);
    assert_eq!(again.caps().boot, store.caps().boot + 1);
    assert_is_at(&again, token.entity, &a, 9, History::Forever).await;
    let stale = submit(&again, one(token, rich(&a, 10, History::Forever))).await.unwrap();
    assert_eq!(stale, Outcome::Fenced { activation: 0 }, "a token of an earlier boot is fenced");
    let fresh = again.create(&name("b")).await.unwrap().entity();
    assert!(fresh > token.entity, "numbers are not given twice");
}

#[tokio::test]
async fn a_missing_log_is_refused_unless_the_store_was_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("app.redb"), dir.path().join("copy.redb"));
    let store = open(&path);
    own(&store, &name("a")).await;
    copy_files(&path, &copy);
    std::fs::remove_file(dir.path().join("copy.redb-log")).unwrap();
    let refused = RedbStore::open(&copy, StoreOptions::default()).unwrap_err();
    assert!(matches!(refused, OpenError::LogMissing { .. }), "{refused}");
}

#[tokio::test]
async fn a_log_of_another_store_or_another_time_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<_> = ["one", "two", "mixed", "old"].iter().map(|p| dir.path().join(p)).collect();
    let stores = [open(&paths[0]), open(&paths[1])];
    let a = name("a");
    let token = own(&stores[0], &a).await;
    copy_files(&paths[0], &paths[3]);
    write(&stores[0], token, &a, 1..=5, History::Forever, &counter()).await;
    stores[0].fold().await.unwrap();
    write(&stores[0], token, &a, 6..=7, History::Forever, &counter()).await;
    std::fs::copy(&paths[0], &paths[2]).unwrap();
    std::fs::copy(dir.path().join("two-log"), dir.path().join("mixed-log")).unwrap();
    let refused = RedbStore::open(&paths[2], StoreOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("another store"), "{refused}");
    // Data from before the fold, log from after it was trimmed.
    std::fs::copy(dir.path().join("one-log"), dir.path().join("old-log")).unwrap();
    let refused = RedbStore::open(&paths[3], StoreOptions::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Gap { .. }), "{refused}");
}

#[tokio::test]
async fn a_store_that_is_open_is_locked_and_says_by_whom() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.redb");
    let store = open(&path);
    let refused = RedbStore::open(&path, StoreOptions::default()).unwrap_err();
    let OpenError::Locked { pid, .. } = &refused else { panic!("{refused}") };
    if let Some(pid) = pid {
        assert_eq!(*pid, std::process::id());
    }
    let verified = stanchion::store::verify(&path, &StoreOptions::default()).unwrap_err();
    assert!(matches!(verified, OpenError::Locked { .. }));
    drop(store);
    open(&path);
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    std::fs::write(&text, "some text that is no database").unwrap();
    let refused = RedbStore::open(&text, StoreOptions::default()).unwrap_err();
    assert!(matches!(refused, OpenError::NotAStore(_)), "{refused}");
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "some text that is no database");
    let foreign = dir.path().join("foreign");
    drop(redb::Database::create(&foreign).unwrap());
    let refused = RedbStore::open(&foreign, StoreOptions::default()).unwrap_err();
    assert!(matches!(refused, OpenError::NotAStore(_)), "{refused}");
    let mut options = StoreOptions::default();
    options.must_exist = true;
    let refused = RedbStore::open(dir.path().join("nothing"), options).unwrap_err();
    assert!(matches!(refused, OpenError::Missing(_)), "{refused}");
    let refused = RedbStore::open(dir.path().join("no/such/directory"), StoreOptions::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused}");
}

#[test]
fn a_failed_flush_poisons_the_store_and_nothing_is_acknowledged_after_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (disk, a) = (FaultyDisk::new(), name("a"));
    runtime.block_on(async {
        let store = open_on(&disk);
        let token = own(&store, &a).await;
        write(&store, token, &a, 1..=3, History::Forever, &counter()).await;
        disk.fail(StoreFile::Log, DiskCall::Sync, 0, io::ErrorKind::Other);
        let failed = submit(&store, one(token, rich(&a, 4, History::Forever))).await.unwrap_err();
        assert!(matches!(failed, StoreError::Unknown(_)), "{failed:?}");
        assert!(store.poisoned().unwrap().contains("flush"));
        disk.heal();
        let refused = store.submit(one(token, rich(&a, 4, History::Forever)), Box::new(|_| {})).unwrap_err();
        assert_eq!(refused.why, RefusedWhy::Closed);
        assert!(matches!(store.activate(token.entity, Incarnation(1)).await, Err(StoreError::Fatal(_))));
        assert!(matches!(store.close().await, Err(StoreError::Fatal(_))));
        drop(store);
        let again = open_on(&disk.cut().survivors(|_| false));
        assert_is_at(&again, token.entity, &a, 3, History::Forever).await;
    });
}

#[tokio::test]
async fn a_full_disk_under_the_fold_poisons_but_loses_nothing() {
    let (disk, a) = (FaultyDisk::new(), name("a"));
    let store = open_on(&disk);
    let token = own(&store, &a).await;
    write(&store, token, &a, 1..=5, History::Forever, &counter()).await;
    disk.fail(StoreFile::Data, DiskCall::Write, 0, io::ErrorKind::StorageFull);
    let failed = store.fold().await.unwrap_err();
    assert!(matches!(&failed, StoreError::Fatal(why) if why.contains("data file")), "{failed:?}");
    drop(store);
    disk.heal();
    let again = open_on(&disk.cut().survivors(|_| false));
    assert_is_at(&again, token.entity, &a, 5, History::Forever).await;
}

#[tokio::test]
async fn a_store_that_cannot_be_written_says_so() {
    let disk = FaultyDisk::new();
    open_on(&disk).close().await.unwrap();
    disk.fail(StoreFile::Data, DiskCall::Write, 0, io::ErrorKind::ReadOnlyFilesystem);
    let refused = RedbStore::open("memory.redb", small(&disk)).unwrap_err();
    assert!(matches!(refused, OpenError::ReadOnly { .. }), "{refused:?}");
    disk.heal();
    open_on(&disk);
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_is_found() {
    let (disk, a) = (FaultyDisk::new(), name("a"));
    let store = open_on(&disk);
    let token = own(&store, &a).await;
    let marked = entry(&a, 1, b"a state that is easy to find", History::Forever);
    submit(&store, one(token, marked)).await.unwrap();
    for version in 2..=6 {
        submit(&store, one(token, entry(&a, version, b"later", History::Forever))).await.unwrap();
    }
    let torn = disk.cut().survivors(|_| false);
    let bytes = torn.bytes(StoreFile::Log).unwrap();
    let copies = bytes.windows(28).enumerate().filter(|(_, part)| part == b"a state that is easy to find");
    for (at, _) in copies {
        assert!(torn.flip(StoreFile::Log, at as u64, 3));
    }
    let refused = RedbStore::open("memory.redb", small(&torn)).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
}

#[tokio::test]
async fn a_full_queue_hands_the_record_back() {
    let disk = FaultyDisk::new();
    let mut options = small(&disk);
    options.queue_items = 1;
    let store = RedbStore::open("memory.redb", options).unwrap();
    let a = name("a");
    let token = own(&store, &a).await;
    let mut waiting = Vec::new();
    let mut refused = None;
    for version in 1..100_000 {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let record = one(token, entry(&a, version, b"x", History::None));
        match store.submit(record, Box::new(move |result| drop(answer.send(result)))) {
            Ok(()) => waiting.push(answered),
            Err(handed_back) => {
                refused = Some(handed_back);
                break;
            }
        }
    }
    assert_eq!(refused.map(|back| back.why), Some(RefusedWhy::Full));
    let applied = waiting.len() as u64;
    for answered in waiting {
        assert!(matches!(answered.await.unwrap(), Ok(Outcome::Applied { .. })));
    }
    let stats = store.stats();
    assert_eq!((stats.applied, stats.refused), (applied, 1));
}

#[tokio::test]
async fn folding_under_load_equals_direct_projection() {
    let disk = FaultyDisk::new();
    let store = open_on(&disk);
    let things: Vec<_> = (0..8).map(|number| name(&format!("thing {number}"))).collect();
    let mut waiting = Vec::new();
    let mut tokens = Vec::new();
    for thing in &things {
        tokens.push(own(&store, thing).await);
    }
    for version in 1..=120 {
        for (thing, token) in things.iter().zip(&tokens) {
            waiting.push(ask(&store, one(*token, rich(thing, version, History::Last(7)))));
        }
        if version % 20 == 0 {
            for answered in waiting.drain(..) {
                assert!(matches!(answered.await.unwrap(), Ok(Outcome::Applied { .. })));
            }
        }
    }
    assert!(store.stats().commits >= 6, "{:?}", store.stats());
    for pass in 0..2 {
        for (thing, token) in things.iter().zip(&tokens) {
            assert_is_at(&store, token.entity, thing, 120, History::Last(7)).await;
            let page = store.history(token.entity, Version(114), 100).await.unwrap();
            let kept = (114..=120).map(|v| rich(thing, v, History::Last(7))).collect::<Vec<_>>();
            assert_eq!(page, HistoryPage::Entries(kept), "pass {pass}");
            let first = store.history(token.entity, Version(1), 100).await.unwrap();
            assert_eq!(first, HistoryPage::Truncated { first: Version(114) });
        }
        store.fold().await.unwrap();
    }
    assert_eq!(store.stats().unfolded_bytes, 0);
    assert!(store.stats().folds >= 2, "{:?}", store.stats());
}

#[tokio::test]
async fn a_bounded_history_stays_bounded_on_disk() {
    let disk = FaultyDisk::new();
    let (store, a) = (open_on(&disk), name("a"));
    let token = own(&store, &a).await;
    for round in 0..20_u64 {
        for version in round * 40 + 1..=round * 40 + 40 {
            let state = [round as u8; 200];
            submit(&store, one(token, entry(&a, version, &state, History::Last(16)))).await.unwrap();
        }
        store.fold().await.unwrap();
    }
    store.close().await.unwrap();
    let report = stanchion::store::verify("memory.redb", &small(&disk)).unwrap();
    assert_eq!(report.faults, []);
    assert!(report.entries >= 16 && report.entries < 60, "{report:?}");
}

#[tokio::test]
async fn a_purged_entity_leaves_nothing_in_any_generation() {
    for folded in [false, true] {
        let disk = FaultyDisk::new();
        let (store, a, b) = (open_on(&disk), name("a"), name("b"));
        let (token, other) = (own(&store, &a).await, own(&store, &b).await);
        write(&store, token, &a, 1..=9, History::Forever, &counter()).await;
        write(&store, other, &b, 1..=9, History::Forever, &counter()).await;
        if folded {
            store.fold().await.unwrap();
        }
        let gone = submit(&store, Record::Purge { token }).await.unwrap();
        assert!(matches!(gone, Outcome::Applied { .. }));
        let crashed = disk.cut().survivors(|_| false);
        for store in [store, open_on(&crashed)] {
            for _ in 0..2 {
                assert_eq!(store.resolve(&a).await.unwrap(), None);
                assert_eq!(store.load(token.entity).await.unwrap(), None);
                assert_eq!(store.rows(token.entity, Bytes::new(), Bytes::new(), 9).await.unwrap(), []);
                let page = store.history(token.entity, Version(1), 9).await.unwrap();
                assert_eq!(page, HistoryPage::Entries(vec![]));
                assert_eq!(store.work(None, 9).await.unwrap(), [other.entity]);
                let due = store.due(Timestamp(i64::MAX), None, 9).await.unwrap();
                assert!(due.iter().all(|due| due.entity == other.entity) && due.len() == 2);
                assert_eq!(store.list(ListQuery::default(), 9).await.unwrap().len(), 1);
                store.fold().await.unwrap();
            }
            assert_is_at(&store, other.entity, &b, 9, History::Forever).await;
            let activated = store.activate(token.entity, Incarnation(2)).await.unwrap();
            assert_eq!(activated, Activated::Missing);
            let again = store.create(&a).await.unwrap();
            assert!(matches!(again, Created::New(entity) if entity > other.entity), "{again:?}");
        }
    }
}

#[tokio::test]
async fn a_command_waits_for_an_entity_that_has_no_entry_yet() {
    let disk = FaultyDisk::new();
    let (store, a) = (open_on(&disk), name("a"));
    let entity = store.create(&a).await.unwrap().entity();
    let id = CommandId { origin: Origin::Entity(entity), seq: 1 };
    let payload = Bytes::from_static(b"go");
    let item = InboxItem {
        id,
        settled_below: 1,
        to: a.clone(),
        payload,
        at: Timestamp(1),
        cause: Default::default(),
    };
    let outcome = submit(&store, Record::Inbox { entity, item: item.clone() }).await.unwrap();
    let Outcome::Applied { position } = outcome else { panic!("{outcome:?}") };
    let again = open_on(&disk.cut().survivors(|_| false));
    for store in [store, again] {
        assert_eq!(store.resolve(&a).await.unwrap(), Some(entity));
        let loaded = store.load(entity).await.unwrap().unwrap();
        assert_eq!(loaded.inbox, [(position, item.clone())]);
        assert!(matches!(store.activate(entity, Incarnation(1)).await.unwrap(), Activated::Granted(_)));
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_million_byte_definition_is_stored_once_and_found() {
    let disk = FaultyDisk::new();
    let store = open_on(&disk);
    let bytes = Bytes::from(vec![9; 1_000_000]);
    for _ in 0..2 {
        let record = Record::Definition { hash: [7; 32], bytes: bytes.clone() };
        assert!(matches!(submit(&store, record).await.unwrap(), Outcome::Applied { .. }));
    }
    assert_eq!(store.definition([7; 32]).await.unwrap(), Some(bytes.clone()));
    store.fold().await.unwrap();
    assert_eq!(store.definition([7; 32]).await.unwrap(), Some(bytes));
    assert_eq!(store.definition([8; 32]).await.unwrap(), None);
}

#[tokio::test]
async fn the_last_handle_may_go_on_the_writer_thread() {
    let disk = FaultyDisk::new();
    let store = Arc::new(open_on(&disk));
    let a = name("a");
    let token = own(&store, &a).await;
    let (answer, answered) = tokio::sync::oneshot::channel();
    let last = store.clone();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let done = Box::new(move |result| {
        let _ = gone.recv();
        drop(last);
        drop(answer.send(result));
    });
    store.submit(one(token, rich(&a, 1, History::None)), done).unwrap();
    drop(store);
    drop(go);
    assert!(answered.await.unwrap().is_ok());
    // The log goes at the very end of the writer.
    while Backends::len(&disk, StoreFile::Log).unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    let again = open_on(&disk);
    assert_eq!(again.load(token.entity).await.unwrap(), Some(expected(&a, 1, History::None)));
}

#[tokio::test]
async fn a_completer_that_panics_takes_nothing_along() {
    let disk = FaultyDisk::new();
    let (store, a) = (open_on(&disk), name("a"));
    let token = own(&store, &a).await;
    store.submit(one(token, rich(&a, 1, History::None)), Box::new(|_| panic!("on purpose"))).unwrap();
    let outcome = submit(&store, one(token, rich(&a, 2, History::None))).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
}

/// Panics on the thread that comes to `CrashPoint::AfterCommit`.
struct PanicAfterCommit;

impl stanchion::store::CrashPoints for PanicAfterCommit {
    fn reach(&self, point: stanchion::store::CrashPoint) {
        assert!(point != stanchion::store::CrashPoint::AfterCommit, "on purpose");
    }
}

#[tokio::test]
async fn a_panic_of_the_writer_poisons_and_answers_everybody_with_unknown() {
    let disk = FaultyDisk::new();
    let options = small(&disk).crash_points(Arc::new(PanicAfterCommit));
    let store = RedbStore::open("memory.redb", options).unwrap();
    let a = name("a");
    let token = own(&store, &a).await;
    let answer = submit(&store, one(token, rich(&a, 1, History::None))).await;
    assert!(matches!(answer, Err(StoreError::Unknown(_))), "{answer:?}");
    assert!(store.poisoned().unwrap().contains("panicked"));
    assert!(matches!(store.close().await, Err(StoreError::Fatal(_))));
    drop(store);
    // It was in the log: unknown to its caller, but durable.
    let again = open_on(&disk.cut().survivors(|_| false));
    assert_is_at(&again, token.entity, &a, 1, History::None).await;
}

/// Says after each seal how many commits were before it.
struct Seals {
    commits: AtomicU64,
    sealed: tokio::sync::mpsc::UnboundedSender<u64>,
}

impl stanchion::store::CrashPoints for Seals {
    fn reach(&self, point: stanchion::store::CrashPoint) {
        use std::sync::atomic::Ordering::SeqCst;
        match point {
            stanchion::store::CrashPoint::AfterCommit => drop(self.commits.fetch_add(1, SeqCst)),
            stanchion::store::CrashPoint::AfterSeal => {
                let _ = self.sealed.send(self.commits.load(SeqCst));
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn after_a_quiet_moment_no_flipped_bit_of_the_log_undoes_a_commit() {
    // A database that finds its last commit damaged goes back to the one before, without a word.
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("app.redb"), dir.path().join("copy.redb"));
    let (sealed, mut seals) = tokio::sync::mpsc::unbounded_channel();
    let options = StoreOptions::default().crash_points(Arc::new(Seals { commits: counter(), sealed }));
    let (a, store) = (name("a"), RedbStore::open(&path, options).unwrap());
    let token = own(&store, &a).await;
    write(&store, token, &a, 1..=3, History::Forever, &counter()).await;
    while seals.recv().await.unwrap() < store.stats().commits {}
    copy_files(&path, &copy);
    let log = dir.path().join("copy.redb-log");
    let (data, whole) = (std::fs::read(&copy).unwrap(), std::fs::read(&log).unwrap());
    let written: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let (mut refused, mut untouched) = (0, 0);
    for number in 0..300 {
        let mut bytes = whole.clone();
        bytes[written[number * written.len() / 300]] ^= 1 << (number % 8);
        std::fs::write(&copy, &data).unwrap();
        std::fs::write(&log, bytes).unwrap();
        // The database library may also give up by a panic.
        let opened = std::panic::catch_unwind(|| RedbStore::open(&copy, StoreOptions::default()));
        let Ok(Ok(store)) = opened else {
            refused += 1;
            continue;
        };
        let head = store.load(token.entity).await.unwrap().and_then(|loaded| loaded.head().cloned()).unwrap();
        assert_eq!(head.version, Version(3), "flip {number}");
        untouched += 1;
    }
    assert!(refused > 0 && untouched > 0, "{refused} refused, {untouched} as before");
}
