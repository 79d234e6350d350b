//! What can be set when a store is opened.

use std::{path::PathBuf, sync::Arc};

use super::{
    backends::{Backends, FileBackends},
    crash::Crash,
};

/// Settings of a store; start from `default()` and change fields.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreOptions {
    /// Refuses to make a new store where there is none.
    pub must_exist: bool,
    /// Most records queued for the writer; beyond, `submit` hands back. Default 16 384.
    pub queue_items: usize,
    /// Most bytes queued for the writer. Default 64 MiB.
    pub queue_bytes: usize,
    /// Most records in one commit. Default 4 096.
    pub batch_items: usize,
    /// Most bytes in one commit, unless one record is larger. Default 4 MiB.
    pub batch_bytes: usize,
    /// Bytes of log not folded yet that are not passed; from half of it on, commits wait. Default 64 MiB.
    pub log_max_bytes: usize,
    /// Size at which the memtable is frozen and folded; at most a quarter of the log. Default 16 MiB.
    pub fold_bytes: usize,
    /// Smallest slice of a fold, each one commit of the data file. Default 512 KiB.
    pub slice_bytes: usize,
    /// Cache of the data file. Default 64 MiB.
    pub data_cache_bytes: usize,
    /// Cache of the log. Default 16 MiB.
    pub log_cache_bytes: usize,
    /// Threads that read. Default 2.
    pub reader_threads: usize,
    /// Most reads queued. Default 65 536.
    pub read_queue_items: usize,
    /// Where the two files are; `None`: files at the path given to `open`.
    pub backends: Option<Arc<dyn Backends>>,
    pub(crate) crash: Crash,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            must_exist: false,
            queue_items: 16_384,
            queue_bytes: 64 << 20,
            batch_items: 4_096,
            batch_bytes: 4 << 20,
            log_max_bytes: 64 << 20,
            fold_bytes: 16 << 20,
            slice_bytes: 512 << 10,
            data_cache_bytes: 64 << 20,
            log_cache_bytes: 16 << 20,
            reader_threads: 2,
            read_queue_items: 65_536,
            backends: None,
            crash: Crash::default(),
        }
    }
}

impl StoreOptions {
    /// Calls `hook` at every [`super::CrashPoint`].
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn crash_points(mut self, hook: Arc<dyn super::CrashPoints>) -> Self {
        self.crash = Crash::new(hook);
        self
    }

    pub(crate) fn backends_at(&self, path: &std::path::Path) -> Arc<dyn Backends> {
        self.backends.clone().unwrap_or_else(|| Arc::new(FileBackends::new(PathBuf::from(path))))
    }

    /// Bytes at which the memtable is frozen.
    pub(crate) fn freeze_bytes(&self) -> usize {
        self.fold_bytes.min(self.log_max_bytes / 4).max(1)
    }
}
