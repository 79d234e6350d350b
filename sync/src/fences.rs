//! [`Fences`]: which activation of an entity may still write.

use crate::planted::{Bug, planted};
use crate::shim::{Mutex, lock};
use std::collections::HashMap;

/// The activation numbers by which a writer tells the present owner of an entity from former ones.
///
/// An activation goes through the same queue as the chains: the writer raises the number, reads the state and
/// answers both. Chains queued before are in that state; chains of the former owner queued after are not
/// admitted. This holds because one thread both raises and applies: raising from elsewhere would slip between
/// the check of a chain and its application.
///
/// Numbers are unique within one `Fences` and only grow, also across [`Fences::forget`]. They start anew with the
/// process; a token adds the boot number.
///
/// ```
/// use stanchion_sync::Fences;
/// # if stanchion_sync::UNDER_LOOM { return; }
/// let fences = Fences::new();
/// let old = fences.raise(7);
/// let new = fences.raise(7);
/// assert!(!fences.admits(7, old) && fences.admits(7, new));
/// ```
#[derive(Debug, Default)]
pub struct Fences {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The last activation number given out, of whichever entity.
    last: u64,
    /// The one admitted activation of each active entity.
    admitted: HashMap<u64, u64>,
}

impl Fences {
    /// Makes fences that admit nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Admits a new activation of `entity` in place of any before, and returns its number, from 1.
    #[must_use = "only the number returned is admitted from here on"]
    pub fn raise(&self, entity: u64) -> u64 {
        let mut inner = lock(&self.inner);
        inner.last += 1;
        let activation = inner.last;
        inner.admitted.insert(entity, activation);
        activation
    }

    /// Whether `activation` is the present one of `entity`.
    #[must_use]
    pub fn admits(&self, entity: u64, activation: u64) -> bool {
        self.current(entity) == Some(activation)
    }

    /// The present activation of `entity`; `None` when it is not active.
    #[must_use]
    pub fn current(&self, entity: u64) -> Option<u64> {
        lock(&self.inner).admitted.get(&entity).copied()
    }

    /// Ends `activation`, after which nobody is admitted to `entity`. `false`: it is not the present one,
    /// nothing changed.
    pub fn forget(&self, entity: u64, activation: u64) -> bool {
        let mut inner = lock(&self.inner);
        let present = inner.admitted.get(&entity) == Some(&activation);
        if present || planted(Bug::FencesForgetBlindly) {
            inner.admitted.remove(&entity);
        }
        present
    }

    /// Entities active at this moment.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.inner).admitted.len()
    }

    /// Whether no entity is active at this moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_activation_of_an_entity_is_admitted() {
        let fences = Fences::new();
        let (one, other) = (fences.raise(1), fences.raise(2));
        let again = fences.raise(1);
        assert!(!fences.admits(1, one));
        assert!(fences.admits(1, again) && fences.admits(2, other));
        assert!(!fences.admits(3, again));
    }

    #[test]
    fn a_number_is_never_given_twice_even_after_forget() {
        let fences = Fences::new();
        let old = fences.raise(1);
        assert!(fences.forget(1, old));
        assert!(fences.is_empty() && !fences.admits(1, old));
        assert_ne!(fences.raise(1), old);
        assert!(!fences.admits(1, old));
    }

    #[test]
    fn a_former_activation_cannot_forget_the_present_one() {
        let fences = Fences::new();
        let (old, new) = (fences.raise(1), fences.raise(1));
        assert!(!fences.forget(1, old));
        assert!(fences.admits(1, new));
        assert_eq!(fences.len(), 1);
    }
}
