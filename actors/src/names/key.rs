//! Namespaces, names and references.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{InvalidName, NamesError};

/// Longest namespace, in bytes.
const NAMESPACE_MAX_BYTES: usize = 64;
/// Longest name, in bytes.
const NAME_MAX_BYTES: usize = 255;

/// Names that see each other: 1..=64 visible ASCII characters without `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(Arc<str>);

impl Namespace {
    /// Checks and makes a namespace.
    ///
    /// # Errors
    /// [`InvalidName`] outside its shape.
    pub fn new(namespace: impl Into<Arc<str>>) -> Result<Self, InvalidName> {
        let namespace = namespace.into();
        if is_ascii_word(&namespace) {
            Ok(Self(namespace))
        } else {
            Err(InvalidName::new("namespace", &namespace, "1 to 64 visible ASCII characters without '/'"))
        }
    }

    /// The same namespace, sharing nothing with this one.
    pub(super) fn apart(&self) -> Self {
        Self(Arc::from(&*self.0))
    }

    /// The namespace as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Namespace {
    type Error = InvalidName;
    fn try_from(namespace: String) -> Result<Self, InvalidName> {
        Self::new(namespace)
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> String {
        namespace.0.to_string()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name in its namespace; shown as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "(Namespace, String)", into = "(Namespace, String)")]
pub struct NameKey {
    namespace: Namespace,
    name: Arc<str>,
}

impl NameKey {
    /// Checks and makes a key.
    ///
    /// # Errors
    /// [`InvalidName`] for a name outside 1..=255 bytes or with control characters.
    pub fn new(namespace: Namespace, name: impl Into<Arc<str>>) -> Result<Self, InvalidName> {
        let name = name.into();
        if name.is_empty() || name.len() > NAME_MAX_BYTES || name.chars().any(char::is_control) {
            return Err(InvalidName::new("name", &name, "1 to 255 bytes without control characters"));
        }
        Ok(Self { namespace, name })
    }

    /// The key of a name that is known, hence was checked.
    pub(super) fn of(namespace: &Namespace, name: &Arc<str>) -> Self {
        Self { namespace: namespace.clone(), name: Arc::clone(name) }
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }
}

impl TryFrom<(Namespace, String)> for NameKey {
    type Error = InvalidName;
    fn try_from((namespace, name): (Namespace, String)) -> Result<Self, InvalidName> {
        Self::new(namespace, name)
    }
}

impl From<NameKey> for (Namespace, String) {
    fn from(key: NameKey) -> Self {
        (key.namespace, key.name.to_string())
    }
}

impl fmt::Display for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One owning of a name: refused once the owner has ended, whoever has the name then.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NameRef {
    /// The name.
    pub key: NameKey,
    /// Which owning it is: ascends with each, never repeats.
    pub epoch: u64,
}

impl NameRef {
    /// Whether it may be used in a namespace.
    pub(super) fn check_within(&self, namespace: &Namespace) -> Result<(), NamesError> {
        if self.key.namespace == *namespace {
            return Ok(());
        }
        Err(NamesError::CrossNamespace { key: self.key.clone(), namespace: namespace.clone() })
    }
}

/// Whether a text may be a namespace or a kind.
pub(super) fn is_ascii_word(text: &str) -> bool {
    let visible = |b: u8| b.is_ascii_graphic() && b != b'/';
    !text.is_empty() && text.len() <= NAMESPACE_MAX_BYTES && text.bytes().all(visible)
}
