//! Jobs that are enqueued while others of their partition are on their way: those of all callers go together in the next
//! entry, in the order in which they came.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{
    command::{Enqueued, QueueCommand},
    config::QUEUE_BATCH_MAX,
    enqueue::enqueued,
    error::QueueError,
    handle::Queue,
    job::NewJob,
};
use crate::error::{CallFailure, Doubt, FailureKind, Unavailable};

/// Largest sum of payloads in one entry, unless it is of a single job.
pub(super) const BATCH_BYTES: usize = 1024 * 1024;
/// Callers that may wait for the entry before theirs, in each partition; who comes then does not wait for it.
const WAITING_MAX: usize = 4_096;

type Answer = Result<Vec<Enqueued>, QueueError>;

/// Callers that wait, by partition; a partition is there while somebody enqueues in it.
#[derive(Debug, Default)]
pub(super) struct Gather(Mutex<HashMap<u16, VecDeque<Waiting>>>);

#[derive(Debug)]
struct Waiting {
    jobs: Vec<NewJob>,
    partitions: u16,
    answer: oneshot::Sender<Answer>,
}

/// What a caller does.
enum Turn {
    /// It enqueues at once.
    Goes,
    /// Others enqueue for it.
    Waits(oneshot::Receiver<Answer>),
    /// It enqueues beside the others.
    Beside(Vec<NewJob>),
}

impl Gather {
    fn lock(&self) -> MutexGuard<'_, HashMap<u16, VecDeque<Waiting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, partition: u16, jobs: &mut Vec<NewJob>, partitions: u16) -> Turn {
        let mut busy = self.lock();
        let Some(waiting) = busy.get_mut(&partition) else {
            busy.insert(partition, VecDeque::new());
            return Turn::Goes;
        };
        let jobs = std::mem::take(jobs);
        if waiting.len() >= WAITING_MAX {
            return Turn::Beside(jobs);
        }
        let (answer, answered) = oneshot::channel();
        waiting.push_back(Waiting { jobs, partitions, answer });
        Turn::Waits(answered)
    }

    /// The next callers whose jobs fit one entry together; none: nobody enqueues in the partition any more.
    fn next(&self, partition: u16) -> Vec<Waiting> {
        let mut busy = self.lock();
        let Some(waiting) = busy.get_mut(&partition) else { return Vec::new() };
        let mut together: Vec<Waiting> = Vec::new();
        let (mut jobs, mut bytes) = (0, 0);
        while let Some(next) = waiting.front() {
            let size: usize = next.jobs.iter().map(|job| job.payload.len()).sum();
            let alike = together.first().is_none_or(|first| first.partitions == next.partitions);
            let fits = jobs + next.jobs.len() <= QUEUE_BATCH_MAX && bytes + size <= BATCH_BYTES;
            let joins = alike && fits;
            if !(together.is_empty() || joins) {
                break;
            }
            (jobs, bytes) = (jobs + next.jobs.len(), bytes + size);
            together.extend(waiting.pop_front());
        }
        if together.is_empty() {
            busy.remove(&partition);
        }
        together
    }

    /// Whether nobody waits; then nobody enqueues in the partition any more.
    fn is_over(&self, partition: u16) -> bool {
        let mut busy = self.lock();
        let over = busy.get(&partition).is_none_or(VecDeque::is_empty);
        if over {
            busy.remove(&partition);
        }
        over
    }

    /// Takes out all who wait: nobody enqueues in the partition any more.
    fn give_up(&self, partition: u16) -> VecDeque<Waiting> {
        self.lock().remove(&partition).unwrap_or_default()
    }
}

/// Somebody enqueues in a partition; dropped, a task goes on with those who wait.
struct Going<'a> {
    queue: &'a Queue,
    partition: u16,
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        let (queue, partition) = (self.queue.clone(), self.partition);
        if queue.state.gather.is_over(partition) {
            return;
        }
        // Made here, so that it is there whether or not the task is ever polled.
        let promise = Promise { queue, partition, kept: false };
        // The system ends: the future is dropped, and its promise with it.
        let _ = self.queue.env.tasks().spawn("queue-enqueue", go_on(promise));
    }
}

/// Those who wait in a partition will be answered: dropped before it is kept, with the truth that they were asked nowhere.
struct Promise {
    queue: Queue,
    partition: u16,
    kept: bool,
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        for waiting in self.queue.state.gather.give_up(self.partition) {
            let stopped = FailureKind::Unavailable(Unavailable::Stopped);
            let _ = waiting.answer.send(Err(self.queue.failed(self.partition, stopped)));
        }
    }
}

/// Enqueues for those who wait, until nobody does.
async fn go_on(mut promise: Promise) {
    let (queue, partition) = (promise.queue.clone(), promise.partition);
    loop {
        let together = queue.state.gather.next(partition);
        if together.is_empty() {
            promise.kept = true;
            return;
        }
        queue.enqueue_together(partition, together).await;
    }
}

impl Queue {
    /// Enqueues jobs of one partition, with those of other callers while an entry is under way.
    pub(super) async fn enqueue_gathered(
        &self,
        partition: u16,
        mut jobs: Vec<NewJob>,
        partitions: u16,
    ) -> Answer {
        match self.state.gather.turn(partition, &mut jobs, partitions) {
            Turn::Goes => {
                let _going = Going { queue: self, partition };
                self.enqueue_alone(partition, jobs, partitions).await
            }
            Turn::Beside(jobs) => self.enqueue_alone(partition, jobs, partitions).await,
            // Who enqueued for it is gone: it may have been done.
            Turn::Waits(answered) => answered
                .await
                .unwrap_or_else(|_| Err(self.failed(partition, FailureKind::Unknown(Doubt::Lost)))),
        }
    }

    async fn enqueue_alone(&self, partition: u16, jobs: Vec<NewJob>, partitions: u16) -> Answer {
        enqueued(self.ask(partition, QueueCommand::Enqueue { jobs, partitions }).await?)
    }

    /// Enqueues for these callers, in one entry.
    async fn enqueue_together(&self, partition: u16, together: Vec<Waiting>) {
        let partitions = together.first().map_or(0, |first| first.partitions);
        let jobs: Vec<NewJob> = together.iter().flat_map(|waiting| waiting.jobs.iter().cloned()).collect();
        match self.enqueue_alone(partition, jobs, partitions).await {
            Ok(enqueued) => {
                let mut enqueued = enqueued.into_iter();
                for waiting in together {
                    let own = enqueued.by_ref().take(waiting.jobs.len()).collect();
                    // Who does not wait any more is not told.
                    let _ = waiting.answer.send(Ok(own));
                }
            }
            // One of them is refused, or all: each for itself, as if it had come alone.
            Err(QueueError::Refused(_)) if together.len() > 1 => {
                for Waiting { jobs, answer, .. } in together {
                    let _ = answer.send(self.enqueue_alone(partition, jobs, partitions).await);
                }
            }
            Err(error) => together.into_iter().for_each(|waiting| {
                let _ = waiting.answer.send(Err(error.clone()));
            }),
        }
    }

    fn failed(&self, partition: u16, kind: FailureKind) -> QueueError {
        match self.partition_name(partition) {
            Ok(entity) => CallFailure { entity, id: None, kind }.into(),
            Err(error) => error,
        }
    }
}
