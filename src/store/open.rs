//! Opening: locks, the two files, recovery.

use std::{
    collections::BTreeSet,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableError};
use stanchion_actors::{
    ids::{EntityId, Position},
    store::Table,
};

use super::{
    backends::{Backends, Boxed, Draft, StoreFile},
    chunk::read_chunk,
    log::{RedoLog, read_chunks, write_log},
    memtable::Mem,
    open_error::{OpenError, lock_holder},
    options::StoreOptions,
    tables::{DataMeta, FILE_FORMAT, GONE, LogMeta, get_meta, put_meta, rows},
};

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) data: Database,
    pub(crate) log: RedoLog,
    pub(crate) meta: DataMeta,
    pub(crate) mem: Mem,
    /// Removed entities with rows left in the data file.
    pub(crate) gone: BTreeSet<EntityId>,
    /// Last position anywhere.
    pub(crate) last: Position,
    /// Bytes of chunks not folded.
    pub(crate) unfolded_bytes: usize,
}

/// What is in the files, before anything is written.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) data: Database,
    pub(crate) meta: DataMeta,
    /// `None`: closed cleanly.
    pub(crate) log: Option<(Database, LogMeta)>,
    pub(crate) mem: Mem,
    pub(crate) gone: BTreeSet<EntityId>,
    pub(crate) last: Position,
    /// Chunks in the log, by first and last position.
    pub(crate) held: Vec<(Position, Position)>,
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
        self.sheltered(|| self.recovered())
    }

    fn recovered(&self) -> Result<Recovered, OpenError> {
        let Inspected { data, mut meta, log, mem, gone, last, held, unfolded_bytes } = self.inspect()?;
        if meta.format < FILE_FORMAT {
            // Before anything is written that an older program would misread: it refuses the file from here on.
            meta.format = FILE_FORMAT;
            write_meta(&data, &meta).map_err(|e| self.failed(e))?;
        }
        let (log, mut log_meta) = match log {
            Some(found) => found,
            None => self.make_log(&meta)?,
        };
        let boot = meta.boot.max(log_meta.boot) + 1;
        (meta.boot, log_meta.boot) = (boot, boot);
        log_meta.format = FILE_FORMAT;
        let mut log = RedoLog::new(Arc::new(log), log_meta);
        for (first, last) in held {
            log.hold(first, last);
        }
        log.seal().map_err(|e| self.failed(e))?;
        if meta.clean {
            meta.clean = false;
            write_meta(&data, &meta).map_err(|e| self.failed(e))?;
        }
        Ok(Recovered { data, log, meta, mem, gone, last, unfolded_bytes })
    }

    /// Opens what is there, checks that the two files belong together, and replays the log in memory.
    pub(crate) fn inspect(&self) -> Result<Inspected, OpenError> {
        let (data, meta) = self.open_data()?;
        let log = self.open_log(&meta)?;
        let gone = read_gone(&data).map_err(|e| self.failed(e))?;
        let mut found = Inspected {
            data,
            log: None,
            mem: Mem::default(),
            gone,
            last: meta.folded,
            held: Vec::new(),
            unfolded_bytes: 0,
            meta,
        };
        found.mem.next_entity = found.meta.next_entity;
        if let Some((log, log_meta)) = log {
            if log_meta.trimmed > found.meta.folded {
                let (folded, trimmed) = (found.meta.folded, log_meta.trimmed);
                return Err(OpenError::Gap { path: self.path.into(), folded, trimmed });
            }
            for (first, bytes) in read_chunks(&log).map_err(|e| self.failed(e))? {
                self.replay(first, &bytes, &mut found)?;
            }
            found.log = Some((log, log_meta));
        }
        if !found.meta.indexed {
            found.mem.forget_index_puts();
        }
        Ok(found)
    }

    /// Takes one chunk in.
    fn replay(&self, first: Position, bytes: &Bytes, found: &mut Inspected) -> Result<(), OpenError> {
        let damage = |what: String| self.corrupt(format!("log chunk at {first}: {what}"));
        let (head, records) = read_chunk(first, bytes).map_err(|e| damage(e.to_string()))?;
        let end = Position(first.0 + head.count.saturating_sub(1));
        if head.count == 0 || found.held.last().is_some_and(|(_, before)| before.next() != first) {
            return Err(damage("positions are not gapless".into()));
        }
        found.held.push((first, end));
        if end <= found.meta.folded {
            return Ok(());
        }
        if first > found.last.next() {
            let (folded, trimmed) = (found.last, Position(first.0 - 1));
            return Err(OpenError::Gap { path: self.path.into(), folded, trimmed });
        }
        found.unfolded_bytes += bytes.len();
        let mut at = first;
        for record in &records {
            found.mem.replay(at, record).map_err(|e| damage(e.to_string()))?;
            at = Position(at.0 + record.positions());
        }
        found.last = end;
        Ok(())
    }

    fn open_data(&self) -> Result<(Database, DataMeta), OpenError> {
        let found = self.backends.len(StoreFile::Data).map_err(|e| self.io(e))?;
        if found.unwrap_or(0) == 0 {
            if self.options.must_exist {
                return Err(OpenError::Missing(self.path.into()));
            }
            self.make_data()?;
        }
        let data = self.database(StoreFile::Data, self.options.data_cache_bytes)?;
        match get_meta::<DataMeta>(&data).map_err(|e| self.failed(e))? {
            Some(meta) if meta.format > FILE_FORMAT => {
                Err(OpenError::NewerFormat { path: self.path.into(), found: meta.format })
            }
            Some(meta) => Ok((data, meta)),
            None => Err(OpenError::NotAStore(self.path.into())),
        }
    }

    fn make_data(&self) -> Result<(), OpenError> {
        if self.backends.len(StoreFile::Log).map_err(|e| self.io(e))?.unwrap_or(0) > 0 {
            return Err(self.corrupt("the data file is missing beside its log".into()));
        }
        let meta = DataMeta {
            id: uuid::Uuid::now_v7(),
            format: FILE_FORMAT,
            boot: 0,
            clean: true,
            folded: Position(0),
            next_entity: 1,
            indexed: true,
        };
        self.make(StoreFile::Data, |data| write_meta(data, &meta))
    }

    /// Makes a file that is a whole database from its first moment on.
    fn make(
        &self,
        file: StoreFile,
        fill: impl FnOnce(&Database) -> Result<(), redb::Error>,
    ) -> Result<(), OpenError> {
        let draft = Draft::default();
        let db = Builder::new().set_cache_size(1 << 20).create_with_backend(draft.clone());
        let db = db.map_err(|e| self.failed(e))?;
        fill(&db).map_err(|e| self.failed(e))?;
        drop(db);
        self.backends.make(file, &draft.take()).map(drop).map_err(|e| self.io(e))
    }

    fn open_log(&self, meta: &DataMeta) -> Result<Option<(Database, LogMeta)>, OpenError> {
        let found = self.backends.len(StoreFile::Log).map_err(|e| self.io(e))?;
        if found.unwrap_or(0) == 0 {
            let missing = OpenError::LogMissing { path: self.path.into() };
            return if meta.clean { Ok(None) } else { Err(missing) };
        }
        let log = self.database(StoreFile::Log, self.options.log_cache_bytes)?;
        match get_meta::<LogMeta>(&log).map_err(|e| self.failed(e))? {
            None => Err(self.corrupt("the log has no head".into())),
            Some(found) if found.format > FILE_FORMAT => {
                Err(OpenError::NewerFormat { path: self.path.into(), found: found.format })
            }
            Some(found) if found.id != meta.id => {
                Err(self.corrupt("the log belongs to another store".into()))
            }
            Some(found) => Ok(Some((log, found))),
        }
    }

    fn make_log(&self, meta: &DataMeta) -> Result<(Database, LogMeta), OpenError> {
        let log_meta = LogMeta::after(meta);
        self.make(StoreFile::Log, |log| write_log(log, &log_meta, &[]))?;
        Ok((self.database(StoreFile::Log, self.options.log_cache_bytes)?, log_meta))
    }

    /// Opens one file as a database; the lock of redb decides who may.
    pub(crate) fn database(&self, file: StoreFile, cache_bytes: usize) -> Result<Database, OpenError> {
        let backend = self.backends.open(file).map_err(|e| self.io(e))?;
        let len = backend.len().map_err(|e| self.io(e))?;
        if len > 0 {
            let mut magic = vec![0; REDB_MAGIC.len().min(usize::try_from(len).unwrap_or(usize::MAX))];
            backend.read(0, &mut magic).map_err(|e| self.io(e))?;
            if magic != REDB_MAGIC {
                return Err(OpenError::NotAStore(self.path.into()));
            }
        }
        let opened = self.sheltered(|| {
            Ok(Builder::new().set_cache_size(cache_bytes).create_with_backend(Boxed(backend)))
        })?;
        opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                OpenError::Locked { path: self.path.into(), pid: lock_holder(self.path) }
            }
            DatabaseError::Storage(StorageError::Io(error)) => self.io(error),
            error => self.corrupt(error.to_string()),
        })
    }

    /// Damaged bytes may make redb panic where it reads its own structures.
    pub(crate) fn sheltered<T>(&self, work: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
        catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| Err(self.corrupt("opening it panicked".into())))
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

