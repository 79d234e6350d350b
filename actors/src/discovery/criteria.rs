//! What is looked for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{HealthLevel, Need, NodeId, Registration};

/// Where an instance should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// On this node only.
    OnNode(NodeId),
    /// On any node but this one.
    NotOnNode(NodeId),
    /// On this node first, then on others.
    PreferNode(NodeId),
}

/// What an instance must be, all of it; the default matches everything that is not gone.
///
/// As text, parts separated by spaces: `cap:ocr@>=1.2,<2 kind=worker node=n1 node!=n2 label:zone=eu
/// health>=degraded resource:memory_mb>=512`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Criteria {
    /// Capabilities it has, each in a version that does.
    pub capabilities: Vec<Need>,
    /// What it is.
    pub kind: Option<Arc<str>>,
    /// Labels it has, with these values.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// How well it is at least.
    pub health_min: Option<HealthLevel>,
    /// What it has free at least.
    pub resources_min: BTreeMap<Arc<str>, u64>,
    /// Where it runs.
    pub affinity: Option<Affinity>,
    /// Also those that are gone, when they were seen within this time: what a partition hides may still be there.
    pub gone_since_max: Option<Duration>,
    /// Refuse to look at all instances one by one.
    pub require_index: bool,
    /// Most answers; `None`: all.
    pub answers_max: Option<usize>,
}

impl Criteria {
    /// Whoever has a capability, in any version.
    #[must_use]
    pub fn capability(name: impl Into<Arc<str>>) -> Self {
        Self { capabilities: vec![Need::any(name)], ..Self::default() }
    }

    /// Whether an instance is what is looked for; says nothing about its lease.
    #[must_use]
    pub fn matches(&self, registration: &Registration) -> bool {
        let has_free = |(name, least): (&Arc<str>, &u64)| {
            registration.resources.get(name).copied().unwrap_or(0) >= *least
        };
        self.health_min.is_none_or(|least| registration.health >= least)
            && self.matches_rest(registration)
            && self.resources_min.iter().all(has_free)
    }

    /// Whether it is that but for its health and what it has free.
    pub(super) fn matches_rest(&self, registration: &Registration) -> bool {
        let has = |need: &Need| registration.capabilities.iter().any(|capability| need.is_met_by(capability));
        let labelled = |(key, value)| registration.labels.get(key) == Some(value);
        self.kind.as_ref().is_none_or(|kind| registration.kind == *kind)
            && self.may_run_on(&registration.node)
            && self.labels.iter().all(labelled)
            && self.capabilities.iter().all(has)
    }

    /// Whether the node comes first.
    pub(super) fn prefers(&self, node: &NodeId) -> bool {
        matches!(&self.affinity, Some(Affinity::PreferNode(preferred)) if preferred == node)
    }

    fn may_run_on(&self, node: &NodeId) -> bool {
        match &self.affinity {
            Some(Affinity::OnNode(only)) => node == only,
            Some(Affinity::NotOnNode(never)) => node != never,
            Some(Affinity::PreferNode(_)) | None => true,
        }
    }
}
