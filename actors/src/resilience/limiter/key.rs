//! [`LimitKey`]: who calls what.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Longest agent and longest operation of a key, in bytes.
pub const LIMIT_KEY_MAX_BYTES: usize = 255;

/// Who calls what: each pair has a limit of its own within a limiter. An empty agent stands for all of them, if every
/// caller says so; an empty operation likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitKey<'a> {
    /// Who calls: at most 255 bytes.
    pub agent: &'a str,
    /// What is called: at most 255 bytes.
    pub operation: &'a str,
}

impl<'a> LimitKey<'a> {
    /// Makes a key.
    #[must_use]
    pub const fn new(agent: &'a str, operation: &'a str) -> Self {
        Self { agent, operation }
    }

    pub(super) fn is_countable(&self) -> bool {
        self.agent.len() <= LIMIT_KEY_MAX_BYTES && self.operation.len() <= LIMIT_KEY_MAX_BYTES
    }
}

/// A key as it is kept. A map of these is asked with borrowed keys: nothing is allocated to look one up.
#[derive(Clone, Debug)]
pub(super) struct OwnedKey {
    agent: Arc<str>,
    operation: Arc<str>,
}

impl From<LimitKey<'_>> for OwnedKey {
    fn from(key: LimitKey<'_>) -> Self {
        Self { agent: key.agent.into(), operation: key.operation.into() }
    }
}

/// What is a key, owned or borrowed.
pub(super) trait AsKey {
    fn key(&self) -> LimitKey<'_>;
}

impl AsKey for LimitKey<'_> {
    fn key(&self) -> LimitKey<'_> {
        *self
    }
}

impl AsKey for OwnedKey {
    fn key(&self) -> LimitKey<'_> {
        LimitKey { agent: &self.agent, operation: &self.operation }
    }
}

impl<'a> Borrow<dyn AsKey + 'a> for OwnedKey {
    fn borrow(&self) -> &(dyn AsKey + 'a) {
        self
    }
}

// Owned, borrowed and as a trait object, a key has to be equal and to hash alike: all of it through `key`.

impl PartialEq for dyn AsKey + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for dyn AsKey + '_ {}

impl Hash for dyn AsKey + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialEq for OwnedKey {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for OwnedKey {}

impl Hash for OwnedKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_map_finds_owned_keys_by_borrowed_ones() {
        let mut map = HashMap::new();
        map.insert(OwnedKey::from(LimitKey::new("ab", "c")), 1);
        map.insert(OwnedKey::from(LimitKey::new("a", "bc")), 2);
        let find = |agent, operation| map.get(&LimitKey::new(agent, operation) as &dyn AsKey).copied();
        assert_eq!((find("ab", "c"), find("a", "bc"), find("abc", "")), (Some(1), Some(2), None));
    }
}
