//! Alerts: each is told once.

use super::*;
use crate::ids::Timestamp;

fn at(ms: i64) -> Timestamp {
    Timestamp(1_700_000_000_000_000 + ms * 1_000)
}

fn half_in_a_second() -> DenyAlertOptions {
    DenyAlertOptions { ratio: 0.5, window_ms: 1_000, min_calls: 4 }
}

#[test]
fn an_alert_is_raised_once_and_resolved_once() {
    let mut alert = DenyAlert::new(half_in_a_second()).unwrap();
    assert_eq!(alert.observe(3, 0, at(0)), None, "too few calls");
    assert_eq!(alert.observe(0, 3, at(10)), None, "half is not more than half");
    assert_eq!(alert.observe(1, 0, at(20)), Some(DenyAlertEvent::Raised { denied: 4, calls: 7 }));
    assert_eq!(alert.observe(5, 0, at(200)), None, "it is raised");
    assert_eq!(alert.raised_at(), Some(at(20)));
    assert_eq!(alert.observe(0, 6, at(300)), Some(DenyAlertEvent::Resolved { since: at(20) }));
    assert_eq!((alert.observe(0, 1, at(310)), alert.raised_at()), (None, None));
    assert_eq!(alert.observe(9, 0, at(320)), Some(DenyAlertEvent::Raised { denied: 18, calls: 28 }));
}

#[test]
fn an_alert_is_resolved_when_its_calls_are_older_than_the_window() {
    let mut alert = DenyAlert::new(half_in_a_second()).unwrap();
    assert!(alert.observe(9, 0, at(0)).is_some());
    assert_eq!(alert.observe(0, 0, at(899)), None);
    assert_eq!(alert.observe(0, 0, at(1_000)), Some(DenyAlertEvent::Resolved { since: at(0) }));
}

#[test]
fn a_clock_that_jumped_back_empties_the_window_and_one_that_steps_back_stands() {
    let mut alert = DenyAlert::new(half_in_a_second()).unwrap();
    assert!(alert.observe(9, 0, at(0)).is_some());
    assert_eq!(alert.observe(0, 1, at(-500)), None);
    assert_eq!(alert.observe(0, 0, at(-5_000)), Some(DenyAlertEvent::Resolved { since: at(0) }));
}

#[test]
fn a_limiter_tells_its_alert_once_when_it_is_asked() {
    let options = LimiterOptions { alert: Some(half_in_a_second()), ..LimiterOptions::per_second(2, 1) };
    let limiters = Limiters::new();
    let limiter = limiters.set("mail", options.clone(), at(0)).unwrap();
    let key = LimitKey::new("a", "send");
    let call = |times: usize, now| (0..times).for_each(|_| drop(limiter.acquire(key, 1, now)));
    call(4, at(0));
    assert_eq!(limiters.poll_alerts(at(0)), [], "two of four");
    call(1, at(0));
    let raised = DenyAlertEvent::Raised { denied: 3, calls: 5 };
    assert_eq!(limiters.poll_alerts(at(1)), [("mail".into(), raised)]);
    assert_eq!((limiters.poll_alerts(at(2)), limiter.stats().alert_since), (vec![], Some(at(1))));
    limiters.set("mail", LimiterOptions { max_keys: 7, ..options }, at(3)).unwrap();
    assert_eq!(limiters.poll_alerts(at(4)), [], "other options leave it raised");
    let resolved = DenyAlertEvent::Resolved { since: at(1) };
    assert_eq!(limiters.poll_alerts(at(2_000)), [("mail".into(), resolved)]);
    assert_eq!(limiters.poll_alerts(at(3_000)), []);
}

#[test]
fn an_alert_does_not_see_the_calls_of_a_former_life() {
    let options = LimiterOptions { alert: Some(half_in_a_second()), ..LimiterOptions::per_second(1, 1) };
    let before = Limiter::new("mail", options.clone()).unwrap();
    (0..9).for_each(|_| drop(before.acquire(LimitKey::new("a", "send"), 1, at(0))));
    let after = Limiter::restore("mail", options, &before.snapshot(at(0)), at(0)).unwrap();
    assert_eq!((after.stats().denied_total, after.poll_alert(at(0))), (8, None));
}
