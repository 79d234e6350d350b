//! HTTP adapters: verdicts, credentials, capabilities, and that no secret is shown.

use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use stanchion::{
    adapter::{
        AdapterCallError, AdapterHealth, Bounded, CallCtx, CapabilityToken, Credential, CredentialOptions,
        CredentialProvider, Credentials, Secret,
    },
    clock::{Clock, SystemClock},
    connect::http::{Http, HttpAdapter, HttpCallError, HttpRequest, ProbeOptions, Upstream, UpstreamOptions},
    error::Coded,
    resilience::{
        breaker::{FailureClass, Outcome},
        retry::RetryCause,
    },
    task::TaskScope,
};

use super::server::{Mute, SOON, Server};
use crate::kit;

/// Gives `canary-1`, `canary-2`, ...
#[derive(Clone, Default)]
struct Provider(Arc<AtomicU32>);

impl CredentialProvider for Provider {
    async fn fetch(&self) -> Result<Credential, String> {
        let number = self.0.fetch_add(1, SeqCst) + 1;
        Ok(Credential { secret: Secret::new(format!("canary-{number}")), expires: None })
    }
}

struct Rig {
    server: Server,
    http: Http,
    clock: Arc<dyn Clock>,
    provider: Provider,
    _root: TaskScope,
}

impl Rig {
    async fn start() -> Self {
        let root = TaskScope::root("test");
        let (server, http) = (Server::start().await, Http::new(&root));
        Self { server, http, clock: Arc::new(SystemClock), provider: Provider::default(), _root: root }
    }

    fn plain(&self, name: &str, url: &str) -> HttpAdapter {
        let options = UpstreamOptions {
            size: 4,
            max_waiting: 2_000,
            attempt_timeout_ms: 5_000,
            ..UpstreamOptions::of(url)
        };
        HttpAdapter::new(self.http.register(name, &options).unwrap(), Arc::clone(&self.clock))
    }

    fn authorised(&self) -> Bounded<HttpAdapter> {
        let options = CredentialOptions::default();
        let credentials = Credentials::new("api", self.provider.clone(), options, Arc::clone(&self.clock));
        self.bound(self.plain("a", &self.server.url()).with_credentials(credentials))
    }

    fn bound(&self, adapter: HttpAdapter) -> Bounded<HttpAdapter> {
        Bounded::new(adapter, Arc::clone(&self.clock)).unwrap()
    }
}

type CallResult = Result<u16, AdapterCallError<HttpCallError<stanchion::connect::http::HttpError>>>;

async fn get(adapter: &Bounded<HttpAdapter<Upstream>>, path: &str) -> CallResult {
    let called = adapter.call(HttpRequest::get(path), &CallCtx::default()).await;
    called.map(|response| response.status.as_u16())
}

#[tokio::test]
async fn answers_and_errors_have_their_verdicts() {
    let rig = Rig::start().await;
    let adapter = rig.bound(rig.plain("a", &rig.server.url()));
    let cases = [
        ("x", Outcome::Success, false, None),
        ("busy", Outcome::Ignored, true, Some(Duration::from_secs(7))),
        ("status/404", Outcome::Ignored, false, None),
        ("status/503", Outcome::Failure(FailureClass::Application), true, None),
        ("status/504", Outcome::Failure(FailureClass::Timeout), true, None),
        ("reset", Outcome::Failure(FailureClass::Network), true, None),
        ("../x", Outcome::Ignored, false, None),
    ];
    for (path, outcome, retryable, wait) in cases {
        let called = adapter.call(HttpRequest::get(path), &CallCtx::default()).await;
        let verdict = adapter.verdict(&called);
        assert_eq!(
            (verdict.outcome, verdict.retryable, verdict.retry_after),
            (outcome, retryable, wait),
            "{path}"
        );
    }
    let short = CallCtx { timeout: Some(Duration::from_millis(100)), ..CallCtx::default() };
    let error = adapter.call(HttpRequest::get("silent"), &short).await.unwrap_err();
    assert_eq!((error.class(), error.may_retry()), (Some(FailureClass::Timeout), true));
    let nobody = {
        let mute = Mute::start();
        format!("http://{}", mute.address)
    };
    let error = get(&rig.bound(rig.plain("nobody", &nobody)), "x").await.unwrap_err();
    assert_eq!((error.class(), error.may_retry()), (Some(FailureClass::Network), true));
}

#[tokio::test]
async fn the_idempotency_key_goes_along() {
    let rig = Rig::start().await;
    let adapter = rig.bound(rig.plain("a", &rig.server.url()));
    let ctx = CallCtx { idempotency_key: Some("run-7/step-2".to_owned()), ..CallCtx::default() };
    adapter.call(HttpRequest::post("echo", "x"), &ctx).await.unwrap();
    let head = rig.server.seen.requests.lock().unwrap()[0].head.clone();
    assert!(head.contains("idempotency-key: run-7/step-2\r\n"), "{head}");
}

