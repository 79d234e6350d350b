//! What operators do with a queue: pause, resume, take leases back, look after dead letters.

use std::sync::Arc;

use super::{
    command::{DeadEdit, DeadFilter, QueueCommand},
    error::QueueError,
    handle::Queue,
};

impl Queue {
    /// Leases nothing until it is resumed; survives a restart.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may be so.
    pub async fn pause(&self) -> Result<(), QueueError> {
        self.tell_all(&QueueCommand::Pause).await
    }

    /// Ends pause and drain.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may be so.
    pub async fn resume(&self) -> Result<(), QueueError> {
        self.tell_all(&QueueCommand::Resume).await
    }

    /// Takes back the leases that earlier lives of a worker hold, at once; answers how many.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, some may be taken back.
    pub async fn release_worker(&self, worker: &str, before_incarnation: u64) -> Result<u64, QueueError> {
        let worker: Arc<str> = Arc::from(worker);
        self.count_all(|| QueueCommand::ReleaseWorker { worker: Arc::clone(&worker), before_incarnation })
            .await
    }

    /// Changes a dead letter.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may be changed.
    pub async fn dead_edit(&self, partition: u16, edit: DeadEdit) -> Result<(), QueueError> {
        self.ask(partition, QueueCommand::DeadEdit(edit)).await.map(drop)
    }

    /// Dead letters become pending, with payload and history; answers how many.
    ///
    /// # Errors
    /// [`QueueError`]; `NoFilter` when the filter has no condition.
    ///
    /// # Cancel safety
    /// Dropped while it waits, some may be pending.
    pub async fn dead_requeue(&self, filter: &DeadFilter) -> Result<u64, QueueError> {
        self.count_all(|| QueueCommand::DeadRequeue(filter.clone())).await
    }

    /// Forgets dead letters; answers how many.
    ///
    /// # Errors
    /// [`QueueError`]; `NoFilter` when the filter has no condition.
    ///
    /// # Cancel safety
    /// Dropped while it waits, some may be forgotten.
    pub async fn dead_purge(&self, filter: &DeadFilter) -> Result<u64, QueueError> {
        self.count_all(|| QueueCommand::DeadPurge(filter.clone())).await
    }

    /// [`Self::dead_requeue`] in one partition: numbers of jobs hold for one alone.
    ///
    /// # Errors
    /// As [`Self::dead_requeue`].
    ///
    /// # Cancel safety
    /// As [`Self::dead_requeue`].
    pub async fn dead_requeue_in(&self, partition: u16, filter: &DeadFilter) -> Result<u64, QueueError> {
        self.count_in(partition, &|| QueueCommand::DeadRequeue(filter.clone())).await
    }

    /// [`Self::dead_purge`] in one partition: numbers of jobs hold for one alone.
    ///
    /// # Errors
    /// As [`Self::dead_purge`].
    ///
    /// # Cancel safety
    /// As [`Self::dead_purge`].
    pub async fn dead_purge_in(&self, partition: u16, filter: &DeadFilter) -> Result<u64, QueueError> {
        self.count_in(partition, &|| QueueCommand::DeadPurge(filter.clone())).await
    }
}
