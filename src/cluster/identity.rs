//! Who a node is: its name, and which life of it.

use std::{fmt, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};

use super::transport::{RandomError, random};

/// Longest name of a node, in bytes.
pub const NODE_NAME_MAX_BYTES: usize = 128;

/// Name of a node: 1..=128 visible ASCII characters without `#` and `@`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct NodeName(Arc<str>);

/// Why a text is no name of a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node name {0:?} is not a name: use 1..={NODE_NAME_MAX_BYTES} visible ASCII characters without '#', '@'"
)]
pub struct NodeNameError(pub String);

impl NodeName {
    /// Checks and makes a name.
    ///
    /// # Errors
    /// [`NodeNameError`] when the text is outside its shape.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, NodeNameError> {
        let name = name.into();
        let visible = name.bytes().all(|b| b.is_ascii_graphic() && b != b'#' && b != b'@');
        if name.is_empty() || name.len() > NODE_NAME_MAX_BYTES || !visible {
            return Err(NodeNameError(name.to_string()));
        }
        Ok(Self(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<Arc<str>> for NodeName {
    type Error = NodeNameError;
    fn try_from(name: Arc<str>) -> Result<Self, NodeNameError> {
        Self::new(name)
    }
}

impl From<NodeName> for Arc<str> {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

/// One life of a node's process; a later life orders after an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeIncarnation {
    /// Grows with every start of the node: its boot number, or the time of its start.
    pub life: u64,
    /// Drawn at random at the start: tells two copies of one store apart.
    pub nonce: u64,
}

impl NodeIncarnation {
    /// The incarnation of boot number `life`, with a nonce of its own.
    ///
    /// # Errors
    /// [`RandomError`] when the machine gives no random bytes.
    pub fn of_boot(life: u64) -> Result<Self, RandomError> {
        Ok(Self { life, nonce: u64::from_be_bytes(random()?) })
    }

    /// The incarnation of a process that has no boot number: the time stands for it.
    ///
    /// # Errors
    /// [`RandomError`] when the machine gives no random bytes.
    pub fn of_now() -> Result<Self, RandomError> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::of_boot(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for NodeIncarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.life, self.nonce)
    }
}

/// A node in one of its lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId {
    /// Its name.
    pub name: NodeName,
    /// Which life.
    pub incarnation: NodeIncarnation,
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_visible_and_short_and_has_no_marks_of_ours() {
        assert_eq!(NodeName::new("node-1.eu").map(|name| name.to_string()), Ok("node-1.eu".to_owned()));
        for bad in ["", "a b", "a#1", "a@b", "é", &"x".repeat(129)] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_later_life_orders_after_an_earlier_one_whatever_the_nonce() {
        let (one, two) = (NodeIncarnation { life: 1, nonce: 9 }, NodeIncarnation { life: 2, nonce: 1 });
        assert!(one < two);
    }
}
