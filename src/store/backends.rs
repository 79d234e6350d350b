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
    /// Makes the file with this content, durable as a whole or not at all; `false`: there is one, not empty.
    ///
    /// # Errors
    /// Those of the system.
    fn make(&self, file: StoreFile, content: &[u8]) -> io::Result<bool>;

    /// Opens the file.
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

    /// Whether the path leads to one of the files, under whatever name.
    fn has(&self, path: &Path) -> bool;
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
    fn make(&self, file: StoreFile, content: &[u8]) -> io::Result<bool> {
        let path = self.path(file);
        let mut fresh = path.clone().into_os_string();
        fresh.push(format!(".{}.new", std::process::id()));
        let fresh = PathBuf::from(fresh);
        let made = place(&fresh, &path, content);
        let _ = std::fs::remove_file(&fresh);
        if made? {
            sync_parent(&path)?;
            return Ok(true);
        }
        Ok(false)
    }

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

    fn has(&self, path: &Path) -> bool {
        [StoreFile::Data, StoreFile::Log].into_iter().any(|file| is_same(&self.path(file), path))
    }
}

/// Whether both paths lead to one file that is there.
fn is_same(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let number = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
        matches!((number(one), number(other)), (Ok(one), Ok(other)) if one == other)
    }
    #[cfg(not(unix))]
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Writes `fresh` and lets it become `path` unless there is something.
fn place(fresh: &Path, path: &Path, content: &[u8]) -> io::Result<bool> {
    let mut file = open_private(fresh)?;
    file.set_len(0)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()?;
    match std::fs::metadata(path) {
        Ok(found) if found.len() > 0 => Ok(false),
        Ok(_) => std::fs::rename(fresh, path).map(|()| true),
        // A link never replaces a file that another process has made since.
        Err(error) if error.kind() == io::ErrorKind::NotFound => match std::fs::hard_link(fresh, path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(_) => std::fs::rename(fresh, path).map(|()| true),
        },
        Err(error) => Err(error),
    }
}

/// A database that is built in memory before it becomes a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    bytes: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Draft {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The bytes so far.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.lock())
    }
}

impl StorageBackend for Draft {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = self.lock();
        let place = bytes.get(start..start.saturating_add(out.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(place);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock().resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let mut bytes = self.lock();
        let place =
            bytes.get_mut(start..start.saturating_add(data.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        place.copy_from_slice(data);
        Ok(())
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
