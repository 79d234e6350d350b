//! The end of a store: everything folded, marked clean, the log removed; or, when poisoned, left for recovery.

use std::{sync::Arc, thread::JoinHandle};

use redb::Database;
use stanchion_actors::store::StoreError;

use super::{
    backends::{Backends, StoreFile},
    crash::CrashPoint,
    log::RedoLog,
    pace::freeze,
    read::Readers,
    shared::Shared,
    tables::{DataMeta, put_meta},
};

/// What has to end beside the writer.
pub(crate) struct Ending {
    pub(crate) shared: Arc<Shared>,
    pub(crate) readers: [Arc<Readers>; 2],
    pub(crate) backends: Arc<dyn Backends>,
    pub(crate) data: Arc<Database>,
    pub(crate) fold: JoinHandle<DataMeta>,
}

/// Ends the store, on the writer thread after its last batch.
pub(crate) fn end(log: RedoLog, ending: Ending) {
    let Ending { shared, readers, backends, data, fold } = ending;
    if shared.poisoned().is_none() {
        fold_all(&shared);
    }
    for threads in readers {
        threads.stop();
    }
    shared.fold(|fold| fold.stop = true);
    let meta = fold.join();
    let ended = match (shared.poisoned(), meta) {
        (Some(why), _) => Err(StoreError::Fatal(why.to_owned())),
        (None, Err(_)) => Err(StoreError::Fatal("the fold thread panicked".into())),
        (None, Ok(meta)) => mark_clean(&data, meta)
            .map_err(|e| StoreError::Fatal(format!("the store was not marked clean: {e}"))),
    };
    shared.view.change(|gens| (gens.data, gens.log) = (None, None));
    drop(log);
    let removed = ended.and_then(|()| {
        shared.options.crash.reach(CrashPoint::BeforeLogRemoved);
        let gone = backends.remove(StoreFile::Log).and_then(|()| backends.sync_names());
        gone.map_err(|e| StoreError::Fatal(format!("the log was not removed: {e}")))
    });
    drop(data);
    shared.end(removed);
}

/// Folds generation after generation until nothing is left.
fn fold_all(shared: &Shared) {
    shared.fold(|fold| fold.urgent = true);
    loop {
        drop(shared.await_fold(None, |fold| (fold.busy || (fold.finish && fold.upkeep)) && !fold.stop));
        if shared.poisoned().is_some() || !freeze(shared) {
            return;
        }
    }
}

fn mark_clean(data: &Database, mut meta: DataMeta) -> Result<(), redb::Error> {
    meta.clean = true;
    let mut txn = data.begin_write()?;
    txn.set_quick_repair(true);
    put_meta(&txn, &meta)?;
    txn.commit()?;
    Ok(())
}
