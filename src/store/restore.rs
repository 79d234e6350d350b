//! Restoring a backup: all of it holds, or nothing is touched.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use stanchion_actors::ids::Position;

use super::{
    backends::{Backends, FileBackends, StoreFile, open_private},
    backup::{Scratch, block_sums},
    manifest::{BACKUP_FORMAT, FOOTER_BYTES, Footer, Manifest},
    open::Opener,
    open_error::OpenError,
    options::StoreOptions,
};

/// Why a backup is not restored; the target is as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The file is no backup, or its end is missing: choose another one.
    #[error("{} is not a whole backup", .0.display())]
    NotABackup(PathBuf),
    /// Bytes are damaged: choose another backup.
    #[error("backup {} is damaged: {what}", path.display())]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// What does not hold.
        what: String,
    },
    /// Written by a newer program: use that.
    #[error("backup {} has format {found}, this program knows up to {BACKUP_FORMAT}: use a newer program", path.display())]
    NewerFormat {
        /// The backup.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// There is a store at the target: choose another path, or force.
    #[error("there is a store at {} already", .0.display())]
    Exists(PathBuf),
    /// The target is in use, or the restored file does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system refuses.
    #[error("{} cannot be restored", path.display())]
    Io {
        /// The file at fault.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Identity of the store.
    pub id: uuid::Uuid,
    /// Everything up to here is in it.
    pub position: Position,
    /// Bytes of the data file.
    pub bytes: u64,
}

/// Makes the store at `to` from the backup at `from`; with `force` in place of a closed store.
///
/// Blocks for as long as copying takes.
///
/// # Errors
/// [`RestoreError`]; nothing at `to` has changed.
pub fn restore(from: impl AsRef<Path>, to: impl AsRef<Path>, force: bool) -> Result<Restored, RestoreError> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let io = |source| RestoreError::Io { path: to.to_path_buf(), source };
    let target = FileBackends::new(to.to_path_buf());
    let there = [StoreFile::Data, StoreFile::Log].into_iter().any(|file| target.path(file).exists());
    if there {
        if !force {
            return Err(RestoreError::Exists(to.to_path_buf()));
        }
        refuse_open(to)?;
    }
    let scratch = Scratch::beside(to, ".restore").map_err(io)?;
    let manifest = copy_checked(from, scratch.path())?;
    let options = StoreOptions { must_exist: true, ..StoreOptions::default() };
    drop(Opener::new(scratch.path(), &options).inspect()?);
    // Without its log first: a log of the replaced store must never meet the restored data.
    target.remove(StoreFile::Log).and_then(|()| target.sync_names()).map_err(io)?;
    scratch.put(to).map_err(io)?;
    Ok(Restored { id: manifest.id, position: manifest.position, bytes: manifest.len })
}

/// Whether the file is a whole backup by its end; its content is not checked.
#[must_use]
pub fn is_backup(file: impl AsRef<Path>) -> bool {
    let file = file.as_ref();
    let found = File::open(file).and_then(|open| open.metadata().map(|meta| (open, meta.len())));
    found.is_ok_and(|(mut open, total)| read_manifest(&mut open, total, file).is_ok())
}

/// Only a lock counts: whatever else is wrong with the old store goes with it.
fn refuse_open(to: &Path) -> Result<(), RestoreError> {
    let options = StoreOptions::default();
    match Opener::new(to, &options).database(StoreFile::Data, options.data_cache_bytes) {
        Err(locked @ OpenError::Locked { .. }) => Err(locked.into()),
        _ => Ok(()),
    }
}

fn copy_checked(from: &Path, to: &Path) -> Result<Manifest, RestoreError> {
    let reading = |source| RestoreError::Io { path: from.to_path_buf(), source };
    let writing = |source| RestoreError::Io { path: to.to_path_buf(), source };
    let damaged = |what: &str| RestoreError::Damaged { path: from.to_path_buf(), what: what.into() };
    let mut source = File::open(from).map_err(reading)?;
    let total = source.metadata().map_err(reading)?.len();
    let manifest = read_manifest(&mut source, total, from)?;
    source.seek(SeekFrom::Start(0)).map_err(reading)?;
    let mut target = open_private(to).map_err(writing)?;
    let sums = block_sums(&mut source, manifest.len, |block| target.write_all(block)).map_err(reading)?;
    if let Some(block) = sums.iter().zip(&manifest.sums).position(|(found, stored)| found != stored) {
        return Err(damaged(&format!("checksum of megabyte {block} does not hold")));
    }
    if sums.len() != manifest.sums.len() {
        return Err(damaged("checksums are missing"));
    }
    target.sync_all().map_err(writing)?;
    Ok(manifest)
}

fn read_manifest(source: &mut File, total: u64, from: &Path) -> Result<Manifest, RestoreError> {
    let reading = |source| RestoreError::Io { path: from.to_path_buf(), source };
    let no_backup = || RestoreError::NotABackup(from.to_path_buf());
    let damaged = |what: &str| RestoreError::Damaged { path: from.to_path_buf(), what: what.into() };
    let footer_at = total.checked_sub(FOOTER_BYTES as u64).ok_or_else(no_backup)?;
    let mut footer = [0; FOOTER_BYTES];
    source.seek(SeekFrom::Start(footer_at)).map_err(reading)?;
    source.read_exact(&mut footer).map_err(reading)?;
    let footer = Footer::read(&footer).ok_or_else(no_backup)?;
    let body_at = footer_at.checked_sub(u64::from(footer.body_bytes));
    let body_at = body_at.ok_or_else(|| damaged("the manifest is longer than the file"))?;
    let mut body = vec![0; footer.body_bytes as usize];
    source.seek(SeekFrom::Start(body_at)).map_err(reading)?;
    source.read_exact(&mut body).map_err(reading)?;
    let manifest =
        Manifest::read(&body, footer).ok_or_else(|| damaged("the manifest's checksum does not hold"))?;
    if footer.format > BACKUP_FORMAT {
        return Err(RestoreError::NewerFormat { path: from.to_path_buf(), found: footer.format });
    }
    if manifest.len != body_at {
        return Err(damaged("the data is not as long as the manifest says"));
    }
    Ok(manifest)
}
