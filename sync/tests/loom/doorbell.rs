use crate::check::{fails, finds, model};
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;
use stanchion_sync::planted::Bug;
use stanchion_sync::{Doorbell, Drain, HandOff};
use std::sync::Arc;

struct Mailbox {
    bell: Doorbell,
    /// Work items as a bare relaxed counter: only the bell orders them.
    work: AtomicUsize,
    wakes: HandOff<()>,
}

/// Two producers add one item each; the owner answers wake messages until both are done, then looks at what is
/// left.
fn producers_against_owner(owner_looks: fn(&Mailbox)) {
    let mailbox = Arc::new(Mailbox {
        bell: Doorbell::new(),
        work: AtomicUsize::new(0),
        wakes: HandOff::new(4, usize::MAX),
    });
    let produce = |mailbox: &Arc<Mailbox>| {
        let mailbox = Arc::clone(mailbox);
        move || {
            mailbox.work.fetch_add(1, Relaxed);
            if mailbox.bell.ring() {
                mailbox.wakes.push((), 0).unwrap();
            }
        }
    };
    let first = thread::spawn(produce(&mailbox));
    let second = thread::spawn(produce(&mailbox));
    let answer = |mailbox: &Mailbox| {
        let mut wakes = Vec::new();
        if mailbox.wakes.try_drain(1, usize::MAX, &mut wakes) == Drain::Items {
            owner_looks(mailbox);
            return true;
        }
        false
    };
    answer(&mailbox);
    first.join().unwrap();
    second.join().unwrap();
    while answer(&mailbox) {}
    assert_eq!(mailbox.work.load(Relaxed), 0, "work lies under a silent bell");
}

fn take_all(mailbox: &Mailbox) {
    // A load first: a read-modify-write always sees the newest value and would hide a missing ordering.
    let seen = mailbox.work.load(Relaxed);
    mailbox.work.fetch_sub(seen, Relaxed);
}

fn silence_then_look(mailbox: &Mailbox) {
    mailbox.bell.silence();
    take_all(mailbox);
}

fn look_then_silence(mailbox: &Mailbox) {
    take_all(mailbox);
    mailbox.bell.silence();
}

#[test]
fn no_work_lies_under_a_silent_bell() {
    model(|| producers_against_owner(silence_then_look));
}

#[test]
fn no_work_lies_under_a_silent_bell_finds_a_silence_after_the_drain() {
    fails("silent bell", || model(|| producers_against_owner(look_then_silence)));
}

#[test]
fn no_work_lies_under_a_silent_bell_finds_a_silence_by_plain_store() {
    finds(Bug::DoorbellSilencesBlindly, "silent bell", || producers_against_owner(silence_then_look));
}
