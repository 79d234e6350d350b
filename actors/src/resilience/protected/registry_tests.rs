use std::sync::Arc;

use tokio::time::sleep;

use super::{
    tests::{Paused, TRIGGER_HAPPY, down, fails, ms, options},
    *,
};
use crate::{
    entity::Failure,
    error::Coded,
    resilience::{
        breaker::StateName,
        fallback::{FallbackKind, Provenance},
    },
};

const CTX: ProtectedCtx<'static> =
    ProtectedCtx { agent: "a", operation: "o", deadline: None, weight: 1, cost: 1, idempotent: true };

fn settings(document: &str) -> ProtectedSettings {
    serde_json::from_str(document).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_service_that_nobody_configured_never_runs() {
    let services = ProtectedServices::new(Paused::clock());
    let ran = services.call("nobody", &CTX, async |_| -> Result<(), Failure> { panic!("it ran") }).await;
    let error = ran.unwrap_err();
    assert_eq!((error.code(), &error), ("protected.not_found", &ServiceNotFound("nobody".to_owned())));
    services.set("somebody", ProtectedOptions::default()).unwrap();
    let value = services.call("somebody", &CTX, async |_| Ok::<_, Failure>(3)).await.unwrap().unwrap();
    assert_eq!(value.value, 3);
}

#[tokio::test(start_paused = true)]
async fn other_options_keep_what_every_layer_knows() {
    let services = ProtectedServices::new(Paused::clock());
    let all = |burst, ratio: f64, wait, places| {
        options(&format!(
            r#"{{"retry": {{"max_attempts": 2, "initial_interval_ms": 1}},
            "budget": {{"ratio": {ratio}, "min_retries_per_second": 0}},
            "breaker": {{"minimum_number_of_calls": 4, "sliding_window_size": 4, "wait_duration_in_open_state_ms": {wait}}},
            "limiter": {{"strategy": {{"token_bucket": {{"burst": {burst}, "rate": 1, "per_ms": 100000000}}}}}},
            "bulkhead": {{"max_concurrent": {places}, "max_wait_ms": 0}}}}"#
        ))
    };
    let service = services.set("api", all(10, 0.5, 60_000, 2)).unwrap();
    fails(&service).await;
    fails(&service).await;
    // Two calls have paid for the one retry, and three attempts have failed.
    assert_eq!(service.stats().attempts, 3);
    let held = service.call(&CTX, |_| std::future::pending::<Result<(), Failure>>());
    let mut held = Box::pin(held);
    assert!(futures_util::FutureExt::now_or_never(held.as_mut()).is_none());
    let same = services.set("api", all(6, 1.0, 30_000, 1)).unwrap();
    assert_eq!(same.options(), all(6, 1.0, 30_000, 1));
    let stats = service.stats();
    assert_eq!(stats.breaker.unwrap().window_calls, 3);
    assert_eq!(stats.limiter.unwrap().allowed_total, 4);
    assert_eq!(stats.bulkhead.unwrap().in_use, 1);
    assert_eq!(stats.budget.map(|budget| (budget.deposits, budget.withdrawals)), Some((3, 1)));
    assert_eq!(stats.calls, 3);
    // The place is taken under the new options, too.
    let full = same.call(&CTX, async |_| Ok::<_, Failure>(())).await.unwrap_err();
    assert_eq!(full.layer(), Some(Layer::Bulkhead));
    drop(held);
    let error = fails(&same).await;
    assert_eq!(error.attempts, 1, "the fourth failure of the window opens: {error}");
    assert_eq!(same.breaker().unwrap().state().name(), StateName::Open);
    services.set("api", all(6, 1.0, 30_000, 3)).unwrap();
    assert_eq!(same.breaker().unwrap().state().name(), StateName::Open);
    let changes: Vec<_> = service.transitions().iter().map(|entry| (entry.layer, entry.change)).collect();
    for layer in [Layer::Retry, Layer::Budget, Layer::Breaker, Layer::Limiter, Layer::Bulkhead] {
        assert!(changes.contains(&(layer, LayerChange::Added)), "{layer}");
        assert_eq!(changes.contains(&(layer, LayerChange::Reconfigured)), layer != Layer::Retry, "{layer}");
    }
    services.set("api", ProtectedOptions::default()).unwrap();
    assert!(service.breaker().is_none());
    assert!(service.call(&CTX, async |_| Ok::<_, Failure>(())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn options_that_are_refused_change_nothing() {
    let services = ProtectedServices::new(Paused::clock());
    services.configure(&settings(r#"{"a": {"breaker": {}}, "b": {}}"#)).unwrap();
    let before = services.settings();
    let refused = services.set("a", options(r#"{"budget": {}}"#)).unwrap_err();
    assert_eq!(refused.code(), "protected.options");
    let mut loops = ProtectedSettings::default();
    for (name, to) in [("a", "b"), ("b", "c"), ("c", "a")] {
        loops.insert(name, options(&format!(r#"{{"fallback": {{"service": "{to}"}}}}"#))).unwrap();
    }
    let error = services.configure(&loops).unwrap_err();
    assert_eq!(error.code(), "fallback.loop");
    assert!(error.to_string().contains(" -> "), "{error}");
    assert_eq!((services.settings(), services.list().len()), (before, 2));
    let itself = options(r#"{"fallback": {"service": "a"}}"#);
    assert_eq!(services.set("a", itself).unwrap_err().code(), "fallback.loop");
    let nowhere = options(r#"{"fallback": {"service": "nowhere"}}"#);
    assert_eq!(services.set("a", nowhere).unwrap_err().code(), "protected.no_such_fallback");
    // A way round that closes over two steps of configuration is one as well.
    services.set("a", options(r#"{"fallback": {"service": "b"}}"#)).unwrap();
    assert_eq!(
        services.set("b", options(r#"{"fallback": {"service": "a"}}"#)).unwrap_err().code(),
        "fallback.loop"
    );
    // Turned round in one step it is none.
    services.configure(&settings(r#"{"a": {}, "b": {"fallback": {"service": "a"}}}"#)).unwrap();
    assert_eq!(services.get("b").unwrap().fallback().unwrap().name().as_ref(), "a");
    assert!(services.get("a").unwrap().fallback().is_none());
}

#[test]
fn a_document_is_refused_where_it_is_wrong() {
    let read =
        |text: &str| serde_json::from_str::<ProtectedSettings>(text).map_err(|error| error.to_string());
    let good = "{\n \"a\": {\"breaker\": {}},\n \"b\": {\"bulkhead\": {\"max_concurrent\": 2}}\n}";
    let whole = read(good).unwrap();
    assert_eq!(read(&serde_json::to_string(&whole).unwrap()), Ok(whole));
    let error = read(&good.replace(": 2", ": 0")).unwrap_err();
    assert!(
        error.contains(r#"options of "b": bulkhead.max_concurrent is 0"#) && error.contains("line 3"),
        "{error}"
    );
    let error = read(&good.replace("\"b\"", "\"a\"")).unwrap_err();
    assert!(error.contains(r#"two services are named "a""#), "{error}");
    let error = read(&good.replace("bulkhead", "bulkheads")).unwrap_err();
    assert!(error.contains("bulkheads"), "{error}");
    assert!(read(&good.replace("\"b\"", "\"\"")).is_err_and(|error| error.contains("no name")));
    let mut many = ProtectedSettings::default();
    for number in 0..PROTECTED_MAX {
        many.insert(number.to_string(), ProtectedOptions::default()).unwrap();
    }
    assert_eq!(many.insert("more", ProtectedOptions::default()), Err(ServicesError::Full));
}

#[tokio::test(start_paused = true)]
async fn another_service_answers_through_its_own_layers_and_the_answer_says_so() {
    let services = ProtectedServices::new(Paused::clock());
    let document = format!(
        r#"{{"main": {{{TRIGGER_HAPPY}, "fallback": {{"service": "mirror"}}}},
        "mirror": {{{TRIGGER_HAPPY}, "fallback": {{"service": "archive"}}}}, "archive": {{{TRIGGER_HAPPY}}}}}"#
    );
    services.configure(&settings(&document)).unwrap();
    let main = services.get("main").unwrap();
    let up = |service: &'static str| {
        move |attempt: Attempt| async move { if *attempt.service == *service { Ok(service) } else { Err(down()) } }
    };
    let answer = main.call(&CTX, up("mirror")).await.unwrap();
    let fell_back = |cause: &str| Provenance::Fallback { kind: FallbackKind::Service, cause: cause.into() };
    assert_eq!((answer.value, answer.attempts, answer.provenance), ("mirror", 2, fell_back("down")));
    // Open by now: the other one answers at once.
    let answer = main.call(&CTX, up("mirror")).await.unwrap();
    assert_eq!((answer.attempts, answer.provenance), (1, fell_back("breaker.open")));
    let answer = main.call(&CTX, up("archive")).await.unwrap();
    assert_eq!((answer.value, answer.attempts), ("archive", 2));
    sleep(ms(1_000)).await;
    let error = main.call(&CTX, up("nobody")).await.unwrap_err();
    assert_eq!((&*error.service, error.last_error()), ("main", Some(&down())));
    let mirror = error.fallback.as_deref().unwrap();
    let archive = mirror.fallback.as_deref().unwrap();
    assert_eq!(
        (&*mirror.service, &*archive.service, archive.fallback.is_none()),
        ("mirror", "archive", true)
    );
    assert!(error.to_string().contains("its fallback failed too: mirror"), "{error}");
    assert_eq!((main.stats().fell_back, main.stats().failed), (3, 4));
}

#[tokio::test]
async fn a_registry_is_shared_by_threads() {
    let services = Arc::new(ProtectedServices::new(Arc::new(crate::clock::SystemClock)));
    services.configure(&settings(r#"{"a": {"bulkhead": {"max_concurrent": 2}}}"#)).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let services = Arc::clone(&services);
            std::thread::spawn(move || {
                for places in 1..50 {
                    let document = format!(r#"{{"bulkhead": {{"max_concurrent": {places}}}}}"#);
                    services.set("a", options(&document)).unwrap();
                    assert!(services.get("a").unwrap().options().bulkhead.is_some());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(services.settings().iter().count(), 1);
}
