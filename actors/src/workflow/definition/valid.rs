//! The definition the engine relies on: closed, acyclic, within limits.

use super::{CrashLoopPolicy, Definition, DefinitionFaults, DefinitionHash, FailurePolicy, validate};
use crate::discovery::Requirement;
use crate::resilience::retry::RetryPolicy;
use crate::workflow::condition::Condition;
use crate::workflow::graph::Graph;
use crate::workflow::template::Template;
use std::collections::HashMap;
use std::time::Duration;

/// Bounds a definition must keep.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DefinitionLimits {
    /// Most steps; default 100 000.
    pub steps_max: usize,
    /// Most needs over all steps; default 1 000 000.
    pub needs_max: usize,
    /// Most edges walked while checking that references lead back; default 20 000 000.
    pub reference_walk_max: usize,
}

impl Default for DefinitionLimits {
    fn default() -> Self {
        Self { steps_max: 100_000, needs_max: 1_000_000, reference_walk_max: 20_000_000 }
    }
}

/// A definition without faults; steps are known by dense numbers in document order.
#[derive(Debug)]
pub struct ValidDefinition {
    pub(super) source: Definition,
    pub(super) hash: DefinitionHash,
    pub(super) graph: Graph,
    pub(super) steps: Vec<ValidStep>,
    pub(super) output: Option<Template>,
    pub(super) numbers: HashMap<Box<str>, u32>,
    pub(super) readers: Vec<u32>,
    pub(super) pinned: Vec<bool>,
}

/// A step of a [`ValidDefinition`].
#[derive(Debug)]
pub struct ValidStep {
    /// Id as written.
    pub id: Box<str>,
    /// Name of the activity.
    pub activity: Box<str>,
    /// What the node that runs the step has to have beside the activity.
    pub requires: Box<[Requirement]>,
    /// Template of the input.
    pub input: Template,
    /// Condition, if any.
    pub when: Option<Condition>,
    /// Completed needs that let the step start; `None`: all needs, see [`super::Join::All`].
    pub quorum: Option<u32>,
    /// What happens after a failed attempt.
    pub retry: RetryPolicy,
    /// Longest time of one attempt.
    pub attempt_timeout: Option<Duration>,
    /// Longest time over all attempts and waits, in microseconds.
    pub total_timeout_us: Option<i64>,
    /// What undoes the step.
    pub compensation: Option<ValidCompensation>,
    /// What a failure for good does to the run.
    pub on_failure: FailurePolicy,
    /// Steps whose output the input or the condition may use; ascending.
    pub references: Box<[u32]>,
}

/// What undoes a step of a [`ValidDefinition`].
#[derive(Debug)]
pub struct ValidCompensation {
    /// Name of the activity.
    pub activity: Box<str>,
    /// Template of the input.
    pub input: Template,
    /// What happens after a failed attempt.
    pub retry: RetryPolicy,
    /// Longest time of one attempt.
    pub attempt_timeout: Option<Duration>,
}

/// Why a stored definition cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredDefinitionError {
    /// Not the encoding of a definition.
    #[error("not a stored definition")]
    Decode(#[from] rmp_serde::decode::Error),
    /// Faults, such as conditions in a build without them.
    #[error("the stored definition has faults: {0}")]
    Faults(#[from] DefinitionFaults),
}

impl Definition {
    /// Checks the definition within the default limits.
    ///
    /// # Errors
    /// Every fault found, in document order; the caller should correct the document.
    pub fn validate(self) -> Result<ValidDefinition, DefinitionFaults> {
        self.validate_within(&DefinitionLimits::default())
    }

    /// Checks the definition within given limits.
    ///
    /// # Errors
    /// Every fault found, in document order; the caller should correct the document.
    pub fn validate_within(self, limits: &DefinitionLimits) -> Result<ValidDefinition, DefinitionFaults> {
        validate::validate(self, limits)
    }
}

impl ValidDefinition {
    /// Name of the workflow.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.source.name
    }

    /// The definition as written; this is what is stored.
    #[must_use]
    pub fn source(&self) -> &Definition {
        &self.source
    }

    /// Content hash; equal for definitions that mean the same.
    #[must_use]
    pub fn hash(&self) -> DefinitionHash {
        self.hash
    }

    /// The definition as stored: named MessagePack. Large definitions exceed the limit of one row.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain data in memory always serialises.
        rmp_serde::to_vec_named(&self.source).unwrap_or_default()
    }

    /// Reads a stored definition back.
    ///
    /// # Errors
    /// [`StoredDefinitionError`]: the bytes are damaged, or were stored with other features or limits.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoredDefinitionError> {
        let source: Definition = rmp_serde::from_slice(bytes)?;
        Ok(source.validate()?)
    }

    /// Number of steps.
    #[must_use]
    pub fn step_count(&self) -> u32 {
        self.graph.len()
    }

    /// The graph of the steps.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// A step by its number.
    #[must_use]
    pub fn step(&self, number: u32) -> Option<&ValidStep> {
        self.steps.get(number as usize)
    }

    /// All steps in document order.
    #[must_use]
    pub fn steps(&self) -> &[ValidStep] {
        &self.steps
    }

    /// Id of a step; empty for a number out of range.
    #[must_use]
    pub fn step_id(&self, number: u32) -> &str {
        self.step(number).map_or("", |step| &step.id)
    }

    /// Number of the step with this id.
    #[must_use]
    pub fn step_number(&self, id: &str) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// Template of the run's output.
    #[must_use]
    pub fn output(&self) -> Option<&Template> {
        self.output.as_ref()
    }

    /// Cap on attempts running at once, if the definition sets one.
    #[must_use]
    pub fn workers(&self) -> Option<u32> {
        self.source.workers
    }

    /// What a failure of the run itself, such as its timeout, does.
    #[must_use]
    pub fn on_failure(&self) -> FailurePolicy {
        self.source.on_failure
    }

    /// Whether a cancelled run undoes its completed steps.
    #[must_use]
    pub fn compensates_on_cancel(&self) -> bool {
        self.source.compensate_on_cancel
    }

    /// Longest time of the run, in microseconds.
    #[must_use]
    pub fn total_timeout_us(&self) -> Option<i64> {
        self.source.total_timeout_ms.map(super::validate::micros)
    }

    /// When a crashing run is parked.
    #[must_use]
    pub fn crash_loop(&self) -> CrashLoopPolicy {
        self.source.crash_loop
    }

    /// Number of steps that may still use the output of this one before they start.
    pub(crate) fn readers(&self, step: u32) -> u32 {
        self.readers.get(step as usize).copied().unwrap_or(0)
    }

    /// Whether the output is used by a compensation or by the run's output and stays until the end.
    pub(crate) fn is_pinned(&self, step: u32) -> bool {
        self.pinned.get(step as usize).copied().unwrap_or(false)
    }
}
