use crate::check::{finds, model};
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
use loom::thread;
use stanchion_sync::planted::Bug;
use stanchion_sync::{LaneCounts, Lanes};
use std::sync::Arc;

/// Two callers enter and are done while the lanes are closed and opened again: what was counted comes out once.
fn callers_against_a_close() {
    let lanes = Arc::new(Lanes::new(1));
    lanes.open(1);
    let (entered, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let caller = || {
        let (lanes, entered, done) = (Arc::clone(&lanes), Arc::clone(&entered), Arc::clone(&done));
        move || {
            let Some(tag) = lanes.enter(0) else { return };
            entered.fetch_add(1, SeqCst);
            if lanes.done(0, tag, || true) {
                done.fetch_add(1, SeqCst);
            }
        }
    };
    let others = [thread::spawn(caller()), thread::spawn(caller())];
    let first = lanes.close();
    lanes.open(1);
    others.into_iter().for_each(|other| other.join().unwrap());
    let second = lanes.close();
    let all = LaneCounts { entered: first.entered + second.entered, done: first.done + second.done };
    let told = LaneCounts { entered: entered.load(SeqCst), done: done.load(SeqCst) };
    assert_eq!(all, told, "each call is counted once");
}

#[test]
fn what_was_counted_comes_out_once() {
    model(callers_against_a_close);
}

#[test]
fn what_was_counted_comes_out_once_finds_a_close_in_two_steps() {
    finds(Bug::LanesCloseInTwoSteps, "each call is counted once", callers_against_a_close);
}

/// One decides, and the lanes go on under another tag: who entered before is not done under it.
fn done_against_another_tag() {
    let lanes = Arc::new(Lanes::new(1));
    lanes.open(1);
    let tag = lanes.enter(0).unwrap();
    let caller = {
        let lanes = Arc::clone(&lanes);
        thread::spawn(move || lanes.done(0, tag, || true))
    };
    let first = lanes.close();
    lanes.open(2);
    let counted = caller.join().unwrap();
    assert_eq!((first.done, lanes.close().done), (u64::from(counted), 0), "not under another tag");
}

#[test]
fn a_call_is_not_done_under_another_tag() {
    model(done_against_another_tag);
}

#[test]
fn a_call_is_not_done_under_another_tag_finds_a_count_that_ignores_it() {
    finds(Bug::LanesIgnoreTheTag, "not under another tag", done_against_another_tag);
}

/// Between close and open nothing is counted: what the one who decides has seen is all there was. The decision here:
/// after the second call, nobody enters any more.
fn a_decision_sees_everything() {
    let lanes = Arc::new(Lanes::new(2));
    lanes.open(0);
    let entered = Arc::new(Mutex::new(0));
    // The lock of the one who decides, with what it knows.
    let enter = |lane: usize| {
        let (lanes, entered) = (Arc::clone(&lanes), Arc::clone(&entered));
        move || {
            if lanes.enter(lane).is_some() {
                return true;
            }
            let mut known = entered.lock().unwrap();
            *known += lanes.close().entered;
            let enters = *known < 2;
            *known += u64::from(enters);
            enters
        }
    };
    let other = thread::spawn(enter(1));
    {
        let mut known = entered.lock().unwrap();
        *known += lanes.close().entered;
    }
    let mine = [enter(0)(), enter(0)()];
    let others = other.join().unwrap();
    let ran = mine.iter().filter(|ran| **ran).count() + usize::from(others);
    assert_eq!((ran, *entered.lock().unwrap()), (2, 2), "exactly two of three enter");
}

#[test]
fn a_decision_under_the_lock_sees_every_call() {
    model(a_decision_sees_everything);
}

#[test]
fn a_decision_under_the_lock_sees_every_call_finds_a_close_in_two_steps() {
    finds(Bug::LanesCloseInTwoSteps, "exactly two of three enter", a_decision_sees_everything);
}
