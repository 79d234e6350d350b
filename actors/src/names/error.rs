//! What names refuse, and why.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{NameKey, Namespace};
use crate::{
    agent::AddressError,
    balance::InstanceId,
    error::{CallError, Coded, Family},
    store::StoreError,
};

/// A name or namespace is outside its shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what} {given:?} is refused: give {allowed}")]
#[non_exhaustive]
pub struct InvalidName {
    /// `name`, `namespace` or `kind`.
    pub what: Cow<'static, str>,
    /// Its beginning.
    pub given: String,
    /// What it may be.
    pub allowed: Cow<'static, str>,
}

impl InvalidName {
    pub(super) fn new(what: &'static str, given: &str, allowed: &'static str) -> Self {
        let (what, allowed) = (Cow::Borrowed(what), Cow::Borrowed(allowed));
        Self { what, given: given.chars().take(64).collect(), allowed }
    }
}

/// Metadata is outside its shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata {given:?} is refused: {allowed}")]
#[non_exhaustive]
pub struct InvalidMetadata {
    /// The key, or how many there are.
    pub given: String,
    /// What may be.
    pub allowed: &'static str,
}

/// Why an operation on names changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum NamesError {
    /// Somebody has the name, or had it and is about to be respawned.
    #[error("name {key} is already registered by {owner}")]
    AlreadyRegistered {
        /// The name.
        key: NameKey,
        /// Who has it, or had it last.
        owner: InstanceId,
    },
    /// Nobody has the name: look it up again later, or register it.
    #[error("name {key} is not registered")]
    NotRegistered {
        /// The name.
        key: NameKey,
    },
    /// The reference is of an owner that has ended: look the name up again.
    #[error("reference to {key} is of epoch {given}, the name is in epoch {current}: look it up again")]
    StaleEpoch {
        /// The name.
        key: NameKey,
        /// Epoch of the reference.
        given: u64,
        /// Epoch of the name.
        current: u64,
    },
    /// The owner has ended and its respawn is not there yet: look it up again later.
    #[error("name {key} is recovering: its owner {owner} ended and is not back")]
    Recovering {
        /// The name.
        key: NameKey,
        /// Who had it last.
        owner: InstanceId,
    },
    /// The reference is of another namespace.
    #[error("reference to {key} is not of namespace {namespace}")]
    CrossNamespace {
        /// The name that is referred to.
        key: NameKey,
        /// The namespace it was used in.
        namespace: Namespace,
    },
    /// The kind is outside its shape.
    #[error(transparent)]
    Kind(#[from] InvalidName),
    /// The start specification is too large.
    #[error("specification of {key} has {bytes} bytes, at most {limit} are allowed")]
    SpecTooLarge {
        /// The name.
        key: NameKey,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why a durable name did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DurableNamesError {
    /// It refused.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// Its entity did not answer.
    #[error(transparent)]
    Call(CallError<NamesError>),
    /// The system does not know the kind of names.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The store did not list its names.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CallError<NamesError>> for DurableNamesError {
    fn from(error: CallError<NamesError>) -> Self {
        match error {
            CallError::Rejected(refused) => Self::Names(refused),
            other => Self::Call(other),
        }
    }
}

/// A table cannot have so many shards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a table of names cannot have {given} shards: give 1 to 4096")]
#[non_exhaustive]
pub struct ShardsError {
    /// How many were asked for.
    pub given: usize,
}

impl Coded for InvalidName {
    fn code(&self) -> &'static str {
        "names.invalid_name"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for InvalidMetadata {
    fn code(&self) -> &'static str {
        "names.invalid_metadata"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for NamesError {
    fn code(&self) -> &'static str {
        match self {
            Self::AlreadyRegistered { .. } => "names.already_registered",
            Self::NotRegistered { .. } => "names.not_registered",
            Self::StaleEpoch { .. } => "names.stale_epoch",
            Self::Recovering { .. } => "names.recovering",
            Self::CrossNamespace { .. } => "names.cross_namespace",
            Self::Kind(error) => error.code(),
            Self::SpecTooLarge { .. } => "names.spec_too_large",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Recovering { .. } => Family::Unavailable,
            Self::AlreadyRegistered { .. }
            | Self::NotRegistered { .. }
            | Self::StaleEpoch { .. }
            | Self::CrossNamespace { .. }
            | Self::Kind(_)
            | Self::SpecTooLarge { .. } => Family::Rejected,
        }
    }
}

impl Coded for ShardsError {
    fn code(&self) -> &'static str {
        "names.shards"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for DurableNamesError {
    fn code(&self) -> &'static str {
        match self {
            Self::Names(error) => error.code(),
            Self::Call(error) => error.code(),
            Self::Address(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Names(error) => error.family(),
            Self::Call(error) => error.family(),
            Self::Address(error) => error.family(),
            Self::Store(error) => error.family(),
        }
    }
}
