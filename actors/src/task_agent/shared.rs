//! What the parts of one task agent share, through all its lives: settings, control, what runs, what was counted.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::{
    config::{TaskAgentConfig, TaskAgentConfigError, TaskType},
    pool::PoolShared,
    record::Pause,
};
use crate::{
    entity::{Failure, Progress},
    ids::Timestamp,
    queue::JobId,
    resilience::breaker::{Breaker, BreakerState},
    task::CancelToken,
};

/// What the agent may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    /// It leases nothing, or one job at a time once the cool-down is over.
    pub(super) pause: Option<Pause>,
    /// It leases nothing any more.
    pub(super) draining: bool,
}

/// A type of job, ready for use.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) settings: TaskType,
    pub(super) breaker: Option<Breaker>,
}

impl Task {
    /// Whether its own policy never retries what failed so.
    pub(super) fn takes_as_final(&self, failure: &Failure) -> bool {
        self.settings.retry.as_ref().is_some_and(|retry| retry.non_retryable.contains(&failure.code))
    }
}

/// A job that runs.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) kind: Arc<str>,
    pub(super) fence: u64,
    pub(super) attempt: u32,
    pub(super) since: Timestamp,
    pub(super) cancel: CancelToken,
    pub(super) progress: Arc<Mutex<Progress>>,
    pub(super) stopped: Option<Stop>,
}

/// Why a job that runs was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Somebody cancelled it.
    Cancelled,
    /// Its lease is gone: what comes of it is told to nobody.
    Lost,
    /// The agent ends, and the job did not in time: it goes back.
    Drained,
}

/// Counts since the system was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskAgentCounts {
    /// Jobs done.
    pub done: u64,
    /// Attempts that failed, with those that were retried.
    pub failed: u64,
    /// Jobs given back as they were.
    pub released: u64,
    /// Attempts whose lease was lost, or whose end could not be told.
    pub lost: u64,
    /// Attempts cancelled.
    pub cancelled: u64,
}

/// What a task agent does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskAgentActivity {
    /// It waits for jobs.
    Idle,
    /// Jobs run.
    Processing,
    /// It was paused; what ran then may still run.
    Paused,
    /// It paused by itself after a run of failures.
    Error,
}

/// How a task agent is: a look, whatever it does, that changes nothing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskAgentStatus {
    /// Its name.
    pub name: String,
    /// Its queue.
    pub queue: String,
    /// What it does.
    pub activity: TaskAgentActivity,
    /// The pause in force.
    pub pause: Option<Pause>,
    /// Whether it leases nothing any more, because it is to end.
    pub draining: bool,
    /// What runs.
    pub running: Vec<RunningJob>,
    /// Counts.
    pub counts: TaskAgentCounts,
    /// Failures since the last success.
    pub failures_in_row: u32,
    /// States of the breakers, by kind of job; the kind of the type for every kind is `*`.
    pub breakers: Vec<(String, BreakerState)>,
}

/// A job that runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunningJob {
    /// The job.
    pub id: JobId,
    /// Its kind.
    pub kind: Arc<str>,
    /// Number of the attempt.
    pub attempt: u32,
    /// Since when.
    pub since: Timestamp,
    /// What the activity said last.
    pub note: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Tallies {
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) released: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) in_row: AtomicU32,
}

/// One more.
pub(super) fn count(tally: &AtomicU64) {
    tally.fetch_add(1, Ordering::Relaxed);
}

/// What the parts of one task agent share.
#[derive(Debug)]
pub struct Shared {
    pub(super) config: TaskAgentConfig,
    pub(super) tasks: Vec<Task>,
    pub(super) control: watch::Sender<Control>,
    running: Mutex<BTreeMap<JobId, Running>>,
    pub(super) tallies: Tallies,
    /// One change of the pause at a time, so that what is in force is what was stored last.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// The pool that gives it its jobs; else it takes them itself.
    pool: OnceLock<Weak<PoolShared>>,
}

