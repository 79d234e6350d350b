//! Work handed out by what is needed, and its results gathered: the coordinator's two verbs for task agents.

use std::time::Duration;

use bytes::Bytes;
use stanchion_actors::queue::{JobId, JobState, JobStatus, NewJob, Queue, QueueError};

use super::task_agents::TaskAgents;

/// How often results are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Why work is not handed out, or its results not gathered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistributeError {
    /// Nobody here does jobs of this kind.
    #[error("no task agent does jobs of kind {0:?}: start one, or hand it out by queue")]
    NobodyCan(String),
    /// More results are asked for than there are jobs.
    #[error("{wanted} results of {jobs} jobs cannot be: ask for at most as many")]
    Quorum {
        /// Asked for.
        wanted: usize,
        /// Handed out.
        jobs: usize,
    },
    /// The queue refused, or did not answer.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl stanchion_actors::error::Coded for DistributeError {
    fn code(&self) -> &'static str {
        match self {
            Self::NobodyCan(_) => "distribute.nobody_can",
            Self::Quorum { .. } => "distribute.quorum",
            Self::Queue(error) => error.code(),
        }
    }
    fn family(&self) -> stanchion_actors::error::Family {
        match self {
            Self::NobodyCan(_) => stanchion_actors::error::Family::Unavailable,
            Self::Quorum { .. } => stanchion_actors::error::Family::Rejected,
            Self::Queue(error) => error.family(),
        }
    }
}

/// Jobs that were handed out together. What names them outlives the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distributed {
    /// The queue they are in.
    pub queue: String,
    /// The jobs, in the order they were given.
    pub jobs: Vec<JobId>,
}

/// When results are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enough {
    /// Every job has ended.
    All,
    /// So many have succeeded, or can succeed no more.
    Quorum(usize),
}

/// What jobs came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregate {
    /// Outputs of those that are done, by their place.
    pub done: Vec<(usize, Option<Bytes>)>,
    /// Dead letters and cancelled ones, by their place: code and message.
    pub failed: Vec<(usize, String, String)>,
    /// Those that had not ended, by their place.
    pub missing: Vec<usize>,
}

impl TaskAgents {
    /// Enqueues jobs where task agents of this system do such jobs: the queue of an agent that names their kind, else of
    /// one that does every kind; of several, the one whose queue waits least.
    ///
    /// # Errors
    /// [`DistributeError`]: nothing was handed out, unless the queue was refused midway (`queue.full`).
    ///
    /// # Cancel safety
    /// Dropped while it waits, the jobs may be enqueued.
    pub async fn distribute(&self, kind: &str, jobs: Vec<NewJob>) -> Result<Distributed, DistributeError> {
        let mut best: Option<(u64, Queue)> = None;
        for name in self.queues_of(kind) {
            let queue = Queue::new(&self.env, &name)?;
            let waits = queue.stats().await.map_or(0, |stats| stats.live());
            if best.as_ref().is_none_or(|(least, _)| waits < *least) {
                best = Some((waits, queue));
            }
        }
        let (_, queue) = best.ok_or_else(|| DistributeError::NobodyCan(kind.to_owned()))?;
        let kind: std::sync::Arc<str> = kind.into();
        let jobs = jobs.into_iter().map(|job| NewJob { kind: std::sync::Arc::clone(&kind), ..job }).collect();
        let enqueued = queue.enqueue(jobs).await?;
        let jobs = enqueued.into_iter().map(|job| job.id()).collect();
        Ok(Distributed { queue: queue.name().to_owned(), jobs })
    }

    /// Queues whose agents do jobs of this kind; those that name it before those that do every kind.
    fn queues_of(&self, kind: &str) -> Vec<String> {
        let agents = self.env.task_agents().all();
        let with = |named: bool| {
            let does = agents.iter().filter(move |agent| {
                let types = &agent.config().types;
                let one = types.iter().any(|task| task.kind.as_deref() == Some(kind));
                if named { one } else { !one && types.iter().any(|task| task.kind.is_none()) }
            });
            let mut queues: Vec<String> = does.map(|agent| agent.config().queue.clone()).collect();
            queues.sort_unstable();
            queues.dedup();
            queues
        };
        let named = with(true);
        if named.is_empty() { with(false) } else { named }
    }

    /// Waits until the results are enough, at most `deadline`; answers what there is then. May be asked again, also by
    /// another process.
    ///
    /// # Errors
    /// [`DistributeError::Quorum`], [`DistributeError::Queue`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn aggregate(
        &self,
        work: &Distributed,
        enough: Enough,
        deadline: Duration,
    ) -> Result<Aggregate, DistributeError> {
        let (wanted, jobs) = match enough {
            Enough::All => (work.jobs.len(), work.jobs.len()),
            Enough::Quorum(wanted) => (wanted, work.jobs.len()),
        };
        if wanted > jobs {
            return Err(DistributeError::Quorum { wanted, jobs });
        }
        let queue = Queue::new(&self.env, &work.queue)?;
        let until = tokio::time::Instant::now() + deadline;
        loop {
            let aggregate = look(&queue, work).await?;
            let over = aggregate.missing.is_empty()
                || (matches!(enough, Enough::Quorum(_))
                    && (aggregate.done.len() >= wanted || aggregate.failed.len() > jobs - wanted));
            if over || tokio::time::Instant::now() >= until {
                return Ok(aggregate);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn look(queue: &Queue, work: &Distributed) -> Result<Aggregate, QueueError> {
    let mut aggregate = Aggregate::default();
    for (place, id) in work.jobs.iter().enumerate() {
        let view = queue.job(*id).await?;
        match (view.status, view.job.state) {
            (JobStatus::Done, _) => aggregate.done.push((place, view.output)),
            (_, JobState::Dead { code, message, .. }) => aggregate.failed.push((place, code, message)),
            (JobStatus::Cancelled, _) => {
                aggregate.failed.push((
                    place,
                    "activity.cancelled".to_owned(),
                    "it was cancelled".to_owned(),
                ));
            }
            _ => aggregate.missing.push(place),
        }
    }
    Ok(aggregate)
}
