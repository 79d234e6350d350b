//! What discovery refuses, and why.

use std::fmt;

use super::{Lease, NodeId};
use crate::{
    balance::InstanceId,
    error::{Coded, Family},
};

/// A field that is given and wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {given:?}: allowed is {allowed}")]
#[non_exhaustive]
pub struct Fault {
    /// The field.
    pub field: &'static str,
    /// What it is.
    pub given: String,
    /// What it may be.
    pub allowed: &'static str,
}

impl Fault {
    pub(super) fn new(field: &'static str, given: impl ToString, allowed: &'static str) -> Self {
        Self { field, given: given.to_string(), allowed }
    }
}

/// A draft is no registration; everything that is missing or wrong, at once.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistrationError {
    /// Fields that are not given, in the order of the draft.
    pub missing: Vec<&'static str>,
    /// Fields that are given and wrong.
    pub faults: Vec<Fault>,
}

impl fmt::Display for RegistrationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("registration is not complete:")?;
        if !self.missing.is_empty() {
            write!(f, " missing are {}", self.missing.join(", "))?;
        }
        for (number, fault) in self.faults.iter().enumerate() {
            let separator = if number == 0 && self.missing.is_empty() { " " } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for RegistrationError {}

/// Terms of a lease do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("lease: {field} is {given}: allowed is {allowed}")]
#[non_exhaustive]
pub struct LeaseTermsError {
    /// The field.
    pub field: &'static str,
    /// What it is.
    pub given: String,
    /// What it may be.
    pub allowed: String,
}

/// A field of the options is outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("discovery option {field} is {given}: allowed is {allowed}")]
#[non_exhaustive]
pub struct DiscoveryOptionsError {
    /// The field.
    pub field: &'static str,
    /// What it is.
    pub given: String,
    /// What it may be.
    pub allowed: &'static str,
}

/// Why an instance was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The id is taken by a living instance: choose another, or wait until its lease is over.
    #[error("instance {id:?} is already registered by node {owner}", id = .id.as_str())]
    AlreadyRegistered {
        /// The id.
        id: InstanceId,
        /// Node of the instance that has it.
        owner: NodeId,
    },
    /// The node of the instance is known to be down: the reference is dead.
    #[error("instance {id:?} is not alive: node {node} is down", id = .id.as_str())]
    NotAlive {
        /// The instance.
        id: InstanceId,
        /// Its node.
        node: NodeId,
    },
    /// As many instances are known as may be.
    #[error("{limit} instances are registered, more are not allowed")]
    Full {
        /// The limit.
        limit: usize,
    },
}

/// Why a lease was not renewed or given back: register anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// Nobody is registered under the id: the lease was given back, or is over for long.
    #[error("no lease on instance {:?}: register it", .lease.id.as_str())]
    NotHeld {
        /// The lease shown.
        lease: Lease,
    },
    /// Another registration has taken the id meanwhile.
    #[error("lease on instance {:?} was taken over by node {owner}", .lease.id.as_str())]
    TakenOver {
        /// The lease shown.
        lease: Lease,
        /// Node of the instance that has the id.
        owner: NodeId,
    },
}

/// Why a report of another node was not taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    /// It is a heartbeat or a withdrawal of an instance that is not known here: ask for its registration.
    #[error("instance {id:?} is not known here: ask node {via} for its registration", id = .id.as_str())]
    Unknown {
        /// The instance.
        id: InstanceId,
        /// Who reported.
        via: NodeId,
    },
    /// As [`Discovery::register`](super::Discovery::register).
    #[error(transparent)]
    Register(#[from] RegisterError),
}

/// A criterion does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no criterion: give {allowed}")]
#[non_exhaustive]
pub struct InvalidCriteria {
    /// The part that does not parse.
    pub given: String,
    /// What would.
    pub allowed: &'static str,
}

impl InvalidCriteria {
    pub(super) fn new(given: &str, allowed: &'static str) -> Self {
        Self { given: given.to_owned(), allowed }
    }
}

/// Why a search did not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The criteria require an index and none of them has one: add a capability, label, kind or node.
    #[error("no criterion has an index, all {scanned} instances would be looked at")]
    NoIndex {
        /// Instances a scan would look at.
        scanned: usize,
    },
}

impl Coded for RegistrationError {
    fn code(&self) -> &'static str {
        "discovery.registration"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for LeaseTermsError {
    fn code(&self) -> &'static str {
        "discovery.lease_terms"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for DiscoveryOptionsError {
    fn code(&self) -> &'static str {
        "discovery.options"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for RegisterError {
    fn code(&self) -> &'static str {
        match self {
            Self::AlreadyRegistered { .. } => "discovery.already_registered",
            Self::NotAlive { .. } => "discovery.not_alive",
            Self::Full { .. } => "discovery.full",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::AlreadyRegistered { .. } | Self::NotAlive { .. } => Family::Rejected,
            Self::Full { .. } => Family::Unavailable,
        }
    }
}

impl Coded for LeaseError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotHeld { .. } => "discovery.lease_not_held",
            Self::TakenOver { .. } => "discovery.lease_taken_over",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for LearnError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "discovery.unknown",
            Self::Register(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Unknown { .. } => Family::Rejected,
            Self::Register(error) => error.family(),
        }
    }
}

impl Coded for InvalidCriteria {
    fn code(&self) -> &'static str {
        "discovery.invalid_criteria"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for FindError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoIndex { .. } => "discovery.no_index",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}
