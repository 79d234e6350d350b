//! The activity `http.request` in runs.

use std::time::Duration;

use serde_json::{Value, json};
use stanchion::{
    System,
    activities::{AllowedHosts, HttpRequests},
    connect::http::UpstreamOptions,
    port::memory::MemoryStore,
    resilience::retry::RetryPolicy,
    workflow::{Definition, RunStatus, StartRun, Step},
};

use super::server::{SOON, Server};
use crate::kit::{self, stop};

/// Runs one step; its output, or the text and the attempts of its failure.
async fn run_with(activity: HttpRequests, input: Value, retry: RetryPolicy) -> Result<Value, (String, u32)> {
    let system = System::builder().activity(activity).open_on(MemoryStore::new()).await.unwrap();
    let step = Step::new("ask").activity("http.request").input(input).retry(retry);
    let definition = Definition::builder("w").step(step).output(json!("${steps.ask.output}"));
    let definition = system.workflows().define(definition.validate().unwrap());
    system.workflows().start(StartRun::new("r", definition)).await.unwrap();
    let run = tokio::time::timeout(SOON, system.workflows().wait("r")).await.unwrap().unwrap();
    let outcome = match run.state.status() {
        RunStatus::Completed => Ok(run.output(system.store().as_ref()).await.unwrap()),
        status => {
            let error = run.state.error().unwrap_or_else(|| panic!("{status:?}"));
            Err((error.message.to_string(), run.state.step_view(&run.definition, 0).unwrap().attempts))
        }
    };
    stop(system).await;
    outcome
}

fn attempts(max_attempts: u32) -> RetryPolicy {
    RetryPolicy { max_attempts, ..RetryPolicy::fixed(1) }
}

fn to(server: &Server) -> HttpRequests {
    HttpRequests::new(AllowedHosts::parse([server.address.to_string()]).unwrap())
}

async fn run(server: &Server, input: Value) -> Result<Value, (String, u32)> {
    run_with(to(server), input, RetryPolicy::once()).await
}

async fn failed(server: &Server, input: Value) -> String {
    run(server, input).await.unwrap_err().0
}

#[tokio::test]
async fn a_step_asks_and_is_given_status_headers_and_body() {
    let server = Server::start().await;
    let body = json!({"n": 1});
    let input = json!({"method": "post", "url": format!("{}/echo?x=1", server.url()), "body": body, "headers": {"X-A": "b"}});
    let output = run(&server, input).await.unwrap();
    assert_eq!(output["status"], 200);
    assert_eq!(output["headers"]["x-echo"], "yes");
    assert_eq!(output["body"], "{\"n\":1}");
    let asked = server.seen.requests.lock().unwrap()[0].clone();
    assert!(asked.head.starts_with("POST /echo?x=1 HTTP/1.1\r\n"), "{}", asked.head);
    for line in ["x-a: b\r\n", "content-type: application/json\r\n", "idempotency-key: r/ask\r\n"] {
        assert!(asked.head.contains(line), "{line} {}", asked.head);
    }
}

#[tokio::test]
async fn hosts_that_are_not_allowed_by_name_are_refused_before_any_connection() {
    let (server, other) = (Server::start().await, Server::start().await);
    let nothing = HttpRequests::new(AllowedHosts::default());
    let url = json!({"url": server.url()});
    let refused = run_with(nothing, url, attempts(3)).await.unwrap_err();
    assert!(refused.0.contains("http.host_refused") && refused.1 == 1, "{refused:?}");
    assert!(failed(&other, json!({"url": server.url()})).await.contains("http.host_refused"));
    assert_eq!((server.opened(), other.opened()), (0, 0));
}

#[tokio::test]
async fn redirects_are_followed_to_allowed_hosts_only() {
    let server = Server::start().await;
    let url = |path: &str| json!({"method": "POST", "body": "b", "url": format!("{}/{path}", server.url())});
    assert_eq!(run(&server, url("around")).await.unwrap()["body"], "b");
    assert!(server.paths().contains(&"/echo?round".to_owned()));
    let refused = failed(&server, url("away")).await;
    assert!(refused.contains("http.redirect_refused") && refused.contains("elsewhere.example"), "{refused}");
    let before = server.asked();
    assert!(failed(&server, url("loop")).await.contains("http.too_many_redirects"));
    assert_eq!(server.asked() - before, 6);
}

#[tokio::test]
async fn a_status_is_a_code_and_decides_on_the_next_attempt() {
    let server = Server::start().await;
    let status = |status: u32| json!({"url": format!("{}/status/{status}", server.url())});
    for (code, expected) in [(404, 1), (501, 1), (500, 3), (504, 3)] {
        let (message, made) = run_with(to(&server), status(code), attempts(3)).await.unwrap_err();
        assert!(message.contains(&format!("http.status_{code}")), "{message}");
        assert_eq!(made, expected, "{code}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_fails_for_good() {
    let server = Server::start().await;
    let url = format!("{}/x", server.url());
    for (input, code) in [
        (json!({"url": "x"}), "activity.bad_input"),
        (json!({"url": "ftp://a.example"}), "activity.bad_input"),
        (json!({"url": "http://u:p@a.example"}), "activity.bad_input"),
        (json!({"url": url, "method": "CONNECT"}), "activity.bad_input"),
        (json!({"url": url, "method": "G T"}), "activity.bad_input"),
        (json!({"url": url, "timeout_ms": 0}), "activity.bad_input"),
        (json!({"url": url, "nonsense": 1}), "activity.bad_input"),
        (json!({"url": url, "headers": {"x": "a\r\nb: c"}}), "http.header_value"),
        (json!({"url": url, "headers": {"Host": "elsewhere"}}), "http.header_reserved"),
    ] {
        let refused = failed(&server, input.clone()).await;
        assert!(refused.contains(code), "{input}: {refused}");
    }
    assert_eq!(server.opened(), 0);
}

#[tokio::test]
async fn a_silent_host_and_a_large_answer_fail_within_their_limits() {
    let server = Server::start().await;
    let url = |path: &str| json!({"url": format!("{}/{path}", server.url()), "timeout_ms": 150});
    assert!(failed(&server, url("silent")).await.contains("http.attempt_timeout"));
    let small = UpstreamOptions { body_max_bytes: 1_000, ..UpstreamOptions::default() };
    let activity = to(&server).with_options(small).unwrap();
    let refused = run_with(activity, url("big"), attempts(3)).await.unwrap_err();
    assert!(refused.0.contains("http.body_too_large") && refused.1 == 1, "{refused:?}");
    let nothing = UpstreamOptions { size: 0, ..UpstreamOptions::default() };
    assert!(to(&server).with_options(nothing).is_err());
}

#[tokio::test]
async fn a_cancelled_run_closes_its_connection() {
    let server = Server::start().await;
    let system = System::builder().activity(to(&server)).open_on(MemoryStore::new()).await.unwrap();
    let step =
        Step::new("ask").activity("http.request").input(json!({"url": format!("{}/hold", server.url())}));
    let definition = Definition::builder("w").step(step).validate().unwrap();
    let definition = system.workflows().define(definition);
    system.workflows().start(StartRun::new("r", definition)).await.unwrap();
    kit::until("it asks", || server.asked() == 1).await;
    system.workflows().cancel("r").await.unwrap();
    kit::until("the connection is closed", || server.open() == 0).await;
    tokio::time::timeout(Duration::from_secs(10), system.workflows().wait("r")).await.unwrap().unwrap();
    stop(system).await;
}
