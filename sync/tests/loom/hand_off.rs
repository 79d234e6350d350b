use crate::check::{DEADLOCK, finds, model};
use loom::thread;
use stanchion_sync::planted::Bug;
use stanchion_sync::{Drain, HandOff, Refused};
use std::sync::Arc;

fn drain_all(queue: &HandOff<u32>, batch: usize) -> Vec<u32> {
    let mut all = Vec::new();
    while queue.drain(batch, usize::MAX, &mut all) == Drain::Items {}
    all
}

/// One producer pushes a chain and a barrier, one a chain; the last to end closes.
fn two_producers() {
    let queue = Arc::new(HandOff::new(8, 1_000));
    let (one, two) = (Arc::clone(&queue), Arc::clone(&queue));
    let first = thread::spawn(move || {
        one.push(10, 1).unwrap();
        one.push_control(11).unwrap();
    });
    let second = thread::spawn(move || {
        two.push(20, 1).unwrap();
        first.join().unwrap();
        two.close();
    });
    let all = drain_all(&queue, 2);
    second.join().unwrap();
    let from_first: Vec<u32> = all.iter().copied().filter(|item| *item < 20).collect();
    assert_eq!(from_first, [10, 11], "order of one producer");
    assert_eq!(all.iter().filter(|item| **item == 20).count(), 1);
    assert_eq!((all.len(), queue.len(), queue.bytes()), (3, 0, 0));
}

#[test]
fn every_item_arrives_once_and_in_order() {
    model(two_producers);
}

#[test]
fn every_item_arrives_once_and_in_order_finds_a_sleep_unseen() {
    finds(Bug::HandOffSleepsUnseen, DEADLOCK, two_producers);
}

fn push_against_close() {
    let queue = Arc::new(HandOff::new(1, 1_000));
    let (pushes, closes) = (Arc::clone(&queue), Arc::clone(&queue));
    let producer = thread::spawn(move || {
        let first = pushes.push(1, 1).is_ok();
        let second = match pushes.push(2, 1) {
            Ok(()) => true,
            Err(Refused::Full(item) | Refused::Closed(item)) => {
                assert_eq!(item, 2, "the refused item comes back");
                false
            }
        };
        (first, second)
    });
    let closer = thread::spawn(move || closes.close());
    let all = drain_all(&queue, 8);
    let (first, second) = producer.join().unwrap();
    closer.join().unwrap();
    assert_eq!(all.contains(&1), first, "accepted means drained");
    assert_eq!(all.contains(&2), second, "accepted means drained");
    assert!(queue.push_control(3).is_err());
}

#[test]
fn what_was_accepted_before_close_is_drained() {
    model(push_against_close);
}

#[test]
fn what_was_accepted_before_close_is_drained_finds_a_forgotten_rest() {
    finds(Bug::HandOffForgetsTheRest, "accepted means drained", push_against_close);
}
