//! Workflow runs through the whole system.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    workflow::{Definition, RunStatus, StartRun, Step},
};

/// Adds one to a number.
struct Increment(Arc<AtomicU32>);

impl Activity for Increment {
    const NAME: &'static str = "increment";
    type Input = Value;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, input: Value) -> Result<Value, Failure> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(json!(input.as_u64().unwrap_or(0) + 1))
    }
}

fn chain(steps: usize) -> Definition {
    let mut builder = Definition::builder("chain");
    for n in 0..steps {
        let mut step = Step::new(format!("s{n}")).activity("increment");
        if n > 0 {
            step = step.needs([format!("s{}", n - 1)]).input(json!(format!("${{steps.s{}.output}}", n - 1)));
        }
        builder = builder.step(step);
    }
    builder.output(json!(format!("${{steps.s{}.output}}", steps - 1))).build()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_steps_hands_its_outputs_on() {
    let dir = tempfile::tempdir().unwrap();
    let ran = Arc::new(AtomicU32::new(0));
    let system = System::builder()
        .activity(Increment(Arc::clone(&ran)))
        .open(dir.path().join("app.redb"))
        .await
        .unwrap();
    let workflows = system.workflows();
    let definition = workflows.define(chain(10).validate().unwrap());
    let started = workflows.start(StartRun::new("r1", Arc::clone(&definition))).await.unwrap();
    assert!(!started.known);
    let run = tokio::time::timeout(Duration::from_secs(10), workflows.wait("r1")).await.unwrap().unwrap();
    assert_eq!(run.state.status(), RunStatus::Completed);
    assert_eq!(run.output(system.store().as_ref()).await.unwrap(), json!(10));
    assert_eq!(ran.load(Ordering::SeqCst), 10);
    let mut kinds = Vec::new();
    run.history(system.store().as_ref(), &mut |line| kinds.push(line.kind)).await.unwrap();
    assert_eq!(kinds.first(), Some(&"run_started"));
    assert_eq!(kinds.last(), Some(&"run_completed"));
    assert_eq!(kinds.iter().filter(|kind| **kind == "step_completed").count(), 10);
    let again = workflows.start(StartRun::new("r1", definition)).await.unwrap();
    assert!(again.known, "the same run, found");
    let report = system.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.left_over, 0);
}
