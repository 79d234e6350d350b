//! What a supervisor tells, in the order in which it happened.

use std::sync::Arc;

use crate::error::StartError;
use crate::exit::Exit;

/// One thing that happened to a child or to the supervisor itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupervisorEvent {
    /// A child runs.
    Started {
        /// The child.
        id: Arc<str>,
        /// Which life of the child this is, from 1.
        generation: u64,
    },
    /// A child answered that it is not needed; it stays listed, not running.
    Ignored {
        /// The child.
        id: Arc<str>,
    },
    /// A start or restart failed.
    StartFailed {
        /// The child.
        id: Arc<str>,
        /// Why.
        error: StartError,
    },
    /// A child ended.
    Ended {
        /// The child.
        id: Arc<str>,
        /// Which life of the child ended.
        generation: u64,
        /// How.
        exit: Exit,
    },
    /// Too many restarts: the supervisor stops; a dynamic one that counts per child drops only this child.
    GaveUp {
        /// The child whose restart was one too many.
        id: Arc<str>,
        /// The last known end of that child; `None` if its start failed.
        last: Option<Exit>,
    },
    /// The end of a significant child shuts the supervisor down.
    ShutDownByChild {
        /// The child.
        id: Arc<str>,
    },
}

/// Sees every event, in order, on the supervisor's own task: it must be quick and must not panic.
pub type Observer = Arc<dyn Fn(&SupervisorEvent) + Send + Sync>;

/// The observer that is none.
pub(crate) fn unobserved() -> Observer {
    Arc::new(|_| ())
}
