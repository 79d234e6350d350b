//! What is stored of a policy: its state as it was saved last.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    agent::{Agent, Ctx, History},
    error::{Coded, Family},
    ids::Timestamp,
    resilience::{
        breaker::{BreakerSnapshot, BreakerState, BreakerStats, SavedState},
        budget::{BudgetSnapshot, BudgetStats},
        limiter::{LimitStrategy, LimiterSnapshot, LimiterStats},
        protected::ProtectedSnapshot,
    },
};

/// Which policy: what it is, and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyName {
    /// A breaker.
    Breaker(String),
    /// A limiter.
    Limiter(String),
    /// A retry budget.
    RetryBudget(String),
    /// A service outside, with all of its layers.
    Service(String),
}

impl PolicyName {
    /// The policy whose stored form has this key.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        let (what, name) = key.split_once('/')?;
        match what {
            "breaker" => Some(Self::Breaker(name.to_owned())),
            "limiter" => Some(Self::Limiter(name.to_owned())),
            "service" => Some(Self::Service(name.to_owned())),
            "retry_budget" => Some(Self::RetryBudget(name.to_owned())),
            _ => None,
        }
    }

    /// Its own name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Breaker(name) | Self::Limiter(name) | Self::RetryBudget(name) | Self::Service(name) => name,
        }
    }

    fn what(&self) -> &'static str {
        match self {
            Self::Breaker(_) => "breaker",
            Self::Limiter(_) => "limiter",
            Self::RetryBudget(_) => "retry_budget",
            Self::Service(_) => "service",
        }
    }
}

/// The key of its stored form, such as `breaker/payments`.
impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.what(), self.name())
    }
}

/// A breaker as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedBreaker {
    /// What is restored.
    #[serde(rename = "s")]
    pub snapshot: BreakerSnapshot,
    /// What it showed; counts are of the life that saved it, and the next one counts from zero.
    #[serde(rename = "c")]
    pub stats: BreakerStats,
}

/// A limiter as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedLimiter {
    /// What is restored; `None`: it was larger than [`LIMITER_KEPT_BYTES`](super::LIMITER_KEPT_BYTES), and the
    /// limiter begins as one whose state cannot be read.
    #[serde(rename = "s")]
    pub snapshot: Option<LimiterSnapshot>,
    /// How it counts.
    #[serde(rename = "l")]
    pub strategy: LimitStrategy,
    /// What it showed; counts are of the life that saved it.
    #[serde(rename = "c")]
    pub stats: LimiterStats,
}

/// A retry budget as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBudget {
    /// What is restored.
    #[serde(rename = "s")]
    pub snapshot: BudgetSnapshot,
    /// What it showed; counts are of the life that saved it.
    #[serde(rename = "c")]
    pub stats: BudgetStats,
}

/// A policy as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SavedPolicy {
    /// A breaker.
    Breaker(Box<SavedBreaker>),
    /// A limiter.
    Limiter(Box<SavedLimiter>),
    /// A retry budget.
    RetryBudget(SavedBudget),
    /// A service outside.
    Service(Box<ProtectedSnapshot>),
}

/// What a breaker is told by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerOrder {
    /// Refuse every call until it is closed or reset.
    Open,
    /// Let calls run again.
    Close,
    /// Let calls run again, and count from zero.
    Reset,
}

/// What is said to what is stored of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyCommand {
    /// It is like this.
    Save(SavedPolicy),
    /// The next life begins as told. For breakers that no process uses at the moment.
    Order(BreakerOrder),
}

/// Why what is stored of a policy is not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyRejection {
    /// Nothing was stored of it.
    #[error("nothing is stored of policy {0:?}: register it where the program starts")]
    Unknown(String),
    /// It is no breaker.
    #[error("policy {0:?} is no breaker")]
    NotABreaker(String),
}

impl Coded for PolicyRejection {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "policy.unknown",
            Self::NotABreaker(_) => "policy.not_a_breaker",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// What is stored of a policy, under its [`PolicyName`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyState {
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    saved: Option<SavedPolicy>,
    #[serde(rename = "t")]
    at: Timestamp,
}

impl PolicyState {
    /// As it was saved last; `None`: never.
    #[must_use]
    pub fn saved(&self) -> Option<&SavedPolicy> {
        self.saved.as_ref()
    }

    /// When that was.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

impl Agent for PolicyState {
    const KIND: &'static str = "policy";
    const HISTORY: History = History::None;
    type Command = PolicyCommand;
    type Reply = ();
    type Rejection = PolicyRejection;

    fn handle(&mut self, command: PolicyCommand, ctx: &mut Ctx<'_>) -> Result<(), PolicyRejection> {
        match command {
            PolicyCommand::Save(policy) => self.saved = Some(policy),
            PolicyCommand::Order(order) => match &mut self.saved {
                Some(SavedPolicy::Breaker(breaker)) => breaker.obey(order),
                Some(SavedPolicy::Limiter(_) | SavedPolicy::RetryBudget(_) | SavedPolicy::Service(_)) => {
                    return Err(PolicyRejection::NotABreaker(ctx.key().to_owned()));
                }
                None => return Err(PolicyRejection::Unknown(ctx.key().to_owned())),
            },
        }
        self.at = ctx.now();
        Ok(())
    }
}

impl SavedBreaker {
    fn obey(&mut self, order: BreakerOrder) {
        let state = match order {
            BreakerOrder::Open => SavedState::ForcedOpen,
            BreakerOrder::Close | BreakerOrder::Reset => SavedState::Closed,
        };
        let shown = state.shown();
        self.snapshot = BreakerSnapshot::begin(state);
        self.stats = match order {
            BreakerOrder::Open | BreakerOrder::Close => BreakerStats { state: shown, ..self.stats },
            BreakerOrder::Reset => BreakerStats::begin(shown),
        };
    }

    /// How it is, or would be were it restored.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.stats.state
    }
}
