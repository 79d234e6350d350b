//! What the threads of one store share.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use stanchion_actors::ids::EntityId;
use stanchion_actors::{
    ids::Position,
    store::{Activated, Completer, Incarnation, Record, StoreError, StoreStats, Token},
};
use stanchion_sync::HandOff;
use tokio::sync::oneshot;

use super::{options::StoreOptions, pending::Pending, view::View};

/// Answers an asynchronous caller.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer thread is handed.
pub(crate) enum Job {
    /// A record.
    Record(Record, Completer),
    /// A barrier that raises the fence.
    Activate { entity: EntityId, by: Incarnation, answer: Answer<Activated> },
    /// Gives a token back.
    Release { token: Token, answer: Answer<()> },
    /// Freezes the active generation unless one is being folded.
    Freeze { answer: Answer<()> },
    /// A commit behind the last one.
    Seal { answer: Answer<()> },
}

/// State of the fold, and the bell of everybody who waits for it.
#[derive(Debug, Default)]
pub(crate) struct FoldState {
    /// A frozen generation waits or is being folded.
    pub(crate) busy: bool,
    /// Nothing more comes.
    pub(crate) stop: bool,
    /// Something is left to do between folds.
    pub(crate) upkeep: bool,
    /// Closing waits for upkeep.
    pub(crate) finish: bool,
    /// Fold without pacing.
    pub(crate) urgent: bool,
    /// A backup copies the data file: no slice is committed.
    pub(crate) paused: usize,
    /// A slice is being written.
    pub(crate) writing: bool,
    /// Log bytes of the frozen generation, and how many of them are in the data file.
    pub(crate) frozen_bytes: usize,
    pub(crate) done_bytes: usize,
    /// Log bytes after the frozen generation.
    pub(crate) active_bytes: usize,
    /// Log bytes folded a second, lately; 0: not known.
    pub(crate) bytes_per_second: f64,
    /// Bytes of rows that slices write a second, lately; 0: not known.
    pub(crate) slice_bytes_per_second: f64,
    /// The last commit of the log has none behind it.
    pub(crate) unsealed: bool,
}

impl FoldState {
    /// Log bytes not in the data file.
    pub(crate) fn backlog(&self) -> usize {
        self.active_bytes + self.frozen_bytes.saturating_sub(self.done_bytes)
    }
}

/// Counters since the opening.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) applied: AtomicU64,
    pub(crate) fenced: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) folds: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Shared by callers, writer, fold and readers.
pub(crate) struct Shared {
    pub(crate) options: StoreOptions,
    pub(crate) queue: HandOff<Job>,
    pub(crate) view: View,
    pub(crate) pending: Pending,
    pub(crate) boot: u64,
    pub(crate) store_id: uuid::Uuid,
    /// Last position committed.
    pub(crate) position: AtomicU64,
    /// Last position in the data file.
    pub(crate) folded: AtomicU64,
    pub(crate) counters: Counters,
    /// The index holds every entity.
    pub(crate) indexed: AtomicBool,
    fold: Mutex<FoldState>,
    bell: Condvar,
    poison: OnceLock<String>,
    closed: Mutex<Closed>,
}

/// Who waits for the end, and how it ended.
#[derive(Default)]
struct Closed {
    waiting: Vec<Answer<()>>,
    ended: Option<Result<(), StoreError>>,
}

impl Shared {
    pub(crate) fn new(
        options: StoreOptions,
        view: View,
        meta: &super::tables::DataMeta,
        next_entity: u64,
        last: Position,
        unfolded_bytes: usize,
    ) -> Arc<Self> {
        // The fold thread looks first of all whether there is upkeep.
        let fold = FoldState { active_bytes: unfolded_bytes, upkeep: true, ..FoldState::default() };
        Arc::new(Self {
            queue: HandOff::new(options.queue_items, options.queue_bytes),
            options,
            view,
            pending: Pending::starting_at(next_entity),
            boot: meta.boot,
            store_id: meta.id,
            position: AtomicU64::new(last.0),
            folded: AtomicU64::new(meta.folded.0),
            counters: Counters::default(),
            indexed: AtomicBool::new(meta.indexed),
            fold: Mutex::new(fold),
            bell: Condvar::new(),
            poison: OnceLock::new(),
            closed: Mutex::default(),
        })
    }

    /// Nothing is applied any more under this boot.
    pub(crate) fn poison(&self, why: String) {
        tracing::error!(boot = self.boot, cause = %why, "store poisoned");
        let _ = self.poison.set(why);
        self.queue.close();
        self.fold(|fold| fold.stop = true);
    }

    pub(crate) fn poisoned(&self) -> Option<&str> {
        self.poison.get().map(String::as_str)
    }

    /// The fold's state.
    pub(crate) fn fold_state(&self) -> MutexGuard<'_, FoldState> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the fold's state and wakes everybody who waits for it.
    pub(crate) fn fold<T>(&self, change: impl FnOnce(&mut FoldState) -> T) -> T {
        let answer = change(&mut self.fold_state());
        self.bell.notify_all();
        answer
    }

    /// A commit of the log of this many bytes.
    pub(crate) fn logged(&self, bytes: usize) {
        let mut fold = self.fold_state();
        fold.active_bytes += bytes;
        if !std::mem::replace(&mut fold.unsealed, true) {
            drop(fold);
            self.bell.notify_all();
        }
    }

    /// Waits while `waits` holds, at most `limit` if given.
    pub(crate) fn await_fold(
        &self,
        limit: Option<Duration>,
        mut waits: impl FnMut(&mut FoldState) -> bool,
    ) -> MutexGuard<'_, FoldState> {
        let state = self.fold_state();
        match limit {
            None => self.bell.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.bell.wait_timeout_while(state, limit, |state| waits(state));
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Answers when the store has ended.
    pub(crate) fn await_end(&self, answer: Answer<()>) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        match &closed.ended {
            Some(ended) => {
                let _ = answer.send(ended.clone());
            }
            None => closed.waiting.push(answer),
        }
    }

    /// How the store ended.
    pub(crate) fn ended(&self) -> Option<Result<(), StoreError>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).ended.clone()
    }

    /// The store has ended.
    pub(crate) fn end(&self, how: Result<(), StoreError>) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        for answer in closed.waiting.drain(..) {
            let _ = answer.send(how.clone());
        }
        closed.ended = Some(how);
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let of = &self.counters;
        let mut stats = StoreStats::default();
        stats.commits = read(&of.commits);
        stats.entries = read(&of.entries);
        stats.applied = read(&of.applied);
        stats.fenced = read(&of.fenced);
        stats.conflicts = read(&of.conflicts);
        stats.failed = read(&of.failed);
        stats.refused = read(&of.refused);
        stats.folds = read(&of.folds);
        stats.bytes = read(&of.bytes);
        stats.unfolded_bytes = self.fold_state().backlog() as u64;
        stats
    }
}
