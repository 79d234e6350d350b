//! A backup taken while the store runs: one file, with the log folded in and a manifest of checksums behind it.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use redb::Builder;
use stanchion_actors::{ids::Position, store::StoreError};

use super::{
    backends::{Backends, Boxed, FileBackends, StoreFile, open_private, sync_parent},
    log::{read_chunks, write_log},
    manifest::{BLOCK_BYTES, Manifest},
    options::StoreOptions,
    redb_store::RedbStore,
    shared::Shared,
    tables::{DataMeta, LogMeta, get_meta},
};

/// Keeps the fold from writing while it lives.
struct Pause<'a>(&'a Shared);

impl<'a> Pause<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.fold(|fold| fold.paused += 1);
        drop(shared.await_fold(None, |fold| fold.writing && !fold.stop));
        Self(shared)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.fold(|fold| fold.paused = fold.paused.saturating_sub(1));
    }
}

/// A file that is removed unless it is kept.
pub(crate) struct Scratch(Option<PathBuf>);

impl Scratch {
    /// `to` with `suffix`, in the same directory; what is there from an earlier attempt goes.
    pub(crate) fn beside(to: &Path, suffix: &str) -> io::Result<Self> {
        let mut name = to.as_os_str().to_owned();
        name.push(suffix);
        let scratch = Self(Some(PathBuf::from(name)));
        scratch.remove()?;
        Ok(scratch)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    fn remove(&self) -> io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let files = FileBackends::new(path.clone());
        files.remove(StoreFile::Log)?;
        files.remove(StoreFile::Data)
    }

    /// Puts it in place of `to`.
    pub(crate) fn put(mut self, to: &Path) -> io::Result<()> {
        std::fs::rename(self.path(), to)?;
        self.0 = None;
        sync_parent(to)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(path = %self.path().display(), %error, "a scratch file was left");
        }
    }
}

/// Writes a backup of the running store to `to`.
pub(crate) fn backup(
    shared: &Shared,
    backends: &dyn Backends,
    to: &Path,
    force: bool,
) -> Result<(), StoreError> {
    let failed = |what: &dyn std::fmt::Display| {
        StoreError::NotApplied(format!("backup to {} failed: {what}", to.display()))
    };
    match std::fs::symlink_metadata(to) {
        Ok(_) if !force => return Err(failed(&"there is a file already")),
        Ok(found) if !found.is_file() => return Err(failed(&"it is no regular file")),
        _ => {}
    }
    if backends.has(to) {
        return Err(failed(&"it is the store itself"));
    }
    let scratch = Scratch::beside(to, ".part").map_err(|e| failed(&e))?;
    copy(shared, backends, scratch.path()).map_err(|e| failed(&e))?;
    let store = RedbStore::open(scratch.path(), StoreOptions { must_exist: true, ..StoreOptions::default() });
    let store = store.map_err(|e| failed(&e))?;
    let (id, position) = (store.id(), stanchion_actors::store::Store::position(&store));
    store.close_blocking().map_err(|e| failed(&e))?;
    append_manifest(scratch.path(), id, position).map_err(|e| failed(&e))?;
    scratch.put(to).map_err(|e| failed(&e))
}

/// Copies the quiet data file, and after it what the log holds beyond it.
fn copy(shared: &Shared, backends: &dyn Backends, to: &Path) -> Result<(), redb::Error> {
    let target = FileBackends::new(to.to_path_buf());
    let pause = Pause::begin(shared);
    let from = backends.open(StoreFile::Data)?;
    let len = from.len()?;
    let mut file = open_private(to)?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = 0;
    while at < len {
        let count = usize::try_from(len - at).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        let part = block.get_mut(..count).unwrap_or_default();
        from.read(at, part)?;
        file.write_all(part)?;
        at += count as u64;
    }
    let log = shared.view.change(|gens| gens.log.clone());
    let log = log.ok_or_else(|| io::Error::other("the store is closed"))?;
    let mut chunks = read_chunks(&*log)?;
    drop((pause, log));
    file.sync_all()?;
    drop(file);
    let data = Builder::new().create_with_backend(Boxed(target.open(StoreFile::Data)?))?;
    let meta = get_meta::<DataMeta>(&data)?;
    drop(data);
    let meta = meta.ok_or_else(|| redb::Error::Corrupted("the data file has no head".into()))?;
    chunks.retain(|(first, _)| *first > meta.folded);
    let log = Builder::new().create_with_backend(Boxed(target.open(StoreFile::Log)?))?;
    write_log(&log, &LogMeta::after(&meta), &chunks)
}

fn append_manifest(path: &Path, id: uuid::Uuid, position: Position) -> io::Result<()> {
    let mut file = open_private(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    let sums = block_sums(&mut file, len, |_| Ok(()))?;
    let manifest = Manifest { id, position, len, sums };
    file.seek(SeekFrom::End(0))?;
    file.write_all(&manifest.to_bytes())?;
    file.sync_all()
}

/// Checksums of the next `len` bytes, block by block; each block is given to `each`.
pub(crate) fn block_sums(
    file: &mut File,
    len: u64,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Vec<u32>> {
    let mut sums = Vec::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut left = len;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
        let part = block.get_mut(..count).unwrap_or_default();
        file.read_exact(part)?;
        sums.push(crc32c::crc32c(part));
        each(part)?;
        left -= count as u64;
    }
    Ok(sums)
}
