//! [`CacheError`], [`LoadError`]: why there is no value.

use std::{fmt, sync::Arc};

use crate::error::{Coded, Family};

/// The cache refuses. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The key says nothing: give one that does.
    #[error("cache {cache:?}: the key is empty")]
    EmptyKey {
        /// The cache.
        cache: Arc<str>,
    },
    /// The value would be over at once: give it a life of a microsecond or more.
    #[error("cache {cache:?}: a life of 0 is none")]
    NoLife {
        /// The cache.
        cache: Arc<str>,
    },
    /// Heavier than all that the cache may hold: raise `max_weight`, or do not cache it.
    #[error("cache {cache:?} holds a weight of {max_weight}, the value weighs {weight}")]
    TooHeavy {
        /// The cache.
        cache: Arc<str>,
        /// What the value weighs.
        weight: u64,
        /// The limit.
        max_weight: u64,
    },
    /// The value there is would be overwritten by a heavier one, for which others would have to go: delete it
    /// first, if they shall.
    #[error(
        "cache {cache:?}: the new value weighs {weight}, beside the other entries there is room for {free}"
    )]
    NoRoom {
        /// The cache.
        cache: Arc<str>,
        /// What the new value weighs.
        weight: u64,
        /// What it may weigh.
        free: u64,
    },
}

impl Coded for CacheError {
    fn code(&self) -> &'static str {
        match self {
            Self::EmptyKey { .. } => "cache.empty_key",
            Self::NoLife { .. } => "cache.no_life",
            Self::TooHeavy { .. } => "cache.too_heavy",
            Self::NoRoom { .. } => "cache.no_room",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::EmptyKey { .. } | Self::NoLife { .. } | Self::TooHeavy { .. } => Family::Rejected,
            Self::NoRoom { .. } => Family::Unavailable,
        }
    }
}

/// Why [`Cache::get_or_compute`](super::Cache::get_or_compute) has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError<E> {
    /// The cache refused; the loader did not run.
    Refused(CacheError),
    /// The loader failed. Everybody who waited for it has this error; it is not kept.
    Failed(Arc<E>),
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The text is that of the inner error: what it has below it comes next.
        match self {
            Self::Refused(error) => error.source(),
            Self::Failed(error) => error.source(),
        }
    }
}

impl<E: Coded> Coded for LoadError<E> {
    fn code(&self) -> &'static str {
        match self {
            Self::Refused(error) => error.code(),
            Self::Failed(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Refused(error) => error.family(),
            Self::Failed(error) => error.family(),
        }
    }
}
