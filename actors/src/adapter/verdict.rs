//! What a call came to, for all that decide on it.

use std::time::Duration;

use crate::resilience::breaker::{FailureClass, Outcome};

/// What a call came to: for breakers, retries and back-off alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For the breaker.
    pub outcome: Outcome,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// Not before this long, if the other side said so.
    pub retry_after: Option<Duration>,
}

impl Verdict {
    /// It worked.
    pub const SUCCESS: Self = Self { outcome: Outcome::Success, retryable: false, retry_after: None };

    /// It failed in a way that another attempt may mend.
    #[must_use]
    pub const fn failure(class: FailureClass) -> Self {
        Self { outcome: Outcome::Failure(class), retryable: true, retry_after: None }
    }

    /// It says nothing about the other side: the request was at fault, or was not sent.
    #[must_use]
    pub const fn ignored(retryable: bool) -> Self {
        Self { outcome: Outcome::Ignored, retryable, retry_after: None }
    }

    /// The class of its failure, if it is one.
    #[must_use]
    pub const fn class(&self) -> Option<FailureClass> {
        match self.outcome {
            Outcome::Failure(class) => Some(class),
            Outcome::Success | Outcome::Ignored => None,
        }
    }

    /// With the wait the other side asks for.
    #[must_use]
    pub const fn after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// Another attempt does not help.
    #[must_use]
    pub const fn permanent(self) -> Self {
        Self { retryable: false, ..self }
    }
}
