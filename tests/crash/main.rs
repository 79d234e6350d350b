//! What survives when the power goes, at every sync of either file.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that cannot go on fails; its clients are tasks of its own"
)]

#[path = "../support/mod.rs"]
mod support;

mod agents;
mod binary;
mod check;
mod damage;
mod early;
mod history;
mod house;
mod kill;
mod life;
mod load;
mod nemesis;
mod power;
mod queues;
mod random;
mod runs;
mod slow;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use proptest::prelude::*;
use stanchion::store::{StoreFile, testing::FaultyDisk, verify};
use stanchion_actors::{
    ids::{EntityId, Name, Version},
    store::{History, HistoryPage, Store},
};
use support::{assert_is_at, name, open_on, own, rich, small, write};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The version that is there, if what was acknowledged is.
async fn version_of(store: &stanchion::store::RedbStore, entity: EntityId) -> u64 {
    store.load(entity).await.unwrap().and_then(|loaded| loaded.head().map(|head| head.version.0)).unwrap_or(0)
}

/// Checks an open store against the model: at least the acknowledged entries, each whole; then closes it.
async fn check_store(store: stanchion::store::RedbStore, thing: &Name, acked: u64) {
    let entity = store.create(thing).await.unwrap().entity();
    let version = version_of(&store, entity).await;
    assert!(version >= acked, "acknowledged {acked}, found {version}");
    assert_is_at(&store, entity, thing, version, History::Forever).await;
    store.close().await.unwrap();
}

/// Opens what survived and checks it against the model: at least the acknowledged entries, each whole.
async fn check(disk: &FaultyDisk, thing: &Name, acked: u64, history: History) {
    let store = open_on(disk);
    let entity = store.create(thing).await.unwrap().entity();
    let version = version_of(&store, entity).await;
    assert!(version >= acked, "acknowledged {acked}, found {version}");
    assert_is_at(&store, entity, thing, version, history).await;
    if history == History::Forever && version > 0 {
        let page = store.history(entity, Version(1), usize::MAX).await.unwrap();
        let all = (1..=version).map(|v| rich(thing, v, history)).collect::<Vec<_>>();
        assert_eq!(page, HistoryPage::Entries(all));
    }
    // It goes on from there, and a clean close leaves a sound store.
    let token = own(&store, thing).await;
    write(&store, token, thing, version + 1..=version + 3, history, &AtomicU64::new(0)).await;
    store.close().await.unwrap();
    drop(store);
    let report = verify("memory.redb", &small(disk)).unwrap();
    assert_eq!(report.faults, []);
    let store = open_on(disk);
    assert_is_at(&store, entity, thing, version + 3, history).await;
}

/// Runs entries over many folds and gives a cut for every sync.
fn cuts_of(entries: u64, history: History) -> (Name, Vec<stanchion::store::testing::Cut>) {
    let (disk, acked, thing) = (FaultyDisk::new(), Arc::new(AtomicU64::new(0)), name("a"));
    disk.keep_cuts(acked.clone());
    block_on(async {
        let store = open_on(&disk);
        let token = own(&store, &thing).await;
        write(&store, token, &thing, 1..=entries, history, &acked).await;
        store.close().await.unwrap();
    });
    (thing, disk.take_cuts())
}

#[test]
fn nothing_acknowledged_is_lost_whichever_sync_is_the_last() {
    let (thing, cuts) = cuts_of(60, History::Forever);
    let data = cuts.iter().filter(|cut| cut.syncing == StoreFile::Data).count();
    assert!(cuts.len() > 60 && data > 10, "{} syncs, {data} of the data file", cuts.len());
    for (number, cut) in cuts.iter().enumerate() {
        for keep in [false, true] {
            let disk = cut.survivors(|_| keep);
            let checked = std::panic::catch_unwind(|| {
                block_on(check(&disk, &thing, cut.marker, History::Forever));
            });
            assert!(checked.is_ok(), "sync {number} of {:?}, unsynced writes kept: {keep}", cut.syncing);
        }
    }
}

#[test]
fn a_torn_flush_loses_nothing_acknowledged() {
    let (thing, cuts) = cuts_of(40, History::Last(5));
    for (number, cut) in cuts.iter().enumerate() {
        let mut draw = number as u64 + 1;
        let disk = cut.survivors(|_| {
            draw ^= draw << 13;
            draw ^= draw >> 7;
            draw ^= draw << 17;
            draw.is_multiple_of(2)
        });
        block_on(check(&disk, &thing, cut.marker, History::Last(5)));
    }
}

#[test]
fn a_disk_that_forgets_synced_writes_is_noticed() {
    // Negative control: the same check fails when an acknowledged entry is not there.
    let (thing, cuts) = cuts_of(30, History::Forever);
    let early = cuts.iter().find(|cut| cut.marker == 10).unwrap();
    let disk = early.survivors(|_| false);
    let checked = std::panic::catch_unwind(|| block_on(check(&disk, &thing, 30, History::Forever)));
    assert!(checked.is_err());
}

