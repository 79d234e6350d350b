//! What an agent may do outside: checked before anything is sent.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    error::{Coded, Family},
    ids::Timestamp,
};

/// Says which calls an agent may make, until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapabilityToken {
    /// The agent it was given to.
    pub agent: Arc<str>,
    /// What it may do: `billing.read`, by convention `adapter.what`.
    pub scopes: BTreeSet<String>,
    /// The first moment at which it holds no more.
    pub expires: Timestamp,
}

/// Why a call is not made. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError {
    /// The token does not hold the scope.
    #[error("agent {agent} may not {scope}: forbidden")]
    Forbidden {
        /// The agent.
        agent: Arc<str>,
        /// What the call needs.
        scope: String,
    },
    /// The token has expired.
    #[error("the capability of agent {agent} has expired: ask for another")]
    Expired {
        /// The agent.
        agent: Arc<str>,
    },
    /// The call needs a scope and came without a token.
    #[error("{scope} needs a capability, and the call has none: forbidden")]
    Missing {
        /// What the call needs.
        scope: String,
    },
}

impl CapabilityToken {
    /// A token for an agent.
    pub fn new<S: Into<String>>(
        agent: impl Into<Arc<str>>,
        scopes: impl IntoIterator<Item = S>,
        expires: Timestamp,
    ) -> Self {
        Self { agent: agent.into(), scopes: scopes.into_iter().map(Into::into).collect(), expires }
    }

    /// Checks that the agent may do this at this time.
    ///
    /// # Errors
    /// - [`CapabilityError::Expired`]: get another token.
    /// - [`CapabilityError::Forbidden`]: the agent may not.
    pub fn check(&self, scope: &str, now: Timestamp) -> Result<(), CapabilityError> {
        if now >= self.expires {
            return Err(CapabilityError::Expired { agent: Arc::clone(&self.agent) });
        }
        if !self.scopes.contains(scope) {
            return Err(CapabilityError::Forbidden {
                agent: Arc::clone(&self.agent),
                scope: scope.to_owned(),
            });
        }
        Ok(())
    }
}

impl Coded for CapabilityError {
    fn code(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => "capability.forbidden",
            Self::Expired { .. } => "capability.expired",
            Self::Missing { .. } => "capability.missing",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_allows_its_scopes_until_it_expires() {
        let token = CapabilityToken::new("a", ["billing.read"], Timestamp(10));
        assert_eq!(token.check("billing.read", Timestamp(9)), Ok(()));
        let agent = || Arc::from("a");
        assert_eq!(
            token.check("billing.write", Timestamp(9)),
            Err(CapabilityError::Forbidden { agent: agent(), scope: "billing.write".to_owned() })
        );
        assert_eq!(
            token.check("billing.read", Timestamp(10)),
            Err(CapabilityError::Expired { agent: agent() })
        );
    }
}
