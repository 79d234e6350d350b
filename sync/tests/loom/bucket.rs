use crate::check::{finds, model};
use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
use loom::thread;
use stanchion_sync::Bucket;
use stanchion_sync::planted::Bug;
use std::sync::Arc;

/// Three callers at once, a burst of two; one of them reads an earlier time.
fn three_callers_a_burst_of_two() {
    let (bucket, given) = (Arc::new(Bucket::new()), Arc::new(AtomicU64::new(0)));
    let caller = |now: u64| {
        let (bucket, given) = (Arc::clone(&bucket), Arc::clone(&given));
        move || {
            if bucket.try_take(now, 1, 100, 100).is_ok() {
                given.fetch_add(1, SeqCst);
            }
        }
    };
    let others = [thread::spawn(caller(1_000)), thread::spawn(caller(990))];
    caller(1_000)();
    others.into_iter().for_each(|other| other.join().unwrap());
    assert_eq!(given.load(SeqCst), 2, "exactly the burst is given");
}

#[test]
fn callers_at_once_never_get_more_than_the_burst() {
    model(three_callers_a_burst_of_two);
}

#[test]
fn callers_at_once_never_get_more_than_the_burst_finds_a_take_in_two_steps() {
    finds(Bug::BucketTakesInTwoSteps, "exactly the burst is given", three_callers_a_burst_of_two);
}
