//! The pool against its promises, under a paused clock.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use proptest::prelude::*;
use tokio::time::Instant;

use super::{CheckoutError, DrainReport, Manage, Pool, PoolOptions, PoolSizeError, Pooled};

/// Counts what is open, and the most that ever was.
#[derive(Clone, Debug, Default)]
struct Doors(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU32,
    most: AtomicU32,
    broken: AtomicBool,
    panics: AtomicBool,
    slow_ms: AtomicU32,
}

struct Door(Doors);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, SeqCst);
    }
}

impl Manage for Doors {
    type Item = Door;
    type Error = Infallible;

    async fn open(&self) -> Result<Door, Infallible> {
        tokio::time::sleep(Duration::from_millis(u64::from(self.0.slow_ms.load(SeqCst)))).await;
        assert!(!self.0.panics.load(SeqCst), "told to panic");
        let open = self.0.open.fetch_add(1, SeqCst) + 1;
        self.0.most.fetch_max(open, SeqCst);
        Ok(Door(self.clone()))
    }

    fn usable(&self, _: &Door) -> bool {
        !self.0.broken.load(SeqCst)
    }
}

fn pool(options: PoolOptions) -> (Pool<Doors>, Doors) {
    let doors = Doors::default();
    (Pool::new(doors.clone(), options).unwrap(), doors)
}

fn sized(size: u32) -> PoolOptions {
    PoolOptions { max_waiting: 2_000, ..PoolOptions::of_size(size) }
}

