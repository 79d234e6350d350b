//! Slices of a fold: each a commit of the data file with `quick_repair`, of bounded size.

use std::{sync::Arc, time::Instant};

use redb::{Database, WriteTransaction};

use super::{crash::CrashPoint, shared::Shared};

/// Why a fold ended early.
#[derive(Debug)]
pub(crate) enum FoldStop {
    /// The data file failed.
    Failed(redb::Error),
    /// A stored row that the fold builds on is damaged.
    Corrupt(stanchion_actors::store::StoreError),
    /// The store is poisoned.
    Stopped,
}

impl<E: Into<redb::Error>> From<E> for FoldStop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The slices of one fold.
pub(crate) struct Slices<'a> {
    shared: &'a Shared,
    data: &'a Arc<Database>,
    open: Option<(WriteTransaction, Instant)>,
    /// Bytes in the open slice.
    bytes: usize,
    limit: usize,
    /// Work done in all slices, and in the open one.
    done: usize,
    doing: usize,
    /// Work expected in all; 0: no part of a fold.
    total: usize,
}

/// Longest wait between two slices while the fold is ahead of the log.
const AHEAD_WAIT: std::time::Duration = std::time::Duration::from_millis(20);
/// With half of the log's limit behind, slices may be larger by this many times the option.
const GROWTH: f64 = 7.0;
/// How long a slice may take, since the log's flush may wait behind its: with nothing behind, and how much more with
/// half of the log's limit behind.
const SLICE_SECONDS: (f64, f64) = (0.03, 0.03);
/// How much the last slice counts for the speed that is expected, when it was slower and when it was faster.
const SLOWER_SHARE: f64 = 0.5;
const FASTER_SHARE: f64 = 0.2;
/// However slow the disk is, slices are at least this part of the option.
const SMALLEST_PART: f64 = 0.25;

impl<'a> Slices<'a> {
    pub(crate) fn new(shared: &'a Shared, data: &'a Arc<Database>, total: usize) -> Self {
        Self { shared, data, open: None, bytes: 0, limit: 0, done: 0, doing: 0, total: total.max(1) }
    }

    /// A slice that is no part of a fold.
    pub(crate) fn between_folds(shared: &'a Shared, data: &'a Arc<Database>) -> Self {
        Self { shared, data, open: None, bytes: 0, limit: 0, done: 0, doing: 0, total: 0 }
    }

    /// Writes into the open slice, beginning one if there is none.
    pub(crate) fn write<T>(
        &mut self,
        write: impl FnOnce(&WriteTransaction, &mut Room) -> Result<T, FoldStop>,
    ) -> Result<T, FoldStop> {
        if self.open.is_none() {
            self.begin()?;
        }
        let Some((txn, _)) = &self.open else { return Err(FoldStop::Stopped) };
        let mut room = Room { bytes: self.bytes, limit: self.limit, done: self.doing };
        let answer = write(txn, &mut room)?;
        (self.bytes, self.doing) = (room.bytes, room.done);
        if room.is_full() {
            self.commit()?;
        }
        Ok(answer)
    }

    /// Whether as much was done as was expected: otherwise the writer waits for the wrong thing.
    pub(crate) fn is_complete(&self) -> bool {
        (self.done + self.doing).max(1) == self.total
    }

    fn begin(&mut self) -> Result<(), FoldStop> {
        let shared = self.shared;
        let fraction = self.done as f64 / self.total.max(1) as f64;
        let freeze = shared.options.freeze_bytes() as f64;
        drop(shared.await_fold(Some(AHEAD_WAIT), |fold| {
            !fold.stop && !fold.urgent && (fold.active_bytes as f64 / freeze) < fraction - 0.1
        }));
        let mut state = shared.await_fold(None, |fold| fold.paused > 0 && !fold.stop);
        if state.stop {
            return Err(FoldStop::Stopped);
        }
        state.writing = true;
        let behind = state.backlog() as f64 / (shared.options.log_max_bytes as f64 / 2.0);
        let rate = state.slice_bytes_per_second;
        drop(state);
        let option = shared.options.slice_bytes as f64;
        let longest = SLICE_SECONDS.0 + SLICE_SECONDS.1 * behind.min(1.0);
        let most = option * (1.0 + GROWTH * behind.min(1.0));
        let timely = if rate > 0.0 { rate * longest } else { option };
        self.limit = timely.max(option * SMALLEST_PART).min(most) as usize;
        // A slice takes at least one row, whatever the option says.
        self.limit = self.limit.max(1);
        let mut txn = self.data.begin_write()?;
        txn.set_quick_repair(true);
        self.open = Some((txn, Instant::now()));
        self.bytes = 0;
        Ok(())
    }

    /// Commits the open slice.
    pub(crate) fn commit(&mut self) -> Result<(), FoldStop> {
        let Some((txn, began)) = self.open.take() else { return Ok(()) };
        self.shared.options.crash.reach(CrashPoint::BeforeSlice);
        txn.commit()?;
        self.shared.options.crash.reach(CrashPoint::AfterSlice);
        self.done += std::mem::take(&mut self.doing);
        if self.total == 0 {
            self.shared.fold(|fold| fold.writing = false);
            return Ok(());
        }
        let fraction = (self.done as f64 / self.total as f64).min(1.0);
        let seconds = began.elapsed().as_secs_f64().max(1e-6);
        // What a commit costs beside its rows makes a small slice look slow.
        let tells = self.bytes.saturating_mul(2) >= self.limit;
        self.shared.fold(|fold| {
            fold.writing = false;
            let done = (fold.frozen_bytes as f64 * fraction) as usize;
            if tells {
                let speed = done.saturating_sub(fold.done_bytes) as f64 / seconds;
                fold.bytes_per_second = lately(fold.bytes_per_second, speed);
                fold.slice_bytes_per_second =
                    lately(fold.slice_bytes_per_second, self.bytes as f64 / seconds);
            }
            fold.done_bytes = done;
        });
        Ok(())
    }
}

impl Drop for Slices<'_> {
    fn drop(&mut self) {
        self.open = None;
        self.shared.fold(|fold| fold.writing = false);
    }
}

/// What is to be expected after `now`. Who is slower is believed sooner: waits that come too late end at the log's cap,
/// where every commit waits for a whole slice.
fn lately(before: f64, now: f64) -> f64 {
    let share = if now < before { SLOWER_SHARE } else { FASTER_SHARE };
    if before > 0.0 { before * (1.0 - share) + now * share } else { now }
}

/// Place in the open slice.
pub(crate) struct Room {
    bytes: usize,
    limit: usize,
    done: usize,
}

impl Room {
    /// Counts written bytes.
    pub(crate) fn took(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Counts work that is done, of what was expected in all.
    pub(crate) fn did(&mut self, work: usize) {
        self.done += work;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.limit
    }
}
