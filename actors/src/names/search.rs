//! Searches for names.

use std::{collections::BTreeMap, sync::Arc};

use super::{NameKey, NameRef, NameSpec, NameState, Names, Namespace, record::NameRecord};

/// What is looked for in a namespace, all of it; the default finds every name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameSearch {
    /// What the owner is.
    pub kind: Option<Arc<str>>,
    /// Metadata it has, with these values.
    pub metadata: BTreeMap<Arc<str>, Arc<str>>,
    /// How the name begins.
    pub prefix: Option<Arc<str>>,
    /// Only names whose owner lives.
    pub live_only: bool,
}

impl NameSearch {
    /// Names with this value in their metadata.
    #[must_use]
    pub fn with(key: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        Self { metadata: [(key.into(), value.into())].into(), ..Self::default() }
    }

    /// The name, if it is what is looked for.
    pub(super) fn found(&self, key: NameKey, record: &NameRecord) -> Option<NameFound> {
        if !self.matches(key.name(), record) {
            return None;
        }
        let reference = NameRef { key, epoch: record.epoch() };
        Some(NameFound { reference, spec: record.spec().clone(), state: record.state().clone() })
    }

    fn matches(&self, name: &str, record: &NameRecord) -> bool {
        let spec = record.spec();
        !record.is_gone()
            && self.kind.as_ref().is_none_or(|kind| spec.kind == *kind)
            && self.prefix.as_ref().is_none_or(|prefix| name.starts_with(&**prefix))
            && (!self.live_only || matches!(record.state(), NameState::Live { .. }))
            && self.metadata.iter().all(|(key, value)| spec.metadata.value(key) == Some(value))
    }
}

/// A name that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameFound {
    /// Its present owning; while it recovers, that of the start which is awaited.
    pub reference: NameRef,
    /// What is registered.
    pub spec: NameSpec,
    /// Whether its owner lives.
    pub state: NameState,
}

impl Names {
    /// The names of a namespace that are as the search says, by name. Goes through the index of metadata if the
    /// search names any, else through all names of the namespace.
    #[must_use]
    pub fn search(&self, namespace: &Namespace, search: &NameSearch) -> Vec<NameFound> {
        let Some(space) = self.space(namespace) else { return Vec::new() };
        let found = |name: &Arc<str>, record: &NameRecord| search.found(NameKey::of(namespace, name), record);
        let mut found: Vec<NameFound> = match search.metadata.iter().next() {
            None => space.records().filter_map(|(name, record)| found(name, record)).collect(),
            Some((key, value)) => {
                let names = space.with_item(&(Arc::clone(key), Arc::clone(value))).into_iter().flatten();
                names.filter_map(|name| found(name, space.record(name)?)).collect()
            }
        };
        found.sort_by(|a, b| a.reference.key.cmp(&b.reference.key));
        found
    }
}
