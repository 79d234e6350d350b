//! Cassettes: recorded from a real server, replayed without it.

use std::sync::Arc;

use proptest::prelude::*;
use stanchion::{
    adapter::{Bounded, CallCtx, Secret},
    clock::SystemClock,
    connect::{
        cassette::{CassetteError, CassetteMismatch, Recorder, Redaction, Replay},
        http::{Http, HttpAdapter, HttpRequest, Transport, UpstreamOptions},
    },
    error::Coded,
    task::TaskScope,
};
use stanchion_actors::testing::bytes::{cases, damaged};

use super::server::Server;

fn redaction() -> Redaction {
    let mut redaction = Redaction { secrets: vec![Secret::new("canary")], ..Redaction::default() };
    redaction.headers.insert("x-echo".to_owned());
    redaction
}

fn requests() -> [HttpRequest; 4] {
    [
        HttpRequest::get("x?token=canary-1"),
        HttpRequest::post("echo", "my canary sings"),
        HttpRequest::post("echo", "another"),
        HttpRequest::get("busy"),
    ]
}

async fn record(path: &std::path::Path) {
    let root = TaskScope::root("test");
    let server = Server::start().await;
    let http = Http::new(&root);
    let upstream = http.register("a", &UpstreamOptions::of(server.url())).unwrap();
    let recorder = Recorder::create(upstream, path, redaction()).unwrap();
    for request in requests() {
        recorder.send(request).await.unwrap();
    }
    recorder.send(HttpRequest::get("reset")).await.unwrap_err();
}

#[tokio::test]
async fn what_was_recorded_is_replayed_without_the_server_and_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    record(&path).await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(!text.contains("canary"), "{text}");
    let replay = Replay::open(&path, redaction()).unwrap();
    assert!(matches!(replay.verify(), Err(CassetteError::Unmet(unmet)) if unmet.len() == 4));
    let adapter =
        Bounded::new(HttpAdapter::new(replay, Arc::new(SystemClock)), Arc::new(SystemClock)).unwrap();
    let [get, sings, another, busy] = requests();
    let ctx = CallCtx::default();
    let body = async |request| adapter.call(request, &ctx).await.unwrap().body;
    assert_eq!(body(another).await, "another");
    assert_eq!(body(sings).await, "my [redacted] sings");
    assert_eq!(body(get).await, "ok");
    let called = adapter.call(busy, &ctx).await;
    assert_eq!(adapter.verdict(&called).retry_after, Some(std::time::Duration::from_secs(7)));
    assert_eq!(adapter.adapter().transport().verify(), Ok(()));
}

#[tokio::test]
async fn a_request_that_was_not_recorded_is_a_mismatch_that_names_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    record(&path).await;
    let replay = Replay::open(&path, redaction()).unwrap();
    for request in
        [HttpRequest::get("y"), HttpRequest::post("x?token=1", ""), HttpRequest::post("echo", "third")]
    {
        let error = replay.send(request.clone()).await.unwrap_err();
        let CassetteError::Mismatch(mismatch) = &error else { panic!("{error}") };
        let CassetteMismatch { expected, got } = &**mismatch;
        assert_eq!(expected.as_ref().unwrap().url, "x?token=[redacted]");
        assert_eq!((got.method.as_str(), error.code()), (request.method.as_str(), "cassette.mismatch"));
    }
    replay.send(requests()[3].clone()).await.unwrap();
    let error = replay.send(requests()[3].clone()).await.unwrap_err();
    assert!(matches!(error, CassetteError::Mismatch(_)), "each answer plays once: {error}");
}

#[test]
fn a_cassette_that_cannot_be_read_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    assert_eq!(Replay::open(&path, redaction()).unwrap_err().code(), "cassette.io");
    let good = r#"{"method":"GET","url":"x","body_sha256":"","status":200,"headers":{},"body_hex":"00ff"}"#;
    for bad in ["{", r#"{"method":"GET"}"#, &good.replace("00ff", "0f0"), &good.replace("200", "9")] {
        std::fs::write(&path, format!("{good}\n\n{bad}\n")).unwrap();
        let error = Replay::open(&path, redaction()).unwrap_err();
        assert!(matches!(error, CassetteError::Malformed { line: 3, .. }), "{bad}: {error}");
    }
}

const LINES: &str = concat!(
    r#"{"method":"GET","url":"/x","body_sha256":"00ff","status":200,"headers":{"a":["b","c"]},"body":"text"}"#,
    "\n",
    r#"{"method":"POST","url":"/y?z=1","body_sha256":"","status":429,"headers":{},"body_hex":"00ffAB"}"#,
);

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(200), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_cassette_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), seed: u64) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), LINES).unwrap();
        assert!(Replay::open(file.path(), redaction()).is_ok());
        for bytes in [bytes, damaged(LINES.as_bytes(), seed)] {
            std::fs::write(file.path(), bytes).unwrap();
            let _ = Replay::open(file.path(), redaction()).is_ok();
        }
    }
}
