use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    clock::Clock,
    entity::Failure,
    error::{Coded, Family},
    ids::Timestamp,
    resilience::{
        breaker::{BreakerOptions, FailureClass, Outcome, StateName},
        fallback::{Fallback, FallbackKind, LastGoodOptions, Provenance},
        retry::{GiveUpReason, RetryCause},
        timeout::{TimeoutLayer, TimeoutOptions, Timeouts},
    },
};

/// The runtime's paused time as wall time.
#[derive(Debug)]
pub(super) struct Paused(Instant);

impl Paused {
    pub(super) fn clock() -> Arc<dyn Clock> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp(0).after(self.0.elapsed())
    }
}

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn options(document: &str) -> ProtectedOptions {
    serde_json::from_str(document).unwrap()
}

fn service(document: &str) -> Protected {
    Protected::new("search", options(document), Paused::clock()).unwrap()
}

pub(super) fn down() -> Failure {
    Failure::retryable("down", "connection refused")
}

const CTX: ProtectedCtx<'static> =
    ProtectedCtx { agent: "a", operation: "o", deadline: None, weight: 1, cost: 1, idempotent: true };

pub(super) async fn fails(service: &Protected) -> ProtectedError<Failure> {
    service.call(&CTX, async |_| Err::<(), _>(down())).await.unwrap_err()
}

async fn works(service: &Protected) -> Result<u32, ProtectedError<Failure>> {
    service.call(&CTX, async |attempt| Ok(attempt.number)).await.map(|value| value.value)
}

/// One failure opens; one probe a second later.
pub(super) const TRIGGER_HAPPY: &str = r#""breaker": {"minimum_number_of_calls": 1, "sliding_window_size": 1,
    "wait_duration_in_open_state_ms": 1000, "permitted_number_of_calls_in_half_open_state": 1}"#;

#[tokio::test(start_paused = true)]
async fn a_refusal_names_its_layer_and_when_to_try_again() {
    let open = service(&format!("{{{TRIGGER_HAPPY}}}"));
    fails(&open).await;
    let error = works(&open).await.unwrap_err();
    assert_eq!((error.layer(), error.retry_after()), (Some(Layer::Breaker), Some(ms(1_000))));
    assert_eq!((error.cause_code(), error.attempts), ("breaker.open", 0));
    assert_eq!(error.to_string(), r#"search: breaker "search" is open, retry in 1000 ms"#);

    let limited = r#"{"limiter": {"strategy": {"token_bucket": {"burst": 1, "rate": 10, "per_ms": 1000}}}}"#;
    let limited = service(limited);
    assert_eq!(works(&limited).await, Ok(1));
    let error = works(&limited).await.unwrap_err();
    assert_eq!((error.layer(), error.retry_after()), (Some(Layer::Limiter), Some(ms(100))));
    assert_eq!(error.cause_code(), "limiter.limit");
    let other = ProtectedCtx::new("b", "o");
    assert!(limited.call(&other, async |_| Ok::<_, Failure>(())).await.is_ok());

    let full = service(r#"{"bulkhead": {"max_concurrent": 1, "max_waiting": 0, "max_wait_ms": 0}}"#);
    let mut held = Box::pin(full.call(&CTX, |_| pending::<Result<(), Failure>>()));
    assert!(held.as_mut().now_or_never().is_none());
    let error = works(&full).await.unwrap_err();
    assert_eq!((error.layer(), error.cause_code()), (Some(Layer::Bulkhead), "bulkhead.full"));
    drop(held);
    assert_eq!(works(&full).await, Ok(1));

    let asked = service("{}");
    let busy = Failure { retry_after_ms: Some(5_000), ..down() };
    let _ = asked.call(&CTX, async |_| Err::<(), _>(busy.clone())).await;
    sleep(ms(1_000)).await;
    let error = works(&asked).await.unwrap_err();
    assert_eq!((error.layer(), error.retry_after()), (Some(Layer::Backoff), Some(ms(4_000))));
}

#[tokio::test(start_paused = true)]
async fn layers_are_asked_from_the_outermost_and_nothing_inside_a_refusal_is_touched() {
    let all = service(&format!(
        r#"{{{TRIGGER_HAPPY},
            "limiter": {{"strategy": {{"token_bucket": {{"burst": 2, "rate": 1, "per_ms": 1000000}}}}}},
            "bulkhead": {{"max_concurrent": 1, "max_waiting": 0}}}}"#
    ));
    let admitted = || {
        let stats = all.stats();
        let (breaker, limiter) = (stats.breaker.unwrap(), stats.limiter.unwrap());
        (breaker.allowed, limiter.allowed_total, stats.bulkhead.unwrap().admitted, stats.attempts)
    };
    fails(&all).await;
    assert_eq!(admitted(), (1, 1, 1, 1));
    // Open: neither limiter nor bulkhead hears of it.
    assert_eq!(works(&all).await.unwrap_err().layer(), Some(Layer::Breaker));
    assert_eq!(admitted(), (1, 1, 1, 1));
    sleep(ms(1_000)).await;
    assert_eq!(works(&all).await, Ok(1));
    // The limit is used up: the bulkhead does not hear of it, the breaker counts it as ignored and stays closed.
    assert_eq!(works(&all).await.unwrap_err().layer(), Some(Layer::Limiter));
    assert_eq!(admitted(), (3, 2, 2, 2));
    let stats = all.stats();
    assert_eq!(
        (stats.breaker.as_ref().unwrap().ignored, stats.breaker.unwrap().state.name()),
        (1, StateName::Closed)
    );
    assert_eq!((stats.calls, stats.succeeded, stats.failed, stats.in_flight), (4, 1, 3, 0));
    assert_eq!(
        Layer::ALL.map(|layer| stats.ended_by.get(layer as usize).copied()),
        [0, 0, 1, 0, 1, 0, 1, 0].map(Some)
    );
}

