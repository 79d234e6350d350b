//! What a call came to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure a call had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The other side was not reached, or the connection broke.
    Network,
    /// No answer in time.
    Timeout,
    /// The other side answered with an error.
    Application,
    /// The call took longer than `slow_call_duration_threshold_ms`, with whatever result.
    Slow,
}

impl FailureClass {
    /// Every class, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Network, Self::Timeout, Self::Application, Self::Slow];

    /// The name in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Application => "application",
            Self::Slow => "slow",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a call came to, as far as the breaker is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It worked.
    Success,
    /// It failed. `Failure(Slow)` also counts as slow, however long it took.
    Failure(FailureClass),
    /// It says nothing about the other side: cancelled, refused by validation, told to slow down. Counts as
    /// neither, and a probe's place is free again.
    Ignored,
}
