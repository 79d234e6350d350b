use crate::check::{DEADLOCK, block_on, finds, model};
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;
use stanchion_sync::planted::Bug;
use stanchion_sync::{Arrival, Lead, Ride, Seat, SingleFlight};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;

type Flights = Arc<SingleFlight<u8, usize>>;

/// Joins and stays to the end; works if it has to.
fn fetch(flights: &Flights, leading: &AtomicUsize) -> usize {
    match flights.join(1) {
        Seat::Lead(lead) => work(lead, leading),
        Seat::Ride(ride) => match arrive(ride) {
            Arrival::Landed(value) => *value,
            Arrival::Lead(lead) => work(lead, leading),
        },
    }
}

/// Waits to the end. A failing model does not drop the rider: loom, already unwinding, would abort at its lock.
fn arrive(ride: Ride<u8, usize>) -> Arrival<u8, usize> {
    let mut ride = ManuallyDrop::new(ride);
    let arrival = block_on(|cx| Pin::new(&mut *ride).poll(cx));
    drop(ManuallyDrop::into_inner(ride));
    arrival
}

fn work(lead: Lead<u8, usize>, leading: &AtomicUsize) -> usize {
    let others = leading.fetch_add(1, SeqCst);
    thread::yield_now();
    leading.fetch_sub(1, SeqCst);
    let value = *lead.land(7);
    assert_eq!(others, 0, "one works at a time");
    value
}

/// Two join at once: at no time do both work, and both get the result.
fn two_join() {
    let (flights, leading): (Flights, _) = (SingleFlight::new(), Arc::new(AtomicUsize::new(0)));
    let other = {
        let (flights, leading) = (Arc::clone(&flights), Arc::clone(&leading));
        thread::spawn(move || assert_eq!(fetch(&flights, &leading), 7))
    };
    assert_eq!(fetch(&flights, &leading), 7);
    other.join().unwrap();
    assert_eq!(flights.in_flight(), 0, "no flight is left");
}

#[test]
fn one_works_and_both_get_the_result() {
    model(two_join);
}

#[test]
fn one_works_and_both_get_the_result_finds_a_join_in_two_steps() {
    finds(Bug::SingleFlightBeginsInTwoSteps, "one works at a time", two_join);
}

#[test]
fn one_works_and_both_get_the_result_finds_a_silent_landing() {
    finds(Bug::SingleFlightLandsSilently, DEADLOCK, two_join);
}

/// The leader is cancelled, one rider leaves whenever, the other stays: it works, and gets a result.
fn leader_and_a_rider_are_cancelled() {
    let (flights, leading): (Flights, _) = (SingleFlight::new(), Arc::new(AtomicUsize::new(0)));
    let Seat::Lead(lead) = flights.join(1) else { panic!("the first leads") };
    let fickle = flights.join(1);
    let leaves = thread::spawn(move || drop(fickle));
    let stays = {
        let (flights, leading) = (Arc::clone(&flights), Arc::clone(&leading));
        thread::spawn(move || assert_eq!(fetch(&flights, &leading), 7))
    };
    drop(lead);
    leaves.join().unwrap();
    stays.join().unwrap();
    assert_eq!(flights.in_flight(), 0, "no flight is left");
}

#[test]
fn a_cancelled_leader_hands_over() {
    model(leader_and_a_rider_are_cancelled);
}

#[test]
fn a_cancelled_leader_hands_over_finds_one_that_hands_over_to_nobody() {
    finds(Bug::SingleFlightDroppedLeadStrands, DEADLOCK, leader_and_a_rider_are_cancelled);
}

#[test]
fn a_cancelled_leader_hands_over_finds_an_appointed_rider_that_leaves_silently() {
    finds(Bug::SingleFlightAppointedLeavesSilently, DEADLOCK, leader_and_a_rider_are_cancelled);
}
