//! [`Answer`], [`Provenance`]: a value, and where it comes from.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A way to an answer when the call has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FallbackKind {
    /// A value that is always the same.
    Value,
    /// What a function makes of the failure.
    Function,
    /// The last value that the call itself gave, if it is not too old.
    LastGood,
    /// What another service answers.
    Service,
}

impl FallbackKind {
    /// Its name in metrics and documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Function => "function",
            Self::LastGood => "last_good",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for FallbackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an answer comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// From the call itself.
    Primary,
    /// From a fallback.
    Fallback {
        /// Which way.
        kind: FallbackKind,
        /// Code of the failure it stands in for.
        cause: Arc<str>,
    },
}

/// A value, marked with where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// The value.
    pub value: Arc<T>,
    /// Where it comes from.
    pub provenance: Provenance,
}

impl<T> Answer<T> {
    /// Whether the call itself gave it.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        matches!(self.provenance, Provenance::Primary)
    }
}
