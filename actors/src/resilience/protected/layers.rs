//! [`Layers`]: the layers in force. Other options change each of them in place.

use std::{sync::Arc, time::Duration};

use super::{
    Layer, LayerChange, LayerTransition, Protected, ProtectedOptions, ProtectedOptionsError, log::LayerLog,
};
use crate::{
    ids::Timestamp,
    resilience::{
        breaker::Breaker, budget::RetryBudget, bulkhead::Bulkhead, limiter::Limiter, retry::RetryPolicy,
        timeout::TimeoutOptions,
    },
};

/// What calls that begin run through; calls that run keep what they began with.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    pub(super) options: ProtectedOptions,
    pub(super) fallback: Option<Protected>,
    pub(super) timeout: TimeoutOptions,
    pub(super) retry: Arc<RetryPolicy>,
    pub(super) budget: Option<Arc<RetryBudget>>,
    pub(super) breaker: Option<Breaker>,
    pub(super) limiter: Option<Arc<Limiter>>,
    pub(super) limiter_wait: Duration,
    pub(super) bulkhead: Option<Bulkhead>,
}

/// Whose layers, since when, and where that is written down.
pub(super) struct Change<'a> {
    pub(super) service: &'a Arc<str>,
    pub(super) at: Timestamp,
    pub(super) log: &'a LayerLog,
}

impl Layers {
    /// The layers under other options, which are valid: what a layer that stays knows, it keeps.
    pub(super) fn under(
        &self,
        options: ProtectedOptions,
        fallback: Option<Protected>,
        change: &Change<'_>,
    ) -> Result<Self, ProtectedOptionsError> {
        options.validate(change.service)?;
        self.note(&options, change);
        let layers = self.rebuilt(&options, change).ok_or_else(|| ProtectedOptionsError {
            service: change.service.to_string(),
            faults: options.faults(),
        })?;
        let retry = options.retry.clone().unwrap_or_else(RetryPolicy::once);
        Ok(Self {
            fallback,
            timeout: options.timeout.clone().unwrap_or_default(),
            retry: Arc::new(retry),
            limiter_wait: Duration::from_millis(options.limiter_wait_ms.unwrap_or(0)),
            options,
            ..layers
        })
    }

    /// The layers that have a state. `None`: an option that was found valid is refused.
    fn rebuilt(&self, options: &ProtectedOptions, change: &Change<'_>) -> Option<Self> {
        let name = change.service;
        let budget = kept(&self.budget, &options.budget, |budget, options| match budget {
            Some(budget) => budget.reconfigure(options).ok().map(|()| Arc::clone(budget)),
            None => RetryBudget::new(options.clone()).ok().map(Arc::new),
        })?;
        let breaker = kept(&self.breaker, &options.breaker, |breaker, options| match breaker {
            Some(breaker) => breaker.reconfigure(options.clone()).ok().map(|()| breaker.clone()),
            None => Breaker::new(Arc::clone(name), options.clone()).ok(),
        })?;
        let limiter = kept(&self.limiter, &options.limiter, |limiter, options| match limiter {
            Some(limiter) => {
                limiter.reconfigure(options.clone(), change.at).ok().map(|()| Arc::clone(limiter))
            }
            None => Limiter::new(Arc::clone(name), options.clone()).ok().map(Arc::new),
        })?;
        let bulkhead = kept(&self.bulkhead, &options.bulkhead, |bulkhead, options| match bulkhead {
            Some(bulkhead) => bulkhead.reconfigure(options.clone()).ok().map(|()| bulkhead.clone()),
            None => Bulkhead::new(Arc::clone(name), options.clone()).ok(),
        })?;
        Some(Self { budget, breaker, limiter, bulkhead, ..Self::default() })
    }

    fn note(&self, options: &ProtectedOptions, change: &Change<'_>) {
        let before = &self.options;
        let layers = [
            (Layer::Fallback, differs(&before.fallback, &options.fallback)),
            (Layer::Timeout, differs(&before.timeout, &options.timeout)),
            (Layer::Retry, differs(&before.retry, &options.retry)),
            (Layer::Budget, differs(&before.budget, &options.budget)),
            (Layer::Breaker, differs(&before.breaker, &options.breaker)),
            (Layer::Limiter, differs(&before.limiter, &options.limiter)),
            (Layer::Bulkhead, differs(&before.bulkhead, &options.bulkhead)),
        ];
        for (layer, what) in layers {
            if let Some(what) = what {
                change.log.push(LayerTransition { layer, change: what, at: change.at });
            }
        }
    }
}

/// A layer that stays, comes or goes. `None`: its options are refused.
fn kept<L, O>(
    present: &Option<L>,
    options: &Option<O>,
    set: impl FnOnce(Option<&L>, &O) -> Option<L>,
) -> Option<Option<L>> {
    match options {
        Some(options) => set(present.as_ref(), options).map(Some),
        None => Some(None),
    }
}

fn differs<O: PartialEq>(before: &Option<O>, after: &Option<O>) -> Option<LayerChange> {
    match (before, after) {
        (None, Some(_)) => Some(LayerChange::Added),
        (Some(_), None) => Some(LayerChange::Removed),
        (Some(before), Some(after)) if before != after => Some(LayerChange::Reconfigured),
        (None, None) | (Some(_), Some(_)) => None,
    }
}
