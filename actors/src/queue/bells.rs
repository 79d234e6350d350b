//! Wakes workers of this process when a queue may have work for them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, watch};

use super::command::QueueCommand;

/// Partitions of a queue that may have work, and a ring for those who take it.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// A bit for each partition.
    marks: AtomicU64,
    ready: Notify,
}

impl Desk {
    /// These partitions may have work: wakes one who waits, or the next one who does.
    pub(super) fn mark(&self, partitions: u64) {
        if partitions != 0 {
            self.marks.fetch_or(partitions, Ordering::AcqRel);
            self.ready.notify_one();
        }
    }

    /// Takes the marks: who takes them looks there, or marks them again.
    pub(super) fn take(&self) -> u64 {
        self.marks.swap(0, Ordering::AcqRel)
    }

    /// Waits until it is marked.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn marked(&self) {
        self.ready.notified().await;
    }
}

/// What wakes the workers of one queue.
#[derive(Debug, Default)]
pub struct Bell {
    /// Of those who take jobs of any kind: one of them is enough.
    desk: Arc<Desk>,
    /// Of those who take some kinds only: each hears of everything.
    picky: Mutex<Vec<Weak<Desk>>>,
    /// A leased job may have been cancelled.
    cancelled: watch::Sender<()>,
}

impl Bell {
    /// Where one hears of work who takes jobs of any kind, or of some kinds only.
    pub(super) fn desk(&self, any_kind: bool) -> Arc<Desk> {
        if any_kind {
            return Arc::clone(&self.desk);
        }
        let desk = Arc::default();
        let mut picky = self.picky.lock().unwrap_or_else(PoisonError::into_inner);
        picky.retain(|desk| desk.strong_count() > 0);
        picky.push(Arc::downgrade(&desk));
        desk
    }

    fn mark(&self, partitions: u64) {
        self.desk.mark(partitions);
        let picky = self.picky.lock().unwrap_or_else(PoisonError::into_inner);
        picky.iter().filter_map(Weak::upgrade).for_each(|desk| desk.mark(partitions));
    }

    /// Sees every cancellation from here on.
    #[must_use]
    pub fn cancellations(&self) -> watch::Receiver<()> {
        self.cancelled.subscribe()
    }
}

/// The bells of a system's queues. Nobody is woken in another process: there is none on the same store.
#[derive(Debug, Default)]
pub struct Bells(Mutex<HashMap<Arc<str>, Weak<Bell>>>);

impl Bells {
    /// The bell of this queue; it is forgotten with its last listener.
    #[must_use]
    pub fn of(&self, queue: &Arc<str>) -> Arc<Bell> {
        let mut bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bell) = bells.get(queue).and_then(Weak::upgrade) {
            return bell;
        }
        bells.retain(|_, bell| bell.strong_count() > 0);
        let bell = Arc::new(Bell::default());
        bells.insert(Arc::clone(queue), Arc::downgrade(&bell));
        bell
    }

    /// A command was applied in these partitions, a bit for each.
    pub(super) fn applied(&self, queue: &str, partitions: u64, command: Meaning) {
        let bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bell) = bells.get(queue).and_then(Weak::upgrade) else { return };
        drop(bells);
        match command {
            Meaning::Quiet => {}
            Meaning::MakesReady => bell.mark(partitions),
            Meaning::Cancels => {
                bell.cancelled.send_replace(());
                bell.mark(partitions);
            }
        }
    }
}

/// What a command may mean for workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Quiet,
    MakesReady,
    Cancels,
}

impl Meaning {
    pub(super) fn of(command: &QueueCommand) -> Self {
        match command {
            QueueCommand::Lease(_)
            | QueueCommand::Extend(_)
            | QueueCommand::Pause
            | QueueCommand::Drain
            | QueueCommand::DeadEdit(_)
            | QueueCommand::DeadPurge(_) => Self::Quiet,
            QueueCommand::Cancel { .. } => Self::Cancels,
            // The end of a job may make way for the next one of its key.
            QueueCommand::Enqueue { .. }
            | QueueCommand::Ack(_)
            | QueueCommand::Nack(_)
            | QueueCommand::Release(_)
            | QueueCommand::Retry(_)
            | QueueCommand::Resume
            | QueueCommand::Configure(_)
            | QueueCommand::ReleaseWorker { .. }
            | QueueCommand::DeadRequeue(_) => Self::MakesReady,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ring_before_anybody_listens_is_heard_and_a_bell_without_listeners_is_forgotten() {
        let bells = Bells::default();
        let queue: Arc<str> = Arc::from("mail");
        let bell = bells.of(&queue);
        bells.applied("mail", 0b100, Meaning::MakesReady);
        let desk = bell.desk(true);
        desk.marked().await;
        assert_eq!(desk.take(), 0b100);
        assert_eq!(desk.take(), 0);
        assert!(Arc::ptr_eq(&bell, &bells.of(&queue)));
        let mut cancellations = bell.cancellations();
        bells.applied("mail", 1, Meaning::Cancels);
        cancellations.changed().await.unwrap();
        drop((bell, cancellations));
        bells.applied("mail", 1, Meaning::MakesReady);
        let _other = bells.of(&Arc::from("other"));
        assert_eq!(bells.0.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn who_takes_some_kinds_only_hears_of_everything_whatever_others_take() {
        let bell = Bell::default();
        let (any, some, other) = (bell.desk(true), bell.desk(false), bell.desk(false));
        bell.mark(0b11);
        assert_eq!(any.take(), 0b11);
        for desk in [some, other] {
            desk.marked().await;
            assert_eq!(desk.take(), 0b11);
        }
        assert_eq!(any.take(), 0, "one of those who take any kind is enough");
    }
}
