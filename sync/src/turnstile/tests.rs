//! Turnstiles, one thread.

use super::*;

fn turnstile(places: u64, weight: u64, waiting: usize) -> Arc<Turnstile> {
    Turnstile::new(TurnstileLimits { places, weight, waiting })
}

fn poll(future: &mut Enter) -> Poll<Result<Pass, TurnstileRefusal>> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn queued(turnstile: &Arc<Turnstile>, weight: u64) -> Enter {
    let mut future = turnstile.enter(weight);
    assert!(poll(&mut future).is_pending());
    future
}

fn load(turnstile: &Turnstile) -> (u64, u64, usize) {
    let load = turnstile.load();
    (load.inside, load.weight, load.waiting)
}

#[test]
fn places_and_weight_are_taken_and_returned_together() {
    let turnstile = turnstile(2, 10, 0);
    let (one, two) = (turnstile.try_enter(1).unwrap(), turnstile.try_enter(9).unwrap());
    assert_eq!((load(&turnstile), two.weight()), ((2, 10, 0), 9));
    assert_eq!(turnstile.try_enter(0).err(), Some(TurnstileRefusal::Full), "no place");
    drop(one);
    assert_eq!(turnstile.try_enter(2).err(), Some(TurnstileRefusal::Full), "no weight");
    drop(two);
    assert_eq!(load(&turnstile), (0, 0, 0));
}

#[test]
fn weights_without_a_limit_never_overflow() {
    let turnstile = turnstile(9, u64::MAX, 9);
    let _inside = turnstile.try_enter(u64::MAX).unwrap();
    assert_eq!(turnstile.try_enter(1).err(), Some(TurnstileRefusal::Full));
    assert!(turnstile.try_enter(0).is_ok());
}

#[test]
fn a_heavy_caller_is_not_overtaken_and_lets_the_light_ones_in_when_it_gives_up() {
    let turnstile = turnstile(9, 10, 9);
    let inside = turnstile.try_enter(6).unwrap();
    let heavy = queued(&turnstile, 5);
    let mut light = queued(&turnstile, 1);
    assert_eq!(turnstile.try_enter(1).err(), Some(TurnstileRefusal::Full));
    assert!(poll(&mut light).is_pending());
    drop(heavy);
    let Poll::Ready(Ok(light)) = poll(&mut light) else { panic!("there is room") };
    drop((inside, light));
    assert_eq!(load(&turnstile), (0, 0, 0));
}

#[test]
fn a_cancelled_caller_gives_on_what_it_was_given() {
    let turnstile = turnstile(1, 10, 2);
    let inside = turnstile.try_enter(1).unwrap();
    let first = queued(&turnstile, 1);
    let mut second = queued(&turnstile, 1);
    drop(inside);
    assert!(poll(&mut second).is_pending());
    drop(first);
    assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
    assert_eq!(load(&turnstile), (0, 0, 0));
}

#[test]
fn who_would_wait_for_ever_or_in_a_crowd_is_refused() {
    let turnstile = turnstile(1, 10, 1);
    let _inside = turnstile.try_enter(1).unwrap();
    assert!(matches!(poll(&mut turnstile.enter(11)), Poll::Ready(Err(TurnstileRefusal::TooHeavy))));
    let _first = queued(&turnstile, 1);
    assert!(matches!(poll(&mut turnstile.enter(1)), Poll::Ready(Err(TurnstileRefusal::Crowded))));
}

#[test]
fn a_smaller_turnstile_takes_nothing_back_and_a_larger_one_lets_in() {
    let turnstile = turnstile(3, 30, 9);
    let inside: Vec<_> = (0..3).map(|_| turnstile.try_enter(10).unwrap()).collect();
    let (mut heavy, mut light) = (queued(&turnstile, 20), queued(&turnstile, 5));
    turnstile.resize(TurnstileLimits { places: 1, weight: 10, waiting: 9 });
    assert_eq!(load(&turnstile), (3, 30, 1), "nobody inside is put out");
    assert!(matches!(poll(&mut heavy), Poll::Ready(Err(TurnstileRefusal::TooHeavy))));
    let mut inside = inside.into_iter();
    drop((inside.next(), inside.next()));
    assert!(poll(&mut light).is_pending());
    turnstile.resize(TurnstileLimits { places: 2, weight: 15, waiting: 9 });
    assert!(matches!(poll(&mut light), Poll::Ready(Ok(_))));
    drop(inside);
    assert_eq!(load(&turnstile), (0, 0, 0));
}

fn with_lanes(places: u64) -> Arc<Turnstile> {
    Turnstile::with_lanes(TurnstileLimits { places, weight: u64::MAX, waiting: 9 }, 4)
}

#[test]
fn a_place_is_refused_only_when_none_is_free_in_any_lane() {
    let turnstile = with_lanes(40);
    for round in 0..10 {
        let passes: Vec<_> = (0..40).map(|n| turnstile.try_enter_by(n % 4, n as u64).unwrap()).collect();
        assert_eq!(load(&turnstile), (40, 780, 0), "round {round}");
        assert_eq!(turnstile.try_enter_by(3, 0).err(), Some(TurnstileRefusal::Full));
        // Out in another order than in.
        passes.into_iter().rev().skip(round).for_each(drop);
        assert_eq!(load(&turnstile), (0, 0, 0));
    }
}

#[test]
fn who_waits_is_not_overtaken_by_a_lane() {
    let turnstile = with_lanes(8);
    let mut passes: Vec<_> = (0..8).map(|n| turnstile.try_enter_by(n % 2, 1).unwrap()).collect();
    let mut first = queued(&turnstile, 1);
    let mut second = queued(&turnstile, 1);
    drop(passes.remove(0));
    assert_eq!(turnstile.try_enter_by(0, 1).err(), Some(TurnstileRefusal::Full));
    assert!(poll(&mut second).is_pending());
    assert!(matches!(poll(&mut first), Poll::Ready(Ok(_))));
    assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
    drop(passes);
    assert_eq!(load(&turnstile), (0, 0, 0));
}

#[test]
fn limits_that_change_while_callers_are_inside_by_lanes_hold_for_all_that_come() {
    let turnstile = with_lanes(40);
    let inside: Vec<_> = (0..12).map(|n| turnstile.try_enter_by(n % 4, 10).unwrap()).collect();
    turnstile.resize(TurnstileLimits { places: 40, weight: 125, waiting: 9 });
    assert_eq!(turnstile.try_enter_by(0, 6).err(), Some(TurnstileRefusal::Full), "no weight");
    let light = turnstile.try_enter_by(0, 5).unwrap();
    turnstile.resize(TurnstileLimits { places: 2, weight: u64::MAX, waiting: 9 });
    drop((inside, light));
    let two = [turnstile.try_enter_by(1, 1).unwrap(), turnstile.try_enter_by(2, 1).unwrap()];
    assert_eq!(turnstile.try_enter_by(3, 1).err(), Some(TurnstileRefusal::Full));
    drop(two);
    assert_eq!(load(&turnstile), (0, 0, 0));
}

#[test]
fn weights_by_lanes_never_overflow() {
    let turnstile = with_lanes(40);
    let light: Vec<_> = (0..10).map(|n| turnstile.try_enter_by(n % 4, 1 << 31).unwrap()).collect();
    assert_eq!(turnstile.try_enter(u64::MAX).err(), Some(TurnstileRefusal::Full));
    let heavy = turnstile.try_enter(u64::MAX - (10 << 31)).unwrap();
    assert_eq!(load(&turnstile), (11, u64::MAX, 0));
    drop((light, heavy));
    assert_eq!(load(&turnstile), (0, 0, 0));
}