#[tokio::test(start_paused = true)]
async fn the_breaker_sees_each_attempt_and_no_attempt_follows_once_it_is_open() {
    let retried = r#"{"retry": {"max_attempts": 9, "initial_interval_ms": 10},
        "breaker": {"minimum_number_of_calls": 3, "sliding_window_size": 3, "wait_duration_in_open_state_ms": 60000}}"#;
    let retried = service(retried);
    let error = fails(&retried).await;
    assert_eq!((error.attempts, error.history.len()), (3, 3));
    let expected = ProtectedErrorKind::Failed { reason: GiveUpReason::CircuitOpen, last_error: down() };
    assert_eq!(error.kind, expected);
    let breaker = retried.stats().breaker.unwrap();
    assert_eq!((breaker.allowed, breaker.failures.total(), breaker.state.name()), (3, 3, StateName::Open));
    let error = fails(&retried).await;
    assert_eq!((error.attempts, error.cause_code()), (0, "breaker.open"));
    assert_eq!(retried.stats().attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_breaker_opens_while_it_waits_makes_no_attempt_and_keeps_its_last_failure() {
    let waits = r#"{"retry": {"initial_interval_ms": 100}, "breaker": {}}"#;
    let waits = service(waits);
    let call = fails(&waits);
    let open = async {
        sleep(ms(50)).await;
        waits.breaker().unwrap().force_open(Timestamp(0));
    };
    let (error, ()) = tokio::join!(call, open);
    let ProtectedErrorKind::Refused { refusal, last_error } = &error.kind else { panic!("{error:?}") };
    assert_eq!((refusal.layer(), last_error, error.attempts), (Layer::Breaker, &Some(down()), 1));
    assert_eq!(waits.stats().retry.given_up(GiveUpReason::CircuitOpen), 1);
}

#[tokio::test(start_paused = true)]
async fn half_open_a_call_has_one_attempt_however_many_its_policy_gives_it() {
    for mode in [
        "",
        r#", "half_open": {"ramp": {"stages": [1, 100], "successes_per_stage": 1, "max_error_rate": 1.0}}"#,
    ] {
        let document = format!(
            r#"{{"retry": {{"max_attempts": 5, "initial_interval_ms": 1, "backoff_coefficient": 1.0}}, {}{mode}}}}}"#,
            TRIGGER_HAPPY.trim_end_matches('}')
        );
        let probed = service(&document);
        assert_eq!(fails(&probed).await.attempts, 1);
        for _ in 0..3 {
            sleep(ms(20_000)).await;
            let error = fails(&probed).await;
            let ProtectedErrorKind::Failed { reason, .. } = error.kind else { panic!("{error:?}") };
            assert_eq!((error.attempts, reason), (1, GiveUpReason::CircuitOpen), "{mode}");
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}", self.0)
    }
}

impl Coded for Status {
    fn code(&self) -> &'static str {
        "status"
    }
    fn family(&self) -> Family {
        if self.0 == 422 { Family::Rejected } else { Family::Unknown }
    }
}

