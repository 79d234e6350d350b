//! Caches (MSG-5).

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use tokio::sync::oneshot;

use super::*;
use crate::{clock::ManualClock, entity::Failure, error::Coded, ids::Timestamp};

type Numbers = Cache<&'static str, u32>;

fn cache_with(options: CacheOptions) -> (Numbers, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
    (Cache::new("numbers", options, clock.clone()).unwrap(), clock)
}

fn cache(max_entries: u32) -> (Numbers, Arc<ManualClock>) {
    cache_with(CacheOptions { max_entries, ttl_ms: 1_000, ..CacheOptions::default() })
}

fn broken() -> Failure {
    Failure::retryable("source.down", "connection refused")
}

fn held(cache: &Numbers, key: &'static str) -> Option<u32> {
    cache.get(&key).unwrap().map(|value| *value)
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let options = CacheOptions::default;
    for (options, field) in [
        (CacheOptions { max_entries: 0, ..options() }, "max_entries"),
        (CacheOptions { max_weight: Some(0), ..options() }, "max_weight"),
        (CacheOptions { ttl_ms: 0, ..options() }, "ttl_ms"),
        (CacheOptions { ttl_ms: 31_536_000_001, ..options() }, "ttl_ms"),
    ] {
        let error = options.validate().unwrap_err();
        assert_eq!((error.policy, error.field.as_str()), ("cache", field));
    }
    let read = |text| serde_json::from_str::<CacheOptions>(text).map_err(|error| error.to_string());
    assert!(read(r#"{"ttl": 1}"#).is_err_and(|error| error.contains("ttl")));

    let (cache, _) = cache_with(CacheOptions { max_weight: Some(10), ..options() });
    let cache = cache.weighing(|_, value| u64::from(*value));
    let code = |result: Result<Arc<u32>, CacheError>| result.map(|_| ()).map_err(|error| error.code());
    assert_eq!(code(cache.put("", 1)), Err("cache.empty_key"));
    assert_eq!(cache.get(&"").unwrap_err().to_string(), "cache \"numbers\": the key is empty");
    assert!(cache.delete(&"").is_err());
    assert_eq!(code(cache.put_for("a", 1, Duration::ZERO)), Err("cache.no_life"));
    assert_eq!(code(cache.put("a", 11)), Err("cache.too_heavy"));
    assert_eq!((code(cache.put("a", 5)), code(cache.put("b", 5))), (Ok(()), Ok(())));
    assert_eq!(code(cache.put("a", 6)), Err("cache.no_room"));
    assert_eq!((held(&cache, "a"), held(&cache, "b"), cache.stats().errors), (Some(5), Some(5), 6));
}

#[test]
fn keys_that_say_nothing_are_told_apart() {
    assert!(String::new().is_empty() && CacheKey::is_empty(&Arc::<str>::from("")));
    assert!(CacheKey::is_empty(&("", 1_u32)) && CacheKey::is_empty(&Vec::<u8>::new()));
    assert!(!CacheKey::is_empty(&0_u64) && !CacheKey::is_empty(&()) && !CacheKey::is_empty(&("a", 0_u8)));
}

#[test]
fn a_value_is_there_until_its_time_is_over_and_never_after() {
    let (cache, clock) = cache(10);
    cache.put("a", 1).unwrap();
    cache.put_for("b", 2, Duration::from_millis(1_500)).unwrap();
    clock.advance(Duration::from_micros(999_999));
    assert_eq!((held(&cache, "a"), held(&cache, "b")), (Some(1), Some(2)));
    clock.advance(Duration::from_micros(1));
    assert_eq!((held(&cache, "a"), held(&cache, "b")), (None, Some(2)));
    clock.advance(Duration::from_millis(500));
    assert_eq!((cache.cleanup(), cache.cleanup(), cache.stats().expirations), (1, 0, 2));
}

#[tokio::test]
async fn a_thousand_concurrent_misses_run_one_loader() {
    let (cache, _) = cache(10);
    let loads = AtomicU32::new(0);
    let (open, gate) = oneshot::channel();
    let gate = gate.shared();
    let ask = || {
        cache.get_or_compute(&"k", async || {
            loads.fetch_add(1, Ordering::SeqCst);
            gate.clone().await.map_err(|_| broken())
        })
    };
    let all = join_all((0..1_000).map(|_| ask()));
    let (answers, ()) = tokio::join!(all, async {
        assert_eq!(cache.stats().loading, 1);
        open.send(7).unwrap();
    });
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|value| **value == 7)));
    let stats = cache.stats();
    assert_eq!((loads.load(Ordering::SeqCst), stats.misses, stats.puts, stats.loading), (1, 1_000, 1, 0));
    assert_eq!(*ask().await.unwrap(), 7);
    assert_eq!((loads.load(Ordering::SeqCst), cache.stats().hits), (1, 1));
}

