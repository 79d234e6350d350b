//! Conditions: CEL expressions over `input`, `steps.ID.output` and `steps.ID.status`.
//!
//! The CEL crate is wrapped: sources are bounded in length and shape, a panic in it becomes an error, and a
//! condition can only look at what its scope gives. Needs feature `conditions`; without it every condition is
//! a fault of the definition.

#[cfg(feature = "conditions")]
mod cel;

use crate::workflow::template::Scope;

/// Longest source of a condition, in bytes.
pub const CONDITION_BYTES_MAX: usize = 4_096;
/// Deepest nesting of a condition's expression; a chain of operators or fields nests, too. Evaluation
/// recurses over it with up to 40 KiB a level in a debug build.
pub const CONDITION_DEPTH_MAX: usize = 24;
/// Deepest nesting of `all`, `exists`, `map` and `filter`: each multiplies the work by a list's length.
pub const COMPREHENSION_DEPTH_MAX: usize = 2;

/// A parsed condition.
#[derive(Debug)]
pub struct Condition {
    #[cfg(feature = "conditions")]
    inner: cel::Compiled,
    references: Box<[u32]>,
}

/// What is wrong with a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionFault {
    /// The build has no conditions.
    #[error("this build has no conditions")]
    Disabled,
    /// Longer than 4 096 bytes.
    #[error("longer than 4096 bytes")]
    TooLong,
    /// Nested too deep.
    #[error("nested too deep (24 levels, 2 of them all, exists, map or filter)")]
    TooDeep,
    /// Not an expression of the language.
    #[error("{0}")]
    Syntax(String),
    /// A reference to a step that does not exist.
    #[error("unknown step \"{0}\"")]
    UnknownStep(String),
    /// A name other than `input` and `steps`.
    #[error("unknown name \"{0}\"")]
    UnknownName(String),
}

/// Why a condition gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionError {
    /// Evaluation failed, such as a missing key.
    #[error("{0}")]
    Failed(String),
    /// The answer is not true or false.
    #[error("the condition gives {0}, not true or false")]
    NotBool(String),
    /// An output that the run should hold in memory.
    #[error("the output of step \"{0}\" is not loaded")]
    NotLoaded(String),
}

impl Condition {
    /// Reads a condition; `number_of` knows the steps.
    ///
    /// # Errors
    /// [`ConditionFault`]: what is wrong; the caller should correct the document.
    pub fn parse(source: &str, number_of: &dyn Fn(&str) -> Option<u32>) -> Result<Self, ConditionFault> {
        if source.len() > CONDITION_BYTES_MAX {
            return Err(ConditionFault::TooLong);
        }
        #[cfg(feature = "conditions")]
        {
            let (inner, references) = cel::compile(source, number_of)?;
            Ok(Self { inner, references })
        }
        #[cfg(not(feature = "conditions"))]
        {
            let _ = number_of;
            Err(ConditionFault::Disabled)
        }
    }

    /// Numbers of the steps looked at; ascending, each once.
    #[must_use]
    pub fn references(&self) -> &[u32] {
        &self.references
    }

    /// Answers the condition.
    ///
    /// # Errors
    /// [`ConditionError`]: the step cannot be decided and fails.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<bool, ConditionError> {
        #[cfg(feature = "conditions")]
        {
            self.inner.evaluate(scope, &self.references)
        }
        #[cfg(not(feature = "conditions"))]
        {
            let _ = scope;
            Err(ConditionError::Failed(ConditionFault::Disabled.to_string()))
        }
    }
}

#[cfg(test)]
#[cfg(feature = "conditions")]
mod tests;
