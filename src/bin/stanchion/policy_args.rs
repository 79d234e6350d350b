//! The words of the commands for breakers and limiters.

use clap::Subcommand;
use stanchion::{control::Request, policies::BreakerOrder};

#[derive(Debug, Subcommand)]
pub(crate) enum BreakerCommand {
    /// List circuit breakers
    Ls,
    /// Refuse every call until it is closed or reset
    Open {
        /// Name of the breaker
        breaker: String,
    },
    /// Let calls run again
    Close {
        /// Name of the breaker
        breaker: String,
    },
    /// Let calls run again, and count from zero
    Reset {
        /// Name of the breaker
        breaker: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LimiterCommand {
    /// List rate limiters
    Ls,
}

impl BreakerCommand {
    pub(crate) fn into_request(self) -> Request {
        let tell = |breaker, order| Request::BreakerTell { breaker, order };
        match self {
            Self::Ls => Request::BreakerList,
            Self::Open { breaker } => tell(breaker, BreakerOrder::Open),
            Self::Close { breaker } => tell(breaker, BreakerOrder::Close),
            Self::Reset { breaker } => tell(breaker, BreakerOrder::Reset),
        }
    }
}

impl LimiterCommand {
    pub(crate) fn into_request(self) -> Request {
        match self {
            Self::Ls => Request::LimiterList,
        }
    }
}
