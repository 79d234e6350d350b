//! Who is answered after a commit, and how.

use std::panic::{AssertUnwindSafe, catch_unwind};

use stanchion_actors::store::{Activated, Completer, Outcome, StoreError};

use super::shared::{Answer, Job, Shared, count};

/// An answer that waits for its commit.
pub(crate) enum Reply {
    Record(Completer, Result<Outcome, StoreError>),
    Activated(Answer<Activated>, Result<Activated, StoreError>),
    Done(Answer<()>, Result<(), StoreError>),
}

impl Reply {
    /// The answer to a job that is not done.
    pub(crate) fn refusing(job: Job, error: StoreError) -> Self {
        match job {
            Job::Record(_, done) => Self::Record(done, Err(error)),
            Job::Activate { answer, .. } => Self::Activated(answer, Err(error)),
            Job::Release { answer, .. } | Job::Freeze { answer } | Job::Seal { answer } => {
                Self::Done(answer, Err(error))
            }
        }
    }

    /// The same answer, as an error.
    pub(crate) fn refused(self, error: StoreError) -> Self {
        match self {
            Self::Record(done, _) => Self::Record(done, Err(error)),
            Self::Activated(answer, _) => Self::Activated(answer, Err(error)),
            Self::Done(answer, _) => Self::Done(answer, Err(error)),
        }
    }

    /// Tells it. A completer that panics takes nothing along but itself.
    pub(crate) fn tell(self, shared: &Shared) {
        let counters = &shared.counters;
        match self {
            Self::Record(done, result) => {
                match &result {
                    Ok(Outcome::Applied { .. }) => count(&counters.applied, 1),
                    Ok(Outcome::Fenced { .. }) => count(&counters.fenced, 1),
                    Ok(Outcome::Conflict { .. }) => count(&counters.conflicts, 1),
                    _ => count(&counters.failed, 1),
                }
                if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
                    tracing::error!("a completer of the store panicked");
                }
            }
            // Whoever asked may have gone.
            Self::Activated(answer, result) => drop(answer.send(result)),
            Self::Done(answer, result) => drop(answer.send(result)),
        }
    }
}
