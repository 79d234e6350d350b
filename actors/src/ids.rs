//! Identities: newtypes, so that numbers of different kinds never mix.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number after this one; saturates at `u64::MAX`.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// Dense number of an entity, given at its creation, never used again for another one.
    EntityId
}
number! {
    /// Number of accepted changes of one entity: 0 before the first entry, then gapless.
    Version
}
number! {
    /// Place of an entry in the store's one order; dense on redb and memory, the first is 1.
    Position
}

/// Microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time plus `duration`; saturates.
    #[must_use]
    pub fn after(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this one; zero when `earlier` lies later.
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Longest kind, in bytes.
pub const KIND_MAX_BYTES: usize = 64;
/// Longest key, in bytes: 128 characters, however long each is.
pub const KEY_MAX_BYTES: usize = 512;
/// Longest id of a timer and longest key of a private row, in bytes.
pub const ROW_KEY_MAX_BYTES: usize = 255;
/// Longest id of an effect, in bytes: the longest id of a step of a workflow, with the ending of its compensation.
pub const EFFECT_ID_MAX_BYTES: usize = 1_024 + 5;

/// What people call an entity: its kind and its key within the kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    /// Kind: 1..=64 visible ASCII characters without `/`; then, for an entity of another node, `@` and the name of the
    /// node.
    pub kind: Arc<str>,
    /// Key: 1..=512 bytes without control characters.
    pub key: Arc<str>,
}

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The kind is empty, too long, or holds a character that is not visible ASCII; so for the node after `@`.
    #[error(
        "kind {0:?} is not a kind: use 1..={KIND_MAX_BYTES} visible ASCII characters without '/' and '@'"
    )]
    Kind(String),
    /// The key is empty, too long, or holds a control character.
    #[error("key {0:?} is not a key: use 1..={KEY_MAX_BYTES} bytes without control characters")]
    Key(String),
}

impl Name {
    /// Checks and makes a name.
    ///
    /// # Errors
    /// [`NameError`] when kind or key is outside its shape.
    pub fn new(kind: impl Into<Arc<str>>, key: impl Into<Arc<str>>) -> Result<Self, NameError> {
        let (kind, key) = (kind.into(), key.into());
        let is_word = |text: &str| {
            let visible = text.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'@');
            visible && (1..=KIND_MAX_BYTES).contains(&text.len())
        };
        let holds = match kind.split_once('@') {
            None => is_word(&kind),
            Some((kind, node)) => is_word(kind) && is_word(node),
        };
        if !holds {
            return Err(NameError::Kind(kind.to_string()));
        }
        if key.is_empty() || key.len() > KEY_MAX_BYTES || key.chars().any(char::is_control) {
            return Err(NameError::Key(key.to_string()));
        }
        Ok(Self { kind, key })
    }

    /// The entity of this name on a node.
    ///
    /// # Errors
    /// [`NameError::Kind`] when the node's name is none: 1..=64 visible ASCII characters without `/` and `@`.
    pub fn on(&self, node: &str) -> Result<Self, NameError> {
        let here = self.here();
        Self::new(format!("{}@{node}", here.kind), here.key)
    }

    /// The node it names; `None`: this one.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.kind.split_once('@').map(|(_, node)| node)
    }

    /// The name as the node itself has it.
    #[must_use]
    pub fn here(&self) -> Self {
        match self.kind.split_once('@') {
            None => self.clone(),
            Some((kind, _)) => Self { kind: Arc::from(kind), key: Arc::clone(&self.key) },
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.key)
    }
}

/// Who numbers commands: a client session (a UUID v7) or a sending entity (its number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Origin {
    /// A client session.
    #[serde(rename = "c")]
    Session(uuid::Uuid),
    /// An entity of the same store.
    #[serde(rename = "e")]
    Entity(EntityId),
}

impl Origin {
    /// Key bytes of this origin: a tag, then 16 or 8 bytes.
    #[must_use]
    pub fn key_bytes(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(17);
        self.write_key(&mut key);
        key
    }

    /// Appends [`Self::key_bytes`].
    pub(crate) fn write_key(&self, key: &mut Vec<u8>) {
        match self {
            Self::Session(uuid) => {
                key.push(0);
                key.extend_from_slice(uuid.as_bytes());
            }
            Self::Entity(entity) => {
                key.push(1);
                key.extend_from_slice(&entity.0.to_be_bytes());
            }
        }
    }
}

/// Identity of one command: the same id is executed at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommandId {
    /// Who numbered it.
    #[serde(rename = "o")]
    pub origin: Origin,
    /// Its number within the origin, from 1.
    #[serde(rename = "s")]
    pub seq: u64,
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Session(uuid) => write!(f, "{uuid}:{}", self.seq),
            Origin::Entity(entity) => write!(f, "entity-{entity}:{}", self.seq),
        }
    }
}

/// Where a command, message or entry comes from: carried in envelopes and entries from the first format on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// W3C `traceparent` of the request, if it had one.
    #[serde(rename = "tp", default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Arc<str>>,
    /// The business operation all of this belongs to.
    #[serde(rename = "co", default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Arc<str>>,
    /// The command or message that caused this one.
    #[serde(rename = "ca", default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<Arc<str>>,
}

impl Cause {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.traceparent.is_none() && self.correlation.is_none() && self.causation.is_none()
    }
}
