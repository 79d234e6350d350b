//! After `kill -9`: how soon the first call is acknowledged again.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    ids::Timestamp,
    port::Store,
    workflow::{Definition, RetryPolicy, StartRun, Step},
};

use crate::{
    Lab,
    agents::{self, Blob},
    bare, discard,
    drive::drive,
};

/// Fails, so that its step waits for its second attempt.
struct Later;

impl Activity for Later {
    const NAME: &'static str = "later";
    type Input = Value;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, _: Value) -> Result<Value, Failure> {
        Err(Failure::retryable("bench.later", "not yet"))
    }
}

async fn open(path: &Path) -> System {
    System::builder().agent::<Blob>().activity(Later).open(path).await.expect("a system")
}

/// The process that is killed: fills the store, leaves runs waiting and transitions unfolded.
pub async fn child(path: &Path, entities: usize, runs: usize) {
    let (store, lanes) = bare::filled(path, entities, 1, 1_024).await;
    drop(lanes);
    store.close().await.expect("a clean end");
    drop(store);
    let system = Arc::new(open(path).await);
    let hour = RetryPolicy { initial_interval_ms: 3_600_000, ..RetryPolicy::default() };
    let step = Step::new("s").activity("later").retry(hour);
    let definition = Definition::builder("waits").step(step).validate().expect("a definition");
    let definition = system.workflows().define(definition);
    let mut starts = tokio::task::JoinSet::new();
    for n in 0..runs {
        let (system, definition) = (Arc::clone(&system), Arc::clone(&definition));
        starts.spawn(async move {
            system.workflows().start(StartRun::new(format!("r{n}"), definition)).await.expect("a start");
        });
    }
    let _ = starts.join_all().await;
    loop {
        let due = system.store().due(Timestamp(i64::MAX), None, runs + 1).await.expect("timers");
        if due.len() >= runs {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let store = system.store();
    let (_, lanes) = drive(agents::callers::<Blob>(&system, 256, 1), 1.0, || store.stats()).await;
    println!("ready {}", store.stats().unfolded_bytes);
    let _ = drive(lanes, 3_600.0, || store.stats()).await;
}

/// Row "reopen after kill -9".
pub async fn run(lab: &Lab) {
    if !lab.wants("reopen") {
        return;
    }
    let path = lab.path("reopen");
    let entities = if lab.large { 1_000_000 } else { 100_000 };
    let runs = 10_000;
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .arg("child-reopen")
        .arg(&path)
        .args([entities.to_string(), runs.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its word");
    child.kill().expect("its end");
    let _ = child.wait().expect("its end");
    let unfolded = line.trim().rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("ready");
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let data_mib = std::fs::metadata(&path).map_or(0.0, |meta| mib(meta.len() as f64));
    let began = Instant::now();
    let system = open(&path).await;
    let opened = began.elapsed().as_secs_f64();
    let first = system.agent::<Blob>("w0").expect("an address").call(1).await.expect("an answer");
    let acked = began.elapsed().as_secs_f64();
    assert_eq!(first, 1, "the state that was filled in, and one more");
    agents::stop(system).await;
    discard(&path);
    let raw = [
        ("opened_s", opened),
        ("first_ack_s", acked),
        ("entities", entities as f64),
        ("runs_waiting", f64::from(runs)),
        ("data_mib", data_mib),
        ("unfolded_mib", mib(unfolded)),
    ];
    lab.report.at_most("reopen_first_ack_s", acked, 0.5, &raw);
}
