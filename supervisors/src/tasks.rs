//! The supervisor of tasks: bounds how many run, and ends them when it ends.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use stanchion_actors::task::{Places, SpawnError, TaskHandle, TaskPlace, TaskScope};

use crate::child::{ChildSpec, Shutdown};

/// Limits of a task supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskSupervisorOptions {
    /// Tasks that may run at the same time, at least 1. Default 1 024.
    pub max_tasks: usize,
    /// How long running tasks are waited for when the supervisor stops. Default 5 s.
    pub drain: Duration,
}

impl Default for TaskSupervisorOptions {
    fn default() -> Self {
        Self { max_tasks: 1_024, drain: Duration::from_secs(5) }
    }
}

/// Why a task was not run; it was dropped without being polled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// As many tasks run as may.
    #[error("task `{name}` found all {limit} places taken")]
    Full {
        /// The task.
        name: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The supervisor does not run, perhaps for the moment.
    #[error("task `{name}` has no living supervisor")]
    NotRunning {
        /// The task.
        name: &'static str,
    },
    /// The supervisor's scope refused it.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// Runs tasks of a program under a supervising actor; what is recorded as an effect is run by the runner of activities,
/// which the system has anyhow.
///
/// Runs them through all lives of that actor. Clones are the same supervisor.
///
/// Each life of the actor owns a scope of its own: when the actor stops, tasks are given
/// [`drain`](TaskSupervisorOptions::drain) and then aborted; when it is killed or panics, they are aborted at once. The
/// next life starts without tasks; the limit counts across lives.
#[derive(Clone, Debug)]
pub struct TaskSupervisor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: TaskSupervisorOptions,
    parent: TaskScope,
    places: Places,
    current: Mutex<Current>,
}

/// The scope of the living actor.
#[derive(Debug, Default)]
struct Current {
    life: u64,
    scope: Option<TaskScope>,
}

impl TaskSupervisor {
    /// Makes a supervisor whose tasks live below `parent`. It runs nothing before its [`child_spec`](Self::child_spec)
    /// is started. A limit of 0 is read as 1.
    #[must_use]
    pub fn new(parent: &TaskScope, options: TaskSupervisorOptions) -> Self {
        let options = TaskSupervisorOptions { max_tasks: options.max_tasks.max(1), ..options };
        let places = Places::new(options.max_tasks);
        let current = Mutex::new(Current::default());
        Self { shared: Arc::new(Shared { options, parent: parent.clone(), places, current }) }
    }

    /// Describes the supervising actor as the child of a supervisor.
    pub fn child_spec(&self, id: impl Into<Arc<str>>) -> ChildSpec {
        let shared = Arc::clone(&self.shared);
        // Above the drain, so that a stop can end in order.
        let deadline = self.shared.options.drain.saturating_add(Duration::from_secs(6));
        ChildSpec::actor(id, move || (TaskSupervisorActor, Arc::clone(&shared)))
            .shutdown(Shutdown::Deadline(deadline))
    }

    /// Runs a task if a place is free.
    ///
    /// # Errors
    /// - [`RunError::Full`]: try again later.
    /// - [`RunError::NotRunning`], [`RunError::Spawn`]: the supervisor is restarting or ending.
    pub fn try_run<F>(&self, name: &'static str, task: F) -> Result<TaskHandle<F::Output>, RunError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let limit = self.shared.options.max_tasks;
        let place = self.shared.places.try_take().ok_or(RunError::Full { name, limit })?;
        self.run_in(place, name, task)
    }

    /// Waits for a free place, then runs a task.
    ///
    /// # Errors
    /// [`RunError::NotRunning`], [`RunError::Spawn`]: the supervisor is restarting or ending.
    ///
    /// # Cancel safety
    /// Safe: the task is dropped without being polled.
    pub async fn run<F>(&self, name: &'static str, task: F) -> Result<TaskHandle<F::Output>, RunError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let place = self.shared.places.take().await;
        self.run_in(place, name, task)
    }

    /// Places that are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.shared.places.free()
    }

    fn run_in<F>(
        &self,
        place: TaskPlace,
        name: &'static str,
        task: F,
    ) -> Result<TaskHandle<F::Output>, RunError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let scope = self.shared.lock().scope.clone().ok_or(RunError::NotRunning { name })?;
        let handle = scope.spawn(name, async move {
            let output = task.await;
            drop(place);
            output
        })?;
        Ok(handle)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Current> {
        // A holder that panicked has left a whole value: it is assigned in one step.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Never sent: tasks go to the scope directly.
enum TaskSupervisorMsg {}

#[cfg(feature = "cluster")]
impl ractor::Message for TaskSupervisorMsg {}

struct TaskSupervisorActor;

/// Owns the scope of one life; its drop, however the actor ended, ends the scope.
struct Life {
    shared: Arc<Shared>,
    life: u64,
    scope: TaskScope,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.scope.end();
        let mut current = self.shared.lock();
        // A killed actor may be dropped after its successor has started.
        if current.life == self.life {
            current.scope = None;
        }
    }
}

impl Actor for TaskSupervisorActor {
    type Msg = TaskSupervisorMsg;
    type State = Life;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        _myself: ActorRef<TaskSupervisorMsg>,
        shared: Arc<Shared>,
    ) -> Result<Life, ActorProcessingErr> {
        let scope = shared.parent.child("tasks");
        let mut current = shared.lock();
        current.life += 1;
        current.scope = Some(scope.clone());
        let life = current.life;
        drop(current);
        Ok(Life { shared, life, scope })
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<TaskSupervisorMsg>,
        life: &mut Life,
    ) -> Result<(), ActorProcessingErr> {
        let left = life.scope.shutdown(life.shared.options.drain).await;
        if left.aborted > 0 {
            tracing::warn!(left.aborted, left.stuck, "tasks outlived their drain");
        }
        Ok(())
    }
}
