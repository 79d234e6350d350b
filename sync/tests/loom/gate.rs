use crate::check::{DEADLOCK, block_on, finds, model};
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;
use stanchion_sync::planted::Bug;
use stanchion_sync::{Closed, Gate, Permit, Waiter};
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::task::{Context, Poll};

fn noop_poll(gate: &Arc<Gate>, waiter: &mut Waiter) -> Poll<Result<Permit, Closed>> {
    gate.poll_acquire(waiter, &mut Context::from_waker(std::task::Waker::noop()))
}

/// As `gate.acquire()`, but with a waiter that a failing model does not drop: loom, already unwinding from a
/// deadlock, would abort at the waiter's lock.
fn wait_for_place(gate: &Arc<Gate>) -> Result<Permit, Closed> {
    let mut waiter = ManuallyDrop::new(Waiter::new());
    let outcome = block_on(|cx| gate.poll_acquire(&mut waiter, cx));
    drop(ManuallyDrop::into_inner(waiter));
    outcome
}

fn two_senders_one_place() {
    let (gate, inside) = (Gate::new(1), Arc::new(AtomicUsize::new(0)));
    let sender = |gate: Arc<Gate>, inside: Arc<AtomicUsize>| {
        move || {
            if let Ok(permit) = gate.try_acquire() {
                let others = inside.fetch_add(1, SeqCst);
                inside.fetch_sub(1, SeqCst);
                drop(permit);
                assert_eq!(others, 0, "two permits for one place");
            }
        }
    };
    let other = thread::spawn(sender(Arc::clone(&gate), Arc::clone(&inside)));
    sender(Arc::clone(&gate), inside)();
    other.join().unwrap();
    assert_eq!(gate.in_use(), 0);
}

#[test]
fn never_more_permits_than_places() {
    model(two_senders_one_place);
}

#[test]
fn never_more_permits_than_places_finds_a_count_in_two_steps() {
    finds(Bug::GateCountsInTwoSteps, "two permits", two_senders_one_place);
}

fn waiter_against_return() {
    let gate = Gate::new(1);
    let permit = gate.try_acquire().unwrap();
    let holder = thread::spawn(move || drop(permit));
    assert!(wait_for_place(&gate).is_ok());
    holder.join().unwrap();
    assert_eq!((gate.in_use(), gate.waiting()), (0, 0));
}

#[test]
fn a_returned_place_reaches_the_waiter() {
    model(waiter_against_return);
}

#[test]
fn a_returned_place_reaches_the_waiter_finds_a_return_that_ignores_waiters() {
    finds(Bug::GateReturnIgnoresWaiters, DEADLOCK, waiter_against_return);
}

#[test]
fn a_returned_place_reaches_the_waiter_finds_queueing_without_a_second_look() {
    finds(Bug::GateQueuesWithoutLooking, DEADLOCK, waiter_against_return);
}

/// One waiter queues, then gives up, while the place comes back; another waits to the end.
fn cancelled_waiter() {
    let gate = Gate::new(1);
    let permit = gate.try_acquire().unwrap();
    let mut gives_up = Waiter::new();
    assert!(noop_poll(&gate, &mut gives_up).is_pending());
    let holder = thread::spawn(move || drop(permit));
    let canceller = thread::spawn(move || drop(gives_up));
    assert!(wait_for_place(&gate).is_ok());
    holder.join().unwrap();
    canceller.join().unwrap();
    assert_eq!((gate.in_use(), gate.waiting()), (0, 0));
}

#[test]
fn a_cancelled_waiter_swallows_no_place() {
    model(cancelled_waiter);
}

#[test]
fn a_cancelled_waiter_swallows_no_place_finds_one_that_keeps_it() {
    finds(Bug::GateDroppedWaiterKeepsPlace, DEADLOCK, cancelled_waiter);
}

/// A waiter polls once and goes, others take the fast path: whatever happens, every place comes back.
fn mixed_paths() {
    let gate = Gate::new(1);
    let permit = gate.try_acquire().unwrap();
    let waits = Arc::clone(&gate);
    let waiter = thread::spawn(move || {
        let mut waiter = Waiter::new();
        drop(noop_poll(&waits, &mut waiter));
    });
    let tries = Arc::clone(&gate);
    let sender = thread::spawn(move || drop(tries.try_acquire()));
    drop(permit);
    waiter.join().unwrap();
    sender.join().unwrap();
    assert_eq!((gate.in_use(), gate.waiting()), (0, 0), "every place comes back");
    assert!(gate.try_acquire().is_ok());
}

#[test]
fn waiting_and_trying_mixed_leave_no_place_in_use() {
    model(mixed_paths);
}

#[test]
fn waiting_and_trying_mixed_leave_no_place_in_use_finds_a_kept_place() {
    finds(Bug::GateDroppedWaiterKeepsPlace, "every place comes back", mixed_paths);
}

fn close_against_waiter_and_return() {
    let gate = Gate::new(1);
    let permit = gate.try_acquire().unwrap();
    let closes = Arc::clone(&gate);
    let closer = thread::spawn(move || closes.close());
    let turned_away = wait_for_place(&gate);
    assert_eq!(turned_away.err(), Some(Closed));
    drop(permit);
    closer.join().unwrap();
    assert_eq!((gate.in_use(), gate.waiting()), (0, 0));
}

#[test]
fn close_wakes_every_waiter() {
    model(close_against_waiter_and_return);
}

#[test]
fn close_wakes_every_waiter_finds_a_close_that_wakes_nobody() {
    finds(Bug::GateCloseWakesNobody, DEADLOCK, close_against_waiter_and_return);
}

/// The place comes back while the gate closes and a third waits: it ends either way, and nothing stays counted.
fn close_against_return() {
    let gate = Gate::new(1);
    let permit = gate.try_acquire().unwrap();
    let closes = Arc::clone(&gate);
    let closer = thread::spawn(move || closes.close());
    let holder = thread::spawn(move || drop(permit));
    drop(wait_for_place(&gate));
    closer.join().unwrap();
    holder.join().unwrap();
    gate.reopen();
    assert_eq!((gate.in_use(), gate.waiting()), (0, 0), "nothing stays counted");
    assert!(gate.try_acquire().is_ok());
}

#[test]
fn close_against_a_return_ends_every_wait() {
    model(close_against_return);
}

#[test]
fn close_against_a_return_ends_every_wait_finds_a_place_handed_to_nobody() {
    finds(Bug::GateHandsOnToNobody, "nothing stays counted", close_against_return);
}
