//! Indexes: from a capability, a label, a kind or a node to the places of instances.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{Affinity, Criteria, NodeId, Registration, slots::Slot};
use crate::fast_hash::FastMap;

/// What instances are indexed by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum IndexedBy {
    /// A capability, whatever its version.
    Capability(Arc<str>),
    /// A label with its value.
    Label(Arc<str>, Arc<str>),
    /// What an instance is.
    Kind(Arc<str>),
    /// Its node.
    Node(NodeId),
}

impl fmt::Display for IndexedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capability(name) => write!(f, "cap:{name}"),
            Self::Label(key, value) => write!(f, "label:{key}={value}"),
            Self::Kind(kind) => write!(f, "kind={kind}"),
            Self::Node(node) => write!(f, "node={node}"),
        }
    }
}

/// Places of instances by what they are indexed by; no key without a place.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    places: FastMap<IndexedBy, BTreeSet<Slot>>,
}

impl Index {
    pub(super) fn insert(&mut self, slot: Slot, registration: &Registration) {
        for key in keys_of(registration) {
            self.places.entry(key).or_default().insert(slot);
        }
    }

    pub(super) fn remove(&mut self, slot: Slot, registration: &Registration) {
        for key in keys_of(registration) {
            if let Some(places) = self.places.get_mut(&key) {
                places.remove(&slot);
                if places.is_empty() {
                    self.places.remove(&key);
                }
            }
        }
    }

    /// Places under a key; `None`: there are none.
    pub(super) fn places(&self, key: &IndexedBy) -> Option<&BTreeSet<Slot>> {
        self.places.get(key)
    }

    pub(super) fn count(&self, key: &IndexedBy) -> usize {
        self.places.get(key).map_or(0, BTreeSet::len)
    }

    /// The key with the fewest places.
    pub(super) fn best(&self, criteria: &Criteria) -> Option<IndexedBy> {
        let mut keys = keys_of_criteria(criteria);
        let first = keys.next()?;
        let Some(second) = keys.next() else { return Some(first) };
        [first, second].into_iter().chain(keys).min_by_key(|key| self.count(key))
    }
}

fn keys_of(registration: &Registration) -> impl Iterator<Item = IndexedBy> {
    let capabilities = registration.capabilities.iter().map(|has| IndexedBy::Capability(has.name.clone()));
    let labels = registration.labels.iter().map(|(key, value)| IndexedBy::Label(key.clone(), value.clone()));
    let kind = IndexedBy::Kind(registration.kind.clone());
    capabilities.chain(labels).chain([kind, IndexedBy::Node(registration.node.clone())])
}

/// Every key that criteria can be looked up by.
pub(super) fn keys_of_criteria(criteria: &Criteria) -> impl Iterator<Item = IndexedBy> {
    let capabilities = criteria.capabilities.iter().map(|need| IndexedBy::Capability(need.name.clone()));
    let labels = criteria.labels.iter().map(|(key, value)| IndexedBy::Label(key.clone(), value.clone()));
    let kind = criteria.kind.iter().map(|kind| IndexedBy::Kind(kind.clone()));
    let node = match &criteria.affinity {
        Some(Affinity::OnNode(node)) => Some(IndexedBy::Node(node.clone())),
        Some(Affinity::NotOnNode(_) | Affinity::PreferNode(_)) | None => None,
    };
    capabilities.chain(labels).chain(kind).chain(node)
}