#[tokio::test]
async fn a_thousand_calls_refused_at_once_are_one_refresh() {
    let rig = Rig::start().await;
    let adapter = rig.authorised();
    *rig.server.seen.token.lock().unwrap() = "canary-1".to_owned();
    assert_eq!(get(&adapter, "guarded").await, Ok(200));
    // The token changes on the other side.
    *rig.server.seen.token.lock().unwrap() = "canary-2".to_owned();
    let answers = join_all((0..1_000).map(|_| get(&adapter, "guarded"))).await;
    assert!(answers.iter().all(|answer| answer == &Ok(200)), "{answers:?}");
    assert_eq!(rig.provider.0.load(SeqCst), 2);
    // Each of the first wave was refused once at most, and none more than that.
    assert!(rig.server.asked() <= 2_001, "{}", rig.server.asked());
}

#[tokio::test]
async fn a_credential_refused_twice_fails_the_call() {
    let rig = Rig::start().await;
    let adapter = rig.authorised();
    *rig.server.seen.token.lock().unwrap() = "another".to_owned();
    let error = get(&adapter, "guarded").await.unwrap_err();
    let AdapterCallError::Failed { error: HttpCallError::Credential(refused), verdict } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (refused.code(), verdict.outcome, verdict.retryable),
        ("credential.refused", Outcome::Ignored, false)
    );
    assert_eq!((rig.server.asked(), rig.provider.0.load(SeqCst)), (2, 2));
}

#[tokio::test]
async fn a_missing_scope_is_forbidden_before_any_connection() {
    let rig = Rig::start().await;
    let adapter = rig.bound(rig.plain("a", &rig.server.url()).with_scope("billing.read"));
    let ctx = |scope: &str| {
        let expires = rig.clock.now().after(Duration::from_secs(60));
        CallCtx { capability: Some(CapabilityToken::new("agent-1", [scope], expires)), ..CallCtx::default() }
    };
    let error = adapter.call(HttpRequest::get("x"), &ctx("billing.write")).await.unwrap_err();
    assert_eq!(error.code(), "capability.forbidden");
    assert_eq!(rig.server.opened(), 0);
    adapter.call(HttpRequest::get("x"), &ctx("billing.read")).await.unwrap();
}

#[tokio::test]
async fn health_is_that_of_the_probe() {
    let rig = Rig::start().await;
    let unprobed = rig.bound(rig.plain("a", &rig.server.url()));
    assert_eq!(unprobed.health().await, AdapterHealth::Unknown);
    rig.server.seen.health.store(500, SeqCst);
    let probe = Some(ProbeOptions { path: "health".to_owned(), interval_ms: 20, timeout_ms: 2_000 });
    let options = UpstreamOptions { probe, ..UpstreamOptions::of(rig.server.url()) };
    let upstream = rig.http.register("b", &options).unwrap();
    let adapter = rig.bound(HttpAdapter::new(upstream.clone(), Arc::clone(&rig.clock)));
    tokio::time::timeout(SOON, upstream.until_up(false)).await.unwrap();
    assert_eq!(adapter.health().await, AdapterHealth::Down("status 500".to_owned()));
    let error = get(&adapter, "x").await.unwrap_err();
    assert_eq!(
        (error.verdict().outcome, error.asked_wait()),
        (Outcome::Ignored, Some(Duration::from_millis(20)))
    );
}

/// Where the log of a test goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_secret_never_appears_in_what_a_failed_call_says() {
    let log = Log::default();
    let sink = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || sink.clone())
        .with_ansi(false)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let rig = Rig::start().await;
    let adapter = rig.authorised();
    *rig.server.seen.token.lock().unwrap() = "another".to_owned();
    let mut shown = format!("{adapter:?} {:?} {:?}", rig.http, Secret::new("canary-0"));
    for path in ["guarded", "reset", "cut", "big", "busy", "../x", "status/500", "x?key=canary-9"] {
        let request = HttpRequest::post(path, "canary-8").header("x-key", "canary-7").unwrap();
        let asked = format!("{request:?}");
        let called = adapter.call(request, &CallCtx::default()).await;
        let text = called.as_ref().err().map(ToString::to_string);
        shown += &format!("{asked} {called:?} {text:?} ");
    }
    let broken = Credentials::fixed("bad", Secret::new("canary\r\n"), Arc::clone(&rig.clock));
    let adapter = rig.bound(rig.plain("c", &rig.server.url()).with_credentials(broken));
    let error = get(&adapter, "x").await.unwrap_err();
    shown += &format!("{error} {error:?} {adapter:?}");
    tracing::warn!(?adapter, %error, "the log is read");
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("the log is read"), "{logged}");
    kit::until("all are back", || rig.http.stats()["a"].pool.in_use == 0).await;
    let sent = format!("{:?}", rig.server.seen.requests.lock().unwrap());
    for secret in ["canary-1", "canary-2", "canary-7", "canary-8", "canary-9"] {
        assert!(sent.contains(secret), "it is sent, so that it could be shown: {sent}");
    }
    for text in [shown, logged] {
        assert!(!text.contains("canary"), "{text}");
    }
}
