use crate::check::{DEADLOCK, block_on, finds, model};
use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
use loom::thread;
use stanchion_sync::planted::Bug;
use stanchion_sync::{Pass, Turnstile, TurnstileLimits};
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

fn turnstile(places: u64, weight: u64) -> Arc<Turnstile> {
    Turnstile::new(TurnstileLimits { places, weight, waiting: 9 })
}

/// Waits to the end. A failing model does not drop the future: loom, already unwinding, would abort at its lock.
fn enter(turnstile: &Arc<Turnstile>, weight: u64) -> Pass {
    let mut future = ManuallyDrop::new(turnstile.enter(weight));
    let outcome = block_on(|cx| Pin::new(&mut *future).poll(cx));
    drop(ManuallyDrop::into_inner(future));
    outcome.unwrap()
}

/// A caller that polls once and gives up.
fn enter_and_give_up(turnstile: &Arc<Turnstile>, weight: u64) {
    let mut future = turnstile.enter(weight);
    if let Poll::Ready(pass) = Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
        drop(pass.unwrap());
    }
}

fn nobody_is_left(turnstile: &Turnstile) {
    let load = turnstile.load();
    assert_eq!((load.inside, load.weight, load.waiting), (0, 0, 0), "everything comes back");
}

/// Three callers of weight 2 where there is weight for 4: at most two are inside at once.
fn three_callers_weight_for_two() {
    let (turnstile, inside) = (turnstile(3, 4), Arc::new(AtomicU64::new(0)));
    let caller = |turnstile: Arc<Turnstile>, inside: Arc<AtomicU64>| {
        move || {
            if let Ok(pass) = turnstile.try_enter(2) {
                let others = inside.fetch_add(2, SeqCst);
                inside.fetch_sub(2, SeqCst);
                drop(pass);
                assert!(others < 4, "no more than the limits");
            }
        }
    };
    let others: Vec<_> =
        (0..2).map(|_| thread::spawn(caller(Arc::clone(&turnstile), Arc::clone(&inside)))).collect();
    caller(Arc::clone(&turnstile), inside)();
    others.into_iter().for_each(|other| other.join().unwrap());
    nobody_is_left(&turnstile);
}

#[test]
fn places_and_weight_are_never_exceeded() {
    model(three_callers_weight_for_two);
}

#[test]
fn places_and_weight_are_never_exceeded_finds_a_count_in_two_steps() {
    finds(Bug::TurnstileCountsInTwoSteps, "no more than the limits", three_callers_weight_for_two);
}

/// One leaves, one gives up waiting, one waits to the end: it gets in, and everything comes back.
fn return_against_cancel() {
    let turnstile = turnstile(1, 9);
    let held = turnstile.try_enter(1).unwrap();
    let holder = thread::spawn(move || drop(held));
    let fickle = {
        let turnstile = Arc::clone(&turnstile);
        thread::spawn(move || enter_and_give_up(&turnstile, 1))
    };
    drop(enter(&turnstile, 1));
    holder.join().unwrap();
    fickle.join().unwrap();
    nobody_is_left(&turnstile);
}

#[test]
fn what_a_cancelled_caller_was_given_goes_on() {
    model(return_against_cancel);
}

#[test]
fn what_a_cancelled_caller_was_given_goes_on_finds_one_that_keeps_it() {
    finds(Bug::TurnstileCancelledKeepsPlace, "everything comes back", return_against_cancel);
}

/// A heavy caller heads the queue and gives up; the light one behind it fits.
fn heavy_gives_up() {
    let turnstile = turnstile(9, 4);
    let held = ManuallyDrop::new(turnstile.try_enter(2).unwrap());
    let mut heavy = turnstile.enter(3);
    let polled = Pin::new(&mut heavy).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    let light = {
        let turnstile = Arc::clone(&turnstile);
        thread::spawn(move || drop(enter(&turnstile, 2)))
    };
    drop(heavy);
    light.join().unwrap();
    drop(ManuallyDrop::into_inner(held));
    nobody_is_left(&turnstile);
}

#[test]
fn a_heavy_caller_that_gives_up_unblocks_the_light_one() {
    model(heavy_gives_up);
}

#[test]
fn a_heavy_caller_that_gives_up_unblocks_the_light_one_finds_one_that_leaves_without_a_look() {
    finds(Bug::TurnstileCancelledBlocksTheNext, DEADLOCK, heavy_gives_up);
}

