//! [`OwnerSlot`]: the one place that says who owns an entity.

use crate::planted::{Bug, planted};
use crate::shim::{Mutex, lock};

/// The one place on this node that says who owns an entity.
///
/// `Vacant -> Starting -> Owned -> Leaving -> Vacant`; [`OwnerSlot::vacate`] leads to `Vacant` from everywhere.
/// Each claim gets the next generation, and every later step names it: what a former owner still does changes
/// nothing. An actor's registered name cannot serve here, because it is freed while the actor still runs.
///
/// ```
/// use stanchion_sync::OwnerSlot;
/// # if stanchion_sync::UNDER_LOOM { return Ok(()); }
/// let slot = OwnerSlot::new();
/// let claim = slot.claim().ok_or("somebody else starts it")?;
/// assert!(slot.claim().is_none());
/// assert!(slot.own(&claim, "address"));
/// assert_eq!(slot.owner(), Some((claim.generation(), "address")));
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug)]
pub struct OwnerSlot<T> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    /// The last generation given out; the next claim gets the one after.
    last: u64,
    state: OwnerState<T>,
}

/// Where an entity's ownership stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerState<T> {
    /// Nobody owns it: [`OwnerSlot::claim`] will succeed.
    Vacant,
    /// The winner of a claim starts.
    Starting {
        /// The winner's number.
        generation: u64,
    },
    /// Reachable through `owner`.
    Owned {
        /// The owner's number.
        generation: u64,
        /// How to reach it.
        owner: T,
    },
    /// The owner takes nothing new, and has not yet gone.
    Leaving {
        /// The owner's number.
        generation: u64,
    },
}

/// The right to start as owner, won by [`OwnerSlot::claim`].
///
/// Who wins and cannot start gives it up with `slot.vacate(claim.generation())`.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a claim must end in `own` or `vacate`, or the slot stays in `Starting`"]
pub struct Claim {
    generation: u64,
}

impl Claim {
    /// The number won; higher than any before it in this slot.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl<T> OwnerState<T> {
    /// Whose number stands here; `None` when vacant.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        match self {
            Self::Vacant => None,
            Self::Starting { generation } | Self::Owned { generation, .. } | Self::Leaving { generation } => {
                Some(*generation)
            }
        }
    }
}

impl<T: Clone> OwnerSlot<T> {
    /// Makes a vacant slot; the first claim gets generation 1.
    #[must_use]
    pub fn new() -> Self {
        Self::after(0)
    }

    /// Makes a vacant slot whose first claim gets `generation + 1`.
    ///
    /// For a table that forgets vacant slots and makes them anew: numbers must go on, or a late step of a former
    /// owner would meet its own number again.
    #[must_use]
    pub fn after(generation: u64) -> Self {
        Self { inner: Mutex::new(Inner { last: generation, state: OwnerState::Vacant }) }
    }

    /// Claims a vacant slot; of any number of racers one wins.
    pub fn claim(&self) -> Option<Claim> {
        let mut inner = lock(&self.inner);
        if inner.state.generation().is_some() {
            return None;
        }
        if planted(Bug::SlotClaimsInTwoSteps) {
            drop(inner);
            inner = lock(&self.inner);
        }
        inner.last += 1;
        let generation = inner.last;
        inner.state = OwnerState::Starting { generation };
        Some(Claim { generation })
    }

    /// Makes the winner of `claim` reachable. `false`: the claim was vacated, and the winner must stop.
    #[must_use = "on `false` the caller does not own the entity"]
    pub fn own(&self, claim: &Claim, owner: T) -> bool {
        let generation = claim.generation;
        let starting = |state: &OwnerState<T>| matches!(state, OwnerState::Starting { generation: g } if *g == generation);
        self.step(starting, OwnerState::Owned { generation, owner })
    }

    /// Who owns the entity now: generation and how to reach it. `None` unless [`OwnerState::Owned`].
    #[must_use]
    pub fn owner(&self) -> Option<(u64, T)> {
        match &lock(&self.inner).state {
            OwnerState::Owned { generation, owner } => Some((*generation, owner.clone())),
            OwnerState::Vacant | OwnerState::Starting { .. } | OwnerState::Leaving { .. } => None,
        }
    }

    /// Makes the owner unreachable while it finishes. `false`: `generation` does not own the entity.
    pub fn leave(&self, generation: u64) -> bool {
        let owned = |state: &OwnerState<T>| matches!(state, OwnerState::Owned { generation: g, .. } if *g == generation);
        self.step(owned, OwnerState::Leaving { generation })
    }

    /// Empties the slot if `generation` stands in it, whatever its step. `false`: it does not, nothing changed.
    pub fn vacate(&self, generation: u64) -> bool {
        let stands = |state: &OwnerState<T>| match state.generation() {
            Some(found) => found == generation || planted(Bug::SlotVacateIgnoresGeneration),
            None => false,
        };
        self.step(stands, OwnerState::Vacant)
    }

    /// Where ownership stands at this moment.
    #[must_use]
    pub fn state(&self) -> OwnerState<T> {
        lock(&self.inner).state.clone()
    }

    /// Moves to `next` if the state is as `expected`. The former state is dropped without the lock, because
    /// dropping an owner may run foreign code.
    fn step(&self, expected: impl FnOnce(&OwnerState<T>) -> bool, next: OwnerState<T>) -> bool {
        let mut inner = lock(&self.inner);
        if !expected(&inner.state) {
            return false;
        }
        let former = std::mem::replace(&mut inner.state, next);
        drop(inner);
        drop(former);
        true
    }
}

impl<T: Clone> Default for OwnerSlot<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_walks_through_its_states() {
        let slot = OwnerSlot::default();
        assert_eq!(slot.state(), OwnerState::Vacant);
        let claim = slot.claim().unwrap();
        assert_eq!(slot.state(), OwnerState::Starting { generation: 1 });
        assert_eq!(slot.owner(), None);
        assert!(slot.own(&claim, 'a'));
        assert!(!slot.own(&claim, 'b'));
        assert_eq!(slot.owner(), Some((1, 'a')));
        assert!(slot.leave(1));
        assert!(!slot.leave(1));
        assert_eq!((slot.state(), slot.owner()), (OwnerState::Leaving { generation: 1 }, None));
        assert!(slot.claim().is_none());
        assert!(slot.vacate(1));
        assert!(!slot.vacate(1));
        assert_eq!(slot.claim().unwrap().generation(), 2);
    }

    #[test]
    fn steps_of_a_former_owner_change_nothing() {
        let slot = OwnerSlot::new();
        let old = slot.claim().unwrap();
        assert!(slot.vacate(old.generation()));
        let new = slot.claim().unwrap();
        assert!(!slot.own(&old, 'o'));
        assert!(!slot.vacate(old.generation()));
        assert!(slot.own(&new, 'n'));
        assert!(!slot.leave(old.generation()));
        assert!(!slot.vacate(old.generation()));
        assert_eq!(slot.owner(), Some((2, 'n')));
    }

    #[test]
    fn generations_go_on_in_a_slot_made_anew() {
        assert_eq!(OwnerSlot::<()>::after(41).claim().unwrap().generation(), 42);
    }
}
