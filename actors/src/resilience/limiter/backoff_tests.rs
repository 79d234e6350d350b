//! Shared back-off windows.

use std::{sync::Arc, thread, time::Duration};

use super::*;
use crate::{error::Coded, ids::Timestamp, resilience::retry::retry_after};

fn at(ms: i64) -> Timestamp {
    Timestamp(1_700_000_000_000_000 + ms * 1_000)
}

fn window() -> BackoffWindow {
    BackoffWindow::new(BackoffWindowOptions::default()).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_retry_after_of_five_seconds_means_no_call_of_anybody_for_five_seconds() {
    let window = Arc::new(window());
    assert!(window.check("mail", at(0)).is_ok());
    let asked = retry_after("5", at(0)).unwrap();
    assert_eq!(window.hold("mail", asked, at(0)), at(5_000));
    let caller = |number: i64| {
        let window = Arc::clone(&window);
        thread::spawn(move || {
            (0..5_000).filter(|ms| window.check("mail", at(ms + number % 2)).is_ok()).count()
        })
    };
    let callers: Vec<_> = (0..4).map(caller).collect();
    let calls: Vec<usize> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    // The odd ones ask at 5 000 ms too.
    assert_eq!(calls, [0, 1, 0, 1]);
    assert!(window.check("search", at(1)).is_ok(), "another key is free");
    let held = window.check("mail", at(4_999)).unwrap_err();
    assert_eq!((held.until, held.retry_after), (at(5_000), Duration::from_millis(1)));
    assert_eq!(
        (held.code(), held.to_string()),
        ("limiter.backed_off", "backed off, retry in 1 ms".to_owned())
    );
    assert!(window.check("mail", at(5_000)).is_ok());
}

#[test]
fn of_several_holds_the_longest_wins() {
    let window = window();
    for asked in [2, 5, 3] {
        window.hold("mail", seconds(asked), at(0));
    }
    assert_eq!(window.check("mail", at(0)).unwrap_err().until, at(5_000));
    assert_eq!(window.hold("mail", seconds(0), at(1)), at(5_000));
    assert_eq!(window.hold("mail", seconds(5), at(1)), at(5_001));
    assert_eq!(window.hold("search", seconds(0), at(1)), at(1), "nothing is held for no time");
    assert!(window.check("search", at(1)).is_ok());
}

#[test]
fn nobody_is_held_longer_than_the_longest_hold() {
    let window = window();
    assert_eq!(window.hold("mail", Duration::MAX, at(0)), at(3_600_000));
    let jumped = at(-86_400_000);
    assert_eq!(window.check("mail", jumped).unwrap_err().retry_after, seconds(3_600));
    assert!(window.check("mail", at(-86_400_000 + 3_600_000)).is_ok());
}

#[test]
fn holds_that_are_over_make_room() {
    let window = BackoffWindow::new(BackoffWindowOptions { max_keys: 2, ..Default::default() }).unwrap();
    window.hold("a", seconds(1), at(0));
    window.hold("b", seconds(9), at(0));
    window.hold("c", seconds(5), at(1_000));
    assert!(window.check("a", at(1_000)).is_ok());
    assert_eq!(window.check("b", at(1_000)).unwrap_err().until, at(9_000));
    assert_eq!(window.check("c", at(1_000)).unwrap_err().until, at(6_000));
}

#[test]
fn a_hold_without_a_place_holds_all_others_or_nobody_as_is_set() {
    for (on_error, holds) in [(OnError::FailClosed, true), (OnError::FailOpen, false)] {
        let options = BackoffWindowOptions { max_keys: 1, on_error, ..Default::default() };
        let window = BackoffWindow::new(options.clone()).unwrap();
        window.hold("a", seconds(1), at(0));
        window.hold("b", seconds(5), at(0));
        let long = "x".repeat(LIMIT_KEY_MAX_BYTES + 1);
        for key in ["b", "c", &long] {
            assert_eq!(window.check(key, at(4_999)).is_err(), holds, "{key}");
        }
        assert!(window.check("a", at(1_000)).is_ok(), "who has a place is held by itself");
        window.hold("b", seconds(1), at(2_000));
        assert_eq!(window.check("b", at(4_999)).is_err(), holds, "a place does not shorten a hold");
        let again = BackoffWindow::restore(options, &window.snapshot(at(0)), at(2_500)).unwrap();
        assert_eq!(again.check("c", at(4_999)).is_err(), holds);
        assert!(window.check("c", at(5_000)).is_ok());
        assert_eq!(window.hold(&long, seconds(9), at(5_000)), at(if holds { 14_000 } else { 5_000 }));
    }
}

#[test]
fn holds_outlive_the_process() {
    let before = window();
    before.hold("over", seconds(1), at(0));
    before.hold("mail", seconds(5), at(0));
    let bytes = rmp_serde::to_vec_named(&before.snapshot(at(2_000))).unwrap();
    let snapshot: BackoffSnapshot = rmp_serde::from_slice(&bytes).unwrap();
    let after = BackoffWindow::restore(BackoffWindowOptions::default(), &snapshot, at(3_000)).unwrap();
    assert_eq!(after.check("mail", at(3_000)).unwrap_err().until, at(5_000));
    assert!(after.check("over", at(3_000)).is_ok());
}

#[test]
fn options_of_a_back_off_window_are_checked() {
    let refused = |options| BackoffWindow::new(options).unwrap_err().field;
    assert_eq!(refused(BackoffWindowOptions { max_keys: 0, ..Default::default() }), "max_keys");
    assert_eq!(refused(BackoffWindowOptions { max_wait_ms: 0, ..Default::default() }), "max_wait_ms");
    assert!(serde_json::from_str::<BackoffWindowOptions>(r#"{"max": 1}"#).is_err());
}
