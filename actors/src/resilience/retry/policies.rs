//! [`RetryPolicies`]: policies with names, from code or from a document.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

use super::{Retrier, RetryCause, policy::RetryPolicy, validate::RetryPolicyError};
use crate::resilience::named::{self, Named};
use crate::{
    error::{Coded, Family},
    ids::Timestamp,
};

/// Most policies of one registry.
pub const POLICIES_MAX: usize = 1_000;
/// Longest name of a policy, in bytes.
pub const POLICY_NAME_MAX_BYTES: usize = 64;

/// Valid policies by name. In a document: a map from names to policies; a name that comes twice, a field that is not
/// known and a value of a wrong type are refused where they stand, a value outside its range where its policy ends.
///
/// ```
/// use stanchion_actors::resilience::retry::{RetryPolicies, RetryPolicy};
///
/// let document = r#"{"payments": {"max_attempts": 5, "initial_interval_ms": 200, "jitter": "full"}}"#;
/// let mut policies: RetryPolicies = serde_json::from_str(document)?;
/// policies.insert("search", RetryPolicy::linear(50))?;
/// assert_eq!(policies.get("payments")?.max_attempts, 5);
/// assert!(policies.get("paymnets").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct RetryPolicies {
    #[serde(serialize_with = "plain")]
    policies: BTreeMap<String, Arc<RetryPolicy>>,
}

/// A policy does not get its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetryPoliciesError {
    /// The policy is not valid.
    #[error("retry policy {name:?}: {error}")]
    Policy {
        /// Its name.
        name: String,
        /// What is wrong.
        #[source]
        error: RetryPolicyError,
    },
    /// The name has another policy.
    #[error("two retry policies are named {0:?}")]
    Duplicate(String),
    /// The name is empty or too long.
    #[error("{0:?} is no name of a retry policy: use 1..={POLICY_NAME_MAX_BYTES} bytes")]
    Name(String),
    /// There are too many.
    #[error("more than {POLICIES_MAX} retry policies")]
    Full,
}

impl Coded for RetryPoliciesError {
    fn code(&self) -> &'static str {
        match self {
            Self::Policy { error, .. } => error.code(),
            Self::Duplicate(_) => "retry.duplicate",
            Self::Name(_) => "retry.name",
            Self::Full => "retry.full",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// No policy has this name: nothing was attempted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no retry policy is named {0:?}")]
pub struct RetryPolicyNotFound(pub String);

impl Coded for RetryPolicyNotFound {
    fn code(&self) -> &'static str {
        "retry.not_found"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl RetryPolicies {
    /// Gives a policy a name.
    ///
    /// # Errors
    /// [`RetryPoliciesError`]; what was there stays.
    pub fn insert(&mut self, name: impl Into<String>, policy: RetryPolicy) -> Result<(), RetryPoliciesError> {
        let name = name.into();
        if name.is_empty() || name.len() > POLICY_NAME_MAX_BYTES {
            return Err(RetryPoliciesError::Name(name.chars().take(POLICY_NAME_MAX_BYTES).collect()));
        }
        if self.policies.contains_key(&name) {
            return Err(RetryPoliciesError::Duplicate(name));
        }
        if self.policies.len() >= POLICIES_MAX {
            return Err(RetryPoliciesError::Full);
        }
        match policy.validate() {
            Ok(()) => {
                self.policies.insert(name, Arc::new(policy));
                Ok(())
            }
            Err(error) => Err(RetryPoliciesError::Policy { name, error }),
        }
    }

    /// The policy of this name.
    ///
    /// # Errors
    /// [`RetryPolicyNotFound`].
    pub fn get(&self, name: &str) -> Result<Arc<RetryPolicy>, RetryPolicyNotFound> {
        self.policies.get(name).cloned().ok_or_else(|| RetryPolicyNotFound(name.to_owned()))
    }

    /// The attempts of a call under the policy of this name.
    ///
    /// # Errors
    /// [`RetryPolicyNotFound`], before the first attempt.
    pub fn retrier<E: RetryCause>(
        &self,
        name: &str,
        started: Timestamp,
    ) -> Result<Retrier<E>, RetryPolicyNotFound> {
        Ok(Retrier::of_valid(self.get(name)?, started))
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }
}

fn plain<S: serde::Serializer>(
    policies: &BTreeMap<String, Arc<RetryPolicy>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(policies.iter().map(|(name, policy)| (name, policy.as_ref())))
}

impl Named for RetryPolicies {
    type Item = RetryPolicy;
    type Error = RetryPoliciesError;
    const MAP: &'static str = "a map from names to retry policies";
    const ITEM: &'static str = "a retry policy";

    fn put(&mut self, name: String, item: RetryPolicy) -> Result<(), RetryPoliciesError> {
        self.insert(name, item)
    }
}

impl<'de> Deserialize<'de> for RetryPolicies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        named::read(deserializer)
    }
}