#[test]
fn a_heavy_caller_that_gives_up_unblocks_the_light_one_finds_a_return_that_keeps_the_weight() {
    finds(Bug::TurnstileReturnsNoWeight, "everything comes back", heavy_gives_up);
}

/// The limits shrink and grow while one leaves and one waits: nobody is put out, the waiter gets in.
fn resize_against_return() {
    let turnstile = turnstile(2, 9);
    let (one, two) = (turnstile.try_enter(1).unwrap(), turnstile.try_enter(1).unwrap());
    let holder = thread::spawn(move || drop((one, two)));
    let waiter = {
        let turnstile = Arc::clone(&turnstile);
        thread::spawn(move || drop(enter(&turnstile, 1)))
    };
    turnstile.resize(TurnstileLimits { places: 1, weight: 9, waiting: 9 });
    holder.join().unwrap();
    waiter.join().unwrap();
    nobody_is_left(&turnstile);
}

#[test]
fn a_resize_loses_no_waiter() {
    model(resize_against_return);
}

#[test]
fn a_resize_loses_no_waiter_finds_a_return_that_keeps_the_weight() {
    finds(Bug::TurnstileReturnsNoWeight, "everything comes back", resize_against_return);
}

/// A turnstile whose lanes have been lent places.
fn with_lanes(places: u64) -> Arc<Turnstile> {
    let turnstile = Turnstile::with_lanes(TurnstileLimits { places, weight: u64::MAX, waiting: 9 }, 2);
    // Each first caller of a lane brings it its part.
    (0..2).for_each(|lane| drop(turnstile.try_enter_by(lane, 1).unwrap()));
    turnstile
}

/// Eight places, all taken; the first pass has come by lane 1.
fn full() -> (Arc<Turnstile>, Pass, ManuallyDrop<Vec<Pass>>) {
    let turnstile = with_lanes(8);
    let pass = turnstile.try_enter_by(1, 1).unwrap();
    let others = (0..7).map(|_| turnstile.try_enter_by(0, 1).unwrap()).collect();
    // Loom, unwinding after a model that fails, would abort at the lock.
    (turnstile, pass, ManuallyDrop::new(others))
}

/// A caller by lane 0 and one by another take the last place, which lies in lane 1.
fn one_place_left(other_lane: usize) {
    let (turnstile, pass, held) = full();
    drop(pass);
    let other = {
        let turnstile = Arc::clone(&turnstile);
        thread::spawn(move || turnstile.try_enter_by(other_lane, 1).ok())
    };
    let mine = turnstile.try_enter_by(0, 1).ok();
    let both = ManuallyDrop::new([mine, other.join().unwrap()]);
    assert_eq!(both.iter().flatten().count(), 1, "exactly the last place");
    drop((ManuallyDrop::into_inner(both), ManuallyDrop::into_inner(held)));
    nobody_is_left(&turnstile);
}

#[test]
fn the_last_place_is_given_once_whatever_lane_it_lies_in() {
    model(|| one_place_left(0));
    model(|| one_place_left(1));
}

#[test]
fn the_last_place_is_given_once_finds_a_lane_that_closes_in_two_steps() {
    finds(Bug::TurnstileClosesInTwoSteps, "exactly the last place", || one_place_left(1));
}

#[test]
fn the_last_place_is_given_once_finds_a_refusal_without_a_look() {
    finds(Bug::TurnstileRefusesWithoutALook, "exactly the last place", || one_place_left(0));
}

/// A pass of a lane returns while another caller comes to wait: the waiter gets the place.
fn a_lane_returns_against_a_wait() {
    let (turnstile, pass, held) = full();
    let holder = thread::spawn(move || drop(pass));
    drop(enter(&turnstile, 1));
    holder.join().unwrap();
    drop(ManuallyDrop::into_inner(held));
    nobody_is_left(&turnstile);
}

#[test]
fn a_place_returned_by_a_lane_reaches_the_waiter() {
    model(a_lane_returns_against_a_wait);
}

#[test]
fn a_place_returned_by_a_lane_reaches_the_waiter_finds_a_return_to_a_closed_lane() {
    finds(Bug::TurnstileReturnsToAClosedLane, DEADLOCK, a_lane_returns_against_a_wait);
}
