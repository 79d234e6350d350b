//! What an attempt requires of the node that runs it.

use std::{collections::BTreeMap, sync::Arc};

use semver::VersionReq;
use serde::{Deserialize, Serialize};

use super::{
    Criteria, Need,
    capability::{TEXT_MAX_BYTES, is_word},
    error::Fault,
};

/// Most requirements of a step, and most labels or resources of a requirement.
pub const REQUIREMENTS_MAX: usize = 32;

/// A capability that the node that runs an attempt has to have, with what else the node has to be.
///
/// ```
/// use stanchion_actors::discovery::Requirement;
/// let gpu = Requirement::new("gpu").version(">=1.2, <2").label("zone", "eu").resource("memory_mb", 512);
/// assert!(gpu.faults().is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Name of the capability: 1..=255 bytes without `@`, `=`, space or control characters.
    pub capability: String,
    /// Versions that do, as a range of semantic versions such as `>=1.2, <2`; absent: any.
    #[serde(default = "any", skip_serializing_if = "is_any")]
    pub version: String,
    /// Labels of the node, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What the node has at least.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
}

fn any() -> String {
    "*".to_owned()
}

fn is_any(version: &str) -> bool {
    version == "*"
}

impl Requirement {
    /// Any version of a capability.
    #[must_use]
    pub fn new(capability: impl Into<String>) -> Self {
        Self {
            capability: capability.into(),
            version: any(),
            labels: BTreeMap::new(),
            resources: BTreeMap::new(),
        }
    }

    /// Only versions in this range.
    #[must_use]
    pub fn version(mut self, range: impl Into<String>) -> Self {
        self.version = range.into();
        self
    }

    /// Only nodes with this label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Only nodes that announce at least so much of a resource.
    #[must_use]
    pub fn resource(mut self, name: impl Into<String>, least: u64) -> Self {
        self.resources.insert(name.into(), least);
        self
    }

    /// Everything that is wrong with it.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        const WORD: &str = "1..=255 bytes without @, =, space or control characters";
        let mut faults = Vec::new();
        if !is_word(&self.capability) {
            faults.push(Fault::new("requires.capability", &self.capability, WORD));
        }
        if VersionReq::parse(&self.version).is_err() {
            let allowed = "a range of semantic versions, such as >=1.2, <2";
            faults.push(Fault::new("requires.version", &self.version, allowed));
        }
        for name in self.labels.keys().filter(|name| !is_word(name)) {
            faults.push(Fault::new("requires.labels", name, WORD));
        }
        for value in self.labels.values().filter(|value| value.len() > TEXT_MAX_BYTES) {
            faults.push(Fault::new("requires.labels", value, "values of at most 255 bytes"));
        }
        for name in self.resources.keys().filter(|name| !is_word(name)) {
            faults.push(Fault::new("requires.resources", name, WORD));
        }
        for (field, count) in
            [("requires.labels", self.labels.len()), ("requires.resources", self.resources.len())]
        {
            if count > REQUIREMENTS_MAX {
                faults.push(Fault::new(field, format!("{count} entries"), "at most 32 entries"));
            }
        }
        faults
    }
}

impl Criteria {
    /// Whoever has all that is required, too. Of two requirements for one resource the larger one counts; two that
    /// contradict each other are met by nobody.
    #[must_use]
    pub fn with_required(mut self, requires: &[Requirement]) -> Self {
        for requirement in requires {
            let name = Arc::from(requirement.capability.as_str());
            match VersionReq::parse(&requirement.version) {
                Ok(versions) => self.capabilities.push(Need { name, versions }),
                Err(_) => self.answers_max = Some(0),
            }
            for (name, value) in &requirement.labels {
                let value = Arc::from(value.as_str());
                let before = self.labels.insert(Arc::from(name.as_str()), Arc::clone(&value));
                if before.is_some_and(|before| before != value) {
                    self.answers_max = Some(0);
                }
            }
            for (name, least) in &requirement.resources {
                let free = self.resources_min.entry(Arc::from(name.as_str())).or_insert(0);
                *free = (*free).max(*least);
            }
        }
        self
    }
}
