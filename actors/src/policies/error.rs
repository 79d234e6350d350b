//! Why a policy is not registered, found or stored.

use super::record::PolicyRejection;
use crate::{
    agent::AddressError,
    error::{CallError, Coded, Family},
    resilience::{
        breaker::{BreakerNotFound, BreakerOptionsError},
        budget::RetryBudgetError,
        limiter::LimiterOptionsError,
        protected::{ServiceNotFound, ServicesError},
    },
};

/// Why a policy is not registered, found or stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Its name is no name.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// What is stored of it could not be read, or refused.
    #[error(transparent)]
    Call(#[from] CallError<PolicyRejection>),
    /// Options of a breaker are refused.
    #[error(transparent)]
    Breaker(#[from] BreakerOptionsError),
    /// There is no breaker of this name.
    #[error(transparent)]
    NotFound(#[from] BreakerNotFound),
    /// Options of a limiter are refused.
    #[error(transparent)]
    Limiter(#[from] LimiterOptionsError),
    /// Options of a retry budget are refused.
    #[error(transparent)]
    Budget(#[from] RetryBudgetError),
    /// Services outside are refused.
    #[error(transparent)]
    Services(#[from] ServicesError),
    /// A service outside is not there.
    #[error(transparent)]
    NoService(#[from] ServiceNotFound),
    /// There is one of this name with other options, which stay.
    #[error("retry budget {0:?} is registered with other options: give this one another name")]
    Differs(String),
    /// There are as many as may be.
    #[error(
        "{max} policies are registered, no more are allowed: register what is named by code, not by data"
    )]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// Not stored for now; it is tried again.
    #[error("{0}")]
    NotStored(String),
}

impl Coded for PolicyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Address(error) => error.code(),
            Self::Call(CallError::Rejected(error)) => error.code(),
            Self::Call(error) => error.code(),
            Self::Breaker(error) => error.code(),
            Self::NotFound(error) => error.code(),
            Self::Limiter(error) => error.code(),
            Self::Budget(error) => error.code(),
            Self::Services(error) => error.code(),
            Self::NoService(error) => error.code(),
            Self::Differs(_) => "policy.differs",
            Self::TooMany { .. } => "policy.too_many",
            Self::NotStored(_) => "policy.not_stored",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Address(error) => error.family(),
            Self::Call(error) => error.family(),
            Self::Breaker(error) => error.family(),
            Self::NotFound(error) => error.family(),
            Self::Limiter(error) => error.family(),
            Self::Budget(error) => error.family(),
            Self::Services(error) => error.family(),
            Self::NoService(error) => error.family(),
            Self::Differs(_) | Self::TooMany { .. } => Family::Rejected,
            Self::NotStored(_) => Family::Unknown,
        }
    }
}
