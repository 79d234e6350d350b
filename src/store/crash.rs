//! Named points at which tests end the process; nothing without feature `testing`.

/// A point on the way of a record to its place in the data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CrashPoint {
    /// A batch is decided, the log not committed.
    BeforeCommit,
    /// The log is committed, nothing projected.
    AfterCommit,
    /// The batch can be read, nobody was answered.
    BeforeAnswer,
    /// The log was quiet and got a commit behind its last one.
    AfterSeal,
    /// Inside a fold, before a slice is committed.
    BeforeSlice,
    /// Inside a fold, after a slice is committed.
    AfterSlice,
    /// Before the slice that moves `folded`.
    BeforeFolded,
    /// Everything is folded and marked clean, the log not removed.
    BeforeLogRemoved,
    /// Compacting: a part of the copy is committed.
    AfterCopied,
    /// Compacting: the copy is whole and flushed, the old file in place.
    BeforeReplaced,
    /// Compacting: the copy is in place.
    AfterReplaced,
}

/// Called at each point; may end the process, or copy what would survive.
#[cfg(feature = "testing")]
pub trait CrashPoints: Send + Sync {
    /// The store is at `point`.
    fn reach(&self, point: CrashPoint);
}

/// The hook as the store carries it.
#[derive(Clone, Default)]
pub(crate) struct Crash {
    #[cfg(feature = "testing")]
    hook: Option<std::sync::Arc<dyn CrashPoints>>,
}

impl Crash {
    #[cfg(feature = "testing")]
    pub(crate) fn new(hook: std::sync::Arc<dyn CrashPoints>) -> Self {
        Self { hook: Some(hook) }
    }

    #[cfg_attr(
        not(feature = "testing"),
        expect(clippy::unused_self, reason = "the hook exists under `testing`")
    )]
    pub(crate) fn reach(&self, point: CrashPoint) {
        #[cfg(feature = "testing")]
        if let Some(hook) = &self.hook {
            hook.reach(point);
        }
        #[cfg(not(feature = "testing"))]
        let _ = point;
    }
}

impl std::fmt::Debug for Crash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Crash")
    }
}
