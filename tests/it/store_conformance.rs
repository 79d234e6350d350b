//! The conformance suite of the port on the redb store: in the memtable, and folded after every commit.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use futures_util::future::{BoxFuture, FutureExt, ready};
use proptest::prelude::*;
use stanchion::store::{RedbStore, StoreOptions, restore, testing::FaultyDisk};
use stanchion_actors::{
    store::Store,
    testing::{
        Check, Rig, StoreFactory,
        model::{Op, agrees},
    },
};

use crate::support::small;

/// Makes redb stores on disks in memory; reopening cuts the power.
struct Redb {
    fold_bytes: usize,
    last: Mutex<Option<(FaultyDisk, Arc<RedbStore>)>>,
    dir: tempfile::TempDir,
}

impl Redb {
    fn new(fold_bytes: usize) -> Self {
        Self { fold_bytes, last: Mutex::default(), dir: tempfile::tempdir().unwrap() }
    }

    fn open_on(&self, disk: FaultyDisk) -> Result<Arc<dyn Store>, String> {
        let mut options = small(&disk);
        options.fold_bytes = self.fold_bytes;
        let store = Arc::new(RedbStore::open("memory.redb", options).map_err(|e| e.to_string())?);
        *self.last.lock().unwrap() = Some((disk, store.clone()));
        Ok(store)
    }
}

impl StoreFactory for Redb {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Store>, String>> {
        ready(self.open_on(FaultyDisk::new())).boxed()
    }

    fn reopen(&self, store: Arc<dyn Store>) -> BoxFuture<'_, Result<Arc<dyn Store>, String>> {
        let (disk, last) = self.last.lock().unwrap().take().unwrap();
        let survivors = disk.power_off().survivors(|number| number % 3 == 0);
        drop((store, last));
        ready(self.open_on(survivors)).boxed()
    }

    fn settle<'a>(&'a self, _store: &'a Arc<dyn Store>) -> BoxFuture<'a, Check> {
        let last = self.last.lock().unwrap().as_ref().map(|(_, store)| store.clone());
        async move { last.unwrap().fold().await.map_err(|e| e.to_string()) }.boxed()
    }

    fn backup_dir(&self) -> Option<PathBuf> {
        Some(self.dir.path().to_owned())
    }

    fn restore(&self, from: &Path) -> BoxFuture<'_, Result<Arc<dyn Store>, String>> {
        let to = self.dir.path().join("restored.redb");
        let opened = restore(from, &to, true)
            .map_err(|e| e.to_string())
            .and_then(|_| RedbStore::open(&to, StoreOptions::default()).map_err(|e| e.to_string()));
        ready(opened.map(|store| Arc::new(store) as Arc<dyn Store>)).boxed()
    }
}

mod in_the_memtable {
    stanchion_actors::conformance_tests!(crate::store_conformance::Redb::new(64 << 20));
}

mod folded_after_every_commit {
    stanchion_actors::conformance_tests!(crate::store_conformance::Redb::new(1));
}

fn sequences() -> u32 {
    std::env::var("STANCHION_MODEL_SEQUENCES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

fn agree(fold_bytes: usize, draws: &[u64]) -> Check {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ops: Vec<Op> = draws.iter().copied().map(Op::from_draw).collect();
    runtime.block_on(async {
        let mut rig = Rig::open(Arc::new(Redb::new(fold_bytes))).await?;
        agrees(&mut rig, &ops).await
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: sequences(), ..ProptestConfig::default() })]

    #[test]
    fn random_operations_agree_with_the_model(
        fold_bytes in prop_oneof![Just(1_usize), Just(2_000), Just(64 << 20)],
        draws in proptest::collection::vec(any::<u64>(), 1..60),
    ) {
        prop_assert_eq!(agree(fold_bytes, &draws), Ok(()));
    }
}
