//! A registration, and the draft it is checked from.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Capability, Fault, HealthLevel, NodeId, RegistrationError,
    capability::{TEXT_MAX_BYTES, is_word},
};
use crate::balance::{InstanceId, Weight};

/// Most capabilities, labels and resources of an instance, each.
const ITEMS_MAX: usize = 64;
const WORD: &str = "1..=255 bytes without space, '@', '=' or control characters";

/// What an instance says of itself, as text: [`check`](Self::check) makes a [`Registration`] of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RegistrationDraft {
    /// Who it is, required.
    pub id: Option<String>,
    /// Its node, required.
    pub node: Option<String>,
    /// Which life of the node, ascending: a later one replaces what an earlier one registered. 0 by default.
    pub incarnation: u64,
    /// What it is, required: `agent`, `worker`.
    pub kind: Option<String>,
    /// What it can do, each as `name@1.2.3`; at least one.
    pub capabilities: Vec<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// What it has free, in units of its own: `memory_mb`.
    pub resources: BTreeMap<String, u64>,
    /// `healthy`, `degraded` or `unhealthy`, required.
    pub health: Option<String>,
    /// Whether it finishes what it has and wants no more.
    pub draining: bool,
    /// Its share of the work, above 0; 1 by default.
    pub weight: Option<f64>,
}

/// An instance as it is registered; made by [`RegistrationDraft::check`], also when it is read from bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RegistrationDraft", into = "RegistrationDraft")]
#[non_exhaustive]
pub struct Registration {
    /// Who it is.
    pub id: InstanceId,
    /// Its node.
    pub node: NodeId,
    /// Which life of the node.
    pub incarnation: u64,
    /// What it is.
    pub kind: Arc<str>,
    /// What it can do, by name; a capability may be there in several versions.
    pub capabilities: Vec<Capability>,
    /// Free labels.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// What it has free.
    pub resources: BTreeMap<Arc<str>, u64>,
    /// How well it says it is.
    pub health: HealthLevel,
    /// Whether it finishes what it has and wants no more.
    pub draining: bool,
    /// Its share of the work.
    pub weight: Weight,
}

impl RegistrationDraft {
    /// Checks the draft.
    ///
    /// # Errors
    /// [`RegistrationError`] names everything that is missing or wrong.
    pub fn check(self) -> Result<Registration, RegistrationError> {
        let mut check = Check::default();
        let id = check.word("id", self.id);
        let node = check.word("node", self.node);
        let kind = check.word("kind", self.kind);
        let capabilities = check.capabilities(&self.capabilities);
        let health = check.health(self.health.as_deref());
        let labels = check.labels(self.labels);
        let resources = check.resources(self.resources);
        let weight = check.weight(self.weight);
        match (id, node, kind, health) {
            (Some(id), Some(node), Some(kind), Some(health)) if check.is_clean() => Ok(Registration {
                id: InstanceId::new(id),
                node: NodeId::new(node),
                incarnation: self.incarnation,
                kind,
                capabilities,
                labels,
                resources,
                health,
                draining: self.draining,
                weight,
            }),
            _ => Err(RegistrationError { missing: check.missing, faults: check.faults }),
        }
    }
}

impl TryFrom<RegistrationDraft> for Registration {
    type Error = RegistrationError;
    fn try_from(draft: RegistrationDraft) -> Result<Self, RegistrationError> {
        draft.check()
    }
}

impl From<Registration> for RegistrationDraft {
    fn from(registration: Registration) -> Self {
        let labels = registration.labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        Self {
            id: Some(registration.id.to_string()),
            node: Some(registration.node.to_string()),
            incarnation: registration.incarnation,
            kind: Some(registration.kind.to_string()),
            capabilities: registration.capabilities.iter().map(Capability::to_string).collect(),
            labels: labels.collect(),
            resources: registration.resources.iter().map(|(name, free)| (name.to_string(), *free)).collect(),
            health: Some(registration.health.name().to_owned()),
            draining: registration.draining,
            weight: Some(registration.weight.as_f64()),
        }
    }
}

/// Collects what is missing and wrong.
#[derive(Default)]
struct Check {
    missing: Vec<&'static str>,
    faults: Vec<Fault>,
}

impl Check {
    fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.faults.is_empty()
    }

    fn fault(&mut self, field: &'static str, given: impl ToString, allowed: &'static str) {
        self.faults.push(Fault::new(field, given, allowed));
    }

    fn word(&mut self, field: &'static str, given: Option<String>) -> Option<Arc<str>> {
        let Some(given) = given else {
            self.missing.push(field);
            return None;
        };
        if is_word(&given) {
            return Some(Arc::from(given));
        }
        self.fault(field, given, WORD);
        None
    }

    fn count(&mut self, field: &'static str, count: usize) {
        if count > ITEMS_MAX {
            self.fault(field, format!("{count} of them"), "at most 64");
        }
    }

    fn capabilities(&mut self, given: &[String]) -> Vec<Capability> {
        if given.is_empty() {
            self.missing.push("capabilities");
        }
        self.count("capabilities", given.len());
        let mut capabilities = Vec::with_capacity(given.len());
        for text in given {
            match text.parse() {
                Ok(capability) => capabilities.push(capability),
                Err(fault) => self.faults.push(fault),
            }
        }
        capabilities.sort();
        capabilities.dedup();
        capabilities
    }

    fn health(&mut self, given: Option<&str>) -> Option<HealthLevel> {
        let Some(given) = given else {
            self.missing.push("health");
            return None;
        };
        let level = HealthLevel::named(given);
        if level.is_none() {
            self.fault("health", given, "healthy, degraded or unhealthy");
        }
        level
    }

    fn labels(&mut self, given: BTreeMap<String, String>) -> BTreeMap<Arc<str>, Arc<str>> {
        self.count("labels", given.len());
        let wrong = given.iter().find(|(key, value)| {
            !is_word(key) || value.len() > TEXT_MAX_BYTES || value.chars().any(char::is_control)
        });
        if let Some((key, value)) = wrong {
            self.fault("labels", format!("{key}={value}"), "keys as names, values of at most 255 bytes");
        }
        given.into_iter().map(|(key, value)| (Arc::from(key), Arc::from(value))).collect()
    }

    fn resources(&mut self, given: BTreeMap<String, u64>) -> BTreeMap<Arc<str>, u64> {
        self.count("resources", given.len());
        if let Some(name) = given.keys().find(|name| !is_word(name)) {
            self.fault("resources", name, WORD);
        }
        given.into_iter().map(|(name, free)| (Arc::from(name), free)).collect()
    }

    fn weight(&mut self, given: Option<f64>) -> Weight {
        match given.map_or(Ok(Weight::default()), Weight::new) {
            Ok(weight) => weight,
            Err(error) => {
                self.fault("weight", error.given, "a number above 0, at most 1000000");
                Weight::default()
            }
        }
    }
}
