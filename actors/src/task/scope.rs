//! The owner of tasks.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;

use super::census::{ActorGuard, Census, Registry};
use super::core::{Admission, Phase, ScopeCore};
use super::handle::TaskHandle;

/// How long [`TaskScope::shutdown`] waits for aborted tasks to be gone.
///
/// An aborted task ends at its next await; only one that blocks its thread needs longer.
const ABORT_GRACE: Duration = Duration::from_secs(5);

/// Why a task was refused. Its future was dropped without being polled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The owner has ended; spawn under a living scope.
    #[error("task `{name}` has no living owner: scope `{owner}` has ended")]
    NoSupervisor {
        /// The scope that ended.
        owner: Arc<str>,
        /// The refused task.
        name: &'static str,
    },
    /// The owner is shutting down; do not retry.
    #[error("task `{name}` comes too late: scope `{owner}` is shutting down")]
    ShuttingDown {
        /// The scope that is shutting down.
        owner: Arc<str>,
        /// The refused task.
        name: &'static str,
    },
    /// The caller is not inside a tokio runtime.
    #[error("task `{name}` of scope `{owner}` needs a tokio runtime")]
    NoRuntime {
        /// The scope that was asked.
        owner: Arc<str>,
        /// The refused task.
        name: &'static str,
    },
}

/// What did not end in time during a shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftover {
    /// Tasks aborted because the deadline passed.
    pub aborted: usize,
    /// Of these, tasks that still live: they block their thread.
    pub stuck: usize,
}

/// Owns tasks: counts them, and ends them when it ends. Clones are the same scope.
///
/// A scope ends when its last clone is dropped, when [`end`](Self::end) is called, or when a scope above ends. A task
/// that holds a clone of its own scope keeps it alive: let such a task hold a child scope, or end the scope by hand.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use stanchion_actors::task::TaskScope;
///
/// let root = TaskScope::root("shop");
/// let answer = root.child("orders").spawn("count", async { 42 });
/// // The child scope was dropped at once, and its task with it.
/// assert!(answer.unwrap().await.is_err());
/// assert_eq!(root.spawn("count", async { 42 }).unwrap().await, Ok(42));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct TaskScope {
    handle: Arc<ScopeHandle>,
}

/// Its drop is the end of the scope; tasks hold the core, never this.
#[derive(Debug)]
struct ScopeHandle {
    core: Arc<ScopeCore>,
}

impl Drop for ScopeHandle {
    fn drop(&mut self) {
        self.core.advance(Phase::Ended);
    }
}

impl TaskScope {
    /// Makes the root scope of one system, with a census of its own.
    #[must_use]
    pub fn root(system: &str) -> Self {
        Self::of(ScopeCore::new(Arc::from(system), Arc::new(Registry::default()), Phase::Open))
    }

    /// Makes a scope below this one. If this one has ended, so has the child.
    #[must_use]
    pub fn child(&self, owner: impl Into<Arc<str>>) -> Self {
        let owner = format!("{}/{}", self.core().owner, owner.into());
        Self::of(self.core().child(Arc::from(owner)))
    }

    /// The scope's path from the root: `system/tasks`.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.core().owner
    }

    /// Spawns a task that this scope owns.
    ///
    /// # Errors
    /// - [`SpawnError::NoSupervisor`]: the scope has ended.
    /// - [`SpawnError::ShuttingDown`]: the scope was closed.
    /// - [`SpawnError::NoRuntime`]: called outside a tokio runtime.
    ///
    /// In each case the future is dropped without being polled.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Result<TaskHandle<F::Output>, SpawnError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let core = self.core();
        let owner = || Arc::clone(&core.owner);
        let runtime = Handle::try_current().map_err(|_| SpawnError::NoRuntime { owner: owner(), name })?;
        let admission = core.admit(name).map_err(|phase| match phase {
            Phase::Ended => SpawnError::NoSupervisor { owner: owner(), name },
            Phase::Open | Phase::Closed => SpawnError::ShuttingDown { owner: owner(), name },
        })?;
        let id = admission.id();
        #[expect(
            clippy::disallowed_methods,
            reason = "the one spawn: admitted, owned and counted just above"
        )]
        let join = runtime.spawn(run(future, admission));
        core.adopt(id, join.abort_handle());
        Ok(TaskHandle::new(id, join))
    }

    /// Registers a living actor in the census under this scope, until the guard is dropped.
    pub fn actor(&self, name: &str) -> ActorGuard {
        self.core().registry.start_actor(&self.core().owner, name)
    }

    /// Takes no more tasks, here and below; living ones run on.
    pub fn close(&self) {
        self.core().advance(Phase::Closed);
    }

    /// Ends the scope and all below it at once: aborts their tasks, does not wait.
    pub fn end(&self) {
        self.core().advance(Phase::Ended);
    }

    /// Whether the scope takes no more tasks.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.core().phase() != Phase::Open
    }

    /// Closes the scope, waits up to `deadline` for its tasks and those below, then aborts what still lives.
    ///
    /// `Duration::ZERO` aborts at once.
    ///
    /// # Cancel safety
    /// The scope stays closed; tasks may still live until the scope ends.
    pub async fn shutdown(&self, deadline: Duration) -> Leftover {
        self.close();
        if tokio::time::timeout(deadline, self.core().idle()).await.is_ok() {
            return Leftover::default();
        }
        let aborted = self.core().abort_all();
        // The grace bounds a wait for tasks that block their thread; they are reported as stuck.
        let _ = tokio::time::timeout(ABORT_GRACE, self.core().idle()).await;
        Leftover { aborted, stuck: self.core().live_below() }
    }

    /// Counts the tasks living in this scope, without those below it.
    #[must_use]
    pub fn live_own(&self) -> usize {
        self.core().live()
    }

    /// Counts the tasks living anywhere under the root.
    #[must_use]
    pub fn live(&self) -> usize {
        self.core().registry.live_tasks()
    }

    /// Lists and counts what lives anywhere under the root.
    #[must_use]
    pub fn census(&self) -> Census {
        self.core().registry.census()
    }

    fn of(core: Arc<ScopeCore>) -> Self {
        Self { handle: Arc::new(ScopeHandle { core }) }
    }

    fn core(&self) -> &Arc<ScopeCore> {
        &self.handle.core
    }
}

/// Runs one task; the admission leaves the census after the future is gone.
async fn run<F: Future>(future: F, admission: Admission) -> Result<F::Output, String> {
    let outcome = AssertUnwindSafe(future).catch_unwind().await;
    outcome.map_err(|payload| {
        admission.count_panic();
        panic_message(payload.as_ref())
    })
}

fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "not a text".to_owned())
}
