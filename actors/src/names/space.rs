//! One namespace: its names, and where metadata leads to.

use std::{collections::BTreeSet, sync::Arc};

use super::{NameRecord, Namespace};
use crate::fast_hash::FastMap;

/// A key and a value of metadata.
type Item = (Arc<str>, Arc<str>);

/// The names of one namespace; none of them gone.
#[derive(Clone, Debug)]
pub(super) struct Space {
    /// A text of its own: threads that ask different tables count its references in different places.
    namespace: Namespace,
    records: FastMap<Arc<str>, NameRecord>,
    by_item: FastMap<Item, BTreeSet<Arc<str>>>,
}

impl Space {
    pub(super) fn new(namespace: &Namespace) -> Self {
        Self { namespace: namespace.apart(), records: FastMap::default(), by_item: FastMap::default() }
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    pub(super) fn record(&self, name: &str) -> Option<&NameRecord> {
        self.records.get(name)
    }

    /// The record with the name as it is held.
    pub(super) fn named(&self, name: &str) -> Option<(&Arc<str>, &NameRecord)> {
        self.records.get_key_value(name)
    }

    pub(super) fn records(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &NameRecord)> {
        self.records.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes the record out, to be changed and [put back](Self::insert).
    pub(super) fn take(&mut self, name: &str) -> Option<NameRecord> {
        let record = self.records.remove(name)?;
        for item in items(&record) {
            if let Some(names) = self.by_item.get_mut(&item) {
                names.remove(name);
                if names.is_empty() {
                    self.by_item.remove(&item);
                }
            }
        }
        Some(record)
    }

    pub(super) fn insert(&mut self, name: Arc<str>, record: NameRecord) {
        for item in items(&record) {
            self.by_item.entry(item).or_default().insert(Arc::clone(&name));
        }
        self.records.insert(name, record);
    }

    /// Names with this item; `None`: there are none.
    pub(super) fn with_item(&self, item: &Item) -> Option<&BTreeSet<Arc<str>>> {
        self.by_item.get(item)
    }
}

fn items(record: &NameRecord) -> impl Iterator<Item = Item> {
    let items = record.spec().metadata.iter();
    items.map(|(key, value)| (Arc::clone(key), Arc::clone(value))).collect::<Vec<_>>().into_iter()
}
