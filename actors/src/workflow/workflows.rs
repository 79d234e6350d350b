//! The way to runs: through the coordinator for what changes them, from the store for what shows them.

use std::{sync::Arc, time::Duration};

use ractor::RpcReplyPort;
use tokio::sync::oneshot;

use super::{
    command::{RUN_KIND, RunCommand, RunReply},
    coordinator::{CoordinatorMsg, RunError, StartRun, Started},
    definition::ValidDefinition,
    reader::{ReadError, StoredRun},
    registry::Definitions,
};
use crate::{env::Env, ids::Name};

/// The way to runs: through the coordinator for what changes them, from the store for what shows them.
#[derive(Clone)]
pub struct Workflows {
    env: Arc<Env>,
    definitions: Arc<Definitions>,
}

/// How often a wait looks at a run whose cell cannot tell (it is not active in this process).
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl Workflows {
    /// The workflows of a system.
    #[must_use]
    pub fn new(env: Arc<Env>, definitions: Arc<Definitions>) -> Self {
        Self { env, definitions }
    }

    /// Remembers a definition.
    #[must_use]
    pub fn define(&self, definition: ValidDefinition) -> Arc<ValidDefinition> {
        self.definitions.remember(definition)
    }

    /// Remembers a definition that is shared already; answers the one that was known before, if any.
    #[must_use]
    pub fn adopt(&self, definition: Arc<ValidDefinition>) -> Arc<ValidDefinition> {
        self.definitions.adopt(definition)
    }

    /// Starts a run, and answers once that is durable. A run of this id that was started the same way is found.
    ///
    /// # Errors
    /// [`RunError`]; `AlreadyExists` when the id is taken by another run.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the run may be started.
    pub async fn start(&self, start: StartRun) -> Result<Started, RunError> {
        // Kept until the run has it: the registry itself holds definitions weakly.
        let _definition = Arc::clone(&start.definition);
        self.ask(|reply| CoordinatorMsg::Start(Box::new(start), reply)).await
    }

    /// Tells a run to start no further steps.
    ///
    /// # Errors
    /// [`RunError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, the command may be applied.
    pub async fn pause(&self, id: &str) -> Result<RunReply, RunError> {
        self.tell(id, RunCommand::Pause).await
    }

    /// Tells a paused run to go on.
    ///
    /// # Errors
    /// [`RunError`].
    ///
    /// # Cancel safety
    /// As [`Self::pause`].
    pub async fn resume(&self, id: &str, workers: Option<u32>) -> Result<RunReply, RunError> {
        self.tell(id, RunCommand::Resume { workers }).await
    }

    /// Ends a run.
    ///
    /// # Errors
    /// [`RunError`].
    ///
    /// # Cancel safety
    /// As [`Self::pause`].
    pub async fn cancel(&self, id: &str) -> Result<RunReply, RunError> {
        self.tell(id, RunCommand::Cancel).await
    }

    /// Tells a failed or parked run to go on: its failed steps, or one of them, are tried again.
    ///
    /// # Errors
    /// [`RunError`].
    ///
    /// # Cancel safety
    /// As [`Self::pause`].
    pub async fn retry(&self, id: &str, step: Option<&str>) -> Result<RunReply, RunError> {
        self.tell(id, RunCommand::Retry { step: step.map(str::to_owned) }).await
    }

    /// Reads a run at its last durable version, without waking it.
    ///
    /// # Errors
    /// [`ReadError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn read(&self, id: &str) -> Result<StoredRun, ReadError> {
        StoredRun::read(self.env.store().current().as_ref(), &self.definitions, id).await
    }

    /// Waits until a run has ended or is parked, and reads it.
    ///
    /// # Errors
    /// [`ReadError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait(&self, id: &str) -> Result<StoredRun, ReadError> {
        let unknown = || ReadError::Unknown(id.to_owned());
        let name = Name::new(RUN_KIND, id).map_err(|_| unknown())?;
        let cell = self.env.directory().cell(&name).map_err(|_| unknown())?;
        let mut status = cell.watch_status();
        loop {
            let run = self.read(id).await?;
            let stands = run.state.status();
            if stands.is_terminal() || stands == super::run::RunStatus::Parked {
                return Ok(run);
            }
            // A change of status is told after its commit; the look now and then is for runs of other owners.
            let _ = tokio::time::timeout(LOOK_EVERY, status.changed()).await;
        }
    }

    async fn tell(&self, id: &str, command: RunCommand) -> Result<RunReply, RunError> {
        self.ask(|reply| CoordinatorMsg::Tell(id.to_owned(), command, reply)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        message: impl FnOnce(RpcReplyPort<Result<T, RunError>>) -> CoordinatorMsg,
    ) -> Result<T, RunError> {
        let coordinator = self.env.services().coordinator.actor().ok_or(RunError::Lost)?;
        let (answer, answered) = oneshot::channel();
        coordinator.cast(message(answer.into())).map_err(|_| RunError::Lost)?;
        answered.await.map_err(|_| RunError::Lost)?
    }
}
