//! The one owner of the rows: queue, commit, completions in order.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{
    disk::Disk,
    engine::{Answer, Core, Delivery, Item},
};
use crate::{
    ids::Position,
    store::{Completer, Record, Refused, RefusedWhy, StoreError},
};

/// Most records in one commit.
const COMMIT_MAX_RECORDS: usize = 1024;

/// The state that handles and the writer share.
pub(super) struct Shared {
    core: Mutex<Core>,
    work: Condvar,
    /// Commits happen by hand only.
    pub(super) manual: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("manual", &self.manual).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn open(disk: Disk, queue_max: usize, manual: bool) -> Self {
        let core = Core::open(disk, queue_max);
        Self { core: Mutex::new(core), work: Condvar::new(), manual }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record, or hands it back.
    pub(super) fn submit(&self, record: Record, done: Completer) -> Result<(), Box<Refused>> {
        let mut core = self.lock();
        if core.closing || core.poisoned.is_some() {
            return Err(Box::new(Refused { record, done, why: RefusedWhy::Closed }));
        }
        if core.queued >= core.queue_max {
            core.stats.refused += 1;
            return Err(Box::new(Refused { record, done, why: RefusedWhy::Full }));
        }
        core.queued += 1;
        core.queue.push_back(Item::Record(record, done));
        drop(core);
        self.work.notify_one();
        Ok(())
    }

    /// Queues something that is answered after everything before it.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        item: impl FnOnce(Answer<T>) -> Item,
    ) -> oneshot::Receiver<Result<T, StoreError>> {
        let (to, answer) = oneshot::channel();
        let mut core = self.lock();
        match core.alive() {
            Err(error) => core.deliveries.push_back(Delivery::answer(to, Err(error))),
            Ok(()) => {
                let item = item(to);
                core.closing |= matches!(item, Item::Close(_));
                core.queue.push_back(item);
            }
        }
        let commits = if core.closing { usize::MAX } else { 0 };
        let poisoned = core.poisoned.is_some();
        drop(core);
        if self.manual || poisoned {
            self.commit(commits);
        }
        self.work.notify_one();
        answer
    }

    /// Commits up to `records` records and answers what waits behind them.
    pub(super) fn commit(&self, records: usize) -> usize {
        let committed = self.lock().commit(records);
        self.deliver();
        committed
    }

    /// Tells outcomes in order; whoever tells already goes on telling.
    pub(super) fn deliver(&self) {
        let mut core = self.lock();
        if core.delivering {
            return;
        }
        while !core.plan.held
            && let Some(delivery) = core.deliveries.pop_front()
        {
            core.delivering = true;
            drop(core);
            delivery.tell();
            core = self.lock();
            core.delivering = false;
        }
    }

    /// The writer: commits whatever waits, until there is no handle and nothing waits.
    pub(super) fn write(&self) {
        loop {
            let mut core = self.lock();
            while core.queue.is_empty() && !core.abandoned {
                core = self.work.wait(core).unwrap_or_else(PoisonError::into_inner);
            }
            if core.queue.is_empty() {
                return;
            }
            core.commit(COMMIT_MAX_RECORDS);
            drop(core);
            self.deliver();
        }
    }

    /// There is no handle any more: what was handed over is settled, and the writer ends.
    pub(super) fn abandon(&self) {
        let mut core = self.lock();
        core.abandoned = true;
        core.closing = true;
        core.plan.held = false;
        drop(core);
        self.work.notify_one();
        if self.manual {
            self.commit(usize::MAX);
        }
    }

    /// Ends this opening as a crash would, and gives the rows with those queued records that end by `keep`.
    pub(super) fn crash(&self, keep: Position) -> Disk {
        let mut core = self.lock();
        let disk = core.crash(keep);
        core.plan.held = false;
        drop(core);
        self.deliver();
        disk
    }
}