#[test]
fn threads_that_miss_at_once_run_one_loader() {
    for round in 0..50 {
        let (cache, _) = cache(10);
        let loads = AtomicU32::new(0);
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    barrier.wait();
                    let ask = || {
                        cache.get_or_compute(&"k", async || {
                            loads.fetch_add(1, Ordering::SeqCst);
                            tokio::task::yield_now().await;
                            Ok(round)
                        })
                    };
                    let answers = runtime.block_on(join_all((0..250).map(|_| ask())));
                    assert!(answers.into_iter().all(|answer| answer.is_ok_and(|value| *value == round)));
                });
            }
        });
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_loaders_error_goes_to_all_who_wait_and_is_not_kept() {
    let (cache, _) = cache(10);
    let loads = AtomicU32::new(0);
    let fail = || {
        cache.get_or_compute(&"k", async || {
            loads.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Err(broken())
        })
    };
    for answer in join_all((0..100).map(|_| fail())).await {
        assert_eq!(answer, Err(LoadError::Failed(Arc::new(broken()))));
    }
    assert_eq!((loads.load(Ordering::SeqCst), cache.stats().errors, cache.stats().entries), (1, 1, 0));
    assert_eq!(cache.get_or_compute(&"k", async || Ok(3)).await.map(|value| *value), Ok(3));
    let refused = cache.get_or_compute(&"", async || panic!("no loader runs")).await.unwrap_err();
    assert!(matches!(refused, LoadError::Refused(CacheError::EmptyKey { .. })));
}

type Asking<'a> = Pin<Box<dyn Future<Output = Result<Arc<u32>, LoadError<Failure>>> + 'a>>;

fn begun(mut asking: Asking<'_>) -> Asking<'_> {
    assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    asking
}

#[tokio::test]
async fn a_cancelled_leader_leaves_the_work_to_one_who_waits() {
    let (cache, _) = cache(10);
    let leader = begun(Box::pin(cache.get_or_compute(&"k", std::future::pending)));
    let second = begun(Box::pin(cache.get_or_compute(&"k", std::future::pending)));
    let third = begun(Box::pin(cache.get_or_compute(&"k", async || Ok(3))));
    let fourth = begun(Box::pin(cache.get_or_compute(&"k", async || panic!("three did it"))));
    drop(leader);
    drop(second);
    assert_eq!(*third.await.unwrap(), 3);
    assert_eq!((*fourth.await.unwrap(), held(&cache, "k"), cache.stats().loading), (3, Some(3), 0));
}

#[tokio::test]
async fn a_loader_that_panics_leaves_the_work_to_one_who_waits() {
    let (cache, _) = cache(10);
    let panics = async || {
        tokio::task::yield_now().await;
        panic!("a bug of the loader")
    };
    let leader = std::panic::AssertUnwindSafe(cache.get_or_compute(&"k", panics)).catch_unwind();
    let (leader, second) = tokio::join!(leader, cache.get_or_compute(&"k", async || Ok(2)));
    assert!(leader.is_err());
    assert_eq!(*second.unwrap(), 2);
}

#[tokio::test]
async fn a_value_loaded_before_a_delete_is_not_kept_after_it() {
    let (cache, _) = cache(10);
    let (open, gate) = oneshot::channel();
    let old = begun(Box::pin(cache.get_or_compute(&"k", async || gate.await.map_err(|_| broken()))));
    cache.delete(&"k").unwrap();
    let new = cache.get_or_compute(&"k", async || Ok(2)).await;
    assert_eq!(new.map(|value| *value), Ok(2), "who asks after the delete does not get the old value");
    open.send(1).unwrap();
    assert_eq!((*old.await.unwrap(), held(&cache, "k")), (1, Some(2)));

    let (open, gate) = oneshot::channel();
    let old = begun(Box::pin(cache.get_or_compute(&"l", async || gate.await.map_err(|_| broken()))));
    assert_eq!(cache.clear(), 1);
    open.send(1).unwrap();
    assert_eq!((*old.await.unwrap(), held(&cache, "l")), (1, None));

    let (open, gate) = oneshot::channel();
    let old = begun(Box::pin(cache.get_or_compute(&"m", async || gate.await.map_err(|_| broken()))));
    cache.put("m", 9).unwrap();
    open.send(1).unwrap();
    assert_eq!(
        (*old.await.unwrap(), held(&cache, "m")),
        (1, Some(9)),
        "a put is newer than a load begun before"
    );
}

#[tokio::test]
async fn a_loaded_value_that_is_too_heavy_is_given_to_all_and_not_kept() {
    let (cache, _) = cache_with(CacheOptions { max_weight: Some(10), ..CacheOptions::default() });
    let cache = cache.weighing(|_, value| u64::from(*value));
    let load = || cache.get_or_compute(&"k", async || Ok(11));
    let answers = join_all((0..3).map(|_| load())).await;
    assert!(answers.into_iter().all(|answer| answer.is_ok_and(|value| *value == 11)));
    assert_eq!((held(&cache, "k"), cache.stats().puts), (None, 0));
    assert!(cache.stats().errors >= 1);
}

#[test]
fn threads_lose_no_fresh_put_and_never_exceed_the_limit() {
    let (cache, _) = cache(8);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let cache = &cache;
            scope.spawn(move || {
                // Each thread has a key of its own; together they fit, so nothing is ever evicted.
                let key = ["a", "b", "c", "d"][thread];
                for number in 0..5_000 {
                    cache.put(key, number).unwrap();
                    assert_eq!(held(cache, key), Some(number), "a fresh put is lost");
                    assert!(cache.stats().entries <= 8);
                    if number % 100 == 99 {
                        assert_eq!(cache.delete(&key).unwrap().map(|value| *value), Some(number));
                    }
                    cache.cleanup();
                }
            });
        }
    });
    let stats = cache.stats();
    assert_eq!((stats.evictions, stats.expirations, stats.puts, stats.deletes), (0, 0, 20_000, 200));
    assert_eq!(stats.puts, stats.overwrites + stats.deletes + stats.entries);
}

#[test]
fn what_waits_may_move_between_threads() {
    fn movable<T: Send>(_: &T) {}
    let (cache, _) = cache(1);
    movable(&cache.get_or_compute(&"k", async || Ok(1)));
    movable(&cache);
}
