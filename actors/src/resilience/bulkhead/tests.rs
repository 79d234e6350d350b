//! Bulkheads (CON-6, RL-7).

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::*;
use crate::{
    error::{Coded, Family},
    resilience::holder::Holder,
};

fn options(max_concurrent: u32, max_weight: Option<u64>) -> BulkheadOptions {
    BulkheadOptions { max_concurrent, max_weight, ..BulkheadOptions::default() }
}

fn bulkhead(max_concurrent: u32, max_weight: Option<u64>) -> Bulkhead {
    Bulkhead::new("b", options(max_concurrent, max_weight)).unwrap()
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<BulkheadPermit, BulkheadError>> + 'a>>;

fn poll(waiting: &mut Waiting<'_>) -> Poll<Result<BulkheadPermit, BulkheadError>> {
    waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// A call that has begun to wait.
fn waiting(bulkhead: &Bulkhead, weight: u64) -> Waiting<'_> {
    let mut waiting: Waiting<'_> = Box::pin(bulkhead.acquire(weight, None));
    assert!(poll(&mut waiting).is_pending());
    waiting
}

fn load(bulkhead: &Bulkhead) -> (u64, u64, usize) {
    let status = bulkhead.status();
    (status.in_use, status.weight_in_use, status.waiting)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn options_outside_their_range_are_refused_by_name() {
    let default = BulkheadOptions::default;
    for (options, field) in [
        (options(0, None), "max_concurrent"),
        (options(1_000_001, None), "max_concurrent"),
        (options(1, Some(0)), "max_weight"),
        (BulkheadOptions { max_waiting: 1_000_001, ..default() }, "max_waiting"),
        (BulkheadOptions { max_wait_ms: 86_400_001, ..default() }, "max_wait_ms"),
    ] {
        let error = Bulkhead::new("b", options).unwrap_err();
        assert_eq!(
            (error.policy, error.field.as_str(), error.code()),
            ("bulkhead", field, "resilience.options")
        );
    }
    let error = Bulkhead::new("b", options(0, None)).unwrap_err();
    assert_eq!(error.to_string(), "bulkhead option max_concurrent is 0: allowed is 1..=1000000");
    let read = |text| serde_json::from_str::<BulkheadOptions>(text).map_err(|error| error.to_string());
    assert_eq!(read("{}"), Ok(default()));
    assert!(read(r#"{"max_concurent": 1}"#).is_err_and(|error| error.contains("max_concurent")));
}

#[tokio::test]
async fn a_call_heavier_than_the_budget_is_refused_at_once_by_name() {
    let bulkhead = bulkhead(9, Some(10));
    let held = bulkhead.try_acquire(10).unwrap();
    let refusals = [bulkhead.try_acquire(11).unwrap_err(), bulkhead.acquire(11, None).await.unwrap_err()];
    for error in refusals {
        assert_eq!((error.code(), error.family()), ("bulkhead.too_heavy", Family::Rejected));
        assert_eq!(error.to_string(), "bulkhead \"b\" admits a weight of 10 in all, the call weighs 11");
    }
    assert_eq!((held.weight(), load(&bulkhead)), (10, (1, 10, 0)));
}

#[tokio::test(start_paused = true)]
async fn calls_wait_in_turn_and_light_ones_do_not_overtake() {
    let bulkhead = bulkhead(9, Some(10));
    let held = bulkhead.try_acquire(6).unwrap();
    let (mut heavy, mut light) = (waiting(&bulkhead, 5), waiting(&bulkhead, 1));
    assert_eq!(bulkhead.try_acquire(1).unwrap_err().code(), "bulkhead.full", "nor those who do not wait");
    assert_eq!(load(&bulkhead), (1, 6, 2));
    drop(held);
    assert_eq!(load(&bulkhead), (2, 6, 0));
    let permits = (poll(&mut heavy), poll(&mut light));
    assert!(matches!(permits, (Poll::Ready(Ok(_)), Poll::Ready(Ok(_)))));
    drop(permits);
    assert_eq!((load(&bulkhead), bulkhead.status().admitted), ((0, 0, 0), 3));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_leaves_no_trace_and_hands_its_place_on() {
    let bulkhead = bulkhead(1, None);
    let held = bulkhead.try_acquire(1).unwrap();
    let (first, second, mut third) = (waiting(&bulkhead, 1), waiting(&bulkhead, 1), waiting(&bulkhead, 1));
    drop(second);
    drop(held);
    assert!(poll(&mut third).is_pending(), "the first was let in");
    drop(first);
    assert!(matches!(poll(&mut third), Poll::Ready(Ok(_))));
    assert_eq!(load(&bulkhead), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_the_earlier_of_deadline_and_longest_wait() {
    let bulkhead = bulkhead(1, None);
    let held = bulkhead.try_acquire(1).unwrap();
    for (deadline, waited) in [(None, 1_000), (Some(ms(300)), 300), (Some(ms(5_000)), 1_000)] {
        let deadline = deadline.map(|after| Instant::now() + after);
        let error = bulkhead.acquire(1, deadline).await.unwrap_err();
        assert_eq!((error.code(), error.family()), ("bulkhead.timed_out", Family::Unavailable));
        assert_eq!(error, BulkheadError::TimedOut { bulkhead: "b".into(), waited: ms(waited) });
    }
    let passed = bulkhead.acquire(1, Some(Instant::now())).await.unwrap_err();
    assert_eq!(passed.code(), "bulkhead.full", "no time to wait is no wait");
    let status = bulkhead.status();
    assert_eq!((status.waiting, status.timed_out, status.rejected, status.admitted), (0, 3, 4, 1));
    drop(held);
    assert!(bulkhead.acquire(1, Some(Instant::now())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_than_may() {
    let options = BulkheadOptions { max_waiting: 1, ..options(1, None) };
    let bulkhead = Bulkhead::new("b", options).unwrap();
    let _held = bulkhead.try_acquire(1).unwrap();
    let first = waiting(&bulkhead, 1);
    let error = bulkhead.acquire(1, None).await.unwrap_err();
    assert_eq!(error.to_string(), "bulkhead \"b\" is full: 1 calls of weight 1 inside, 1 wait");
    drop(first);
    let _second = waiting(&bulkhead, 1);
}

#[tokio::test(start_paused = true)]
async fn other_options_take_nothing_from_calls_inside_and_hold_for_all_that_come() {
    let bulkhead = bulkhead(3, Some(30));
    let inside: Vec<_> = (0..3).map(|_| bulkhead.try_acquire(10).unwrap()).collect();
    let (mut heavy, mut light) = (waiting(&bulkhead, 20), waiting(&bulkhead, 5));
    bulkhead.reconfigure(options(1, Some(10))).unwrap();
    assert_eq!(load(&bulkhead), (3, 30, 1));
    let Poll::Ready(Err(error)) = poll(&mut heavy) else { panic!("it can never be let in") };
    assert_eq!(error.code(), "bulkhead.too_heavy");
    let mut inside = inside.into_iter();
    drop((inside.next(), inside.next()));
    assert!(poll(&mut light).is_pending());
    assert!(bulkhead.reconfigure(options(0, None)).is_err());
    assert_eq!(bulkhead.status().options, options(1, Some(10)), "refused options change nothing");
    bulkhead.reconfigure(options(2, Some(15))).unwrap();
    assert!(matches!(poll(&mut light), Poll::Ready(Ok(_))));
    drop(inside);
    assert_eq!(load(&bulkhead), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_asks_to_be_left_alone_is_left_alone_by_every_call() {
    let bulkhead = bulkhead(2, None);
    bulkhead.back_off(ms(400));
    bulkhead.back_off(ms(100));
    let refused = bulkhead.try_acquire(1).unwrap_err();
    assert_eq!(refused, BulkheadError::BackingOff { bulkhead: "b".into(), retry_after: ms(400) });
    let early = bulkhead.acquire(1, Some(Instant::now() + ms(399))).await.unwrap_err();
    assert_eq!((early.code(), early.family()), ("bulkhead.backing_off", Family::Unavailable));
    let begun = Instant::now();
    let permit = bulkhead.acquire(1, None).await.unwrap();
    assert_eq!((begun.elapsed(), bulkhead.status().backing_off), (ms(400), None));
    bulkhead.back_off(Duration::MAX);
    assert_eq!(bulkhead.status().backing_off, Some(Duration::from_secs(86_400)));
    assert!(bulkhead.acquire(1, None).await.is_err());
    bulkhead.end_back_off();
    assert!(bulkhead.try_acquire(1).is_ok());
    drop(permit);
    assert_eq!(load(&bulkhead), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_window_that_begins_while_a_call_waits_holds_for_that_call() {
    let bulkhead = bulkhead(1, None);
    let held = bulkhead.try_acquire(1).unwrap();
    let mut inside = waiting(&bulkhead, 1);
    bulkhead.back_off(ms(300));
    drop(held);
    assert!(poll(&mut inside).is_pending());
    let begun = Instant::now();
    assert!(inside.await.is_ok());
    assert_eq!((begun.elapsed(), load(&bulkhead)), (ms(300), (0, 0, 0)));
}

#[test]
fn threads_together_never_hold_more_than_the_limits() {
    let options = BulkheadOptions { max_waiting: 1_000, max_wait_ms: 60_000, ..options(5, Some(12)) };
    let bulkhead = Bulkhead::new("b", options).unwrap();
    let (calls, weight) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let one = async |mine: u64| {
        let permit = bulkhead.acquire(mine, None).await.unwrap();
        assert!(calls.fetch_add(1, Ordering::SeqCst) < 5, "too many calls");
        assert!(weight.fetch_add(mine, Ordering::SeqCst) + mine <= 12, "too much weight");
        tokio::task::yield_now().await;
        calls.fetch_sub(1, Ordering::SeqCst);
        weight.fetch_sub(mine, Ordering::SeqCst);
        drop(permit);
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(futures_util::future::join_all((0..250).map(|n| one(n % 7 + 1))));
            });
        }
    });
    let status = bulkhead.status();
    assert_eq!((load(&bulkhead), status.admitted, status.rejected), ((0, 0, 0), 1_000, 0));
}

#[tokio::test]
async fn a_killed_holder_gives_its_place_back_within_a_second() {
    let bulkhead = bulkhead(1, None);
    let (holder, ended) = Holder::start(bulkhead.try_acquire(1).unwrap()).await;
    let (next, ()) = tokio::join!(bulkhead.acquire(1, None), async { holder.kill() });
    assert!(next.is_ok(), "the longest wait is a second");
    ended.await.unwrap();
}

#[test]
fn a_registry_keeps_the_calls_of_a_bulkhead_that_is_registered_again() {
    let bulkheads = Bulkheads::new();
    let first = bulkheads.register("uploads", options(1, None)).unwrap();
    let _held = first.try_acquire(1).unwrap();
    let second = bulkheads.register("uploads", options(2, None)).unwrap();
    assert_eq!((second.status().in_use, first.status().options), (1, options(2, None)));
    assert!(bulkheads.register("uploads", options(0, None)).is_err());
    assert!(bulkheads.find("uploads").is_some() && bulkheads.find("download").is_none());
    assert_eq!(bulkheads.list().iter().map(|one| one.name().to_string()).collect::<Vec<_>>(), ["uploads"]);
}
