//! What an instance can do, where it runs and how well it is.

use std::{fmt, str::FromStr, sync::Arc};

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use super::error::{Fault, InvalidCriteria};

/// Longest name, label, value and id, in bytes.
pub(super) const TEXT_MAX_BYTES: usize = 255;

/// A node of the cluster, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// A node of this name.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeId {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something an instance can do, in a version; as text `name@1.2.3`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Capability {
    /// Its name: 1..=255 bytes without `@`, space or control characters.
    pub name: Arc<str>,
    /// Its version, by the rules of semantic versions.
    pub version: Version,
}

impl FromStr for Capability {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self, Fault> {
        let fault = || Fault::new("capabilities", text, "name@1.2.3");
        let (name, version) = text.split_once('@').ok_or_else(fault)?;
        let version = Version::parse(version).map_err(|_| fault())?;
        if !is_word(name) {
            return Err(fault());
        }
        Ok(Self { name: Arc::from(name), version })
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// A capability that is asked for, in a range of versions; as text `name` or `name@>=1.2,<2`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Need {
    /// Its name.
    pub name: Arc<str>,
    /// Versions that do; pre-releases only where the range names one.
    pub versions: VersionReq,
}

impl Need {
    /// Any version of a capability.
    #[must_use]
    pub fn any(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), versions: VersionReq::STAR }
    }

    /// Whether the capability does.
    #[must_use]
    pub fn is_met_by(&self, capability: &Capability) -> bool {
        self.name == capability.name && self.versions.matches(&capability.version)
    }
}

impl FromStr for Need {
    type Err = InvalidCriteria;
    fn from_str(text: &str) -> Result<Self, InvalidCriteria> {
        let error = || InvalidCriteria::new(text, "a capability, as in ocr or ocr@>=1.2,<2");
        let (name, versions) = text.split_once('@').unwrap_or((text, "*"));
        if !is_word(name) {
            return Err(error());
        }
        Ok(Self { name: Arc::from(name), versions: VersionReq::parse(versions).map_err(|_| error())? })
    }
}

/// How well an instance says it is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthLevel {
    /// It cannot do its work: it gets none.
    Unhealthy,
    /// It works, but not as it should.
    Degraded,
    /// It is well.
    Healthy,
}

impl HealthLevel {
    /// Its name, as in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::Degraded => "degraded",
            Self::Healthy => "healthy",
        }
    }

    /// The level of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Unhealthy, Self::Degraded, Self::Healthy].into_iter().find(|level| level.name() == name)
    }
}

/// Whether a text may be an id, a name or a key.
pub(super) fn is_word(text: &str) -> bool {
    let outside = |c: char| c.is_control() || c.is_whitespace() || c == '@' || c == '=';
    !text.is_empty() && text.len() <= TEXT_MAX_BYTES && !text.chars().any(outside)
}
