//! What can go wrong with a supervisor, by operation.

use std::sync::Arc;

use ractor::{ActorCell, SpawnErr};

/// Why a supervisor or child specification is refused, before anything starts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A restart limit of 0 must be said with `Intensity::never()`.
    #[error("invalid intensity: 0 restarts; say Intensity::never() where that is meant")]
    InvalidIntensity,
    /// A sliding time of 0 counts nothing.
    #[error("invalid period: restarts need a time of more than 0 to be counted in")]
    InvalidPeriod,
    /// No such strategy.
    #[error("invalid strategy `{name}`: one_for_one, one_for_all or rest_for_one")]
    InvalidStrategy {
        /// What was given.
        name: String,
    },
    /// Two children with one id.
    #[error("duplicate child `{id}`")]
    DuplicateChild {
        /// The id.
        id: Arc<str>,
    },
    /// A significant child under a supervisor that never shuts down by itself.
    #[error("child `{id}` is significant, but the supervisor never shuts down by itself")]
    SignificantWithoutAutoShutdown {
        /// The child.
        id: Arc<str>,
    },
    /// A permanent child never ends for good, so it cannot be significant.
    #[error("child `{id}` is significant and permanent; make it transient or temporary")]
    SignificantPermanent {
        /// The child.
        id: Arc<str>,
    },
    /// A child depends on one that is not there.
    #[error("child `{id}` depends on `{on}`, which is no child of this supervisor")]
    UnknownDependency {
        /// The child.
        id: Arc<str>,
        /// What it depends on.
        on: Arc<str>,
    },
    /// Children depend on each other in a circle.
    #[error("children depend on each other in a circle: {}", circle.join(" -> "))]
    DependencyCycle {
        /// The ids along the circle; the first is repeated at the end.
        circle: Vec<Arc<str>>,
    },
}

/// Why a child did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The start function or `pre_start` answered an error, or `pre_start` panicked (ractor erases the difference).
    #[error("{0}")]
    Failed(Arc<str>),
    /// The start function panicked.
    #[error("start panicked: {0}")]
    Panicked(Arc<str>),
    /// The actor's name is taken in ractor's registry.
    #[error("the name `{0}` is taken")]
    NameTaken(Arc<str>),
}

impl StartError {
    /// A failure with this text.
    pub fn failed(message: impl Into<Arc<str>>) -> Self {
        Self::Failed(message.into())
    }
}

impl From<SpawnErr> for StartError {
    fn from(error: SpawnErr) -> Self {
        match error {
            SpawnErr::StartupFailed(cause) => Self::failed(cause.to_string()),
            SpawnErr::ActorAlreadyRegistered(name) => Self::NameTaken(Arc::from(name)),
            SpawnErr::ActorAlreadyStarted => Self::failed("the actor was started before"),
        }
    }
}

/// Why a supervisor did not start. Nothing of it runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorStartError {
    /// The specification is refused.
    #[error("refused: {0}")]
    Spec(#[from] SpecError),
    /// A child did not start; those started before it were stopped in reverse order.
    #[error("shutdown: failed to start child `{id}`: {error}")]
    Child {
        /// The child.
        id: Arc<str>,
        /// Why it did not start.
        #[source]
        error: StartError,
    },
    /// ractor refused the supervisor's own actor.
    #[error("supervisor actor: {0}")]
    Spawn(StartError),
}

impl SupervisorStartError {
    /// Finds our error inside ractor's.
    pub(crate) fn of_spawn(error: SpawnErr) -> Self {
        match error {
            SpawnErr::StartupFailed(cause) => match cause.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::Spawn(StartError::failed(other.to_string())),
            },
            other => Self::Spawn(other.into()),
        }
    }
}

/// Why a supervisor did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No child with this id.
    #[error("no child `{id}`")]
    NotFound {
        /// What was asked for.
        id: Arc<str>,
    },
    /// The child runs; terminate it first.
    #[error("child `{id}` runs")]
    Running {
        /// The child.
        id: Arc<str>,
    },
    /// The child waits for its restart; terminate it first.
    #[error("child `{id}` is being restarted")]
    Restarting {
        /// The child.
        id: Arc<str>,
    },
    /// A child with this id runs already.
    #[error("child `{id}` was started already")]
    AlreadyStarted {
        /// The child.
        id: Arc<str>,
        /// The living actor.
        actor: ActorCell,
    },
    /// A child with this id is listed, but does not run; restart or delete it.
    #[error("child `{id}` is listed already")]
    AlreadyPresent {
        /// The child.
        id: Arc<str>,
    },
    /// The child did not start.
    #[error("child `{id}` did not start: {error}")]
    Start {
        /// The child.
        id: Arc<str>,
        /// Why.
        #[source]
        error: StartError,
    },
    /// The child's specification is refused.
    #[error("refused: {0}")]
    Spec(#[from] SpecError),
    /// The supervisor holds as many children as it may.
    #[error("the supervisor holds {limit} children, its limit")]
    TooManyChildren {
        /// The limit.
        limit: usize,
    },
    /// The supervisor is stopping or gone.
    #[error("the supervisor is not running")]
    NotRunning,
}

impl PartialEq for ControlError {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::AlreadyStarted { actor: a, .. }, Self::AlreadyStarted { actor: b, .. }) => a == b,
            (a, b) => a.to_string() == b.to_string(),
        }
    }
}
