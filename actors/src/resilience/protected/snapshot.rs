//! [`ProtectedSnapshot`]: what of a service outlives its process.

use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Protected, layers::Layers};
use crate::{
    ids::Timestamp,
    resilience::{
        breaker::BreakerSnapshot,
        budget::{BudgetSnapshot, RetryBudget},
        limiter::{BackoffSnapshot, Limiter, LimiterSnapshot},
    },
};

/// What of a service outlives its process: what its breaker, its limiter and its budget know, and for how long the other
/// side asked to be left alone.
///
/// Options are not in it, they come from code or a document at each start; nor are calls inside of a bulkhead, which end
/// with the process, last good values, which may be secrets, and counts of calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProtectedSnapshot {
    /// Of the breaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerSnapshot>,
    /// Of the limiter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limiter: Option<LimiterSnapshot>,
    /// The limiter's was too large to keep: it begins as its `on_error` says for a state that cannot be read.
    pub limiter_is_lost: bool,
    /// Of the budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSnapshot>,
    /// What `Retry-After` of the last answers said.
    pub backoff: BackoffSnapshot,
}

impl ProtectedSnapshot {
    /// Keeps of a breaker's window of calls only the newest `calls`, and the limiter's state only if `keeps` says so.
    #[must_use]
    pub fn within(mut self, calls: usize, keeps: impl FnOnce(&LimiterSnapshot) -> bool) -> Self {
        self.breaker = self.breaker.map(|breaker| breaker.with_newest(calls));
        let limiter = self.limiter.take();
        self.limiter_is_lost = limiter.as_ref().is_some_and(|limiter| !keeps(limiter));
        self.limiter = limiter.filter(|_| !self.limiter_is_lost);
        self
    }
}

impl Protected {
    /// What of it outlives the process.
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> ProtectedSnapshot {
        let layers = self.layers();
        ProtectedSnapshot {
            breaker: layers.breaker.as_ref().map(|breaker| breaker.snapshot(now)),
            limiter: layers.limiter.as_ref().map(|limiter| limiter.snapshot(now)),
            limiter_is_lost: false,
            budget: layers.budget.as_ref().map(|budget| budget.snapshot()),
            backoff: self.0.backoff.snapshot(now),
        }
    }

    /// Takes the state of an earlier life, layer by layer, under the present options; what has no layer is left out.
    /// To be called before it is used: calls that run have the layers they began with.
    pub fn restore(&self, snapshot: &ProtectedSnapshot, now: Timestamp) {
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut layers = Layers::clone(&self.layers());
        if let (Some(breaker), Some(saved)) = (&layers.breaker, &snapshot.breaker) {
            breaker.restore(saved, now);
        }
        if let Some(options) = &layers.options.limiter {
            let name = Arc::clone(&self.0.name);
            // The options are valid: they are in force.
            let restored = match &snapshot.limiter {
                Some(saved) => Limiter::restore(name, options.clone(), saved, now).ok(),
                None if snapshot.limiter_is_lost => {
                    Limiter::restore_unreadable(name, options.clone(), now).ok()
                }
                None => None,
            };
            layers.limiter = restored.map(Arc::new).or(layers.limiter);
        }
        if let (Some(options), Some(saved)) = (&layers.options.budget, &snapshot.budget) {
            let restored = RetryBudget::restore(options.clone(), saved).ok();
            layers.budget = restored.map(Arc::new).or(layers.budget);
        }
        *self.0.layers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(layers);
        self.0.backoff.take_in(&snapshot.backoff, now);
    }

    /// Number of the breaker's state, and what changes with each call or `Retry-After`.
    pub(crate) fn mark(&self, now: Timestamp) -> (u64, u64) {
        let layers = self.layers();
        let (state, mut counted) = layers.breaker.as_ref().map_or((0, 0), |breaker| breaker.mark());
        let limiter = layers.limiter.as_ref().map(|limiter| limiter.stats());
        let budget = layers.budget.as_ref().map(|budget| budget.stats(now));
        let limiter = limiter.map_or(0, |stats| stats.allowed_total.wrapping_add(stats.denied_total));
        let budget = budget.map_or(0, |stats| stats.deposits + stats.withdrawals + stats.denied);
        for more in [limiter, budget, self.0.backoff.latest()] {
            counted = counted.wrapping_add(more);
        }
        (state, counted)
    }
}
