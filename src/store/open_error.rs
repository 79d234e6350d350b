//! Why a store does not open.

use std::{
    io,
    path::{Path, PathBuf},
};

use stanchion_actors::ids::Position;

use super::tables::FILE_FORMAT;

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

/// The process that holds a lock on the file, as far as the system tells.
#[cfg(target_os = "linux")]
pub(crate) fn lock_holder(path: &Path) -> Option<u32> {
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
pub(crate) fn lock_holder(_path: &Path) -> Option<u32> {
    None
}
