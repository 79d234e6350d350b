//! The way to a task agent.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    config::{TaskAgentConfig, TaskAgentConfigError},
    engine::change,
    record::{Pause, TaskAgentCommand, TaskAgentRejection, TaskAgentState},
    shared::{Shared, Stop, TaskAgentStatus},
};
use crate::{
    agent::{Address, AddressError},
    env::Env,
    error::{CallError, Coded, Family},
    policies::PolicyError,
    queue::JobId,
};

/// How often a draining agent is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Jobs that were told to stop have this long to be given back.
const GIVE_BACK: Duration = Duration::from_secs(10);

/// Why a task agent does not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskAgentError {
    /// Its settings are refused.
    #[error(transparent)]
    Config(#[from] TaskAgentConfigError),
    /// Its name, or that of its queue, is no name.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// What is stored of it refused, or did not answer.
    #[error(transparent)]
    Call(#[from] CallError<TaskAgentRejection>),
    /// There is one of this name.
    #[error("there is a task agent {0:?} already: stop it, or give this one another name")]
    AlreadyExists(String),
    /// There is none of this name.
    #[error("there is no task agent {0:?}: start it first")]
    NotFound(String),
    /// It names an activity that nobody registered.
    #[error("no activity {0:?} is registered: register it with the builder")]
    UnknownActivity(String),
    /// Its queue's name is no name.
    #[error("{0:?} is no name of a queue: use 1 to 200 visible characters without /")]
    Queue(String),
    /// What is stored of a breaker of its types cannot be read.
    #[error(transparent)]
    Policy(#[from] Box<PolicyError>),
    /// Its supervisor does not start it.
    #[error("the supervisor of task agents does not start it: {0}")]
    Supervisor(String),
}

impl Coded for TaskAgentError {
    fn code(&self) -> &'static str {
        match self {
            Self::Config(error) => error.code(),
            Self::Address(error) => error.code(),
            Self::Call(CallError::Rejected(error)) => error.code(),
            Self::Call(error) => error.code(),
            Self::Policy(error) => error.code(),
            Self::AlreadyExists(_) => "task_agent.exists",
            Self::NotFound(_) => "task_agent.unknown",
            Self::UnknownActivity(_) => "task_agent.unknown_activity",
            Self::Queue(_) => "task_agent.bad_queue",
            Self::Supervisor(_) => "task_agent.not_started",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Config(error) => error.family(),
            Self::Address(error) => error.family(),
            Self::Call(error) => error.family(),
            Self::Policy(error) => error.family(),
            Self::AlreadyExists(_) | Self::NotFound(_) | Self::UnknownActivity(_) | Self::Queue(_) => {
                Family::Rejected
            }
            Self::Supervisor(_) => Family::Unavailable,
        }
    }
}

/// The task agents of a system, by name.
#[derive(Debug, Default)]
pub struct TaskAgentTable(Mutex<BTreeMap<String, Arc<Shared>>>);

impl TaskAgentTable {
    /// Enters an agent.
    ///
    /// # Errors
    /// `Config`, `AlreadyExists`.
    pub fn enter(&self, config: TaskAgentConfig) -> Result<Arc<Shared>, TaskAgentError> {
        let shared = Shared::new(config)?;
        let mut agents = self.lock();
        if agents.contains_key(shared.name()) {
            return Err(TaskAgentError::AlreadyExists(shared.name().to_owned()));
        }
        agents.insert(shared.name().to_owned(), Arc::clone(&shared));
        Ok(shared)
    }

    /// The agent of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Shared>> {
        self.lock().get(name).cloned()
    }

    /// All agents, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Shared>> {
        self.lock().values().cloned().collect()
    }

    /// Takes an agent out.
    pub fn leave(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Shared>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to a task agent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TaskAgent {
    shared: Arc<Shared>,
    record: Address<TaskAgentState>,
}

impl TaskAgent {
    /// The way to this agent.
    ///
    /// # Errors
    /// `Address`.
    pub fn new(env: &Arc<Env>, shared: Arc<Shared>) -> Result<Self, TaskAgentError> {
        let record = Address::new(env, shared.name())?;
        Ok(Self { shared, record })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> &TaskAgentConfig {
        &self.shared.config
    }

    /// How it is: a look that waits for nobody and changes nothing.
    #[must_use]
    pub fn status(&self) -> TaskAgentStatus {
        self.shared.status()
    }

    /// Leases nothing until it is resumed, also after a restart; what runs ends. Answers when that is on disk.
    ///
    /// # Errors
    /// [`TaskAgentError::Call`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may be paused.
    pub async fn pause(&self, by: &str, reason: &str) -> Result<(), TaskAgentError> {
        let command = TaskAgentCommand::Pause { by: by.to_owned(), reason: reason.to_owned() };
        change(&self.shared, &self.record, command).await?;
        Ok(())
    }

    /// Ends the pause. Answers the one that was in force.
    ///
    /// # Errors
    /// [`TaskAgentError::Call`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may be resumed.
    pub async fn resume(&self) -> Result<Option<Pause>, TaskAgentError> {
        let before = self.shared.control.borrow().pause.clone();
        change(&self.shared, &self.record, TaskAgentCommand::Resume).await?;
        self.shared.tallies.in_row.store(0, std::sync::atomic::Ordering::Relaxed);
        Ok(before)
    }

    /// Leases nothing any more and waits until what runs has ended, at most `deadline`; then tells it to stop and gives
    /// it back to the queue. Answers how many jobs were still running at the deadline.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it leases nothing any more.
    pub async fn drain(&self, deadline: Duration) -> usize {
        self.shared.control.send_modify(|control| control.draining = true);
        if self.until_idle(deadline).await {
            return 0;
        }
        let left: Vec<JobId> = self.shared.running().keys().copied().collect();
        left.iter().for_each(|id| self.shared.stop(*id, Stop::Drained));
        // What does not heed the token is dropped by its runner, and given back all the same.
        let _ = self.until_idle(GIVE_BACK).await;
        left.len()
    }

    async fn until_idle(&self, deadline: Duration) -> bool {
        let until = tokio::time::Instant::now() + deadline;
        loop {
            if self.shared.running().is_empty() {
                return true;
            }
            if tokio::time::Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