/// Removed entities whose rows are not all removed yet.
fn read_gone(data: &Database) -> Result<BTreeSet<EntityId>, redb::Error> {
    let table = match data.begin_read()?.open_table(GONE) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error.into()),
    };
    let mut gone = BTreeSet::new();
    for row in table.iter()? {
        let (key, _) = row?;
        let number = key.value().try_into().map_err(|_| redb::Error::Corrupted("gone: no number".into()))?;
        gone.insert(EntityId(u64::from_be_bytes(number)));
    }
    Ok(gone)
}

/// Writes the head, making every table.
fn write_meta(data: &Database, meta: &DataMeta) -> Result<(), redb::Error> {
    let mut txn = data.begin_write()?;
    txn.set_quick_repair(true);
    for table in Table::ALL {
        txn.open_table(rows(table))?;
    }
    txn.open_table(GONE)?;
    put_meta(&txn, meta)?;
    txn.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// redb asserts what it reads of its allocator's state: a flipped bit there ended the whole program.
    #[test]
    fn a_panic_over_damaged_bytes_is_told_as_a_corrupt_store() {
        let options = StoreOptions::default();
        let opener = Opener::new(Path::new("app.redb"), &options);
        let opened: Result<(), OpenError> = opener.sheltered(|| panic!("Malformed allocator state"));
        assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "{opened:?}");
    }
}
