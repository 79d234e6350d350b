//! Steps of workflow runs, and makespans of real traces.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::Value;
use stanchion::{
    Activity, ActivityCtx, Failure, System,
    documents::{Document, ReadOptions, read},
    workflow::{Definition, RunStatus, StartRun, Step, ValidDefinition},
};

use crate::{Lab, agents, discard, drive::cpu_s};

/// Does nothing.
pub struct Noop;

impl Activity for Noop {
    const NAME: &'static str = "noop";
    type Input = Value;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, _: Value) -> Result<Value, Failure> {
        Ok(Value::Null)
    }
}

/// Sleeps, as the steps of a trace do.
struct Sleep;

#[derive(serde::Serialize, Deserialize)]
struct SleepInput {
    ms: f64,
}

impl Activity for Sleep {
    const NAME: &'static str = "sleep";
    type Input = SleepInput;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, input: SleepInput) -> Result<Value, Failure> {
        tokio::time::sleep(Duration::from_secs_f64(input.ms / 1e3)).await;
        Ok(Value::Null)
    }
}

/// Layers of `width` steps; each step needs two of the layer before.
fn layers(steps: usize, width: usize) -> ValidDefinition {
    let mut builder = Definition::builder("layers");
    for n in 0..steps {
        let mut step = Step::new(format!("s{n}"));
        if n >= width {
            let (layer, at) = (n / width - 1, n % width);
            let before = [layer * width + at, layer * width + (at + 1) % width];
            step = step.needs(before.map(|n| format!("s{n}")));
        }
        builder = builder.step(step);
    }
    builder.validate().expect("a definition")
}

fn chain(steps: usize) -> ValidDefinition {
    let step = |n: usize| match n {
        0 => Step::new("s0"),
        n => Step::new(format!("s{n}")).needs([format!("s{}", n - 1)]),
    };
    Definition::builder("chain").steps((0..steps).map(step)).validate().expect("a definition")
}

async fn run_once(system: &System, id: &str, definition: &Arc<ValidDefinition>, workers: u32) -> f64 {
    let mut start = StartRun::new(id, Arc::clone(definition));
    start.workers = workers;
    let began = Instant::now();
    system.workflows().start(start).await.expect("a start");
    let ended = system.workflows().wait(id).await.expect("an end");
    assert_eq!(ended.state.status(), RunStatus::Completed);
    began.elapsed().as_secs_f64()
}

struct Steps {
    per_s: f64,
    cpu_us: f64,
}

async fn steps(lab: &Lab, name: &str, definition: ValidDefinition, workers: u32) -> Steps {
    let path = lab.path(name);
    let builder = System::builder().activity(Noop).activities_at_once(workers as usize);
    let system = builder.open(&path).await.expect("a system");
    let count = definition.step_count() as f64;
    let definition = system.workflows().define(definition);
    run_once(&system, "warm", &definition, workers).await;
    let (cpu, began, mut runs) = (cpu_s(), Instant::now(), 0.0);
    while began.elapsed().as_secs_f64() < lab.seconds {
        run_once(&system, &format!("r{runs}"), &definition, workers).await;
        runs += 1.0;
    }
    let (per_s, cpu_us) =
        (runs * count / began.elapsed().as_secs_f64(), (cpu_s() - cpu) / (runs * count) * 1e6);
    agents::stop(system).await;
    discard(&path);
    Steps { per_s, cpu_us }
}

/// Rows "graph" and "chain", each against agents measured right before it.
pub async fn run(lab: &Lab) {
    let seconds = lab.seconds.min(3.0);
    for (name, target) in [("workflow_graph_vs_own_256", 0.4), ("workflow_chain_vs_own_1", 0.8)] {
        if !lab.wants(name) {
            continue;
        }
        let (agents, definition, workers) = match name {
            "workflow_chain_vs_own_1" => (1, chain(1_000), 1),
            _ => (256, layers(10_000, 500), 1_024),
        };
        let own = agents::short(lab, agents, seconds).await.per_s;
        let steps = steps(lab, name, definition, workers).await;
        let raw = [("steps_per_s", steps.per_s), ("transitions_per_s", own), ("cpu_us", steps.cpu_us)];
        lab.report.at_least(name, steps.per_s / own, target, &raw);
    }
}

/// The files of the traces, without those that do not run in a minute.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("the traces")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains(".json"))
        .collect();
    files.sort();
    files
}

/// Row "real traces": only where `STANCHION_CASES` says where they are.
pub async fn traces(lab: &Lab) {
    const WORKERS: u32 = 16;
    /// Longest makespan of one trace; longer ones run only with `STANCHION_BENCH_LARGE`.
    const LONGEST_S: f64 = 30.0;
    let Some(cases) = std::env::var_os("STANCHION_CASES").filter(|_| lab.wants("trace")) else { return };
    for file in files(&Path::new(&cases).join("wfinstances")) {
        let bytes = std::fs::read(&file).expect("a trace");
        let scaled = |time_scale| read(&bytes, &ReadOptions { time_scale, ..ReadOptions::default() });
        let Ok(Document::Trace(trace)) = scaled(1.0) else { continue };
        // The mean step then takes 100 ms.
        let scale = 0.1 * trace.definition.step_count() as f64 / trace.work_s;
        if trace.bounds(WORKERS).lower_s * scale > LONGEST_S && !lab.large {
            continue;
        }
        let document = scaled(scale).expect("a trace");
        let bounds = document.bounds(WORKERS).expect("bounds");
        let path = lab.path("trace");
        let system = System::builder().activity(Sleep).open(&path).await.expect("a system");
        let definition = system.workflows().define(document.into_definition());
        let makespan = run_once(&system, "r", &definition, WORKERS).await;
        agents::stop(system).await;
        discard(&path);
        let raw = [
            ("makespan_s", makespan),
            ("lower_s", bounds.lower_s),
            ("graham_s", bounds.upper_s),
            ("steps", definition.step_count() as f64),
            ("over_lower", makespan / bounds.lower_s),
        ];
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = name.split(".json").next().unwrap_or_default().to_owned();
        lab.report.at_most(&format!("trace_{name}"), makespan / bounds.upper_s, 1.02, &raw);
    }
}
