//! What can be wrong with a definition.

use std::fmt;

/// One fault of a definition: where, what, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Id of the step at fault, shortened; `None` for the definition itself.
    pub step: Option<String>,
    /// Position of that step in the document, from 0.
    pub at: Option<u32>,
    /// What is wrong.
    pub kind: FaultKind,
    /// What would be right.
    pub hint: String,
}

/// What is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultKind {
    /// There are no steps.
    #[error("has no steps")]
    NoSteps,
    /// More steps than the limit.
    #[error("has {count} steps, over the limit of {limit}")]
    TooManySteps {
        /// Steps found.
        count: usize,
        /// Most allowed.
        limit: usize,
    },
    /// More needs over all steps than the limit.
    #[error("has {count} needs in all, over the limit of {limit}")]
    TooManyNeeds {
        /// Needs found.
        count: usize,
        /// Most allowed.
        limit: usize,
    },
    /// A name or id that cannot be used.
    #[error("{field} {why}")]
    BadName {
        /// The field, such as `id`.
        field: &'static str,
        /// What is wrong with it.
        why: super::NameFault,
    },
    /// A second step with an id already used.
    #[error("has the id of an earlier step")]
    DuplicateId,
    /// The id under which another step is undone.
    #[error("has the id under which step \"{undone}\" is undone")]
    CompensationId {
        /// The step with the compensation.
        undone: String,
    },
    /// A need that no step defines.
    #[error("needs \"{need}\", which no step defines")]
    UnknownNeed {
        /// The id asked for.
        need: String,
    },
    /// The same need twice.
    #[error("needs \"{need}\" twice")]
    DuplicateNeed {
        /// The id named twice.
        need: String,
    },
    /// A step that needs itself.
    #[error("needs itself")]
    SelfNeed,
    /// Steps that wait for each other.
    #[error("is on a cycle: {}", round(.steps))]
    Cycle {
        /// The steps on the cycle, each needed by the one after it; the first is named again at the end.
        steps: Vec<String>,
    },
    /// A quorum that can never be reached or asks for nothing.
    #[error("has a quorum of {quorum} over {needs} needs")]
    BadQuorum {
        /// The quorum asked for.
        quorum: u32,
        /// The number of needs.
        needs: usize,
    },
    /// A join other than all on a step without needs.
    #[error("joins needs but has none")]
    JoinWithoutNeeds,
    /// A number outside its range.
    #[error("{field} is {value}")]
    BadNumber {
        /// The field, such as `retry.max_attempts`.
        field: &'static str,
        /// The value as written.
        value: String,
    },
    /// A requirement that no node could meet.
    #[error("{field} is {value:?}")]
    BadRequirement {
        /// The field, such as `requires.version`.
        field: &'static str,
        /// The value as written.
        value: String,
    },
    /// A template that cannot be read.
    #[error("{field} has a bad template: {why}")]
    BadTemplate {
        /// The field, such as `input`.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A condition that cannot be read.
    #[error("when has a bad condition: {why}")]
    BadCondition {
        /// What is wrong.
        why: String,
    },
    /// A condition in a build without them.
    #[error("when is used, but this build has no conditions")]
    ConditionsDisabled,
    /// A template or condition names a step that does not exist.
    #[error("{field} refers to step \"{reference}\", which no step defines")]
    UnknownReference {
        /// The field, such as `input`.
        field: &'static str,
        /// The id referred to.
        reference: String,
    },
    /// A template or condition names a step that is not before this one.
    #[error("{field} refers to step \"{reference}\", which it does not depend on")]
    NotAnAncestor {
        /// The field, such as `input`.
        field: &'static str,
        /// The id referred to.
        reference: String,
    },
    /// Templates and conditions refer so far back that checking them would take too long.
    #[error("refers to steps too far back in the graph to check")]
    ReferencesTooFar,
}

/// Ids of a cycle that are named at each end of a long one.
const CYCLE_SHOWN: usize = 5;

/// A cycle in words; the middle of a long one is a number.
fn round(steps: &[String]) -> String {
    let hidden = steps.len().saturating_sub(2 * CYCLE_SHOWN);
    if hidden < 2 {
        return steps.join(" -> ");
    }
    let head = steps.iter().take(CYCLE_SHOWN).map(String::as_str).collect::<Vec<_>>().join(" -> ");
    let tail = steps.iter().skip(CYCLE_SHOWN + hidden).map(String::as_str).collect::<Vec<_>>().join(" -> ");
    format!("{head} -> ({hidden} more) -> {tail}")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.step {
            Some(step) => write!(f, "step \"{step}\" {}: {}", self.kind, self.hint),
            None => write!(f, "definition {}: {}", self.kind, self.hint),
        }
    }
}

/// Every fault of a definition, in document order; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionFaults(Vec<Fault>);

impl DefinitionFaults {
    /// The faults, or `None` when there are none.
    #[must_use]
    pub fn new(faults: Vec<Fault>) -> Option<Self> {
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// The faults.
    #[must_use]
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }
}

impl fmt::Display for DefinitionFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DefinitionFaults {}