async fn take(pool: &Pool<Doors>) -> Pooled<Doors> {
    pool.checkout().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_on_five_items_are_served_in_the_order_they_came() {
    let (pool, doors) = pool(PoolOptions { checkout_timeout: Duration::from_secs(60), ..sized(5) });
    let served = Mutex::new(Vec::new());
    let callers = (0..1_000).map(|caller| {
        let (pool, served) = (&pool, &served);
        async move {
            let item = take(pool).await;
            served.lock().unwrap().push(caller);
            tokio::time::sleep(Duration::from_millis(10)).await;
            item.give_back();
        }
    });
    let began = Instant::now();
    join_all(callers).await;
    assert_eq!(*served.lock().unwrap(), (0..1_000).collect::<Vec<_>>());
    // 200 rounds of five: none was slower than the turn of others required.
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert_eq!((doors.0.most.load(SeqCst), pool.stats().opened, pool.stats().idle), (5, 5, 5));
}

#[tokio::test(start_paused = true)]
async fn each_waiter_times_out_at_its_own_deadline() {
    let (pool, _) = pool(PoolOptions { checkout_timeout: Duration::from_millis(100), ..sized(1) });
    let held = take(&pool).await;
    let callers = (0..10).map(|caller| {
        let pool = &pool;
        async move {
            tokio::time::sleep(Duration::from_millis(caller * 7)).await;
            let came = Instant::now();
            let refusal = pool.checkout().await.unwrap_err();
            assert!(matches!(refusal, CheckoutError::Timeout { .. }), "{refusal}");
            came.elapsed()
        }
    });
    for waited in join_all(callers).await {
        assert!((100..=102).contains(&waited.as_millis()), "{waited:?}");
    }
    assert_eq!((pool.stats().timeouts, pool.stats().waiting), (10, 0));
    held.give_back();
}

#[tokio::test(start_paused = true)]
async fn one_waiter_too_many_is_refused_and_a_cancelled_one_frees_its_place() {
    let (pool, _) = pool(PoolOptions { max_waiting: 1, ..PoolOptions::of_size(1) });
    let held = take(&pool).await;
    let mut waiter = Box::pin(pool.checkout());
    assert!(futures_util::poll!(&mut waiter).is_pending());
    assert_eq!(pool.checkout().await.unwrap_err(), CheckoutError::Full { waiting: 1 });
    drop(waiter);
    assert_eq!(pool.stats().waiting, 0);
    let mut waiter = Box::pin(pool.checkout());
    assert!(futures_util::poll!(&mut waiter).is_pending());
    held.give_back();
    waiter.await.unwrap().give_back();
    assert_eq!((pool.stats().refused, pool.stats().opened), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn overflow_is_closed_when_it_comes_back() {
    let (pool, doors) = pool(PoolOptions { overflow: 2, ..sized(1) });
    let items = [take(&pool).await, take(&pool).await, take(&pool).await];
    assert_eq!(doors.0.open.load(SeqCst), 3);
    assert!(pool.try_checkout().await.unwrap().is_none());
    items.into_iter().for_each(Pooled::give_back);
    assert_eq!((doors.0.open.load(SeqCst), pool.stats().idle), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn overflow_is_handed_to_those_that_wait_and_closed_after_the_last() {
    let (pool, doors) =
        pool(PoolOptions { overflow: 2, checkout_timeout: Duration::from_secs(60), ..sized(1) });
    let callers = (0..30).map(|_| async {
        let item = take(&pool).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        item.give_back();
    });
    join_all(callers).await;
    assert_eq!((pool.stats().opened, doors.0.open.load(SeqCst), pool.stats().idle), (3, 1, 1));
    // Kept for one that waits, and closed when it goes away.
    let items = [take(&pool).await, take(&pool).await, take(&pool).await];
    let mut waiter = Box::pin(pool.checkout());
    assert!(futures_util::poll!(&mut waiter).is_pending());
    items.into_iter().for_each(Pooled::give_back);
    drop(waiter);
    assert_eq!((doors.0.open.load(SeqCst), pool.stats().idle), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_shrink_never_cuts_what_is_lent() {
    let (pool, doors) = pool(sized(4));
    let mut items = vec![take(&pool).await, take(&pool).await, take(&pool).await, take(&pool).await];
    pool.resize(2, 0).unwrap();
    assert_eq!((pool.stats().in_use, pool.stats().size), (4, 2));
    items.pop().unwrap().give_back();
    items.pop().unwrap().give_back();
    // Two went, two are lent: nothing is free.
    assert_eq!(doors.0.open.load(SeqCst), 2);
    assert!(pool.try_checkout().await.unwrap().is_none());
    items.pop().unwrap().give_back();
    assert_eq!((doors.0.open.load(SeqCst), pool.stats().idle), (2, 1));
    pool.resize(3, 0).unwrap();
    items.push(take(&pool).await);
    items.push(take(&pool).await);
    assert!(pool.try_checkout().await.unwrap().is_none());
    assert_eq!(pool.resize(0, 0), Err(PoolSizeError { size: 0, overflow: 0 }));
}

#[tokio::test(start_paused = true)]
async fn growth_serves_those_that_wait() {
    let (pool, _) = pool(sized(1));
    let held = take(&pool).await;
    let mut waiter = Box::pin(pool.checkout());
    assert!(futures_util::poll!(&mut waiter).is_pending());
    pool.resize(2, 0).unwrap();
    waiter.await.unwrap().give_back();
    held.give_back();
}

#[tokio::test(start_paused = true)]
async fn idle_items_are_reaped_to_the_minimum_and_old_ones_always() {
    let options = PoolOptions {
        idle_timeout: Some(Duration::from_secs(10)),
        min_idle: 1,
        max_lifetime: Some(Duration::from_secs(60)),
        ..sized(3)
    };
    let (pool, doors) = pool(options);
    let items = [take(&pool).await, take(&pool).await, take(&pool).await];
    items.into_iter().for_each(Pooled::give_back);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(pool.reap(), 0);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!((pool.reap(), doors.0.open.load(SeqCst)), (2, 1));
    tokio::time::advance(Duration::from_secs(50)).await;
    // Too old, seen at the checkout as well as by the reaper.
    take(&pool).await.give_back();
    assert_eq!((pool.stats().opened, doors.0.open.load(SeqCst)), (4, 1));
    doors.0.broken.store(true, SeqCst);
    assert_eq!((pool.reap(), doors.0.open.load(SeqCst)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_counts_what_finished_what_was_refused_and_what_is_cut() {
    let (pool, _) = pool(sized(2));
    let (quick, slow) = (take(&pool).await, take(&pool).await);
    let waiter = pool.checkout();
    let drain = async {
        tokio::task::yield_now().await;
        pool.drain(Duration::from_secs(1)).await
    };
    let finish = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        quick.give_back();
    };
    let (refused, report, ()) = tokio::join!(waiter, drain, finish);
    assert_eq!(refused.unwrap_err(), CheckoutError::Draining);
    assert_eq!(report, DrainReport { finished: 1, cut: 1, refused: 1 });
    assert_eq!(pool.checkout().await.unwrap_err(), CheckoutError::Draining);
    drop(slow);
    assert_eq!(pool.drain(Duration::ZERO).await, DrainReport::default());
    assert_eq!(pool.stats().idle, 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_a_cancellation_while_opening_returns_the_permit() {
    let (pool, doors) = pool(sized(1));
    doors.0.panics.store(true, SeqCst);
    let opening = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(pool.checkout()));
    assert!(opening.await.is_err());
    doors.0.panics.store(false, SeqCst);
    doors.0.slow_ms.store(1_000, SeqCst);
    let opening = tokio::time::timeout(Duration::from_millis(10), pool.checkout()).await;
    assert!(opening.is_err());
    take(&pool).await.give_back();
    assert_eq!((pool.stats().in_use, pool.stats().opened), (0, 1));
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Take,
    GiveBack(usize),
    Drop(usize),
    Resize(u32, u32),
    Evict,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Take),
        3 => (0_usize..8).prop_map(Op::GiveBack),
        1 => (0_usize..8).prop_map(Op::Drop),
        2 => (0_u32..4, 0_u32..3).prop_map(|(size, overflow)| Op::Resize(size, overflow)),
        1 => Just(Op::Evict),
    ]
}

/// What a pool should do, by counting only.
#[derive(Debug)]
struct Model {
    size: u32,
    most: u32,
    lent: u32,
    idle: u32,
}

proptest! {
    #[test]
    fn a_pool_lends_and_keeps_what_a_count_says(ops in prop::collection::vec(op(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (pool, doors) = pool(sized(2));
            let mut model = Model { size: 2, most: 2, lent: 0, idle: 0 };
            let mut lent = Vec::new();
            for op in ops {
                step(op, &pool, &mut model, &mut lent).await;
                let stats = pool.stats();
                assert_eq!((stats.in_use, stats.idle), (model.lent, model.idle), "{op:?} {model:?}");
                assert_eq!(doors.0.open.load(SeqCst), model.lent + model.idle, "{op:?} {model:?}");
            }
        });
    }
}

async fn step(op: Op, pool: &Pool<Doors>, model: &mut Model, lent: &mut Vec<Pooled<Doors>>) {
    match op {
        Op::Take => {
            let item = pool.try_checkout().await.unwrap();
            assert_eq!(item.is_some(), model.lent < model.most, "{model:?}");
            if let Some(item) = item {
                lent.push(item);
                model.lent += 1;
                model.idle = model.idle.saturating_sub(1);
            }
        }
        Op::GiveBack(at) if at < lent.len() => {
            let keep = model.lent + model.idle <= model.size;
            lent.remove(at).give_back();
            model.lent -= 1;
            model.idle += u32::from(keep);
        }
        Op::Drop(at) if at < lent.len() => {
            drop(lent.remove(at));
            model.lent -= 1;
        }
        Op::Resize(size, overflow) if size + overflow > 0 => {
            pool.resize(size, overflow).unwrap();
            (model.size, model.most) = (size, size + overflow);
            model.idle = model.idle.min(size.saturating_sub(model.lent));
        }
        Op::GiveBack(_) | Op::Drop(_) | Op::Resize(..) => {}
        Op::Evict => {
            assert_eq!(pool.evict_idle(), model.idle as usize);
            model.idle = 0;
        }
    }
}
