//! Faults to inject.

use std::{collections::VecDeque, sync::Arc};

use super::{disk::Disk, shared::Shared};
use crate::{ids::Position, store::Record};

/// How a commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// Nothing is applied, and the records say so: the store goes on.
    NotApplied,
    /// The flush fails, but the bytes are there: the records are answered `Unknown`, the store is poisoned.
    UnknownApplied,
    /// The flush fails, and the bytes are lost: the records are answered `Unknown`, the store is poisoned.
    UnknownLost,
}

/// What is to go wrong.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) failures: VecDeque<Failure>,
    /// While set, completions wait.
    pub(super) held: bool,
    pub(super) lies: Option<Lies>,
    /// While set, reads fail.
    pub(super) blind: bool,
}

/// A disk that confirms flushes it did not make: what it had truly kept, and what it only confirmed.
#[derive(Debug)]
pub(super) struct Lies {
    kept: Disk,
    confirmed: Vec<Record>,
}

impl Lies {
    pub(super) fn confirm(&mut self, record: &Record) {
        self.confirmed.push(record.clone());
    }

    /// The rows as of `keep`: confirmed records that lie wholly at or before it.
    pub(super) fn cut(mut self, keep: Position) -> Disk {
        for record in &self.confirmed {
            let mut next = self.kept.clone();
            match next.apply(record) {
                Ok(position) if position <= keep => self.kept = next,
                _ => break,
            }
        }
        self.kept
    }
}

/// Makes a [`super::MemoryStore`] fail on purpose.
#[derive(Clone, Debug)]
pub struct Faults {
    pub(super) shared: Arc<Shared>,
}

impl Faults {
    /// Lets the next `commits` commits fail, after those that are to fail already.
    pub fn fail_next(&self, commits: usize, failure: Failure) {
        self.shared.lock().plan.failures.extend(std::iter::repeat_n(failure, commits));
    }

    /// Holds completions and the answers that wait behind them, until [`Faults::deliver`]. Commits go on.
    pub fn hold(&self) {
        self.shared.lock().plan.held = true;
    }

    /// Delivers what was held, in order, on this thread, and holds no more.
    pub fn deliver(&self) {
        self.shared.lock().plan.held = false;
        self.shared.deliver();
    }

    /// Completions that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.shared.lock().deliveries.len()
    }

    /// Bounds the queue to `records`; 0 refuses everything as full.
    pub fn limit_queue(&self, records: usize) {
        self.shared.lock().queue_max = records;
    }

    /// Lets reads fail as not applied, or succeed again. Commits go on.
    pub fn fail_reads(&self, failing: bool) {
        self.shared.lock().plan.blind = failing;
    }

    /// From here on, flushes are confirmed but not made: [`super::MemoryStore::power_cut`] may lose them.
    pub fn lie_about_flushes(&self) {
        let mut core = self.shared.lock();
        let kept = core.disk.clone();
        core.plan.lies = Some(Lies { kept, confirmed: Vec::new() });
    }

    /// Poisons the store: queued records are answered `NotApplied`, later ones handed back.
    pub fn poison(&self, cause: &str) {
        self.shared.lock().poison(cause);
        self.shared.deliver();
    }
}
