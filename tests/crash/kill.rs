//! The process ends by itself at each named point, with files on a real disk.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use stanchion::store::{CrashPoint, CrashPoints, RedbStore, StoreOptions, verify};
use stanchion_actors::store::{History, Outcome, Store};

use crate::{
    block_on, check_store,
    support::{name, one, own, rich, submit},
};

const CHILD: &str = "STANCHION_TEST_CRASH_CHILD";

fn options() -> StoreOptions {
    let mut options = StoreOptions::default();
    options.log_max_bytes = 64 << 10;
    options.fold_bytes = 4 << 10;
    options.slice_bytes = 1 << 10;
    options
}

/// Aborts the process at the n-th visit of a point.
struct AbortAt {
    point: String,
    visits: AtomicU64,
    at: u64,
}

impl CrashPoints for AbortAt {
    fn reach(&self, point: CrashPoint) {
        if format!("{point:?}") == self.point && self.visits.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            std::process::abort();
        }
    }
}

/// The process that crashes: writes entries, tells each acknowledgement.
#[test]
fn child_writes_until_it_ends() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let (path, rest) = order.split_once('|').unwrap();
    let (point, at) = rest.split_once('|').unwrap();
    let hook = AbortAt { point: point.into(), visits: AtomicU64::new(0), at: at.parse().unwrap() };
    let out = Mutex::new(std::fs::OpenOptions::new().append(true).open(format!("{path}.acked")).unwrap());
    block_on(async {
        let store = RedbStore::open(path, options().crash_points(Arc::new(hook))).unwrap();
        let thing = name("a");
        let token = own(&store, &thing).await;
        for version in 1..=60 {
            let outcome = submit(&store, one(token, rich(&thing, version, History::Forever))).await.unwrap();
            assert!(matches!(outcome, Outcome::Applied { .. }));
            out.lock().unwrap().write_all(&[1]).unwrap();
            if version % 15 == 0 {
                // However fast the machine, there are this many folds.
                store.fold().await.unwrap();
            }
        }
        store.close().await.unwrap();
    });
}

fn crash_at(dir: &Path, point: &str, at: u64) -> (std::path::PathBuf, u64, bool) {
    let path = dir.join(format!("{point}-{at}.redb"));
    let acked = format!("{}.acked", path.display());
    std::fs::write(&acked, []).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child_writes_until_it_ends"])
        .env(CHILD, format!("{}|{point}|{at}", path.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    (path, std::fs::metadata(&acked).unwrap().len(), status.success())
}

#[test]
fn whatever_was_acknowledged_before_the_process_died_is_there() {
    let dir = tempfile::tempdir().unwrap();
    for point in ["BeforeCommit", "AfterCommit", "BeforeAnswer", "BeforeSlice", "AfterSlice", "BeforeFolded"]
    {
        // There are fewer folds than commits.
        for at in [1, 3, 8].into_iter().take(if point == "BeforeFolded" { 2 } else { 3 }) {
            let (path, acked, finished) = crash_at(dir.path(), point, at);
            assert!(!finished, "{point} {at} was not reached");
            let store = RedbStore::open(&path, options()).unwrap();
            block_on(check_store(store, &name("a"), acked));
            assert_eq!(verify(&path, &options()).unwrap().faults, [], "{point} {at}");
        }
    }
}

#[test]
fn a_process_that_died_before_it_removed_the_log_left_a_whole_store() {
    let dir = tempfile::tempdir().unwrap();
    let (path, acked, finished) = crash_at(dir.path(), "BeforeLogRemoved", 1);
    assert_eq!((acked, finished), (60, false));
    let store = RedbStore::open(&path, options()).unwrap();
    block_on(check_store(store, &name("a"), acked));
}
