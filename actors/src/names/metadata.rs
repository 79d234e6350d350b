//! Free text about a name, by which it is found.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::InvalidMetadata;

const ITEMS_MAX: usize = 32;
const KEY_MAX_BYTES: usize = 64;
const VALUE_MAX_BYTES: usize = 1_024;

/// At most 32 values by key: keys of 1..=64 bytes, values of at most 1024, neither with control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Arc<str>, Arc<str>>", into = "BTreeMap<Arc<str>, Arc<str>>")]
pub struct Metadata(BTreeMap<Arc<str>, Arc<str>>);

impl Metadata {
    /// Checks and makes metadata; of two values of a key the later counts.
    ///
    /// # Errors
    /// [`InvalidMetadata`] names the key that is refused.
    pub fn new<K, V>(items: impl IntoIterator<Item = (K, V)>) -> Result<Self, InvalidMetadata>
    where
        K: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let items = items.into_iter().map(|(key, value)| (key.into(), value.into()));
        items.collect::<BTreeMap<_, _>>().try_into()
    }

    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(AsRef::as_ref)
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter()
    }
}

impl TryFrom<BTreeMap<Arc<str>, Arc<str>>> for Metadata {
    type Error = InvalidMetadata;
    fn try_from(items: BTreeMap<Arc<str>, Arc<str>>) -> Result<Self, InvalidMetadata> {
        let refused = |given: String, allowed| Err(InvalidMetadata { given, allowed });
        if items.len() > ITEMS_MAX {
            return refused(format!("{} keys", items.len()), "at most 32 keys");
        }
        for (key, value) in &items {
            if key.is_empty() || key.len() > KEY_MAX_BYTES || key.chars().any(char::is_control) {
                let start = key.chars().take(KEY_MAX_BYTES).collect();
                return refused(start, "keys have 1 to 64 bytes without control characters");
            }
            if value.len() > VALUE_MAX_BYTES || value.chars().any(char::is_control) {
                return refused(key.to_string(), "values have at most 1024 bytes without control characters");
            }
        }
        Ok(Self(items))
    }
}

impl From<Metadata> for BTreeMap<Arc<str>, Arc<str>> {
    fn from(metadata: Metadata) -> Self {
        metadata.0
    }
}
