//! [`Layer`]: the layers, from the outermost to the innermost.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A layer of the pipeline. They are in their order: the outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Another service answers where this one has none.
    Fallback,
    /// Limits in time: of the call as a whole, and of each attempt innermost.
    Timeout,
    /// Further attempts.
    Retry,
    /// What further attempts may cost.
    Budget,
    /// Stops calls to what fails.
    Breaker,
    /// The other side asked for no calls until a time.
    Backoff,
    /// So many calls in a time.
    Limiter,
    /// So many calls at once.
    Bulkhead,
}

impl Layer {
    /// Every layer, the outermost first.
    pub const ALL: [Self; 8] = [
        Self::Fallback,
        Self::Timeout,
        Self::Retry,
        Self::Budget,
        Self::Breaker,
        Self::Backoff,
        Self::Limiter,
        Self::Bulkhead,
    ];

    /// The name in documents and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fallback => "fallback",
            Self::Timeout => "timeout",
            Self::Retry => "retry",
            Self::Budget => "budget",
            Self::Breaker => "breaker",
            Self::Backoff => "backoff",
            Self::Limiter => "limiter",
            Self::Bulkhead => "bulkhead",
        }
    }

    pub(super) const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
