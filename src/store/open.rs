//! Opening: locks, the two files, recovery.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use redb::{Builder, Database, DatabaseError, StorageError};
use stanchion_actors::ids::Position;

use super::{
    backends::{Backends, Boxed, StoreFile},
    chunk::read_chunk,
    log::{RedoLog, read_chunks},
    memtable::Mem,
    options::StoreOptions,
    tables::{ALL, DataMeta, FILE_FORMAT, LogMeta, get_meta, put_meta, rows},
};

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another handle of this one, has it open: stop that, or ask it.
    #[error("store {} is held by {}: stop it first", path.display(), holder(*pid))]
    Locked {
        /// The data file.
        path: PathBuf,
        /// Who holds it, where the system tells.
        pid: Option<u32>,
    },
    /// There is no store, and `must_exist` is set.
    #[error("there is no store at {}", .0.display())]
    Missing(PathBuf),
    /// The file is something else: choose another path.
    #[error("{} is not a store", .0.display())]
    NotAStore(PathBuf),
    /// Written by a newer program: use that.
    #[error("store {} has format {found}, this program knows up to {FILE_FORMAT}: use a newer program", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Bytes are damaged: restore a backup.
    #[error("store {} is corrupt: {what}", path.display())]
    Corrupt {
        /// The data file.
        path: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// The log is gone though it held acknowledged entries: put it back, or restore a backup.
    #[error("store {} was not closed cleanly and its log {}-log is missing", path.display(), path.display())]
    LogMissing {
        /// The data file.
        path: PathBuf,
    },
    /// The log does not continue where the data file ends: the two do not belong together.
    #[error("store {}: data ends at position {folded}, the log begins after {trimmed}", path.display())]
    Gap {
        /// The data file.
        path: PathBuf,
        /// Last position in the data file.
        folded: Position,
        /// Last position removed from the log.
        trimmed: Position,
    },
    /// The file or its directory cannot be written.
    #[error("store {} cannot be written", path.display())]
    ReadOnly {
        /// The data file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The system refuses.
    #[error("store {} cannot be opened", path.display())]
    Io {
        /// The data file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) data: Database,
    pub(crate) log: RedoLog,
    pub(crate) meta: DataMeta,
    pub(crate) mem: Mem,
    /// Last position anywhere.
    pub(crate) last: Position,
    /// Bytes of chunks not folded.
    pub(crate) unfolded_bytes: usize,
}

/// Opens the files of one store.
#[derive(Debug)]
pub(crate) struct Opener<'a> {
    pub(crate) path: &'a Path,
    pub(crate) options: &'a StoreOptions,
    pub(crate) backends: Arc<dyn Backends>,
}

const REDB_MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";

impl<'a> Opener<'a> {
    pub(crate) fn new(path: &'a Path, options: &'a StoreOptions) -> Self {
        Self { path, options, backends: options.backends_at(path) }
    }

    /// Steps 1 to 7 of the recovery procedure (docs/STORE_FORMAT.md).
    pub(crate) fn recover(&self) -> Result<Recovered, OpenError> {
        let (data, mut meta) = self.open_data()?;
        let (log, mut log_meta) = self.open_log(&meta)?;
        if log_meta.trimmed > meta.folded {
            let (folded, trimmed) = (meta.folded, log_meta.trimmed);
            return Err(OpenError::Gap { path: self.path.into(), folded, trimmed });
        }
        let boot = meta.boot.max(log_meta.boot) + 1;
        (meta.boot, log_meta.boot) = (boot, boot);
        let chunks = read_chunks(&log).map_err(|e| self.failed(e))?;
        let mut log = RedoLog::new(Arc::new(log), log_meta);
        let mut recovered_mem = Mem::default();
        recovered_mem.next_entity = meta.next_entity;
        let (last, unfolded_bytes) = self.replay(&meta, &chunks, &mut log, &mut recovered_mem)?;
        log.begin().map_err(|e| self.failed(e))?;
        if meta.clean {
            meta.clean = false;
            self.write_meta(&data, &meta)?;
        }
        Ok(Recovered { data, log, meta, mem: recovered_mem, last, unfolded_bytes })
    }

    fn replay(
        &self,
        meta: &DataMeta,
        chunks: &[(Position, Bytes)],
        log: &mut RedoLog,
        mem: &mut Mem,
    ) -> Result<(Position, usize), OpenError> {
        let mut last = meta.folded;
        let mut expected: Option<Position> = None;
        let mut unfolded = 0;
        for (first, bytes) in chunks {
            let damage = |what: String| self.corrupt(format!("log chunk at {first}: {what}"));
            let (head, records) = read_chunk(*first, bytes).map_err(|e| damage(e.to_string()))?;
            let end = Position(first.0 + head.count.saturating_sub(1));
            if head.count == 0 || expected.is_some_and(|expected| expected != *first) {
                return Err(damage("positions are not gapless".into()));
            }
            expected = Some(end.next());
            log.hold(*first, end);
            if end <= meta.folded {
                continue;
            }
            if *first > last.next() {
                return Err(OpenError::Gap {
                    path: self.path.into(),
                    folded: last,
                    trimmed: Position(first.0 - 1),
                });
            }
            unfolded += bytes.len();
            let mut at = *first;
            for record in &records {
                mem.replay(at, record).map_err(|e| damage(e.to_string()))?;
                at = Position(at.0 + record.positions());
            }
            last = end;
        }
        Ok((last, unfolded))
    }

    fn open_data(&self) -> Result<(Database, DataMeta), OpenError> {
        let found = self.backends.len(StoreFile::Data).map_err(|e| self.io(e))?;
        if self.options.must_exist && found.unwrap_or(0) == 0 {
            return Err(OpenError::Missing(self.path.into()));
        }
        let data = self.database(StoreFile::Data, self.options.data_cache_bytes)?;
        match get_meta::<DataMeta>(&data).map_err(|e| self.failed(e))? {
            Some(meta) if meta.format > FILE_FORMAT => {
                Err(OpenError::NewerFormat { path: self.path.into(), found: meta.format })
            }
            Some(meta) => Ok((data, meta)),
            None => self.make_data(data),
        }
    }

    fn make_data(&self, data: Database) -> Result<(Database, DataMeta), OpenError> {
        let others = redb::ReadableDatabase::begin_read(&data)
            .map_err(|e| self.failed(e))?
            .list_tables()
            .map_err(|e| self.failed(e))?
            .count();
        if others > 0 {
            return Err(OpenError::NotAStore(self.path.into()));
        }
        let meta = DataMeta {
            id: uuid::Uuid::now_v7(),
            format: FILE_FORMAT,
            boot: 0,
            clean: true,
            folded: Position(0),
            next_entity: 1,
        };
        self.backends.remove(StoreFile::Log).map_err(|e| self.io(e))?;
        self.write_meta(&data, &meta)?;
        self.backends.sync_names().map_err(|e| self.io(e))?;
        Ok((data, meta))
    }

    fn open_log(&self, meta: &DataMeta) -> Result<(Database, LogMeta), OpenError> {
        let found = self.backends.len(StoreFile::Log).map_err(|e| self.io(e))?;
        if !meta.clean && found.unwrap_or(0) == 0 {
            return Err(OpenError::LogMissing { path: self.path.into() });
        }
        let log = self.database(StoreFile::Log, self.options.log_cache_bytes)?;
        let fresh = LogMeta { id: meta.id, format: FILE_FORMAT, boot: meta.boot, trimmed: meta.folded };
        match get_meta::<LogMeta>(&log).map_err(|e| self.failed(e))? {
            None if meta.clean => {
                self.backends.sync_names().map_err(|e| self.io(e))?;
                Ok((log, fresh))
            }
            None => Err(self.corrupt("the log has no head".into())),
            Some(found) if found.format > FILE_FORMAT => {
                Err(OpenError::NewerFormat { path: self.path.into(), found: found.format })
            }
            Some(found) if found.id != meta.id => {
                Err(self.corrupt("the log belongs to another store".into()))
            }
            Some(found) => Ok((log, found)),
        }
    }

    /// Opens one file as a database; the lock of redb decides who may.
    pub(crate) fn database(&self, file: StoreFile, cache_bytes: usize) -> Result<Database, OpenError> {
        let backend = self.backends.open(file).map_err(|e| self.io(e))?;
        let len = backend.len().map_err(|e| self.io(e))?;
        if len > 0 {
            let mut magic = vec![0; REDB_MAGIC.len().min(usize::try_from(len).unwrap_or(usize::MAX))];
            backend.read(0, &mut magic).map_err(|e| self.io(e))?;
            let blank = magic.iter().all(|byte| *byte == 0);
            if magic != REDB_MAGIC && !blank {
                return Err(OpenError::NotAStore(self.path.into()));
            }
        }
        let opened = Builder::new().set_cache_size(cache_bytes).create_with_backend(Boxed(backend));
        opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                OpenError::Locked { path: self.path.into(), pid: lock_holder(self.path) }
            }
            DatabaseError::Storage(StorageError::Io(error)) => self.io(error),
            error => self.corrupt(error.to_string()),
        })
    }

    fn write_meta(&self, data: &Database, meta: &DataMeta) -> Result<(), OpenError> {
        let write = || -> Result<(), redb::Error> {
            let mut txn = data.begin_write()?;
            txn.set_quick_repair(true);
            for table in ALL {
                txn.open_table(rows(table))?;
            }
            put_meta(&txn, meta)?;
            txn.commit()?;
            Ok(())
        };
        write().map_err(|e| self.failed(e))
    }

    fn corrupt(&self, what: String) -> OpenError {
        OpenError::Corrupt { path: self.path.into(), what }
    }

    pub(crate) fn failed(&self, error: impl Into<redb::Error>) -> OpenError {
        match error.into() {
            redb::Error::Io(error) => self.io(error),
            error => self.corrupt(error.to_string()),
        }
    }

    fn io(&self, source: io::Error) -> OpenError {
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OpenError::ReadOnly { path: self.path.into(), source }
            }
            io::ErrorKind::InvalidData => self.corrupt(source.to_string()),
            _ => OpenError::Io { path: self.path.into(), source },
        }
    }
}

/// The process that holds a lock on the file, as far as the system tells.
#[cfg(target_os = "linux")]
fn lock_holder(path: &Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{}", std::fs::metadata(path).ok()?.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words =
            line.split_whitespace().skip_while(|word| *word != "WRITE" && *word != "READ").skip(1);
        let pid = words.next()?.parse::<u32>().ok()?;
        words.next().is_some_and(|place| place.ends_with(&inode)).then_some(pid)
    })
}

#[cfg(not(target_os = "linux"))]
fn lock_holder(_path: &Path) -> Option<u32> {
    None
}
