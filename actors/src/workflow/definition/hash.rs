//! Content hash of a definition: equal definitions are stored once.

use super::Definition;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;

/// SHA-256 of a definition's canonical encoding.
///
/// Two definitions have the same hash exactly when they mean the same document: the order of keys and the
/// choice between leaving a default out and writing it do not matter, the order of steps does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DefinitionHash([u8; 32]);

impl DefinitionHash {
    /// Hashes a definition.
    pub(super) fn of(definition: &Definition) -> Self {
        let mut text = Vec::new();
        // A definition holds only strings, numbers and JSON values, which always serialise.
        let value = serde_json::to_value(definition).unwrap_or(Value::Null);
        write_canonical(&value, &mut text);
        Self(Sha256::digest(&text).into())
    }

    /// A hash read back from storage.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for DefinitionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DefinitionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DefinitionHash({self})")
    }
}

/// JSON without white space and with sorted keys, whatever map type serde_json was built with.
fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            out.push(b'{');
            for (key, value) in entries {
                out.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
                out.push(b':');
                write_canonical(value, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                write_canonical(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.extend_from_slice(value.to_string().as_bytes());
        }
    }
}
