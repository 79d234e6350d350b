//! [`ResourceError`]: why nothing was taken.

use super::Resource;
use crate::error::{Coded, Family};

/// Nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// Not so much is left: ask again later, or for less.
    #[error("{resource}: {used} of {limit} are in use, {asked} more were asked for")]
    Exhausted {
        /// The resource.
        resource: Resource,
        /// In use.
        used: u64,
        /// The limit.
        limit: u64,
        /// Asked for.
        asked: u64,
    },
    /// More than there is in all: raise the limit, or ask for less.
    #[error("{resource}: there are {limit} in all, {asked} were asked for")]
    TooLarge {
        /// The resource.
        resource: Resource,
        /// The limit.
        limit: u64,
        /// Asked for.
        asked: u64,
    },
    /// Nothing is known of this resource: give it a limit first.
    #[error("there is no resource {0}: give it a limit first")]
    Unknown(Resource),
}

impl Coded for ResourceError {
    fn code(&self) -> &'static str {
        match self {
            Self::Exhausted { .. } => "resource.exhausted",
            Self::TooLarge { .. } => "resource.too_large",
            Self::Unknown(_) => "resource.unknown",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Exhausted { .. } => Family::Unavailable,
            Self::TooLarge { .. } | Self::Unknown(_) => Family::Rejected,
        }
    }
}
