//! Why nothing was chosen, and what is refused.

use std::fmt;

use super::InstanceId;
use crate::error::{Coded, Family};

/// Candidates that a message spells out.
const SHOWN: usize = 5;

/// Why a candidate gets nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsuitable {
    /// It reports that it is not well.
    #[error("unhealthy")]
    Unhealthy,
    /// It missed heartbeats.
    #[error("suspect")]
    Suspect,
    /// It finishes what it has.
    #[error("draining")]
    Draining,
    /// Its circuit breaker is open.
    #[error("behind an open circuit breaker")]
    BreakerOpen,
    /// It has as much work as it takes.
    #[error("full, {in_flight} of {limit} in flight")]
    Full {
        /// What it has.
        in_flight: u32,
        /// What it takes.
        limit: u32,
    },
}

/// No candidate may be chosen; of each it says why. Without candidates the list is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoSuitableInstance {
    /// Every candidate with its reason, in the order given.
    pub why: Vec<(InstanceId, Unsuitable)>,
}

impl fmt::Display for NoSuitableInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.why.is_empty() {
            return f.write_str("no suitable instance: there is none at all");
        }
        f.write_str("no suitable instance:")?;
        for (number, (id, reason)) in self.why.iter().take(SHOWN).enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma} {id:?} is {reason}", id = id.as_str())?;
        }
        match self.why.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

impl std::error::Error for NoSuitableInstance {}

impl Coded for NoSuitableInstance {
    fn code(&self) -> &'static str {
        "balance.no_suitable_instance"
    }
    fn family(&self) -> Family {
        Family::Unavailable
    }
}

/// Why a balancer did not choose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChooseError {
    /// Nobody takes work at present: ask again later, or start instances.
    #[error(transparent)]
    NoSuitableInstance(#[from] NoSuitableInstance),
    /// The strategy goes by a key and the request has none.
    #[error("strategy {strategy} goes by a key: give the request one")]
    KeyMissing {
        /// The strategy.
        strategy: &'static str,
    },
}

impl Coded for ChooseError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuitableInstance(error) => error.code(),
            Self::KeyMissing { .. } => "balance.key_missing",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::NoSuitableInstance(error) => error.family(),
            Self::KeyMissing { .. } => Family::Rejected,
        }
    }
}

/// A weight is zero, negative, too large or no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("weight is {given}: give a number above 0, at most 1000000")]
#[non_exhaustive]
pub struct WeightError {
    /// What it is.
    pub given: String,
}

impl Coded for WeightError {
    fn code(&self) -> &'static str {
        "balance.weight"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// A field of the options is outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("balance option {field} is {given}: allowed is {allowed}")]
#[non_exhaustive]
pub struct BalanceOptionsError {
    /// The field.
    pub field: &'static str,
    /// What it is.
    pub given: String,
    /// What it may be.
    pub allowed: &'static str,
}

impl Coded for BalanceOptionsError {
    fn code(&self) -> &'static str {
        "balance.options"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}