impl Shared {
    /// # Errors
    /// [`TaskAgentConfigError`].
    pub(super) fn new(config: TaskAgentConfig) -> Result<Arc<Self>, TaskAgentConfigError> {
        config.validate()?;
        let task = |settings: &TaskType| {
            let name = format!("{}/{}", config.name, settings.kind.as_deref().unwrap_or("*"));
            let breaker = settings.breaker.clone().map(|options| Breaker::new(name, options)).transpose();
            let breaker = breaker.map_err(|error| TaskAgentConfigError {
                field: "types.breaker",
                value: "not valid".into(),
                right: error.to_string(),
            });
            Ok(Task { settings: settings.clone(), breaker: breaker? })
        };
        let tasks = config.types.iter().map(task).collect::<Result<_, _>>()?;
        let control = watch::Sender::new(Control::default());
        Ok(Arc::new(Self {
            config,
            tasks,
            control,
            running: Mutex::default(),
            tallies: Tallies::default(),
            changing: tokio::sync::Mutex::default(),
            pool: OnceLock::new(),
        }))
    }

    /// The breakers of its types.
    pub fn breakers(&self) -> impl Iterator<Item = &Breaker> {
        self.tasks.iter().filter_map(|task| task.breaker.as_ref())
    }

    /// The pool that gives it its jobs.
    pub(super) fn pool(&self) -> Option<Arc<PoolShared>> {
        self.pool.get().and_then(Weak::upgrade)
    }

    /// From here on the pool gives it its jobs.
    pub(super) fn join(&self, pool: &Arc<PoolShared>) {
        let _ = self.pool.set(Arc::downgrade(pool));
    }

    /// The type of a job of this kind.
    pub(super) fn task_of(&self, kind: &str) -> Option<&Task> {
        let named = |task: &&Task| task.settings.kind.as_deref() == Some(kind);
        self.tasks.iter().find(named).or_else(|| self.tasks.iter().find(|task| task.settings.kind.is_none()))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &TaskAgentConfig {
        &self.config
    }

    /// Whether it leases nothing at the moment, because it is paused or is to end.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let control = self.control.borrow();
        control.draining || control.pause.is_some()
    }

    /// Tells a job that runs to stop.
    pub(super) fn stop(&self, id: JobId, why: Stop) {
        if let Some(job) = self.running().get_mut(&id) {
            job.stopped.get_or_insert(why);
            job.cancel.cancel();
        }
    }

    pub(super) fn running(&self) -> MutexGuard<'_, BTreeMap<JobId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> TaskAgentStatus {
        let control = self.control.borrow().clone();
        let running: Vec<_> = self.running().iter().map(|(id, job)| shown(*id, job)).collect();
        let activity = match &control.pause {
            Some(pause) if pause.probe_at.is_some() => TaskAgentActivity::Error,
            Some(_) => TaskAgentActivity::Paused,
            None if running.is_empty() => TaskAgentActivity::Idle,
            None => TaskAgentActivity::Processing,
        };
        let of = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
        let tallies = &self.tallies;
        let breakers = self.tasks.iter().filter_map(|task| {
            let kind = task.settings.kind.clone().unwrap_or_else(|| "*".to_owned());
            task.breaker.as_ref().map(|breaker| (kind, breaker.state()))
        });
        TaskAgentStatus {
            name: self.config.name.clone(),
            queue: self.config.queue.clone(),
            activity,
            pause: control.pause,
            draining: control.draining,
            running,
            counts: TaskAgentCounts {
                done: of(&tallies.done),
                failed: of(&tallies.failed),
                released: of(&tallies.released),
                lost: of(&tallies.lost),
                cancelled: of(&tallies.cancelled),
            },
            failures_in_row: tallies.in_row.load(Ordering::Relaxed),
            breakers: breakers.collect(),
        }
    }
}

fn shown(id: JobId, job: &Running) -> RunningJob {
    let note = job.progress.lock().unwrap_or_else(PoisonError::into_inner).note.clone();
    RunningJob { id, kind: Arc::clone(&job.kind), attempt: job.attempt, since: job.since, note }
}
