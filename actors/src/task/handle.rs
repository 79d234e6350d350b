//! The spawner's end of a task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

use super::TaskId;

/// How a task ended without a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskEnd {
    /// The task panicked; its owner lives on.
    #[error("task panicked: {0}")]
    Panicked(String),
    /// The task was aborted, by its handle or with its owner.
    #[error("task was cancelled")]
    Cancelled,
}

/// Awaits or aborts one task.
///
/// Dropping the handle lets the task run on: its scope still owns it, counts it and ends it.
#[derive(Debug)]
pub struct TaskHandle<T> {
    id: TaskId,
    join: JoinHandle<Result<T, String>>,
}

impl<T> TaskHandle<T> {
    pub(super) fn new(id: TaskId, join: JoinHandle<Result<T, String>>) -> Self {
        Self { id, join }
    }

    /// Names the task in the census.
    #[must_use]
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Asks the task to end at its next await. Awaiting the handle says when it has.
    pub fn abort(&self) {
        self.join.abort();
    }

    /// Whether the task has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskEnd>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.join).poll(cx).map(|joined| match joined {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(message)) => Err(TaskEnd::Panicked(message)),
            Err(error) if error.is_panic() => Err(TaskEnd::Panicked(error.to_string())),
            Err(_) => Err(TaskEnd::Cancelled),
        })
    }
}
