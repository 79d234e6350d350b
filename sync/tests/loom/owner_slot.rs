use crate::check::{finds, model};
use loom::thread;
use stanchion_sync::planted::Bug;
use stanchion_sync::{OwnerSlot, OwnerState};
use std::sync::Arc;

fn three_claimers() {
    let slot = Arc::new(OwnerSlot::new());
    let claim = |slot: &Arc<OwnerSlot<u32>>, me: u32| {
        let slot = Arc::clone(slot);
        move || slot.claim().map(|claim| (claim.generation(), slot.own(&claim, me), me))
    };
    let one = thread::spawn(claim(&slot, 1));
    let two = thread::spawn(claim(&slot, 2));
    let outcomes = [claim(&slot, 3)(), one.join().unwrap(), two.join().unwrap()];
    let winners: Vec<_> = outcomes.into_iter().flatten().collect();
    assert_eq!(winners.len(), 1, "one winner: {winners:?}");
    assert_eq!((winners[0].0, winners[0].1), (1, true));
    assert_eq!(slot.owner(), Some((1, winners[0].2)));
}

#[test]
fn one_of_the_racing_claimers_wins() {
    model(three_claimers);
}

#[test]
fn one_of_the_racing_claimers_wins_finds_a_claim_in_two_steps() {
    finds(Bug::SlotClaimsInTwoSteps, "one winner", three_claimers);
}

/// The owner leaves and its supervisor vacates twice, once late, while another claims and owns.
fn late_vacate() {
    let slot = Arc::new(OwnerSlot::new());
    let first = slot.claim().unwrap();
    let old = first.generation();
    assert!(slot.own(&first, "old"));
    let (leaves, buries) = (Arc::clone(&slot), Arc::clone(&slot));
    let owner = thread::spawn(move || {
        leaves.leave(old);
        leaves.vacate(old)
    });
    let undertaker = thread::spawn(move || buries.vacate(old));
    let new = slot.claim().map(|claim| (claim.generation(), slot.own(&claim, "new")));
    let vacated = [owner.join().unwrap(), undertaker.join().unwrap()];
    assert_eq!(vacated.iter().filter(|done| **done).count(), 1, "vacated exactly once");
    match new {
        Some((generation, owned)) => {
            assert!(owned, "a new owner is not evicted while it starts");
            assert_eq!(slot.owner(), Some((generation, "new")), "nor after");
            assert!(generation > old);
        }
        None => assert_eq!(slot.state(), OwnerState::Vacant),
    }
}

#[test]
fn a_late_vacate_does_not_evict_the_new_owner() {
    model(late_vacate);
}

#[test]
fn a_late_vacate_does_not_evict_the_new_owner_finds_an_ignored_generation() {
    finds(Bug::SlotVacateIgnoresGeneration, "vacated exactly once", late_vacate);
}