#[tokio::test(start_paused = true)]
async fn the_family_is_that_of_the_layer_while_nothing_ran_and_that_of_the_failure_after() {
    let api = service(&format!("{{{TRIGGER_HAPPY}}}"));
    let ask = async |status, ctx| api.call(&ctx, async |_| Err::<(), _>(Status(status))).await.unwrap_err();
    let seen = |error: &ProtectedError<Status>| (error.code(), error.family());
    let late = CTX.deadline(Instant::now());
    assert_eq!(seen(&ask(500, late).await), ("timeout.deadline", Family::Unavailable));
    let failed = ask(500, CTX).await;
    assert_eq!(seen(&failed), ("status", Family::Unknown));
    assert_eq!(seen(&ask(500, CTX).await), ("breaker.open", Family::Unavailable));
    let ProtectedErrorKind::Refused { refusal, .. } = ask(500, CTX).await.kind else { panic!() };
    let ran = ProtectedErrorKind::Refused { refusal, last_error: Some(Status(422)) };
    let ran = ProtectedError { attempts: 1, kind: ran, ..failed };
    assert_eq!(seen(&ran), ("breaker.open", Family::Rejected));
    let cut = ProtectedErrorKind::TimedOut {
        by: Timeouts::begin(&TimeoutOptions::default(), Instant::now(), Some(Instant::now()))
            .unwrap()
            .attempt(Instant::now())
            .unwrap_err(),
        reason: GiveUpReason::NotRetryable,
    };
    assert_eq!(seen(&ProtectedError { kind: cut, ..ran.clone() }), ("timeout.deadline", Family::Unknown));
    let spent = ProtectedErrorKind::RetryBudgetExhausted { last_error: Status(422) };
    assert_eq!(seen(&ProtectedError { kind: spent, ..ran }), ("retry.budget_exhausted", Family::Rejected));
}

/// What an API says: too many requests, a wrong request, out of order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Status(u16);

