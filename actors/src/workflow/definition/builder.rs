//! The Rust builder: the same definition without a document.

use super::{
    Compensation, CrashLoopPolicy, Definition, DefinitionFaults, FailurePolicy, Join, Step, ValidDefinition,
};
use crate::discovery::Requirement;
use crate::resilience::retry::RetryPolicy;
use serde_json::Value;
use std::time::Duration;

/// Collects the parts of a [`Definition`].
#[derive(Debug, Clone)]
#[must_use]
pub struct DefinitionBuilder {
    definition: Definition,
}

impl Definition {
    /// Starts a definition of this name without steps.
    ///
    /// # Examples
    /// ```
    /// use stanchion_actors::workflow::{Definition, Step};
    /// let order = Definition::builder("order")
    ///     .step(Step::new("charge").activity("noop"))
    ///     .step(Step::new("pack").activity("noop").needs(["charge"]))
    ///     .validate()?;
    /// assert_eq!(order.step_count(), 2);
    /// # Ok::<(), stanchion_actors::workflow::DefinitionFaults>(())
    /// ```
    pub fn builder(name: impl Into<String>) -> DefinitionBuilder {
        DefinitionBuilder {
            definition: Definition {
                name: name.into(),
                description: None,
                workers: None,
                on_failure: FailurePolicy::default(),
                compensate_on_cancel: false,
                total_timeout_ms: None,
                crash_loop: CrashLoopPolicy::default(),
                steps: Vec::new(),
                output: None,
            },
        }
    }
}

impl DefinitionBuilder {
    /// Adds a step.
    pub fn step(mut self, step: Step) -> Self {
        self.definition.steps.push(step);
        self
    }

    /// Adds many steps.
    pub fn steps(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.definition.steps.extend(steps);
        self
    }

    /// Says what the workflow is for.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.definition.description = Some(text.into());
        self
    }

    /// Caps the attempts running at once.
    pub fn workers(mut self, workers: u32) -> Self {
        self.definition.workers = Some(workers);
        self
    }

    /// Sets what a failed step does to the run.
    pub fn on_failure(mut self, policy: FailurePolicy) -> Self {
        self.definition.on_failure = policy;
        self
    }

    /// Makes a cancelled run undo its completed steps.
    pub fn compensate_on_cancel(mut self, yes: bool) -> Self {
        self.definition.compensate_on_cancel = yes;
        self
    }

    /// Limits the time of the whole run; kept in whole milliseconds.
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.definition.total_timeout_ms = Some(whole_ms(limit));
        self
    }

    /// Sets when a crashing run is parked.
    pub fn crash_loop(mut self, policy: CrashLoopPolicy) -> Self {
        self.definition.crash_loop = policy;
        self
    }

    /// Sets the template of the run's output.
    pub fn output(mut self, template: Value) -> Self {
        self.definition.output = Some(template);
        self
    }

    /// The definition as it stands, unchecked.
    #[must_use]
    pub fn build(self) -> Definition {
        self.definition
    }

    /// Checks the definition within the default limits.
    ///
    /// # Errors
    /// Every fault found, each with the step it is in.
    pub fn validate(self) -> Result<ValidDefinition, DefinitionFaults> {
        self.definition.validate()
    }
}

impl Step {
    /// Starts a step of this id; its activity is `noop` until named.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            activity: "noop".to_owned(),
            requires: Vec::new(),
            input: Value::Null,
            needs: Vec::new(),
            when: None,
            join: Join::All,
            retry: None,
            attempt_timeout_ms: None,
            total_timeout_ms: None,
            compensation: None,
            on_failure: None,
        }
    }

    /// Names the activity.
    #[must_use]
    pub fn activity(mut self, name: impl Into<String>) -> Self {
        self.activity = name.into();
        self
    }

    /// Adds something that the node that runs the step has to have beside the activity.
    #[must_use]
    pub fn requires(mut self, requirement: Requirement) -> Self {
        self.requires.push(requirement);
        self
    }

    /// Sets the template of the input.
    #[must_use]
    pub fn input(mut self, template: impl Into<Value>) -> Self {
        self.input = template.into();
        self
    }

    /// Sets the steps this one waits for.
    #[must_use]
    pub fn needs<I: IntoIterator<Item = S>, S: Into<String>>(mut self, ids: I) -> Self {
        self.needs = ids.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the condition.
    #[must_use]
    pub fn when(mut self, expression: impl Into<String>) -> Self {
        self.when = Some(expression.into());
        self
    }

    /// Sets how many needs must complete.
    #[must_use]
    pub fn join(mut self, join: Join) -> Self {
        self.join = join;
        self
    }

    /// Sets what happens after a failed attempt.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Limits one attempt; kept in whole milliseconds.
    #[must_use]
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout_ms = Some(whole_ms(limit));
        self
    }

    /// Limits the step over all attempts and waits; kept in whole milliseconds.
    #[must_use]
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.total_timeout_ms = Some(whole_ms(limit));
        self
    }

    /// Sets what undoes the step.
    #[must_use]
    pub fn compensation(mut self, activity: impl Into<String>, input: impl Into<Value>) -> Self {
        self.compensation = Some(Compensation {
            activity: activity.into(),
            input: input.into(),
            retry: None,
            attempt_timeout_ms: None,
        });
        self
    }

    /// Sets what undoes the step, with its own retry policy and timeout.
    #[must_use]
    pub fn compensate_with(mut self, compensation: Compensation) -> Self {
        self.compensation = Some(compensation);
        self
    }

    /// Overrides what a failure of this step does to the run.
    #[must_use]
    pub fn on_failure(mut self, policy: FailurePolicy) -> Self {
        self.on_failure = Some(policy);
        self
    }
}

/// Whole milliseconds of a duration, rounded up so that a positive limit never becomes zero.
fn whole_ms(limit: Duration) -> u64 {
    u64::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
