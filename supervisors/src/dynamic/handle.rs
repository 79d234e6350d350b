//! The caller's side of a dynamic supervisor.

use std::sync::Arc;

use ractor::{ActorCell, ActorRef};

use super::actor::{DynamicActor, DynamicMsg};
use super::shell::{ChildKey, DynamicInfo};
use super::spec::{DynamicChild, DynamicSpec};
use crate::ask::{Stopped, ask, ended, of_cell, spawn, stop};
use crate::child::{ChildSpec, Shutdown, Started};
use crate::error::{ControlError, SupervisorStartError};

/// A child that was started.
#[derive(Clone, Debug)]
pub struct StartedChild {
    /// Names the child, through all its lives.
    pub key: ChildKey,
    /// Its first life.
    pub actor: ActorCell,
}

/// Reaches one life of a dynamic supervisor. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct DynamicSupervisor {
    actor: ActorRef<DynamicMsg>,
}

impl DynamicSupervisor {
    /// Starts a supervisor without children.
    ///
    /// `name` goes into ractor's process-wide registry; `parent` is linked, and ends this supervisor when it ends.
    ///
    /// # Errors
    /// `Spec`: refused. `Spawn`: the name is taken, or the parent is stopping.
    ///
    /// # Cancel safety
    /// Dropping the future starts nothing.
    pub async fn start(
        spec: DynamicSpec,
        name: Option<String>,
        parent: Option<ActorCell>,
    ) -> Result<Self, SupervisorStartError> {
        spec.validate()?;
        Ok(Self { actor: spawn(DynamicActor, spec, name, parent).await? })
    }

    /// Describes a dynamic supervisor as the child of another.
    pub fn child_spec(id: impl Into<Arc<str>>, name: Option<String>, spec: DynamicSpec) -> ChildSpec {
        let start = move |context: crate::StartContext| -> crate::StartFuture {
            let (spec, name) = (spec.clone(), name.clone());
            Box::pin(async move {
                match Self::start(spec, name, Some(context.link)).await {
                    Ok(supervisor) => Ok(Started::Running(supervisor.cell())),
                    Err(error) => Err(crate::StartError::failed(error.to_string())),
                }
            })
        };
        ChildSpec::supervisor(id, Arc::new(start))
    }

    /// Reaches a supervisor by its actor; `None` if the actor is no [`DynamicSupervisor`].
    #[must_use]
    pub fn of_cell(cell: &ActorCell) -> Option<Self> {
        of_cell(cell).map(|actor| Self { actor })
    }

    /// The supervisor's actor.
    #[must_use]
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// Starts a child; `None` if it answered that it is not needed.
    ///
    /// # Errors
    /// `TooManyChildren`: try again when some have ended; `Start`, and the child is not kept; `NotRunning`.
    ///
    /// # Cancel safety
    /// The child may still be started.
    pub async fn start_child(&self, child: DynamicChild) -> Result<Option<StartedChild>, ControlError> {
        ask(&self.actor, |reply| DynamicMsg::StartChild(child, reply)).await
    }

    /// Ends a child for good and answers when it is gone; repeating it is fine. The supervisor serves others meanwhile.
    ///
    /// # Errors
    /// `NotRunning`.
    ///
    /// # Cancel safety
    /// The child was told to stop and is not restarted; the kill after its deadline may be missing.
    pub async fn terminate_child(&self, key: ChildKey) -> Result<(), ControlError> {
        let told = ask(&self.actor, |reply| DynamicMsg::TerminateChild(key, reply)).await?;
        if let Some((cell, shutdown)) = told {
            let deadline = match shutdown {
                Shutdown::Deadline(deadline) => Some(deadline),
                Shutdown::BrutalKill | Shutdown::Infinity => None,
            };
            if cell.wait(deadline).await.is_err() {
                cell.kill();
                // Without a limit there is no timeout to fail with.
                let _ = cell.wait(None).await;
            }
        }
        Ok(())
    }

    /// Lists the children, newest first.
    ///
    /// # Errors
    /// `NotRunning`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list_children(&self) -> Result<Vec<DynamicInfo>, ControlError> {
        ask(&self.actor, DynamicMsg::ListChildren).await
    }

    /// Counts the children, with those that wait for a restart.
    ///
    /// # Errors
    /// `NotRunning`.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn count_children(&self) -> Result<usize, ControlError> {
        ask(&self.actor, DynamicMsg::CountChildren).await
    }

    /// Stops all children at once, then the supervisor; waits for its end.
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
