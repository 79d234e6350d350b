//! Orders and questions from outside.

use std::sync::Arc;

use ractor::ActorCell;

use super::children::Status;
use super::shell::Shell;
use crate::child::{ChildSpec, Restart};
use crate::error::{ControlError, SpecError};

impl Shell {
    /// Adds a child behind the others and starts it; one that does not start is not kept.
    pub(super) async fn start_child(&mut self, spec: ChildSpec) -> Result<Option<ActorCell>, ControlError> {
        self.may_add(&spec)?;
        let id = Arc::clone(&spec.id);
        self.children.push(spec);
        match self.start(&id).await {
            Ok(started) => Ok(started),
            Err(error) => {
                self.children.remove(&id);
                Err(ControlError::Start { id, error })
            }
        }
    }

    fn may_add(&self, spec: &ChildSpec) -> Result<(), ControlError> {
        spec.validate(self.auto_shutdown)?;
        let id = || Arc::clone(&spec.id);
        if let Some(on) = spec.depends_on.iter().find(|on| self.children.find(on).is_none()) {
            return Err(SpecError::UnknownDependency { id: id(), on: Arc::clone(on) }.into());
        }
        let known = self.children.find(&spec.id).and_then(|index| self.children.at(index));
        match known.map(|child| &child.status) {
            None => Ok(()),
            Some(Status::Running(actor)) => {
                Err(ControlError::AlreadyStarted { id: id(), actor: actor.clone() })
            }
            Some(Status::Idle | Status::Restarting(_)) => Err(ControlError::AlreadyPresent { id: id() }),
        }
    }

    /// Stops a child; it stays listed unless it is temporary.
    pub(super) async fn terminate_child(&mut self, id: &Arc<str>) -> Result<(), ControlError> {
        let index = self.known(id)?;
        self.stop(index).await;
        let child = self.children.at(index);
        if child.is_some_and(|child| child.spec.restart == Restart::Temporary) {
            self.children.remove(id);
        }
        Ok(())
    }

    /// Starts a listed child that does not run; not counted as a restart.
    pub(super) async fn restart_child(&mut self, id: &Arc<str>) -> Result<Option<ActorCell>, ControlError> {
        self.idle(id)?;
        self.start(id).await.map_err(|error| ControlError::Start { id: Arc::clone(id), error })
    }

    /// Takes a child that does not run off the list.
    pub(super) fn delete_child(&mut self, id: &Arc<str>) -> Result<(), ControlError> {
        self.idle(id)?;
        self.children.remove(id);
        Ok(())
    }

    fn known(&self, id: &Arc<str>) -> Result<usize, ControlError> {
        self.children.find(id).ok_or_else(|| ControlError::NotFound { id: Arc::clone(id) })
    }

    fn idle(&self, id: &Arc<str>) -> Result<(), ControlError> {
        let index = self.known(id)?;
        match self.children.at(index).map(|child| &child.status) {
            Some(Status::Running(_)) => Err(ControlError::Running { id: Arc::clone(id) }),
            Some(Status::Restarting(_)) => Err(ControlError::Restarting { id: Arc::clone(id) }),
            Some(Status::Idle) | None => Ok(()),
        }
    }
}
