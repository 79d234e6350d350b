//! Upstreams: how many connections, for whom, and what happens when the other side misbehaves.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use stanchion::{
    Status, System,
    connect::{
        http::{
            HeaderError, Http, HttpError, HttpRequest, PathError, ProbeOptions, RegisterError, Upstream,
            UpstreamHealth, UpstreamOptions,
        },
        pool::DrainReport,
    },
    error::{Coded, Family},
    port::memory::MemoryStore,
    task::TaskScope,
};

use super::server::{Mute, SOON, Server};
use crate::kit;

fn probe(interval_ms: u64) -> Option<ProbeOptions> {
    Some(ProbeOptions { path: "health".to_owned(), interval_ms, timeout_ms: 2_000 })
}

fn sized(server: &Server, size: u32) -> UpstreamOptions {
    UpstreamOptions { size, max_waiting: 2_000, ..UpstreamOptions::of(server.url()) }
}

struct Rig {
    http: Http,
    root: TaskScope,
}

fn rig() -> Rig {
    let root = TaskScope::root("test");
    Rig { http: Http::new(&root), root }
}

async fn get(upstream: &Upstream, path: &str) -> Result<u16, HttpError> {
    upstream.call(HttpRequest::get(path)).await.map(|response| response.status.as_u16())
}

