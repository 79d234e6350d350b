use crate::check::{finds, model};
use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
use loom::thread;
use stanchion_sync::planted::Bug;
use stanchion_sync::{Held, ReleaseOrder};
use std::sync::Arc;

/// The actor holds replies for versions 1 and 2 while the writer makes them durable, one by one.
fn hold_against_release() {
    let (order, disk) = (Arc::new(ReleaseOrder::new(0)), Arc::new(AtomicU64::new(0)));
    let (epoch, _) = order.begin();
    let (writes, flushes) = (Arc::clone(&order), Arc::clone(&disk));
    let writer = thread::spawn(move || {
        let mut out = Vec::new();
        for version in 1..=2 {
            flushes.store(version, SeqCst);
            let released = writes.release(epoch, version);
            assert!(released.iter().all(|reply| *reply <= version), "released before it is durable");
            out.extend(released);
        }
        out
    });
    let mut out = Vec::new();
    for version in 1..=2 {
        match order.hold(epoch, version, version) {
            Held::Waiting => {}
            Held::Durable(reply) => {
                assert!(disk.load(SeqCst) >= version, "answered before it is durable");
                out.push(reply);
            }
            Held::Abandoned(_) => unreachable!("nobody abandons"),
        }
    }
    out.extend(writer.join().unwrap());
    out.sort_unstable();
    assert_eq!(out, [1, 2], "every reply exactly once");
    assert_eq!((order.durable(), order.len()), (2, 0));
}

#[test]
fn every_reply_comes_out_once_when_durable() {
    model(hold_against_release);
}

#[test]
fn every_reply_comes_out_once_when_durable_finds_a_hold_in_two_steps() {
    finds(Bug::ReleaseHoldsInTwoSteps, "exactly once", hold_against_release);
}

/// Version 1 becomes durable while the actor is declared dead and still tries to hold one more reply.
fn completion_against_death() {
    let order = Arc::new(ReleaseOrder::new(0));
    let (epoch, _) = order.begin();
    assert_eq!(order.hold(epoch, 1, 1), Held::Waiting);
    let (writes, buries) = (Arc::clone(&order), Arc::clone(&order));
    let writer = thread::spawn(move || writes.release(epoch, 1));
    let undertaker = thread::spawn(move || buries.abandon(epoch));
    let mut out = match order.hold(epoch, 2, 2) {
        Held::Waiting => Vec::new(),
        Held::Durable(_) => unreachable!("version 2 is never durable"),
        Held::Abandoned(reply) => vec![reply],
    };
    out.extend(writer.join().unwrap());
    out.extend(undertaker.join().unwrap());
    out.sort_unstable();
    assert_eq!(out, [1, 2], "every reply exactly once");
}

#[test]
fn completion_against_death_answers_once() {
    model(completion_against_death);
}

#[test]
fn completion_against_death_answers_once_finds_an_epoch_that_goes_on() {
    finds(Bug::ReleaseAbandonKeepsEpoch, "exactly once", completion_against_death);
}

/// The completion of a dead life arrives while the next life, whose own version 1 is not durable, holds.
fn late_completion() {
    let order = Arc::new(ReleaseOrder::new(0));
    let (old, _) = order.begin();
    let late = Arc::clone(&order);
    let writer = thread::spawn(move || late.release(old, 1));
    let (new, left) = order.begin();
    assert!(left.is_empty());
    let durable_at_start = order.durable();
    let held = order.hold(new, durable_at_start + 1, "new");
    assert_eq!(held, Held::Waiting, "nothing above the start is durable in this life");
    assert!(writer.join().unwrap().is_empty(), "a dead life releases nothing of the next");
    assert_eq!(order.abandon(new), ["new"]);
}

#[test]
fn a_late_completion_leaves_the_next_life_alone() {
    model(late_completion);
}

#[test]
fn a_late_completion_leaves_the_next_life_alone_finds_a_release_without_epoch() {
    finds(Bug::ReleaseIgnoresEpoch, "dead life", late_completion);
}
