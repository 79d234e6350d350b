//! [`ProtectedOptions`]: which layers a service has, and how they are set.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::Layer;
use crate::{
    error::{Coded, Family},
    resilience::{
        breaker::BreakerOptions, budget::RetryBudgetOptions, bulkhead::BulkheadOptions,
        limiter::LimiterOptions, retry::RetryPolicy, timeout::TimeoutOptions,
    },
};

/// Longest wait for a rate limiter: a day.
const MAX_WAIT_MS: u64 = 86_400_000;
/// Most codes that a breaker ignores.
const MAX_IGNORED: usize = 1_000;

/// The layers of a service; one that is absent is not there. A panic of the call is caught and a `Retry-After` is
/// kept in any case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProtectedOptions {
    /// Which service answers when this one does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackRoute>,
    /// How long the call and each attempt may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<TimeoutOptions>,
    /// Further attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// What further attempts may cost; needs `retry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<RetryBudgetOptions>,
    /// When calls are stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerOptions>,
    /// Codes of failures that say nothing about the other side; needs `breaker`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ignored_codes: BTreeSet<String>,
    /// How many calls in a time, for each agent and operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limiter: Option<LimiterOptions>,
    /// Longest wait for the limiter, in milliseconds; needs `limiter`. Default 0: refused at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limiter_wait_ms: Option<u64>,
    /// How many calls at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bulkhead: Option<BulkheadOptions>,
}

/// The service that answers in place of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FallbackRoute {
    /// Its name.
    pub service: String,
}

/// One fault of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionsFault {
    /// The layer.
    pub layer: Layer,
    /// The field within the layer, as a path with dots.
    pub field: String,
    /// What it is.
    pub given: String,
    /// What it may be.
    pub allowed: String,
}

impl fmt::Display for OptionsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} is {}: {}", self.layer, self.field, self.given, self.allowed)
    }
}

/// Options that cannot be used. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("options of {service:?}: {}", joined(.faults))]
#[non_exhaustive]
pub struct ProtectedOptionsError {
    /// The service.
    pub service: String,
    /// Every layer that is at fault, outermost first; at least one.
    pub faults: Vec<OptionsFault>,
}

fn joined(faults: &[OptionsFault]) -> String {
    faults.iter().map(OptionsFault::to_string).collect::<Vec<_>>().join("; ")
}

impl Coded for ProtectedOptionsError {
    fn code(&self) -> &'static str {
        "protected.options"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

fn fault(layer: Layer, field: &str, given: impl ToString, allowed: impl Into<String>) -> OptionsFault {
    OptionsFault { layer, field: field.to_owned(), given: given.to_string(), allowed: allowed.into() }
}

impl ProtectedOptions {
    /// Every fault, the outermost layer first; none when the options are valid.
    #[must_use]
    pub fn faults(&self) -> Vec<OptionsFault> {
        let mut faults = Vec::new();
        if let Some(route) = self.fallback.as_ref().filter(|route| route.service.is_empty()) {
            faults.push(fault(Layer::Fallback, "service", format!("{:?}", route.service), "name a service"));
        }
        if let Some(Err(error)) = self.timeout.as_ref().map(|timeout| timeout.validate()) {
            faults.push(fault(Layer::Timeout, &error.field, error.given, error.allowed));
        }
        for error in self.retry.iter().flat_map(RetryPolicy::faults) {
            faults.push(fault(Layer::Retry, error.field, error.given, error.hint));
        }
        if let Some(Err(error)) = self.budget.as_ref().map(RetryBudgetOptions::validate) {
            faults.push(fault(Layer::Budget, error.field, error.given, error.allowed));
        }
        if let Some(Err(error)) = self.breaker.as_ref().map(BreakerOptions::validate) {
            faults.push(fault(Layer::Breaker, &error.field, error.given, error.allowed));
        }
        if let Some(Err(error)) = self.limiter.as_ref().map(LimiterOptions::validate) {
            faults.push(fault(Layer::Limiter, error.field, error.given, error.hint));
        }
        if let Some(Err(error)) = self.bulkhead.as_ref().map(BulkheadOptions::validate) {
            faults.push(fault(Layer::Bulkhead, &error.field, error.given, error.allowed));
        }
        self.add_loose_ends(&mut faults);
        faults.sort_by_key(|fault| fault.layer);
        faults
    }

    /// Options of layers that are not there, and those beside the layers.
    fn add_loose_ends(&self, faults: &mut Vec<OptionsFault>) {
        if self.budget.is_some() && self.retry.is_none() {
            faults.push(fault(
                Layer::Budget,
                "retry",
                "absent",
                "a budget is one of retries: configure retry",
            ));
        }
        if !self.ignored_codes.is_empty() && self.breaker.is_none() {
            let given = self.ignored_codes.len();
            faults.push(fault(Layer::Breaker, "ignored_codes", given, "configure breaker, or leave it out"));
        }
        if self.ignored_codes.len() > MAX_IGNORED {
            let given = self.ignored_codes.len();
            faults.push(fault(
                Layer::Breaker,
                "ignored_codes",
                given,
                format!("at most {MAX_IGNORED} codes"),
            ));
        }
        let Some(wait) = self.limiter_wait_ms else { return };
        if self.limiter.is_none() {
            faults.push(fault(Layer::Limiter, "limiter_wait_ms", wait, "configure limiter, or leave it out"));
        }
        if wait > MAX_WAIT_MS {
            faults.push(fault(Layer::Limiter, "limiter_wait_ms", wait, format!("0..={MAX_WAIT_MS}")));
        }
    }

    /// Checks every layer.
    ///
    /// # Errors
    /// [`ProtectedOptionsError`] with every fault.
    pub fn validate(&self, service: &str) -> Result<(), ProtectedOptionsError> {
        let faults = self.faults();
        if faults.is_empty() {
            return Ok(());
        }
        Err(ProtectedOptionsError { service: service.to_owned(), faults })
    }
}
