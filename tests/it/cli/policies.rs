//! Breakers and limiters on the command line.

use std::time::Duration;

use serde_json::{Value, json};
use stanchion::{
    System,
    resilience::{
        breaker::{BreakerOptions, FailureClass, Outcome, StateName},
        limiter::{LimitKey, LimiterOptions},
    },
};

use super::program::Program;

/// Two breakers, of which one has opened, and a limiter.
async fn defined(program: &Program, held: bool) -> System {
    let system = System::builder().control_socket(held).open(program.path("stanchion.redb")).await.unwrap();
    let options = BreakerOptions { minimum_number_of_calls: 2, ..BreakerOptions::default() };
    let now = system.env().now();
    let mail = system.breakers().register("mail", options.clone()).await.unwrap();
    mail.acquire(now).unwrap().finish(Outcome::Success, now);
    let pay = system.breakers().register("pay", options).await.unwrap();
    for _ in 0..2 {
        pay.acquire(now).unwrap().finish(Outcome::Failure(FailureClass::Timeout), now);
    }
    pay.acquire(now).unwrap_err();
    let limiter = system.limiters().register("api", LimiterOptions::per_second(1, 1)).await.unwrap();
    limiter.acquire(LimitKey::new("ann", "search"), 1, now).unwrap();
    limiter.acquire(LimitKey::new("ann", "search"), 1, now).unwrap_err();
    system
}

async fn stop(system: System) {
    let _ = system.stop(Duration::ZERO).await.unwrap();
}

fn shown<'a>(rows: &'a [Value], fields: &[&str]) -> Vec<Vec<&'a Value>> {
    rows.iter().map(|row| fields.iter().map(|field| &row[*field]).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn breakers_are_listed_opened_closed_and_reset_with_and_without_a_program_that_holds_them() {
    for held in [true, false] {
        let program = Program::new();
        let mut system = Some(defined(&program, held).await);
        if let Some(system) = system.take_if(|_| !held) {
            stop(system).await;
        }
        let listed = program.lines(&["breaker", "ls"]);
        assert_eq!(
            shown(&listed, &["name", "state", "successes", "failures", "rejected", "live"]),
            [
                [&json!("mail"), &json!("closed"), &json!(1), &json!(0), &json!(0), &json!(held)],
                [&json!("pay"), &json!("open"), &json!(0), &json!(2), &json!(1), &json!(held)],
            ]
        );
        assert!(listed[0]["until_us"].is_null() && listed[1]["until_us"].as_i64().unwrap() > 0);
        let opened = program.lines(&["breaker", "open", "mail"]);
        assert_eq!(shown(&opened, &["name", "state"]), [[&json!("mail"), &json!("forced_open")]]);
        assert!(opened[0]["stored_us"].is_i64(), "it answers once that is stored");
        let closed = program.lines(&["breaker", "close", "pay"]);
        assert_eq!(shown(&closed, &["state", "failures"]), [[&json!("closed"), &json!(2)]]);
        let reset = program.lines(&["breaker", "reset", "pay"]);
        assert_eq!(shown(&reset, &["state", "failures"]), [[&json!("closed"), &json!(0)]]);
        if let Some(system) = system {
            let state = |name| system.breakers().find(name).unwrap().state().name();
            assert_eq!((state("mail"), state("pay")), (StateName::ForcedOpen, StateName::Closed));
            stop(system).await;
        }
        // The next life begins as it was told.
        let system = System::builder().open(program.path("stanchion.redb")).await.unwrap();
        let mail = system.breakers().register("mail", BreakerOptions::default()).await.unwrap();
        let pay = system.breakers().register("pay", BreakerOptions::default()).await.unwrap();
        assert_eq!((mail.state().name(), pay.state().name()), (StateName::ForcedOpen, StateName::Closed));
        stop(system).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limiters_are_listed_with_and_without_a_program_that_holds_them() {
    for held in [true, false] {
        let program = Program::new();
        let mut system = Some(defined(&program, held).await);
        if let Some(system) = system.take_if(|_| !held) {
            stop(system).await;
        }
        let listed = program.lines(&["limiter", "ls"]);
        let strategy = json!({"token_bucket": {"burst": 1, "rate": 1, "per_ms": 1000}});
        assert_eq!(
            shown(&listed, &["name", "strategy", "keys", "allowed", "denied", "pressure", "live"]),
            [[&json!("api"), &strategy, &json!(1), &json!(1), &json!(1), &json!("normal"), &json!(held)]]
        );
        if let Some(system) = system {
            stop(system).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_that_nobody_knows_is_refused_with_2() {
    let program = Program::new();
    stop(defined(&program, false).await).await;
    let ended = program.run(&["breaker", "open", "nobody", "--json"]);
    assert_eq!(ended.code, Some(2));
    assert_eq!(ended.errors()[0]["code"], "policy.unknown");
    let names: Vec<Value> = program.lines(&["breaker", "ls"]).iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["mail", "pay"], "and is not there afterwards");
    let table = program.run(&["breaker", "ls"]).out;
    assert!(table.starts_with("BREAKER") && table.contains("pay") && table.contains("open"), "{table}");
}
