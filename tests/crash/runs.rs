//! Runs that crash again and again, among many that do not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    error::{Coded, Family},
    ids::Name,
    workflow::{Definition, RUN_KIND, RunStatus, StartRun, Step, StoredRun, ValidDefinition},
};
use stanchion_actors::entity::EntitySupervisorMsg;

use crate::{history::campaign, life::runtime};

const CRASHES: usize = 10;
const LONGEST: Duration = Duration::from_secs(60);

/// Ends only when the gate is open.
struct Held(Arc<AtomicBool>);

impl Activity for Held {
    const NAME: &'static str = "held";
    type Input = Value;
    type Output = Value;

    async fn run(&self, ctx: ActivityCtx, _: Value) -> Result<Value, Failure> {
        while !self.0.load(Ordering::SeqCst) && !ctx.cancel.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(json!(1))
    }
}

/// Ends at once.
struct Quick;

impl Activity for Quick {
    const NAME: &'static str = "quick";
    type Input = Value;
    type Output = Value;

    async fn run(&self, _: ActivityCtx, _: Value) -> Result<Value, Failure> {
        Ok(json!(1))
    }
}

fn of(activity: &str) -> Definition {
    let steps = (0..3).map(|n| Step::new(format!("s{n}")).activity(activity));
    let mut builder = Definition::builder(activity);
    for (n, step) in steps.enumerate() {
        builder = builder.step(if n > 0 { step.needs([format!("s{}", n - 1)]) } else { step });
    }
    builder.build()
}

async fn is_parked(system: &System, run: &str) -> bool {
    system.workflows().read(run).await.is_ok_and(|run| run.state.status() == RunStatus::Parked)
}

/// Kills the actor of a run until the run is parked, ten times at most.
async fn crash(system: &System, run: &str) {
    let cell = system.env().directory().cell(&Name::new(RUN_KIND, run).unwrap()).unwrap();
    let supervisors = system.env().directory().supervisors();
    let supervisor = supervisors.supervisor(supervisors.shard_of(&cell)).unwrap();
    let mut last = 0;
    for _ in 0..CRASHES {
        let next = async {
            loop {
                match cell.owner() {
                    Some((generation, _)) if generation > last => break Some(generation),
                    _ if last > 0 && is_parked(system, run).await => break None,
                    _ => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        };
        let Some(generation) = tokio::time::timeout(LONGEST, next).await.unwrap() else { return };
        last = generation;
        supervisor.cast(EntitySupervisorMsg::Kill { cell: Arc::clone(&cell) }).unwrap();
    }
}

async fn wait(system: &System, run: &str) -> StoredRun {
    tokio::time::timeout(LONGEST, system.workflows().wait(run)).await.unwrap().unwrap()
}

/// Retries a run; one that has just crashed is refused for a while, and says so.
async fn retry(system: &System, run: &str) {
    let retried = async {
        loop {
            match system.workflows().retry(run, None).await {
                Ok(_) => break,
                Err(error) if error.family() == Family::Unavailable => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{run}: {error}"),
            }
        }
    };
    tokio::time::timeout(LONGEST, retried).await.unwrap();
}

/// Runs that nobody disturbs, all at once; the time that 99 of 100 end within.
async fn quick_runs(
    system: &System,
    definition: &Arc<ValidDefinition>,
    prefix: &str,
    numbers: std::ops::Range<usize>,
) -> Duration {
    let runs = numbers.map(|n| async move {
        let (run, began) = (format!("{prefix}{n}"), Instant::now());
        system.workflows().start(StartRun::new(run.clone(), Arc::clone(definition))).await.unwrap();
        let ended = wait(system, &run).await;
        assert_eq!(ended.state.status(), RunStatus::Completed, "{run} is none of the poisoned");
        began.elapsed()
    });
    let mut took: Vec<Duration> = futures_util::future::join_all(runs).await;
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[test]
fn runs_that_crash_again_and_again_are_parked_alone_and_go_on_after_a_retry() {
    let (all, poisoned) = if campaign() { (1_000, 200) } else { (100, 20) };
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let open = Arc::new(AtomicBool::new(false));
        let system = System::builder()
            .activity(Held(Arc::clone(&open)))
            .activity(Quick)
            .activities_at_once(4_096)
            .open(dir.path().join("app.redb"))
            .await
            .unwrap();
        let workflows = system.workflows();
        let (held, quick) = (
            workflows.define(of("held").validate().unwrap()),
            workflows.define(of("quick").validate().unwrap()),
        );
        for n in 0..poisoned {
            workflows.start(StartRun::new(format!("p{n}"), Arc::clone(&held))).await.unwrap();
        }
        let crashes = async {
            for n in 0..poisoned {
                crash(&system, &format!("p{n}")).await;
            }
        };
        // The same runs with nothing crashing, and then while the poisoned ones crash.
        let calm = quick_runs(&system, &quick, "c", poisoned..all).await;
        let others = quick_runs(&system, &quick, "q", poisoned..all);
        let ((), disturbed) = futures_util::future::join(crashes, others).await;
        println!("p99 of a run: {calm:?} calm, {disturbed:?} while others crash");
        for n in 0..poisoned {
            let run = wait(&system, &format!("p{n}")).await;
            assert_eq!(run.state.status(), RunStatus::Parked, "p{n}");
            let mut parked = 0;
            let store = system.store();
            run.history(store.as_ref(), &mut |line| parked += usize::from(line.kind == "run_parked"))
                .await
                .unwrap();
            assert!(parked >= 1, "p{n}: its history says why");
        }
        open.store(true, Ordering::SeqCst);
        for n in 0..poisoned {
            let name = format!("p{n}");
            retry(&system, &name).await;
            let run = wait(&system, &name).await;
            assert_eq!(run.state.status(), RunStatus::Completed, "p{n} after its retry");
        }
        let report = system.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(report.left_over, 0, "no live actors, no tasks");
    });
}
