//! [`Resource`], [`ResourceStatus`].

use std::{convert::Infallible, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What there is a limit on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Memory of the process, in bytes: `memory_bytes`.
    Memory,
    /// Tasks: `tasks`.
    Tasks,
    /// Size of the store, in bytes: `store_bytes`.
    Store,
    /// Anything else; 1..=64 visible ASCII characters.
    Custom(Arc<str>),
}

impl Resource {
    /// Its name in options, metrics and errors.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Memory => "memory_bytes",
            Self::Tasks => "tasks",
            Self::Store => "store_bytes",
            Self::Custom(name) => name,
        }
    }

    pub(super) fn is_valid(&self) -> bool {
        let name = self.as_str();
        (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

impl From<&str> for Resource {
    fn from(name: &str) -> Self {
        match name {
            "memory_bytes" => Self::Memory,
            "tasks" => Self::Tasks,
            "store_bytes" => Self::Store,
            other => Self::Custom(Arc::from(other)),
        }
    }
}

impl FromStr for Resource {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self::from(name))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Resource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| Self::from(name.as_str()))
    }
}

/// How much of a resource is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceLevel {
    /// Less than `high_pct` is in use.
    Normal,
    /// `high_pct` or more is.
    High,
    /// All is, or more: nothing is given.
    Full,
}

/// How a resource is at one moment, and what was done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceStatus {
    /// The resource.
    pub resource: Resource,
    /// The limit in force.
    pub limit: u64,
    /// In use: what is taken, or what was measured and is taken since, whichever is more.
    pub used: u64,
    /// Taken by tokens.
    pub taken: u64,
    /// Tokens that are held.
    pub tokens: u64,
    /// What was measured last; `None` when nobody measures it.
    pub measured: Option<u64>,
    /// Most that was in use.
    pub peak: u64,
    /// Requests refused.
    pub refused: u64,
    /// How much is left.
    pub level: ResourceLevel,
}