#[tokio::test]
async fn a_hundred_requests_on_two_connections_open_exactly_two() {
    let (server, rig) = (Server::start().await, rig());
    let upstream = rig.http.register("a", &sized(&server, 2)).unwrap();
    let answers = join_all((0..100).map(|n| {
        let upstream = &upstream;
        async move { get(upstream, &format!("x/{n}")).await }
    }))
    .await;
    assert!(answers.iter().all(|answer| answer == &Ok(200)), "{answers:?}");
    assert_eq!((server.opened(), server.asked()), (2, 100));
    for n in 0..100 {
        assert_eq!(get(&upstream, &format!("y/{n}")).await, Ok(200));
    }
    assert_eq!((server.opened(), upstream.stats().pool.opened, upstream.stats().answered), (2, 2, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_waiters_on_five_connections_are_served_in_order() {
    let (server, rig) = (Server::start().await, rig());
    let upstream = rig.http.register("a", &sized(&server, 5)).unwrap();
    // Polled in this order, so that they come in this order.
    let calls = (0..1_000).map(|n| {
        let upstream = upstream.clone();
        async move { get(&upstream, &format!("{n}")).await }
    });
    let answers = join_all(calls).await;
    assert!(answers.iter().all(|answer| answer == &Ok(200)), "{answers:?}");
    for (place, path) in server.paths().iter().enumerate() {
        let came: usize = path.trim_start_matches('/').parse().unwrap();
        // Four others may be under way with it, and no more.
        assert!(came <= place + 4, "request {came} was sent at place {place}");
    }
    assert_eq!((server.seen.most.load(SeqCst), server.opened()), (5, 5));
}

#[tokio::test]
async fn overflow_serves_those_that_wait_and_is_closed_after_them() {
    let (server, rig) = (Server::start().await, rig());
    let options = UpstreamOptions { overflow: 2, ..sized(&server, 3) };
    let upstream = rig.http.register("a", &options).unwrap();
    let calls: Vec<_> = (0..15)
        .map(|_| {
            let upstream = upstream.clone();
            kit::task(async move { get(&upstream, "hold").await })
        })
        .collect();
    kit::until("five are busy, ten wait", || server.asked() == 5 && upstream.stats().pool.waiting == 10)
        .await;
    server.release(15);
    for call in calls {
        assert_eq!(call.await.unwrap(), Ok(200));
    }
    kit::until("overflow is closed", || server.open() == 3).await;
    assert_eq!((server.seen.most.load(SeqCst), server.opened()), (5, 5));
}

#[tokio::test]
async fn saturating_one_upstream_does_not_touch_another() {
    let (server, rig) = (Server::start().await, rig());
    let full = rig.http.register("full", &sized(&server, 1)).unwrap();
    let free = rig.http.register("free", &sized(&server, 1)).unwrap();
    let held: Vec<_> = (0..50)
        .map(|_| {
            let full = full.clone();
            kit::task(async move { get(&full, "hold").await })
        })
        .collect();
    kit::until("the first is full", || full.stats().pool.waiting == 49).await;
    for _ in 0..50 {
        assert_eq!(get(&free, "x").await, Ok(200));
    }
    assert_eq!((full.stats().answered, free.stats().pool.timeouts, server.opened()), (0, 0, 2));
    server.release(50);
    for held in held {
        assert_eq!(held.await.unwrap(), Ok(200));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_thousand_calls_in_flight_others_are_served_and_status_answers() {
    let (server, other) = (Server::start().await, Server::start().await);
    let system = System::builder().open_on(MemoryStore::new()).await.unwrap();
    let http = Http::of(system.env());
    let slow = http.register("slow", &sized(&server, 1_000)).unwrap();
    let quick = http.register("quick", &sized(&other, 1)).unwrap();
    let held: Vec<_> = (0..1_000)
        .map(|_| {
            let slow = slow.clone();
            kit::task(async move { get(&slow, "hold").await })
        })
        .collect();
    kit::until("a thousand are in flight", || server.asked() == 1_000).await;
    for _ in 0..100 {
        assert_eq!(get(&quick, "x").await, Ok(200));
    }
    // Looks that wait for nobody: they are no futures.
    assert_eq!((slow.stats().pool.in_use, slow.stats().answered, quick.stats().answered), (1_000, 0, 100));
    assert_eq!((slow.health(), quick.health()), (UpstreamHealth::Up, UpstreamHealth::Up));
    assert!(system.health().iter().any(|(name, _)| name == "http/slow"));
    server.release(1_000);
    for held in held {
        assert_eq!(held.await.unwrap(), Ok(200));
    }
    drop((slow, quick, http));
    kit::stop(system).await;
}

#[tokio::test]
async fn a_waiter_is_refused_at_its_deadline_and_one_too_many_at_once() {
    let (server, rig) = (Server::start().await, rig());
    let options = UpstreamOptions { checkout_timeout_ms: 100, max_waiting: 1, ..sized(&server, 1) };
    let upstream = rig.http.register("a", &options).unwrap();
    let held = {
        let upstream = upstream.clone();
        kit::task(async move { get(&upstream, "hold").await })
    };
    kit::until("one is held", || server.asked() == 1).await;
    let began = Instant::now();
    let (late, full) = tokio::join!(get(&upstream, "x"), get(&upstream, "x"));
    let late = late.unwrap_err();
    assert_eq!((late.code(), late.family()), ("http.checkout_timeout", Family::Unavailable));
    let after = began.elapsed();
    assert!((100..SOON.as_millis()).contains(&after.as_millis()), "{after:?}");
    assert_eq!(full.unwrap_err().code(), "http.too_many_waiting");
    server.release(1);
    assert_eq!(held.await.unwrap(), Ok(200));
    assert_eq!(get(&upstream, "x").await, Ok(200));
    assert_eq!(server.opened(), 1);
}

#[tokio::test]
async fn a_killed_server_is_found_down_and_found_up_again_without_a_reset() {
    let (server, rig) = (Server::start().await, rig());
    let options = UpstreamOptions { probe: probe(50), ..sized(&server, 2) };
    let upstream = rig.http.register("a", &options).unwrap();
    assert_eq!(get(&upstream, "x").await, Ok(200));
    let address = server.kill().await;
    tokio::time::timeout(SOON, upstream.until_up(false)).await.unwrap();
    assert_eq!(upstream.stats().pool.idle, 0);
    let refused = get(&upstream, "x").await.unwrap_err();
    assert!(matches!(refused, HttpError::UpstreamDown { .. }), "{refused}");
    assert_eq!(refused.family(), Family::Unavailable);
    let server = Server::at(address).await;
    tokio::time::timeout(SOON, upstream.until_up(true)).await.unwrap();
    assert_eq!(get(&upstream, "x").await, Ok(200));
    assert!(server.paths().contains(&"/x".to_owned()));
    assert!(upstream.stats().probes_failed > 0);
}

#[tokio::test]
async fn a_request_that_finds_nobody_calls_the_probe_at_once() {
    let (server, rig) = (Server::start().await, rig());
    // The probe's own turn comes in an hour.
    let options = UpstreamOptions { probe: probe(3_600_000), ..sized(&server, 1) };
    let upstream = rig.http.register("a", &options).unwrap();
    kit::until("the first probe was answered", || server.asked() == 1).await;
    kit::until("its connection is idle", || upstream.stats().pool.idle == 1).await;
    server.kill().await;
    let error = get(&upstream, "x").await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. } | HttpError::Broken { .. }), "{error}");
    tokio::time::timeout(SOON, upstream.until_up(false)).await.unwrap();
    assert!(matches!(get(&upstream, "x").await, Err(HttpError::UpstreamDown { .. })));
}

#[tokio::test]
async fn a_server_that_answers_probes_with_500_is_down() {
    let (server, rig) = (Server::start().await, rig());
    server.seen.health.store(503, SeqCst);
    let options = UpstreamOptions { probe: probe(20), ..sized(&server, 1) };
    let upstream = rig.http.register("a", &options).unwrap();
    tokio::time::timeout(SOON, upstream.until_up(false)).await.unwrap();
    let UpstreamHealth::Down { cause, .. } = upstream.health() else { panic!("is down") };
    assert_eq!(&*cause, "status 503");
    server.seen.health.store(404, SeqCst);
    tokio::time::timeout(SOON, upstream.until_up(true)).await.unwrap();
    assert_eq!(get(&upstream, "x").await, Ok(200));
}

#[tokio::test]
async fn a_half_open_server_times_out_and_is_found_down() {
    let (mute, rig) = (Mute::start(), rig());
    let url = format!("http://{}", mute.address);
    let options = UpstreamOptions { attempt_timeout_ms: 100, size: 1, ..UpstreamOptions::of(&url) };
    let upstream = rig.http.register("plain", &options).unwrap();
    let error = get(&upstream, "x").await.unwrap_err();
    assert!(matches!(error, HttpError::AttemptTimeout { sent: true, .. }), "{error}");
    assert_eq!(error.family(), Family::Unknown);
    let stats = upstream.stats();
    assert_eq!((stats.pool.in_use, stats.pool.idle, stats.timeouts), (0, 0, 1));
    let probed = UpstreamOptions {
        probe: Some(ProbeOptions { path: String::new(), interval_ms: 50, timeout_ms: 50 }),
        ..options
    };
    let upstream = rig.http.register("probed", &probed).unwrap();
    tokio::time::timeout(SOON, upstream.until_up(false)).await.unwrap();
}

#[tokio::test]
async fn a_slow_answer_times_out_and_its_connection_is_closed() {
    let (server, rig) = (Server::start().await, rig());
    let options = UpstreamOptions { attempt_timeout_ms: 200, ..sized(&server, 1) };
    let upstream = rig.http.register("a", &options).unwrap();
    let waiting = UpstreamOptions { attempt_timeout_ms: 200, ..options.clone() };
    assert_eq!(waiting, options);
    let error = get(&upstream, "hold").await.unwrap_err();
    assert!(matches!(error, HttpError::AttemptTimeout { sent: true, .. }), "{error}");
    kit::until("the server sees it closed", || server.open() == 0).await;
    assert_eq!(get(&upstream, "x").await, Ok(200));
    assert_eq!(server.opened(), 2);
}

#[tokio::test]
async fn resets_and_cut_answers_are_broken_connections_that_return_their_permits() {
    let (server, rig) = (Server::start().await, rig());
    let upstream = rig.http.register("a", &sized(&server, 1)).unwrap();
    for path in ["reset", "cut", "reset", "cut"] {
        let error = get(&upstream, path).await.unwrap_err();
        assert!(matches!(error, HttpError::Broken { .. }), "{path}: {error}");
        assert_eq!((error.family(), upstream.stats().pool.in_use), (Family::Unknown, 0));
    }
    assert_eq!(get(&upstream, "close").await, Ok(200));
    assert_eq!(get(&upstream, "x").await, Ok(200));
    assert_eq!((server.opened(), server.asked()), (6, 6));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_and_without_a_length() {
    let (server, rig) = (Server::start().await, rig());
    let options = UpstreamOptions { body_max_bytes: 60_000, ..sized(&server, 1) };
    let upstream = rig.http.register("a", &options).unwrap();
    for path in ["big", "chunked"] {
        let error = get(&upstream, path).await.unwrap_err();
        assert!(matches!(error, HttpError::BodyTooLarge { limit: 60_000, .. }), "{path}: {error}");
    }
    let options = UpstreamOptions { body_max_bytes: 100_000, ..sized(&server, 1) };
    let upstream = rig.http.register("b", &options).unwrap();
    for path in ["big", "chunked"] {
        let response = upstream.call(HttpRequest::get(path)).await.unwrap();
        assert_eq!(response.body.len(), 100_000, "{path}");
    }
}

#[tokio::test]
async fn a_size_changes_live_and_never_cuts_a_busy_connection() {
    let (server, rig) = (Server::start().await, rig());
    let upstream = rig.http.register("a", &sized(&server, 4)).unwrap();
    let held: Vec<_> = (0..4)
        .map(|_| {
            let upstream = upstream.clone();
            kit::task(async move { get(&upstream, "hold").await })
        })
        .collect();
    kit::until("four are busy", || server.asked() == 4).await;
    upstream.resize(1, 0).unwrap();
    assert!(upstream.resize(0, 0).is_err());
    server.release(4);
    for held in held {
        assert_eq!(held.await.unwrap(), Ok(200));
    }
    kit::until("one stays", || server.open() == 1).await;
    assert_eq!((upstream.stats().pool.idle, upstream.stats().pool.size), (1, 1));
    upstream.resize(2, 0).unwrap();
    let (a, b) = tokio::join!(get(&upstream, "x"), get(&upstream, "x"));
    assert_eq!((a, b, server.opened()), (Ok(200), Ok(200), 5));
}

#[tokio::test]
async fn a_drain_waits_then_cuts_and_counts() {
    let (server, rig) = (Server::start().await, rig());
    let upstream = rig.http.register("a", &sized(&server, 2)).unwrap();
    let call = |path: &'static str| {
        let upstream = upstream.clone();
        kit::task(async move { get(&upstream, path).await })
    };
    let (done, cut) = (call("hold"), call("silent"));
    kit::until("two are busy", || server.asked() == 2).await;
    let refused = call("x");
    kit::until("one waits", || upstream.stats().pool.waiting == 1).await;
    let drain = {
        let http = rig.http.clone();
        kit::task(async move { http.drain(Duration::from_millis(300)).await })
    };
    assert!(matches!(refused.await.unwrap(), Err(HttpError::Draining { .. })));
    server.release(1);
    assert_eq!(done.await.unwrap(), Ok(200));
    assert!(matches!(cut.await.unwrap(), Err(HttpError::Cut { .. })));
    assert_eq!(drain.await.unwrap()["a"], DrainReport { finished: 1, cut: 1, refused: 1 });
    assert!(matches!(get(&upstream, "x").await, Err(HttpError::Draining { .. })));
    kit::until("the server sees all closed", || server.open() == 0).await;
}

#[tokio::test]
async fn idle_and_old_connections_are_closed_in_time() {
    let (server, rig) = (Server::start().await, rig());
    let idle = UpstreamOptions { idle_timeout_ms: Some(40), min_idle: 1, ..sized(&server, 3) };
    let idle = rig.http.register("idle", &idle).unwrap();
    let answers = tokio::join!(get(&idle, "x"), get(&idle, "x"), get(&idle, "x"));
    assert_eq!(answers, (Ok(200), Ok(200), Ok(200)));
    kit::until("all but the minimum are closed", || server.open() == 1).await;
    let old = UpstreamOptions { max_lifetime_ms: Some(40), ..sized(&server, 1) };
    let old = rig.http.register("old", &old).unwrap();
    assert_eq!(get(&old, "x").await, Ok(200));
    kit::until("the old one is closed", || old.stats().pool.idle == 0 && server.open() == 1).await;
}

#[tokio::test]
async fn no_task_and_no_connection_outlives_its_owner() {
    let (server, rig) = (Server::start().await, rig());
    let options = UpstreamOptions { probe: probe(20), ..sized(&server, 2) };
    let upstream = rig.http.register("a", &options).unwrap();
    assert_eq!(get(&upstream, "x").await, Ok(200));
    drop((upstream, rig.http));
    kit::until("no task lives", || rig.root.live() == 0).await;
    kit::until("no connection is open", || server.open() == 0).await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_before_anything_is_sent() {
    let (server, rig) = (Server::start().await, rig());
    let options = UpstreamOptions::of(format!("{}/api", server.url()));
    let upstream = rig.http.register("a", &options).unwrap();
    let unknown = rig.http.call("b", HttpRequest::get("x")).await.unwrap_err();
    assert_eq!(unknown, HttpError::UnknownUpstream("b".to_owned()));
    for (path, expected) in [
        ("../x", PathError::Escapes),
        ("/x", PathError::Escapes),
        ("//elsewhere/x", PathError::Absolute),
        ("http://elsewhere/x", PathError::Absolute),
        ("x\r\nHost: y", PathError::BadCharacter),
    ] {
        let error = get(&upstream, path).await.unwrap_err();
        assert_eq!(error, HttpError::Path { upstream: Arc::from("a"), error: expected });
        assert_eq!(error.family(), Family::Rejected);
    }
    let header = |name, value| HttpRequest::get("x").header(name, value).unwrap_err();
    assert_eq!(header("x-a", "b\r\nhost: c"), HeaderError::Value("x-a".to_owned()));
    assert_eq!(header("x a", "b"), HeaderError::Name("x a".to_owned()));
    assert_eq!(header("Host", "b"), HeaderError::Reserved("host".to_owned()));
    let mut smuggled = HttpRequest::get("x");
    smuggled.headers.insert("transfer-encoding", "chunked".parse().unwrap());
    assert_eq!(upstream.call(smuggled).await.unwrap_err().code(), "http.header_reserved");
    assert_eq!(server.opened(), 0);
}

#[tokio::test]
async fn an_upstream_with_faults_is_refused_with_all_of_them() {
    let rig = rig();
    let fields = |options: &UpstreamOptions| match rig.http.register("a", options).unwrap_err() {
        RegisterError::Options { error, .. } => {
            error.faults.iter().map(|fault| fault.field.clone()).collect::<Vec<_>>()
        }
        other => panic!("{other}"),
    };
    for url in
        ["", "x", "ftp://a.example", "http://a.example:0", "http://u:p@a.example", "http://a.example/?q"]
    {
        assert_eq!(fields(&UpstreamOptions::of(url)), ["base_url"], "{url}");
    }
    let mut options = UpstreamOptions {
        size: 0,
        attempt_timeout_ms: 0,
        probe: Some(ProbeOptions { path: "../x".to_owned(), interval_ms: 0, timeout_ms: 1 }),
        ..UpstreamOptions::of("http://a.example")
    };
    options.headers.insert("x-key".to_owned(), "hush\r\n".to_owned());
    options.headers.insert("host".to_owned(), "b".to_owned());
    assert_eq!(
        fields(&options),
        ["headers", "headers.x-key", "size", "attempt_timeout_ms", "probe.interval_ms", "probe.path"]
    );
    let text = format!("{} {options:?}", rig.http.register("a", &options).unwrap_err());
    assert!(!text.contains("hush"), "{text}");
    let good = UpstreamOptions::of("http://a.example");
    rig.http.register("a", &good).unwrap();
    assert_eq!(rig.http.register("a", &good).unwrap_err(), RegisterError::Duplicate("a".to_owned()));
    assert_eq!(rig.http.register("a/b", &good).unwrap_err(), RegisterError::Name("a/b".to_owned()));
    let read = serde_json::from_str::<UpstreamOptions>;
    assert!(read(r#"{"base_url": "http://a.example", "siez": 1}"#).is_err());
    assert!(read(r#"{"base_url": "http://a.example", "size": -1}"#).is_err());
    assert_eq!(read(r#"{"base_url": "http://a.example"}"#).unwrap(), good);
}

#[tokio::test]
async fn headers_of_the_upstream_and_of_the_request_are_sent_and_never_shown() {
    let (server, rig) = (Server::start().await, rig());
    let mut options = sized(&server, 1);
    options.headers.insert("x-upstream".to_owned(), "canary-1".to_owned());
    options.headers.insert("x-both".to_owned(), "upstream".to_owned());
    let upstream = rig.http.register("a", &options).unwrap();
    let request = HttpRequest::post("echo?key=canary-2", "canary-3")
        .header("x-both", "request")
        .unwrap()
        .header("x-key", "canary-4")
        .unwrap();
    let shown = format!("{request:?} {options:?} {upstream:?}");
    let response = upstream.call(request).await.unwrap();
    assert_eq!((response.body.as_ref(), response.header("x-echo")), (b"canary-3".as_ref(), Some("yes")));
    let head = server.seen.requests.lock().unwrap()[0].head.to_ascii_lowercase();
    for line in ["x-upstream: canary-1", "x-both: request", "x-key: canary-4", "content-length: 8"] {
        assert_eq!(head.matches(line).count(), 1, "{head}");
    }
    assert!(head.contains(&format!("host: {}", server.address)), "{head}");
    let shown = format!("{shown} {response:?}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn upstreams_of_a_system_are_in_its_health_and_statistics() {
    let server = Server::start().await;
    let system = System::builder().open_on(MemoryStore::new()).await.unwrap();
    let http = Http::of(system.env());
    let options = UpstreamOptions { probe: probe(20), ..sized(&server, 2) };
    let upstream = http.register("billing", &options).unwrap();
    assert_eq!(get(&upstream, "x").await, Ok(200));
    get(&upstream, "../x").await.unwrap_err();
    let stats = system.stats().into_iter().find(|(name, _)| name == "http/billing").unwrap().1;
    assert_eq!((stats.count("answered"), stats.count("errors")), (1, 1));
    let status = || system.health().into_iter().find(|(name, _)| name == "http/billing").unwrap().1.status;
    assert_eq!(status(), Status::Up);
    server.kill().await;
    tokio::time::timeout(SOON, upstream.until_up(false)).await.unwrap();
    assert_eq!(status(), Status::Degraded);
    drop((upstream, http));
    kit::until("it is written down as gone", || status() == Status::Down).await;
    kit::stop(system).await;
}
