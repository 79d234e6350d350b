//! What a supervisor knows of a child: how to start it, when to restart it, how to stop it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell};

use crate::error::{SpecError, StartError};
use crate::spec::AutoShutdown;

/// When a child that ended by itself is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// After an abnormal end only; otherwise it stays listed, not running.
    Transient,
    /// Never; its spec is forgotten when it ends.
    Temporary,
}

/// How a child is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Killed at once, without a chance to clean up.
    BrutalKill,
    /// Told to stop, and killed when the time is over.
    Deadline(Duration),
    /// Told to stop, and waited for.
    Infinity,
}

/// Whether a child is itself a supervisor; it decides the default [`Shutdown`] and the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildKind {
    /// Does work.
    Worker,
    /// Supervises others.
    Supervisor,
}

/// What a start function is given.
#[derive(Clone, Debug)]
pub struct StartContext {
    /// The actor to link to: spawn the child with `spawn_linked` under it.
    pub link: ActorCell,
    /// The child's id.
    pub id: Arc<str>,
    /// Which life of the child this is, from 1.
    pub generation: u64,
}

/// What a start function has done.
#[derive(Clone, Debug)]
pub enum Started {
    /// The child runs, linked to [`StartContext::link`].
    Running(ActorCell),
    /// The child is not needed; it stays listed, not running.
    Ignore,
}

/// A start under way.
pub type StartFuture = Pin<Box<dyn Future<Output = Result<Started, StartError>> + Send>>;

/// Starts one life of a child. Called on the supervisor's task: it should return once the child has started.
pub type StartFn = Arc<dyn Fn(StartContext) -> StartFuture + Send + Sync>;

/// Describes one child.
///
/// Defaults: permanent; a worker is given 5 s to stop, a supervisor all the time it needs; not significant.
#[derive(Clone)]
pub struct ChildSpec {
    pub(crate) id: Arc<str>,
    pub(crate) restart: Restart,
    pub(crate) shutdown: Shutdown,
    pub(crate) significant: bool,
    pub(crate) kind: ChildKind,
    pub(crate) depends_on: Vec<Arc<str>>,
    pub(crate) start: StartFn,
}

impl ChildSpec {
    /// Describes a worker started by `start`.
    pub fn worker(id: impl Into<Arc<str>>, start: StartFn) -> Self {
        Self {
            id: id.into(),
            restart: Restart::Permanent,
            shutdown: Shutdown::Deadline(Duration::from_secs(5)),
            significant: false,
            kind: ChildKind::Worker,
            depends_on: Vec::new(),
            start,
        }
    }

    /// Describes a supervisor started by `start`.
    pub fn supervisor(id: impl Into<Arc<str>>, start: StartFn) -> Self {
        Self { shutdown: Shutdown::Infinity, kind: ChildKind::Supervisor, ..Self::worker(id, start) }
    }

    /// Describes a worker that is a ractor actor without a name; `make` gives each life its actor and arguments.
    pub fn actor<A, F>(id: impl Into<Arc<str>>, make: F) -> Self
    where
        A: Actor,
        F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    {
        Self::worker(id, start_actor(make))
    }

    /// Sets when the child is restarted.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets how the child is stopped.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Makes the child's end for good count for [`AutoShutdown`].
    #[must_use]
    pub fn significant(mut self) -> Self {
        self.significant = true;
        self
    }

    /// Starts this child after the one named; repeat it for more.
    #[must_use]
    pub fn depends_on(mut self, id: impl Into<Arc<str>>) -> Self {
        self.depends_on.push(id.into());
        self
    }

    /// The child's id.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(crate) fn validate(&self, auto_shutdown: AutoShutdown) -> Result<(), SpecError> {
        let id = || Arc::clone(&self.id);
        if self.significant && self.restart == Restart::Permanent {
            return Err(SpecError::SignificantPermanent { id: id() });
        }
        if self.significant && auto_shutdown == AutoShutdown::Never {
            return Err(SpecError::SignificantWithoutAutoShutdown { id: id() });
        }
        Ok(())
    }
}

impl std::fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .field("significant", &self.significant)
            .field("kind", &self.kind)
            .field("depends_on", &self.depends_on)
            .finish_non_exhaustive()
    }
}

/// A start function for ractor actors without a name.
pub(crate) fn start_actor<A, F>(make: F) -> StartFn
where
    A: Actor,
    F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
{
    Arc::new(move |context| {
        let (actor, arguments) = make();
        Box::pin(async move {
            let (child, _join) = context.link.spawn_linked(None, actor, arguments).await?;
            Ok(Started::Running(child.get_cell()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignore() -> StartFn {
        Arc::new(|_| Box::pin(async { Ok(Started::Ignore) }))
    }

    /// S64.
    #[test]
    fn s64_defaults_of_a_child_spec() {
        let worker = ChildSpec::worker("w", ignore());
        assert_eq!(worker.restart, Restart::Permanent);
        assert_eq!(worker.shutdown, Shutdown::Deadline(Duration::from_millis(5_000)));
        assert!(!worker.significant);
        assert_eq!(ChildSpec::supervisor("s", ignore()).shutdown, Shutdown::Infinity);
    }
}
