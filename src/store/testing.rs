//! A disk that fails on purpose: drops what was not synced, refuses, flips bits.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use redb::StorageBackend;

use super::backends::{Backends, StoreFile};

/// A change of a file that is not synced yet.
#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Resize(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Resize(len) => bytes.resize(usize::try_from(*len).unwrap_or(usize::MAX), 0),
            Self::Write(offset, data) => {
                let start = usize::try_from(*offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(data.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(place) = bytes.get_mut(start..end) {
                    place.copy_from_slice(data);
                }
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<Change>,
}

/// What a call does to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiskCall {
    /// Flush.
    Sync,
    /// Write.
    Write,
    /// Change of length.
    Resize,
}

/// What would be on the disk if the power went at one sync, before it took effect.
#[derive(Clone, Debug)]
pub struct Cut {
    files: Vec<(StoreFile, Content)>,
    /// Value of the marker at that moment.
    pub marker: u64,
    /// The file that was being synced.
    pub syncing: StoreFile,
}

impl Cut {
    /// A disk with what is synced, and of the unsynced writes those for which `survives` says so, by number.
    #[must_use]
    pub fn survivors(&self, mut survives: impl FnMut(usize) -> bool) -> FaultyDisk {
        let disk = FaultyDisk::new();
        let mut number = 0;
        for (file, content) in &self.files {
            let mut bytes = content.synced.clone();
            for change in &content.pending {
                if survives(number) {
                    change.apply(&mut bytes);
                }
                number += 1;
            }
            disk.lock()
                .files
                .insert(*file, Content { now: bytes.clone(), synced: bytes, pending: Vec::new() });
        }
        disk
    }
}

#[derive(Debug, Default)]
struct Disk {
    files: HashMap<StoreFile, Content>,
    /// Calls to go before the fault, and its kind; a fault stays.
    faults: HashMap<(StoreFile, DiskCall), (u64, io::ErrorKind)>,
    cuts: Option<Vec<Cut>>,
    marker: Arc<AtomicU64>,
}

/// The files of one store, in memory; clones share them.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk {
    disk: Arc<Mutex<Disk>>,
}

impl FaultyDisk {
    /// An empty disk without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a [`Cut`] at every sync from here on, each with the value of `marker` at that moment.
    pub fn keep_cuts(&self, marker: Arc<AtomicU64>) {
        let mut disk = self.lock();
        disk.marker = marker;
        disk.cuts = Some(Vec::new());
    }

    /// The cuts kept so far.
    #[must_use]
    pub fn take_cuts(&self) -> Vec<Cut> {
        self.lock().cuts.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What would be there if the power went now.
    #[must_use]
    pub fn cut(&self) -> Cut {
        self.lock().cut(StoreFile::Data)
    }

    /// The power goes now: answers what is there, and every later sync fails, so that nothing is acknowledged after.
    #[must_use]
    pub fn power_off(&self) -> Cut {
        let mut disk = self.lock();
        for file in [StoreFile::Data, StoreFile::Log] {
            disk.faults.insert((file, DiskCall::Sync), (0, io::ErrorKind::Other));
        }
        disk.cut(StoreFile::Data)
    }

    /// Lets every `call` on `file` fail with `kind` after `free` more have succeeded.
    pub fn fail(&self, file: StoreFile, call: DiskCall, free: u64, kind: io::ErrorKind) {
        self.lock().faults.insert((file, call), (free, kind));
    }

    /// No faults any more.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Flips one bit of the byte at `offset`; whether there is such a byte.
    pub fn flip(&self, file: StoreFile, offset: u64, bit: u8) -> bool {
        self.edit(file, |bytes| {
            let byte = usize::try_from(offset).ok().and_then(|at| bytes.get_mut(at));
            byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
        })
    }

    /// Changes the bytes of a file, as if they had always been so.
    pub fn edit<T>(&self, file: StoreFile, edit: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut disk = self.lock();
        let content = disk.files.entry(file).or_default();
        let answer = edit(&mut content.now);
        content.synced = content.now.clone();
        content.pending.clear();
        answer
    }

    /// The bytes of a file; `None` when there is none.
    #[must_use]
    pub fn bytes(&self, file: StoreFile) -> Option<Vec<u8>> {
        self.lock().files.get(&file).map(|content| content.now.clone())
    }
}

impl Disk {
    fn cut(&self, syncing: StoreFile) -> Cut {
        let files = self.files.iter().map(|(file, content)| {
            let content = Content { now: Vec::new(), ..content.clone() };
            (*file, content)
        });
        Cut { files: files.collect(), marker: self.marker.load(Ordering::SeqCst), syncing }
    }

    fn check(&mut self, file: StoreFile, call: DiskCall) -> io::Result<()> {
        match self.faults.get_mut(&(file, call)) {
            Some((0, kind)) => Err(io::Error::new(*kind, "injected")),
            Some((free, _)) => {
                *free -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change(&mut self, file: StoreFile, change: Change) {
        let content = self.files.entry(file).or_default();
        change.apply(&mut content.now);
        content.pending.push(change);
    }
}

impl Backends for FaultyDisk {
    fn make(&self, file: StoreFile, content: &[u8]) -> io::Result<bool> {
        let mut disk = self.lock();
        if disk.files.get(&file).is_some_and(|found| !found.now.is_empty()) {
            return Ok(false);
        }
        for call in [DiskCall::Write, DiskCall::Sync] {
            disk.check(file, call)?;
        }
        let content = content.to_vec();
        disk.files.insert(file, Content { now: content.clone(), synced: content, pending: Vec::new() });
        Ok(true)
    }

    fn open(&self, file: StoreFile) -> io::Result<Box<dyn StorageBackend>> {
        self.lock().files.entry(file).or_default();
        Ok(Box::new(FaultyFile { disk: self.clone(), file }))
    }

    fn len(&self, file: StoreFile) -> io::Result<Option<u64>> {
        Ok(self.lock().files.get(&file).map(|content| content.now.len() as u64))
    }

    fn remove(&self, file: StoreFile) -> io::Result<()> {
        self.lock().files.remove(&file);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn has(&self, _: &Path) -> bool {
        false
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    file: StoreFile,
}

impl StorageBackend for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(Backends::len(&self.disk, self.file)?.unwrap_or(0))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.disk.lock();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let place = disk.files.get(&self.file).and_then(|content| content.now.get(start..start + out.len()));
        out.copy_from_slice(place.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.check(self.file, DiskCall::Resize)?;
        disk.change(self.file, Change::Resize(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        if disk.cuts.is_some() {
            let cut = disk.cut(self.file);
            disk.cuts.get_or_insert_default().push(cut);
        }
        disk.check(self.file, DiskCall::Sync)?;
        if let Some(content) = disk.files.get_mut(&self.file) {
            for change in std::mem::take(&mut content.pending) {
                change.apply(&mut content.synced);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.check(self.file, DiskCall::Write)?;
        disk.change(self.file, Change::Write(offset, data.to_vec()));
        Ok(())
    }
}
