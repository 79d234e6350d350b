//! [`Live`]: a policy in use, as the keeper sees it.

use std::sync::Arc;

use super::{
    LIMITER_KEPT_BYTES, WINDOW_KEPT_CALLS,
    record::{SavedBreaker, SavedBudget, SavedLimiter, SavedPolicy},
};
use crate::{
    ids::Timestamp,
    resilience::{
        breaker::Breaker,
        budget::{RetryBudget, RetryBudgetOptions},
        limiter::Limiter,
    },
    store::encode,
};

/// A policy in use.
#[derive(Clone, Debug)]
pub(super) enum Live {
    Breaker(Breaker),
    Limiter(Arc<Limiter>),
    RetryBudget { budget: Arc<RetryBudget>, options: RetryBudgetOptions },
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
        }
    }
}

fn saved_limiter(limiter: &Limiter, now: Timestamp) -> SavedLimiter {
    let snapshot = limiter.snapshot(now);
    // What cannot be encoded is not kept, like what is too large.
    let fits = encode(&snapshot).is_ok_and(|bytes| bytes.len() <= LIMITER_KEPT_BYTES);
    SavedLimiter {
        snapshot: fits.then_some(snapshot),
        strategy: limiter.options().strategy,
        stats: limiter.stats(),
    }
}
