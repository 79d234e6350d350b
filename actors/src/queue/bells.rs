//! Wakes workers of this process when a queue may have work for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Notify, watch};

use super::command::QueueCommand;

/// What wakes the workers of one queue.
#[derive(Debug, Default)]
pub struct Bell {
    /// Work may be there: wakes one worker, or the next one that listens.
    ready: Notify,
    /// A leased job may have been cancelled.
    cancelled: watch::Sender<()>,
}

impl Bell {
    /// Waits until work may be there. One of those that wait is woken; who takes all it can wakes the next.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Wakes a worker.
    pub fn ring(&self) {
        self.ready.notify_one();
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

    /// A command was applied.
    pub(super) fn applied(&self, queue: &str, command: Meaning) {
        let bells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bell) = bells.get(queue).and_then(Weak::upgrade) else { return };
        match command {
            Meaning::Quiet => {}
            Meaning::MakesReady => bell.ring(),
            Meaning::Cancels => {
                bell.cancelled.send_replace(());
                bell.ring();
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
        bells.applied("mail", Meaning::MakesReady);
        bell.ready().await;
        assert!(Arc::ptr_eq(&bell, &bells.of(&queue)));
        let mut cancellations = bell.cancellations();
        bells.applied("mail", Meaning::Cancels);
        cancellations.changed().await.unwrap();
        drop((bell, cancellations));
        bells.applied("mail", Meaning::MakesReady);
        let _other = bells.of(&Arc::from("other"));
        assert_eq!(bells.0.lock().unwrap().len(), 1);
    }
}
