//! How to choose, and what a request says about it.

use serde::{Deserialize, Serialize};

/// How a balancer chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Strategy {
    /// One after the other, by id. Weights do not count.
    #[default]
    RoundRobin,
    /// One after the other, each as often as its weight says, evenly mixed (smooth weighted round robin).
    Weighted,
    /// The one with the least work in flight for its weight.
    LeastRequest,
    /// Of two drawn at random the one that costs less: its latency (peak EWMA) times its work in flight, over its
    /// weight.
    PowerOfTwoChoices,
    /// By the request's key: one key, one instance, in every process; when an instance leaves, only its keys move
    /// (weighted rendezvous hashing).
    ConsistentHash,
    /// By the request's key: chosen once as [`Self::PowerOfTwoChoices`] does, then kept until its instance
    /// goes, or takes no work.
    Sticky,
}

impl Strategy {
    /// Its name, as in options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::Weighted => "weighted",
            Self::LeastRequest => "least_request",
            Self::PowerOfTwoChoices => "power_of_two_choices",
            Self::ConsistentHash => "consistent_hash",
            Self::Sticky => "sticky",
        }
    }
}

/// What a piece of work says about where it wants to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// What belongs together: needed by [`Strategy::ConsistentHash`] and [`Strategy::Sticky`], else ignored.
    pub key: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// A request that belongs to `key`.
    #[must_use]
    pub fn of(key: &'a str) -> Self {
        Self { key: Some(key) }
    }
}