#[test]
fn refolding_after_a_crash_inside_a_fold_gives_the_same_rows() {
    // Crash inside a fold, recover, crash inside the fold of the recovered generation, recover.
    let (thing, cuts) = cuts_of(60, History::Forever);
    let inside: Vec<_> = cuts.iter().filter(|cut| cut.syncing == StoreFile::Data).collect();
    for first in inside.iter().skip(4).step_by(5) {
        let disk = first.survivors(|_| false);
        let acked = Arc::new(AtomicU64::new(first.marker));
        disk.keep_cuts(acked.clone());
        block_on(async {
            let store = open_on(&disk);
            let entity = store.create(&thing).await.unwrap().entity();
            let version = version_of(&store, entity).await;
            acked.store(version, Ordering::SeqCst);
            let token = own(&store, &thing).await;
            write(&store, token, &thing, version + 1..=version + 20, History::Forever, &acked).await;
            store.close().await.unwrap();
        });
        for second in disk.take_cuts().iter().filter(|cut| cut.syncing == StoreFile::Data).step_by(3) {
            block_on(check(&second.survivors(|_| false), &thing, second.marker, History::Forever));
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write { thing: usize, count: u64 },
    Fold,
    Reopen,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..3_usize, 1..12_u64).prop_map(|(thing, count)| Op::Write { thing, count }),
        1 => Just(Op::Fold),
        1 => Just(Op::Reopen),
    ];
    proptest::collection::vec(op, 1..12)
}

const HISTORIES: [History; 3] = [History::Forever, History::Last(4), History::None];

fn runs(ops: &[Op], seed: u64) {
    let disk = FaultyDisk::new();
    let acked: Vec<_> = (0..3).map(|_| AtomicU64::new(0)).collect();
    let things: Vec<Name> = (0..3).map(|number| name(&format!("thing {number}"))).collect();
    let mut disk = disk;
    block_on(async {
        let mut store = Some(open_on(&disk));
        for op in ops {
            match op {
                Op::Write { thing, count } => {
                    let open = store.as_ref().unwrap();
                    let token = own(open, &things[*thing]).await;
                    let from = acked[*thing].load(Ordering::SeqCst) + 1;
                    let range = from..=from + count - 1;
                    write(open, token, &things[*thing], range, HISTORIES[*thing], &acked[*thing]).await;
                }
                Op::Fold => store.as_ref().unwrap().fold().await.unwrap(),
                Op::Reopen => {
                    let mut draw = seed | 1;
                    let survivors = disk.power_off().survivors(|_| {
                        draw ^= draw << 13;
                        draw ^= draw >> 7;
                        draw ^= draw << 17;
                        draw.is_multiple_of(2)
                    });
                    drop(store.take());
                    disk = survivors;
                    store = Some(open_on(&disk));
                }
            }
        }
        let store = store.unwrap();
        for ((thing, acked), history) in things.iter().zip(&acked).zip(HISTORIES) {
            let versions = acked.load(Ordering::SeqCst);
            let Some(entity) = store.resolve(thing).await.unwrap() else {
                assert_eq!(versions, 0);
                continue;
            };
            assert_is_at(&store, entity, thing, versions, history).await;
            assert_history(&store, entity, thing, versions, history).await;
        }
        let work = store.work(None, 10).await.unwrap().len();
        assert_eq!(work, acked.iter().filter(|a| a.load(Ordering::SeqCst) > 0).count());
        store.close().await.unwrap();
    });
    assert_eq!(verify("memory.redb", &small(&disk)).unwrap().faults, []);
}

async fn assert_history(
    store: &stanchion::store::RedbStore,
    entity: EntityId,
    thing: &Name,
    versions: u64,
    history: History,
) {
    let checkpoint = versions - versions % 3;
    let first = match history {
        History::Last(n) => (versions + 1).saturating_sub(n).max(1).min(checkpoint + 1),
        History::None => checkpoint + 1,
        _ => 1,
    };
    let page = store.history(entity, Version(first), usize::MAX).await.unwrap();
    let all = (first..=versions).map(|v| rich(thing, v, history)).collect::<Vec<_>>();
    assert_eq!(page, HistoryPage::Entries(all), "{thing} from {first} at {versions}");
    if first > 1 {
        let page = store.history(entity, Version(1), 10).await.unwrap();
        assert_eq!(page, HistoryPage::Truncated { first: Version(first) });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn recovery_equals_the_model_whatever_the_order_of_writes_folds_and_crashes(ops in ops(), seed: u64) {
        runs(&ops, seed);
    }
}

#[test]
fn rows_deleted_above_the_data_file_stay_deleted_after_a_crash() {
    let (disk, thing) = (FaultyDisk::new(), name("a"));
    block_on(async {
        let store = open_on(&disk);
        let token = own(&store, &thing).await;
        write(&store, token, &thing, 1..=3, History::Forever, &AtomicU64::new(0)).await;
        store.fold().await.unwrap();
        write(&store, token, &thing, 4..=4, History::Forever, &AtomicU64::new(0)).await;
        let rows = store.rows(token.entity, Bytes::new(), Bytes::new(), 10).await.unwrap();
        let survivors = disk.cut().survivors(|_| false);
        let report = verify("memory.redb", &small(&survivors)).unwrap();
        assert_eq!((report.faults, report.entities), (vec![], 1), "the log counts as well");
        let again = open_on(&survivors);
        assert_eq!(again.rows(token.entity, Bytes::new(), Bytes::new(), 10).await.unwrap(), rows);
    });
}