impl RetryCause for Status {
    fn cause_code(&self) -> &str {
        if self.0 == 422 { "invalid" } else { "status" }
    }
    fn may_retry(&self) -> bool {
        self.0 != 422
    }
    fn outcome(&self) -> Outcome {
        match self.0 {
            429 => Outcome::Ignored,
            _ => Outcome::Failure(FailureClass::Application),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_says_nothing_about_the_other_side_does_not_open_the_breaker() {
    let document = format!(r#"{{{TRIGGER_HAPPY}, "ignored_codes": ["invalid"]}}"#);
    let api = service(&document);
    for status in [429, 422] {
        for _ in 0..20 {
            let error = api.call(&CTX, async |_| Err::<(), _>(Status(status))).await.unwrap_err();
            assert_eq!(error.last_error(), Some(&Status(status)));
        }
    }
    let stats = api.stats().breaker.unwrap();
    assert_eq!((stats.state.name(), stats.ignored), (StateName::Closed, 40));
    let _ = api.call(&CTX, async |_| Err::<(), _>(Status(500))).await;
    assert_eq!(api.breaker().unwrap().state().name(), StateName::Open);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_holds_every_caller_and_lets_the_one_that_waited_through() {
    let api = service(r#"{"retry": {"initial_interval_ms": 1}}"#);
    let begun = Instant::now();
    let busy = Failure { retry_after_ms: Some(3_000), ..down() };
    let first = api.call(
        &CTX,
        async |attempt| if attempt.number == 1 { Err(busy.clone()) } else { Ok(begun.elapsed()) },
    );
    let others = async {
        sleep(ms(10)).await;
        let mut refused = 0;
        while works(&api).await.is_err_and(|error| error.layer() == Some(Layer::Backoff)) {
            refused += 1;
            sleep(ms(500)).await;
        }
        (refused, begun.elapsed())
    };
    let (first, others) = tokio::join!(first, others);
    let first = first.unwrap();
    assert_eq!((first.value, first.attempts), (ms(3_000), 2));
    assert_eq!(others, (6, ms(3_010)));
    let changes: Vec<_> = api.transitions().iter().map(|entry| (entry.layer, entry.change)).collect();
    assert_eq!(
        changes,
        [
            (Layer::Retry, LayerChange::Added),
            (Layer::Backoff, LayerChange::Refuses("limiter.backed_off")),
            (Layer::Backoff, LayerChange::Admits)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_the_call_and_nothing_dies() {
    let broken = service(&format!("{{{TRIGGER_HAPPY}, \"retry\": {{}}}}"));
    let error = broken.call(&CTX, async |_| -> Result<(), Failure> { panic!("boom") }).await.unwrap_err();
    assert_eq!(error.kind, ProtectedErrorKind::Panicked { message: "boom".to_owned() });
    assert_eq!((error.cause_code(), error.attempts), ("protected.panicked", 1));
    let stats = broken.stats();
    assert_eq!((stats.panics, stats.failed, stats.breaker.unwrap().failures.total()), (1, 1, 1));
    assert_eq!(broken.breaker().unwrap().state().name(), StateName::Open);
    sleep(ms(1_000)).await;
    assert_eq!(works(&broken).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_counts_as_ignored_and_frees_its_places() {
    let held =
        service(&format!(r#"{{{TRIGGER_HAPPY}, "bulkhead": {{"max_concurrent": 1, "max_wait_ms": 0}}}}"#));
    fails(&held).await;
    sleep(ms(1_000)).await;
    // The only probe, in the only place.
    let mut probe = Box::pin(held.call(&CTX, |_| pending::<Result<(), Failure>>()));
    assert!(probe.as_mut().now_or_never().is_none());
    assert_eq!(held.stats().in_flight, 1);
    assert_eq!(works(&held).await.unwrap_err().layer(), Some(Layer::Breaker));
    drop(probe);
    let stats = held.stats();
    assert_eq!((stats.in_flight, stats.cancelled, stats.breaker.unwrap().ignored), (0, 1, 1));
    assert_eq!(works(&held).await, Ok(1));
    assert_eq!(held.breaker().unwrap().state().name(), StateName::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_cut_is_retried_and_a_call_that_is_over_is_not() {
    let slow = r#"{"timeout": {"attempt_ms": 100, "total_ms": 350}, "breaker": {},
        "retry": {"max_attempts": 9, "initial_interval_ms": 50, "backoff_coefficient": 1.0}}"#;
    let slow = service(slow);
    let begun = Instant::now();
    let error = slow.call(&CTX, |_| pending::<Result<(), Failure>>()).await.unwrap_err();
    // 100, wait 50, 100, wait 50, and 50 that the call has left.
    assert_eq!((begun.elapsed(), error.attempts, error.history.len()), (ms(350), 3, 3));
    let ProtectedErrorKind::TimedOut { by, .. } = error.kind else { panic!("{error:?}") };
    assert_eq!((by.layer, by.after), (TimeoutLayer::Total, ms(350)));
    assert_eq!(slow.stats().breaker.unwrap().failures.timeout, 3);
    let recovers = slow.call(&CTX, async |attempt| {
        if attempt.number == 1 {
            pending::<()>().await;
        }
        Ok::<_, Failure>(attempt.number)
    });
    assert_eq!(recovers.await.unwrap().value, 2);
    let hurried = CTX.deadline(Instant::now() + ms(30));
    let error = slow.call(&hurried, |_| pending::<Result<(), Failure>>()).await.unwrap_err();
    assert_eq!((error.cause_code(), error.may_retry()), ("timeout.deadline", false));
    let late = CTX.deadline(Instant::now());
    let error = slow.call(&late, |_| pending::<Result<(), Failure>>()).await.unwrap_err();
    assert_eq!((error.attempts, error.cause_code()), (0, "timeout.deadline"));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_be_repeated_has_one_attempt() {
    let retried = service(r#"{"retry": {"max_attempts": 5, "initial_interval_ms": 1}}"#);
    let once = CTX.not_idempotent();
    let error = retried.call(&once, async |_| Err::<(), _>(down())).await.unwrap_err();
    assert_eq!(error.attempts, 1);
    assert_eq!(
        error.kind,
        ProtectedErrorKind::Failed { reason: GiveUpReason::Condition, last_error: down() }
    );
    assert_eq!(fails(&retried).await.attempts, 5);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_limiter_or_a_place_ends_with_the_call() {
    let limited = r#"{"timeout": {"total_ms": 250}, "limiter_wait_ms": 1000,
        "limiter": {"strategy": {"token_bucket": {"burst": 1, "rate": 5, "per_ms": 1000}}}}"#;
    let limited = service(limited);
    let ended = join_all((0..3).map(|_| works(&limited))).await;
    assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), 2);
    let error = ended.into_iter().find_map(Result::err).unwrap();
    assert_eq!(error.layer(), Some(Layer::Limiter));

    let full = service(r#"{"timeout": {"total_ms": 250}, "bulkhead": {"max_concurrent": 1}}"#);
    let mut held = Box::pin(full.call(&CTX, |_| pending::<Result<(), Failure>>()));
    assert!(held.as_mut().now_or_never().is_none());
    let (held, waited) = tokio::join!(held, works(&full));
    assert_eq!(held.unwrap_err().cause_code(), "timeout.total");
    let waited = waited.unwrap_err();
    assert_eq!((waited.cause_code(), waited.attempts), ("timeout.total", 0));
}

#[tokio::test(start_paused = true)]
async fn a_fallback_of_the_callers_own_is_outermost_and_marked() {
    let rates = service(&format!("{{{TRIGGER_HAPPY}}}"));
    let kept = LastGoodOptions { max_age_ms: 60_000, max_entries: 10 };
    let last_good: Fallback<u32, u32, ProtectedError<Failure>> =
        Fallback::last_good("search", &kept, Paused::clock()).unwrap();
    let none = rates.call_or(&last_good, &1, &CTX, async |_| Err(down())).await.unwrap_err();
    assert_eq!((none.original.last_error(), none.fallback.is_some()), (Some(&down()), true));
    sleep(ms(1_000)).await;
    let own = rates.call_or(&last_good, &1, &CTX, async |_| Ok(7)).await.unwrap();
    assert_eq!((*own.value, own.provenance, own.attempts), (7, Provenance::Primary, 1));
    let stale = rates.call_or(&last_good, &1, &CTX, async |_| Err(down())).await.unwrap();
    let kind = FallbackKind::LastGood;
    assert_eq!((*stale.value, stale.provenance), (7, Provenance::Fallback { kind, cause: "down".into() }));
    let refused = rates.call_or(&last_good, &1, &CTX, async |_| Ok(8)).await.unwrap();
    assert_eq!(refused.provenance, Provenance::Fallback { kind, cause: "breaker.open".into() });
    assert_eq!((*refused.value, refused.attempts, rates.stats().fell_back), (7, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn five_hundred_calls_of_two_seconds_take_two_seconds_and_status_answers_meanwhile() {
    let busy = service(r#"{"breaker": {}, "retry": {}, "bulkhead": {"max_concurrent": 500}}"#);
    let begun = Instant::now();
    let calls = join_all((0..500).map(|_| {
        busy.call(&CTX, async |_| {
            sleep(ms(2_000)).await;
            Ok::<_, Failure>(())
        })
    }));
    let look = async {
        sleep(ms(1_000)).await;
        let (asked, stats) = (std::time::Instant::now(), busy.stats());
        (stats.in_flight, stats.breaker.unwrap().in_flight, stats.bulkhead.unwrap().in_use, asked.elapsed())
    };
    let (ended, (in_flight, in_breaker, in_bulkhead, took)) = tokio::join!(calls, look);
    assert!(ended.iter().all(Result::is_ok));
    assert_eq!(begun.elapsed(), ms(2_000));
    assert_eq!((in_flight, in_breaker, in_bulkhead), (500, 500, 500));
    assert!(took < ms(1), "a look took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_callers_at_half_open_exactly_the_probes_run() {
    let document = r#"{"breaker": {"minimum_number_of_calls": 1, "sliding_window_size": 1,
        "permitted_number_of_calls_in_half_open_state": 7, "wait_duration_in_open_state_ms": 1000}}"#;
    let probed = service(document);
    fails(&probed).await;
    sleep(ms(1_000)).await;
    let ran = AtomicU32::new(0);
    let ended = join_all((0..1_000).map(|_| {
        probed.call(&CTX, async |_| {
            ran.fetch_add(1, Ordering::Relaxed);
            sleep(ms(10)).await;
            Ok::<_, Failure>(())
        })
    }));
    let ended = ended.await;
    assert_eq!((ran.into_inner(), ended.iter().filter(|ended| ended.is_ok()).count()), (7, 7));
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_calls_every_one_is_counted_once() {
    let service = service(
        r#"{"timeout": {"attempt_ms": 40, "total_ms": 120}, "retry": {"initial_interval_ms": 5},
        "budget": {"ratio": 0.5, "min_retries_per_second": 1},
        "breaker": {"minimum_number_of_calls": 10, "wait_duration_in_open_state_ms": 50},
        "limiter": {"strategy": {"token_bucket": {"burst": 50, "rate": 2000, "per_ms": 1000}}},
        "bulkhead": {"max_concurrent": 20, "max_waiting": 20, "max_wait_ms": 30}}"#,
    );
    let mut seed = 7_u64;
    let mut chance = move |of: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % of
    };
    for _ in 0..50 {
        let calls = (0..chance(60)).map(|_| {
            let (what, patience, service) = (chance(6), ms(chance(150)), service.clone());
            async move {
                let call = service.call(&CTX, async |_| match what {
                    0 => panic!("planned"),
                    1 => pending().await,
                    2 => Err(down()),
                    3 => {
                        sleep(ms(30)).await;
                        Err(down())
                    }
                    _ => {
                        sleep(ms(10)).await;
                        Ok(())
                    }
                });
                let _ = tokio::time::timeout(patience, call).await;
            }
        });
        join_all(calls).await;
        let stats = service.stats();
        let ended: u64 = stats.ended_by.iter().sum();
        assert_eq!(stats.in_flight, 0);
        assert_eq!(stats.calls, stats.succeeded + stats.failed + stats.cancelled);
        assert!(ended <= stats.failed && stats.failed - ended <= stats.panics);
        let (breaker, bulkhead) = (stats.breaker.unwrap(), stats.bulkhead.unwrap());
        assert_eq!((breaker.in_flight, bulkhead.in_use, bulkhead.waiting), (0, 0, 0));
        assert_eq!(bulkhead.admitted, stats.attempts);
        let budget = stats.budget.unwrap();
        // A retry that was paid for may be refused, or its caller goes away.
        assert!(stats.attempts <= budget.deposits + budget.withdrawals);
    }
    assert!(service.stats().cancelled > 0 && service.stats().ended_by(Layer::Breaker) > 0);
}

#[test]
fn options_are_refused_with_every_fault_by_layer_and_field() {
    let wrong = options(
        r#"{"fallback": {"service": ""}, "timeout": {"total_ms": 0}, "budget": {"ttl_ms": 1},
        "ignored_codes": ["x"], "limiter_wait_ms": 1, "bulkhead": {"max_concurrent": 0}}"#,
    );
    let error = wrong.validate("search").unwrap_err();
    let faults: Vec<_> =
        error.faults.iter().map(|fault| format!("{}.{}", fault.layer, fault.field)).collect();
    let expected = [
        "fallback.service",
        "timeout.total_ms",
        "budget.ttl_ms",
        "budget.retry",
        "breaker.ignored_codes",
        "limiter.limiter_wait_ms",
        "bulkhead.max_concurrent",
    ];
    assert_eq!(faults, expected);
    assert_eq!(error.code(), "protected.options");
    assert!(error.to_string().contains(r#"options of "search": fallback.service is"#), "{error}");
    let wrong = options(
        r#"{"retry": {"max_attempts": 0, "backoff_coefficient": 0.0}, "breaker": {"failure_rate_threshold": 2.0},
        "limiter": {"strategy": {"sliding_window": {"limit": 0, "window_ms": 1}}}, "limiter_wait_ms": 999999999}"#,
    );
    let faults = wrong.faults();
    let faults: Vec<_> = faults.iter().map(|fault| format!("{}.{}", fault.layer, fault.field)).collect();
    let expected = [
        "retry.max_attempts",
        "retry.backoff_coefficient",
        "breaker.failure_rate_threshold",
        "limiter.strategy.sliding_window.limit",
        "limiter.limiter_wait_ms",
    ];
    assert_eq!(faults, expected);
    let read = |text| serde_json::from_str::<ProtectedOptions>(text).map_err(|error| error.to_string());
    assert!(read(r#"{"braker": {}}"#).is_err_and(|error| error.contains("braker")));
    assert!(read(r#"{"breaker": {"minimum": 1}}"#).is_err_and(|error| error.contains("minimum")));
    assert_eq!(read("{}"), Ok(ProtectedOptions::default()));
    let breaker = Some(BreakerOptions::default());
    let whole = ProtectedOptions { breaker, ..ProtectedOptions::default() };
    assert_eq!(read(&serde_json::to_string(&whole).unwrap()), Ok(whole));
}

#[test]
fn a_service_alone_has_no_fallback_by_name() {
    let route = options(r#"{"fallback": {"service": "mirror"}}"#);
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::ManualClock::default());
    let error = Protected::new("search", route, clock).unwrap_err();
    assert_eq!(error.faults.iter().map(|fault| fault.layer).collect::<Vec<_>>(), [Layer::Fallback]);
}
