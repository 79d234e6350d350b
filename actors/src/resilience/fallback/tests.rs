//! Fallbacks (CB-4).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::{clock::ManualClock, entity::Failure, ids::Timestamp, resilience::retry::RetryCause};

fn down() -> Failure {
    Failure::retryable("rates.down", "connection refused")
}

fn mark(kind: FallbackKind) -> Provenance {
    Provenance::Fallback { kind, cause: Arc::from("rates.down") }
}

#[tokio::test]
async fn an_answer_says_where_it_comes_from() {
    let value = Fallback::<u32, _, _>::value("rates", 7);
    let answer = value.apply(&1, Err(down())).await.unwrap();
    assert_eq!((*answer.value, &answer.provenance), (7, &mark(FallbackKind::Value)));
    let answer = value.apply(&1, Ok(9)).await.unwrap();
    assert_eq!((*answer.value, answer.is_primary()), (9, true));

    let function = Fallback::function("rates", |key: &u32, error: &Failure| {
        assert_eq!(error, &down());
        Ok(key * 2)
    });
    let answer = function.apply(&4, Err(down())).await.unwrap();
    assert_eq!((*answer.value, &answer.provenance), (8, &mark(FallbackKind::Function)));
}

#[tokio::test]
async fn another_service_is_asked_only_when_the_call_failed() {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let service = Fallback::service("rates", "archive", move |key: u32| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, Failure>(key + 100) }
    })
    .unwrap();
    assert_eq!((service.of().as_ref(), service.other().map(AsRef::as_ref)), ("rates", Some("archive")));
    assert!(service.apply(&1, Ok(1)).await.unwrap().is_primary());
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    let answer = service.apply(&1, Err(down())).await.unwrap();
    assert_eq!((*answer.value, &answer.provenance), (101, &mark(FallbackKind::Service)));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_last_good_value_is_of_the_same_key_and_not_too_old() {
    let clock = Arc::new(ManualClock::at(Timestamp(0)));
    let options = LastGoodOptions { max_age_ms: 1_000, max_entries: 10 };
    let rates = Fallback::last_good("rates", &options, clock.clone()).unwrap();
    rates.apply(&"EUR", Ok(1.07)).await.unwrap();
    let answer = rates.apply(&"EUR", Err(down())).await.unwrap();
    assert_eq!((*answer.value, &answer.provenance), (1.07, &mark(FallbackKind::LastGood)));
    clock.advance(Duration::from_millis(999));
    assert!(rates.apply(&"EUR", Err(down())).await.is_ok());
    let none = Some(FallbackFault::NoLastGood { max_age: Duration::from_secs(1) });
    assert_eq!(rates.apply(&"USD", Err(down())).await.unwrap_err().fallback, none, "another key");
    clock.advance(Duration::from_millis(1));
    let failed = rates.apply(&"EUR", Err(down())).await.unwrap_err();
    assert_eq!((&failed.original, &failed.fallback), (&down(), &none), "too old; not renewed by being given");
}

#[tokio::test]
async fn a_fallback_that_fails_never_hides_the_original_failure() {
    let worse = || Failure::permanent("archive.gone", "no such host");
    let function = Fallback::<u32, u32, _>::function("rates", move |_, _| Err(worse()));
    let service = Fallback::<u32, u32, _>::service("rates", "archive", move |_| async move { Err(worse()) });
    for (fallback, kind) in [(function, FallbackKind::Function), (service.unwrap(), FallbackKind::Service)] {
        let failed = fallback.apply(&1, Err(down())).await.unwrap_err();
        assert_eq!((failed.cause_code(), failed.may_retry()), ("rates.down", true));
        assert_eq!(failed.fallback, Some(FallbackFault::Failed { kind, error: worse() }));
        let text = format!(
            "rates.down: connection refused (its fallback failed too: {kind}: archive.gone: no such host)"
        );
        assert_eq!(failed.to_string(), text);
    }
}

#[tokio::test]
async fn a_failure_that_the_fallback_is_not_for_comes_back_as_it_was() {
    let value = Fallback::<(), _, Failure>::value("rates", 7).only_if(|error| error.retryable);
    let wrong = Failure::permanent("rates.no_such_currency", "XQX");
    let failed = value.apply(&(), Err(wrong.clone())).await.unwrap_err();
    assert_eq!((&failed.original, &failed.fallback, failed.to_string()), (&wrong, &None, wrong.to_string()));
    assert!(value.apply(&(), Err(down())).await.is_ok());
}

#[test]
fn a_service_that_is_its_own_fallback_is_refused_by_however_many_others() {
    let same = Fallback::<(), u32, Failure>::service("rates", "rates", async |()| Ok(1)).unwrap_err();
    assert_eq!(same.to_string(), "the fallback of rates leads back to it: rates -> rates");
    assert_eq!(check_routes([]), Ok(()));
    assert_eq!(check_routes([("a", "b"), ("b", "c"), ("d", "b"), ("a", "c")]), Ok(()));
    let path = |routes: &[(&'static str, &'static str)]| {
        check_routes(routes.iter().copied()).map_err(|found| found.path.join(" "))
    };
    assert_eq!(path(&[("b", "c"), ("c", "b"), ("a", "b"), ("c", "d")]), Err("b c b".to_owned()));
    assert_eq!(path(&[("x", "x"), ("a", "b")]), Err("x x".to_owned()));
    assert_eq!(path(&[("a", "b"), ("b", "c"), ("c", "a")]), Err("a b c a".to_owned()));
}

#[test]
fn options_outside_their_range_are_refused_by_name() {
    for (options, field) in [
        (LastGoodOptions { max_age_ms: 0, max_entries: 1 }, "max_age_ms"),
        (LastGoodOptions { max_age_ms: 31_536_000_001, max_entries: 1 }, "max_age_ms"),
        (LastGoodOptions { max_age_ms: 1, max_entries: 0 }, "max_entries"),
    ] {
        let error = options.validate().unwrap_err();
        assert_eq!((error.policy, error.field.as_str()), ("fallback", field));
    }
    let read = |text| serde_json::from_str::<LastGoodOptions>(text).map_err(|error| error.to_string());
    assert!(read(r#"{"max_age": 1}"#).is_err_and(|error| error.contains("max_age")));
}

#[test]
fn what_waits_may_move_between_threads() {
    fn movable<T: Send>(_: &T) {}
    let service = Fallback::<u32, u32, Failure>::service("rates", "archive", async |key| Ok(key)).unwrap();
    movable(&service.apply(&1, Err(down())));
    movable(&crate::resilience::bulkhead::Bulkhead::new("b", Default::default()).unwrap().acquire(1, None));
}
