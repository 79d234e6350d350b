use crate::check::{finds, model};
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;
use stanchion_sync::Probes;
use stanchion_sync::planted::Bug;
use std::sync::Arc;

/// Three callers at once, two places: two run, whatever the order.
fn three_callers_two_places() {
    let (probes, ran) = (Probes::new(), Arc::new(AtomicUsize::new(0)));
    probes.begin(2);
    let caller = |probes: Arc<Probes>, ran: Arc<AtomicUsize>| {
        move || {
            if let Some(probe) = probes.try_take() {
                ran.fetch_add(1, SeqCst);
                probe.spend();
            }
        }
    };
    let others: Vec<_> =
        (0..2).map(|_| thread::spawn(caller(Arc::clone(&probes), Arc::clone(&ran)))).collect();
    caller(Arc::clone(&probes), Arc::clone(&ran))();
    others.into_iter().for_each(|other| other.join().unwrap());
    assert_eq!((ran.load(SeqCst), probes.free()), (2, 0), "exactly the places run");
}

#[test]
fn exactly_the_places_of_a_round_are_given() {
    model(three_callers_two_places);
}

#[test]
fn exactly_the_places_of_a_round_are_given_finds_a_count_in_two_steps() {
    finds(Bug::ProbesCountInTwoSteps, "exactly the places run", three_callers_two_places);
}

/// One holds the only place and gives it back; another tries meanwhile: the place is there at the end.
fn drop_against_take() {
    let probes = Probes::new();
    probes.begin(1);
    let held = probes.try_take();
    let holder = thread::spawn(move || drop(held));
    let met = probes.try_take();
    holder.join().unwrap();
    let after = probes.try_take();
    assert_eq!(usize::from(met.is_some()) + usize::from(after.is_some()), 1, "the place comes back once");
}

#[test]
fn a_dropped_probe_lets_one_more_in() {
    model(drop_against_take);
}

#[test]
fn a_dropped_probe_lets_one_more_in_finds_one_that_keeps_its_place() {
    finds(Bug::ProbesDroppedKeepsPlace, "the place comes back once", drop_against_take);
}

/// A probe of the first round ends while the second begins and gives out its only place.
fn late_drop_against_begin() {
    let probes = Probes::new();
    probes.begin(1);
    let late = probes.try_take();
    let holder = thread::spawn(move || drop(late));
    probes.begin(1);
    let (first, second) = (probes.try_take(), probes.try_take());
    assert!(first.is_some() && second.is_none(), "the new round has its own places");
    first.into_iter().for_each(stanchion_sync::Probe::spend);
    holder.join().unwrap();
    assert!(probes.try_take().is_none(), "the new round has its own places");
}

#[test]
fn a_late_drop_leaves_the_next_round_alone() {
    model(late_drop_against_begin);
}

#[test]
fn a_late_drop_leaves_the_next_round_alone_finds_one_that_ignores_the_round() {
    finds(Bug::ProbesIgnoreTheRound, "the new round has its own places", late_drop_against_begin);
}
