//! Rewriting a closed store without the place that removed rows have left: copy, flush, rename.

use std::{
    io,
    path::{Path, PathBuf},
};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use stanchion_actors::store::Table;

use super::{
    backends::{Backends, Boxed, FileBackends, StoreFile, open_private, sync_parent},
    backup::Scratch,
    crash::{Crash, CrashPoint},
    open::{Inspected, Opener},
    open_error::OpenError,
    options::StoreOptions,
    redb_store::RedbStore,
    tables::{DataMeta, put_meta, rows},
};

/// Bytes copied in one commit.
const COMMIT_BYTES: usize = 16 << 20;

/// Why a store is not compacted; it is as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactError {
    /// It does not open, or is in use: see there.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its log could not be folded in before.
    #[error("store {} was not closed cleanly: {why}", path.display())]
    NotClosed {
        /// The store.
        path: PathBuf,
        /// What does not hold.
        why: String,
    },
    /// The copy could not be written, or not read back: free the disk, then try again.
    #[error("store {} cannot be copied: {cause}", path.display())]
    Copy {
        /// The store.
        path: PathBuf,
        /// What went wrong.
        cause: String,
    },
    /// The system refuses.
    #[error("store {} cannot be replaced", path.display())]
    Io {
        /// The store.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// What compacting came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Bytes of the file before.
    pub before: u64,
    /// Bytes of the file after.
    pub after: u64,
    /// Rows copied.
    pub rows: u64,
}

/// Rewrites the closed store at `path`: a log is folded in, everything is copied into a new file in the order of its
/// keys, flushed, and put in place of the old one. Blocks for as long as that takes, and needs the room of a second file.
///
/// # Errors
/// [`CompactError`]; the store is as before.
///
/// # Guarantees
/// At any moment the file at `path` is the old one or the new one, each of them whole.
pub fn compact(path: impl AsRef<Path>, options: &StoreOptions) -> Result<Compacted, CompactError> {
    let path = path.as_ref();
    let options = StoreOptions { must_exist: true, backends: None, ..options.clone() };
    let not_closed = |why: String| CompactError::NotClosed { path: path.to_path_buf(), why };
    fold_in(path, &options).map_err(|error| match error {
        FoldIn::Open(error) => error.into(),
        FoldIn::Failed(why) => not_closed(why),
    })?;
    // Held from here on: who opened it between the two closes it first.
    let opener = Opener::new(path, &options);
    let Inspected { data, meta, log, .. } = opener.sheltered(|| opener.inspect())?;
    if log.is_some() || !meta.clean {
        return Err(not_closed("another process has used it meanwhile".into()));
    }
    let io = |source| CompactError::Io { path: path.to_path_buf(), source };
    let before = std::fs::metadata(path).map_err(io)?.len();
    let scratch = Scratch::beside(path, ".compact").map_err(io)?;
    let copied = copy(&data, &meta, scratch.path(), &options.crash);
    let rows = copied.map_err(|error| CompactError::Copy { path: path.into(), cause: error.to_string() })?;
    let after = std::fs::metadata(scratch.path()).map_err(io)?.len();
    options.crash.reach(CrashPoint::BeforeReplaced);
    scratch.put(path).map_err(io)?;
    options.crash.reach(CrashPoint::AfterReplaced);
    drop(data);
    Ok(Compacted { before, after, rows })
}

enum FoldIn {
    Open(OpenError),
    Failed(String),
}

/// Opens and closes the store: its log is folded in, an older format brought up to date, what was purged removed.
fn fold_in(path: &Path, options: &StoreOptions) -> Result<(), FoldIn> {
    let store = RedbStore::open(path, options.clone()).map_err(FoldIn::Open)?;
    store.close_finishes();
    store.close_blocking().map_err(|error| FoldIn::Failed(error.to_string()))
}

/// Copies every table into a new file and flushes it; answers the rows.
fn copy(data: &Database, meta: &DataMeta, to: &Path, crash: &Crash) -> Result<u64, redb::Error> {
    let file = FileBackends::new(to.to_path_buf());
    drop(open_private(to)?);
    let mut target = Builder::new().create_with_backend(Boxed(file.open(StoreFile::Data)?))?;
    let source = data.begin_read()?;
    let mut copied = 0;
    for table in Table::ALL {
        let stored = source.open_table(rows(table))?;
        let mut from = stored.iter()?;
        loop {
            let txn = target.begin_write()?;
            let mut bytes = 0;
            {
                let mut into = txn.open_table(rows(table))?;
                while bytes < COMMIT_BYTES
                    && let Some(row) = from.next()
                {
                    let (key, value) = row?;
                    into.insert(key.value(), value.value())?;
                    bytes += key.value().len() + value.value().len();
                    copied += 1;
                }
            }
            txn.commit()?;
            crash.reach(CrashPoint::AfterCopied);
            if bytes < COMMIT_BYTES {
                break;
            }
        }
        let (found, expected) = (target.begin_read()?.open_table(rows(table))?.len()?, stored.len()?);
        if found != expected {
            return Err(redb::Error::Corrupted(format!("{found} rows were copied of {expected}")));
        }
    }
    // Last of all: a copy without a head is no store.
    let mut txn = target.begin_write()?;
    txn.set_quick_repair(true);
    put_meta(&txn, meta)?;
    txn.commit()?;
    while target.compact()? {}
    drop(target);
    let file = open_private(to)?;
    file.sync_all()?;
    sync_parent(to)?;
    Ok(copied)
}
