//! The caller's side of a supervisor.

use std::sync::Arc;

use ractor::{ActorCell, ActorRef};

use super::actor::{SupervisorActor, SupervisorMsg};
use super::children::{ChildCounts, ChildInfo};
use crate::ask::{Stopped, ask, ended, of_cell, spawn, stop};
use crate::child::{ChildSpec, Shutdown, Started};
use crate::error::{ControlError, StartError, SupervisorStartError};
use crate::spec::SupervisorSpec;

/// What a supervisor's init answers.
#[derive(Clone, Debug)]
pub enum Init {
    /// Run as described.
    Run(SupervisorSpec),
    /// This supervisor is not needed.
    Ignore,
}

/// Reaches one life of a supervisor. Dropping it changes nothing.
///
/// # Examples
/// ```no_run
/// # async fn example<A: ractor::Actor<Arguments = ()> + Default>() -> Result<(), Box<dyn std::error::Error>> {
/// use stanchion_supervisors::{ChildSpec, Shutdown, Strategy, Supervisor, SupervisorSpec};
///
/// let spec = SupervisorSpec::new(Strategy::OneForOne)
///     .child(ChildSpec::actor("worker", || (A::default(), ())));
/// let supervisor = Supervisor::start(spec, None, None).await?;
/// assert_eq!(supervisor.count_children().await?.active, 1);
/// supervisor.stop(Shutdown::Infinity).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Supervisor {
    actor: ActorRef<SupervisorMsg>,
}

impl Supervisor {
    /// Starts a supervisor and its children, in order; answers once all have started.
    ///
    /// `name` goes into ractor's process-wide registry; `parent` is linked, and ends this supervisor when it ends.
    ///
    /// # Errors
    /// - [`SupervisorStartError::Spec`]: refused, nothing was started.
    /// - [`SupervisorStartError::Child`]: a child did not start; those before it were stopped again.
    /// - [`SupervisorStartError::Spawn`]: the name is taken, or the parent is stopping.
    ///
    /// # Cancel safety
    /// Dropping the future kills the children started so far.
    pub async fn start(
        spec: SupervisorSpec,
        name: Option<String>,
        parent: Option<ActorCell>,
    ) -> Result<Self, SupervisorStartError> {
        let spec = spec.validate()?;
        Ok(Self { actor: spawn(SupervisorActor, spec, name, parent).await? })
    }

    /// Like [`start`](Self::start), for an `init` that may answer that the supervisor is not needed: then `None`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    pub async fn start_init(
        init: impl FnOnce() -> Init,
        name: Option<String>,
        parent: Option<ActorCell>,
    ) -> Result<Option<Self>, SupervisorStartError> {
        match init() {
            Init::Run(spec) => Self::start(spec, name, parent).await.map(Some),
            Init::Ignore => Ok(None),
        }
    }

    /// Describes a supervisor as the child of another; `init` gives each life its spec.
    pub fn child_spec<F>(id: impl Into<Arc<str>>, name: Option<String>, init: F) -> ChildSpec
    where
        F: Fn() -> Init + Send + Sync + 'static,
    {
        let start = move |context: crate::StartContext| -> crate::StartFuture {
            let (init, name) = (init(), name.clone());
            Box::pin(async move {
                match Self::start_init(|| init, name, Some(context.link)).await {
                    Ok(Some(supervisor)) => Ok(Started::Running(supervisor.cell())),
                    Ok(None) => Ok(Started::Ignore),
                    Err(error) => Err(StartError::failed(error.to_string())),
                }
            })
        };
        ChildSpec::supervisor(id, Arc::new(start))
    }

    /// Reaches a supervisor by its actor; `None` if the actor is no [`Supervisor`].
    #[must_use]
    pub fn of_cell(cell: &ActorCell) -> Option<Self> {
        of_cell(cell).map(|actor| Self { actor })
    }

    /// Reaches the supervisor that runs under this name in ractor's process-wide registry.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        ractor::registry::where_is(name).as_ref().and_then(Self::of_cell)
    }

    /// The supervisor's actor.
    #[must_use]
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// Adds a child behind the others and starts it; `None` if it answered that it is not needed.
    ///
    /// # Errors
    /// `AlreadyStarted` or `AlreadyPresent` for a known id; `Spec`; `Start`, and the spec is not kept; `NotRunning`.
    ///
    /// # Cancel safety
    /// The order may still be carried out.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<Option<ActorCell>, ControlError> {
        ask(&self.actor, |reply| SupervisorMsg::StartChild(Box::new(spec), reply)).await
    }

    /// Stops a child and answers when it has ended. It stays listed unless it is temporary; repeating it is fine.
    ///
    /// # Errors
    /// `NotFound`; `NotRunning`.
    ///
    /// # Cancel safety
    /// The order may still be carried out.
    pub async fn terminate_child(&self, id: impl Into<Arc<str>>) -> Result<(), ControlError> {
        let id = id.into();
        ask(&self.actor, |reply| SupervisorMsg::TerminateChild(id, reply)).await
    }

    /// Starts a listed child that does not run. It does not count as a restart.
    ///
    /// # Errors
    /// `NotFound`; `Running` or `Restarting`; `Start`, and the child stays listed; `NotRunning`.
    ///
    /// # Cancel safety
    /// The order may still be carried out.
    pub async fn restart_child(&self, id: impl Into<Arc<str>>) -> Result<Option<ActorCell>, ControlError> {
        let id = id.into();
        ask(&self.actor, |reply| SupervisorMsg::RestartChild(id, reply)).await
    }

    /// Takes a child that does not run off the list.
    ///
    /// # Errors
    /// `NotFound`; `Running` or `Restarting`: terminate it first; `NotRunning`.
    ///
    /// # Cancel safety
    /// The order may still be carried out.
    pub async fn delete_child(&self, id: impl Into<Arc<str>>) -> Result<(), ControlError> {
        let id = id.into();
        ask(&self.actor, |reply| SupervisorMsg::DeleteChild(id, reply)).await
    }

    /// Lists the children, newest first.
    ///
    /// # Errors
    /// `NotRunning`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn which_children(&self) -> Result<Vec<ChildInfo>, ControlError> {
        ask(&self.actor, SupervisorMsg::WhichChildren).await
    }

    /// Counts the children.
    ///
    /// # Errors
    /// `NotRunning`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn count_children(&self) -> Result<ChildCounts, ControlError> {
        ask(&self.actor, SupervisorMsg::CountChildren).await
    }

    /// Stops the children in reverse start order, each as its spec says, then the supervisor; waits for its end.
    ///
    /// With a deadline it is killed when the time is over, and every child with it.
    ///
    /// # Cancel safety
    /// The stop goes on; a kill that was still to come does not.
    pub async fn stop(&self, how: Shutdown) -> Stopped {
        stop(&self.cell(), how).await
    }

    /// Waits until the supervisor has ended, for whatever reason.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ended(&self) {
        ended(&self.cell()).await;
    }
}
