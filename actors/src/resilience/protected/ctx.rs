//! What a call brings along, what an attempt is told, what a caller gets.

use std::sync::Arc;

use tokio::time::Instant;

use crate::resilience::fallback::Provenance;

/// What a call brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtectedCtx<'a> {
    /// Who calls: the first part of the limiter's key. Empty: one for all.
    pub agent: &'a str,
    /// What is called: the second part of it. Empty: one for all.
    pub operation: &'a str,
    /// Nothing runs or waits after it.
    pub deadline: Option<Instant>,
    /// Weight in the bulkhead; default 1. `0`: a place only.
    pub weight: u64,
    /// What an attempt costs in the limiter; default 1.
    pub cost: u32,
    /// Whether another attempt is harmless after one that may have been applied; default true. Otherwise none
    /// follows an attempt that ran.
    pub idempotent: bool,
}

impl Default for ProtectedCtx<'_> {
    fn default() -> Self {
        Self { agent: "", operation: "", deadline: None, weight: 1, cost: 1, idempotent: true }
    }
}

impl<'a> ProtectedCtx<'a> {
    /// A call of `operation` by `agent`.
    #[must_use]
    pub fn new(agent: &'a str, operation: &'a str) -> Self {
        Self { agent, operation, ..Self::default() }
    }

    /// Nothing runs or waits after `deadline`.
    #[must_use]
    pub fn deadline(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Weighs so much in the bulkhead.
    #[must_use]
    pub fn weight(self, weight: u64) -> Self {
        Self { weight, ..self }
    }

    /// Costs so much in the limiter.
    #[must_use]
    pub fn cost(self, cost: u32) -> Self {
        Self { cost, ..self }
    }

    /// No attempt follows one that ran.
    #[must_use]
    pub fn not_idempotent(self) -> Self {
        Self { idempotent: false, ..self }
    }
}

/// What an attempt is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The service whose layers it is in: another one when it stands in by a fallback.
    pub service: Arc<str>,
    /// Its number, from 1.
    pub number: u32,
    /// When it is dropped; `None` without a limit.
    pub deadline: Option<Instant>,
}

/// A value, where it comes from, and what it took.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtectedValue<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub provenance: Provenance,
    /// Attempts that ran, those of every service asked together.
    pub attempts: u32,
}
