//! Where the two files of a store are: a port, so that tests put a faulty disk under them.

use std::{
    fmt::Debug,
    fs::{File, OpenOptions},
    io,
    ops::Bound,
    path::{Path, PathBuf},
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreFile {
    /// Everything that is folded.
    Data,
    /// The redo log.
    Log,
}

/// Opens, finds and removes the files of one store.
pub trait Backends: Send + Sync + Debug + 'static {
    /// Opens the file, making an empty one if there is none.
    ///
    /// # Errors
    /// Those of the system.
    fn open(&self, file: StoreFile) -> io::Result<Box<dyn StorageBackend>>;

    /// Length of the file; `None` when there is none.
    ///
    /// # Errors
    /// Those of the system.
    fn len(&self, file: StoreFile) -> io::Result<Option<u64>>;

    /// Removes the file; none is fine.
    ///
    /// # Errors
    /// Those of the system.
    fn remove(&self, file: StoreFile) -> io::Result<()>;

    /// Makes creations and removals durable.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_names(&self) -> io::Result<()>;
}

/// The data file at a path, the log beside it as `PATH-log`; both readable by their owner only.
#[derive(Clone, Debug)]
pub struct FileBackends {
    path: PathBuf,
}

impl FileBackends {
    /// The files at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Path of one of the files.
    #[must_use]
    pub fn path(&self, file: StoreFile) -> PathBuf {
        match file {
            StoreFile::Data => self.path.clone(),
            StoreFile::Log => {
                let mut name = self.path.clone().into_os_string();
                name.push("-log");
                PathBuf::from(name)
            }
        }
    }
}

/// Opens for reading and writing, creating with mode 0600.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes a creation, rename or removal of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if cfg!(unix) { File::open(parent)?.sync_all() } else { Ok(()) }
}

impl Backends for FileBackends {
    fn open(&self, file: StoreFile) -> io::Result<Box<dyn StorageBackend>> {
        let opened = open_private(&self.path(file))?;
        Ok(Box::new(FileBackend::new(opened).map_err(io::Error::other)?))
    }

    fn len(&self, file: StoreFile) -> io::Result<Option<u64>> {
        match std::fs::metadata(self.path(file)) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, file: StoreFile) -> io::Result<()> {
        match std::fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_parent(&self.path)
    }
}

/// A boxed backend as redb takes it.
#[derive(Debug)]
pub(crate) struct Boxed(pub(crate) Box<dyn StorageBackend>);

type LockResult<T> = Result<T, BackendError>;

impl StorageBackend for Boxed {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.0.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<bool> {
        self.0.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<bool> {
        self.0.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<()> {
        self.0.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<()> {
        self.0.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<()> {
        self.0.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> LockResult<bool> {
        self.0.query_lock_range(start, end)
    }
}
