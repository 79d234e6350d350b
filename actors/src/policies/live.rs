//! [`Live`]: a policy in use, as the keeper sees it.

use std::sync::Arc;

use super::{
    LIMITER_KEPT_BYTES, WINDOW_KEPT_CALLS,
    record::{SavedBreaker, SavedBudget, SavedLimiter, SavedPolicy},
};
use crate::{
    ids::Timestamp,
    resilience::{
        breaker::{Breaker, Cause, Transition},
        budget::{RetryBudget, RetryBudgetOptions},
        limiter::{Limiter, LimiterSnapshot},
        protected::Protected,
    },
    store::encode,
};

/// A policy in use.
#[derive(Clone, Debug)]
pub(super) enum Live {
    Breaker(Breaker),
    Limiter(Arc<Limiter>),
    RetryBudget { budget: Arc<RetryBudget>, options: RetryBudgetOptions },
    Service(Protected),
}

/// Where a policy stands: it differs when there is something new to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Differs when the state changed: stored at once.
    pub(super) state: u64,
    /// Differs when something was counted: stored within a second.
    pub(super) counted: u64,
}

impl Live {
    pub(super) fn mark(&self, now: Timestamp) -> Mark {
        match self {
            Self::Breaker(breaker) => {
                let (state, counted) = breaker.mark();
                Mark { state, counted }
            }
            Self::Limiter(limiter) => {
                let stats = limiter.stats();
                Mark { state: 0, counted: stats.allowed_total.wrapping_add(stats.denied_total) }
            }
            Self::RetryBudget { budget, .. } => {
                let stats = budget.stats(now);
                Mark { state: 0, counted: stats.deposits + stats.withdrawals + stats.denied }
            }
            Self::Service(service) => {
                let (state, counted) = service.mark(now);
                Mark { state, counted }
            }
        }
    }

    /// Number of a breaker's state; 0 for what has none.
    pub(super) fn epoch(&self) -> u64 {
        self.breaker().map_or(0, |breaker| breaker.mark().0)
    }

    /// Whether it is a breaker that was closed or disabled by hand after the state of this number.
    pub(super) fn was_closed_by_hand(&self, after: u64) -> bool {
        let Some(breaker) = self.breaker() else { return false };
        let by_hand = |change: &Transition| {
            change.epoch > after && matches!(change.cause, Cause::Reset | Cause::Disabled)
        };
        breaker.transitions().iter().any(by_hand)
    }

    /// The breaker that it is, or has.
    fn breaker(&self) -> Option<Breaker> {
        match self {
            Self::Breaker(breaker) => Some(breaker.clone()),
            Self::Service(service) => service.breaker(),
            Self::Limiter(_) | Self::RetryBudget { .. } => None,
        }
    }

    pub(super) fn saved(&self, now: Timestamp) -> SavedPolicy {
        match self {
            Self::Breaker(breaker) => {
                let snapshot = breaker.snapshot(now).with_newest(WINDOW_KEPT_CALLS);
                SavedPolicy::Breaker(Box::new(SavedBreaker { snapshot, stats: breaker.stats(now) }))
            }
            Self::Limiter(limiter) => SavedPolicy::Limiter(Box::new(saved_limiter(limiter, now))),
            Self::RetryBudget { budget, .. } => SavedPolicy::RetryBudget(SavedBudget {
                snapshot: budget.snapshot(),
                stats: budget.stats(now),
            }),
            Self::Service(service) => {
                SavedPolicy::Service(Box::new(service.snapshot(now).within(WINDOW_KEPT_CALLS, fits)))
            }
        }
    }
}

fn saved_limiter(limiter: &Limiter, now: Timestamp) -> SavedLimiter {
    let snapshot = limiter.snapshot(now);
    SavedLimiter {
        snapshot: Some(snapshot).filter(fits),
        strategy: limiter.options().strategy,
        stats: limiter.stats(),
    }
}

/// What cannot be encoded is not kept, like what is too large.
fn fits(snapshot: &LimiterSnapshot) -> bool {
    encode(snapshot).is_ok_and(|bytes| bytes.len() <= LIMITER_KEPT_BYTES)
}
