//! Limits of calls through adapters.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use super::*;
use crate::{adapter::CapabilityToken, clock::ManualClock, ids::Timestamp, task::CancelToken};

#[derive(Debug)]
struct Silent {
    timeout: Duration,
    calls: AtomicU32,
}

impl Adapter for Silent {
    type Request = &'static str;
    type Response = ();
    type Error = Infallible;

    fn name(&self) -> &str {
        "silent"
    }
    fn timeout(&self) -> Duration {
        self.timeout
    }
    fn scope(&self, request: &&'static str) -> Option<String> {
        (*request != "free").then(|| format!("silent.{request}"))
    }
    async fn call(&self, _: &'static str, _: &CallCtx) -> Result<(), Infallible> {
        self.calls.fetch_add(1, SeqCst);
        std::future::pending().await
    }
    fn classify(&self, _: Result<&(), &Infallible>) -> Verdict {
        Verdict::SUCCESS
    }
    async fn health(&self) -> AdapterHealth {
        std::future::pending().await
    }
}

fn silent(timeout: Duration) -> Result<Bounded<Silent>, AdapterError> {
    let clock = Arc::new(ManualClock::at(Timestamp(5)));
    Bounded::new(Silent { timeout, calls: AtomicU32::new(0) }, clock)
}

#[test]
fn an_adapter_without_a_timeout_is_refused() {
    for timeout in [Duration::ZERO, Duration::MAX] {
        let refused = silent(timeout).unwrap_err();
        assert_eq!(refused, AdapterError::NoTimeout { adapter: "silent".to_owned(), timeout });
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_the_shorter_of_both_limits_and_at_a_cancellation() {
    let adapter = silent(Duration::from_secs(2)).unwrap();
    let took = |ctx: CallCtx| {
        let adapter = &adapter;
        async move {
            let began = tokio::time::Instant::now();
            (adapter.call("free", &ctx).await.unwrap_err(), began.elapsed())
        }
    };
    let timed_out = |after| AdapterCallError::Timeout { adapter: Arc::from("silent"), after };
    let (two, one) = (Duration::from_secs(2), Duration::from_secs(1));
    assert_eq!(took(CallCtx::default()).await, (timed_out(two), two));
    let ctx = |timeout| CallCtx { timeout: Some(timeout), ..CallCtx::default() };
    assert_eq!(took(ctx(one)).await, (timed_out(one), one));
    assert_eq!(took(ctx(Duration::MAX)).await, (timed_out(two), two));
    let cancel = CancelToken::new();
    cancel.cancel();
    let cancelled = AdapterCallError::Cancelled { adapter: Arc::from("silent") };
    let ctx = CallCtx { cancel, ..CallCtx::default() };
    assert_eq!(took(ctx).await, (cancelled, Duration::ZERO));
    assert!(matches!(adapter.health().await, AdapterHealth::Down(_)));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_its_scope_is_forbidden_before_anything_is_sent() {
    let adapter = silent(Duration::from_secs(2)).unwrap();
    let token = |scope, expires| Some(CapabilityToken::new("a", [scope], Timestamp(expires)));
    let cases = [
        (None, "capability.missing"),
        (token("silent.read", 10), "capability.forbidden"),
        (token("silent.write", 5), "capability.expired"),
    ];
    for (capability, code) in cases {
        let ctx = CallCtx { capability, ..CallCtx::default() };
        let error = adapter.call("write", &ctx).await.unwrap_err();
        assert_eq!((error.code(), error.family(), error.may_retry()), (code, Family::Rejected, false));
    }
    assert_eq!(adapter.adapter().calls.load(SeqCst), 0);
    let ctx = CallCtx { capability: token("silent.write", 6), ..CallCtx::default() };
    assert_eq!(adapter.call("write", &ctx).await.unwrap_err().code(), "adapter.timeout");
    assert_eq!(adapter.adapter().calls.load(SeqCst), 1);
}
