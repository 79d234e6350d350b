//! Traces of real workflows, their tasks spread over three nodes of which one is killed every few seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use stanchion::{
    documents::{Document, ReadOptions, read},
    workflow::ValidDefinition,
};

use super::{
    agents::{TASKS_OF, TaskInput, TaskLine},
    child::runtime,
    fleet::Fleet,
    orders::{Ask, Happened, Said},
    plan::{Draw, campaign, seed},
    steps::{ends, kills},
};

/// Workers of a run.
const WORKERS: u32 = 16;
/// What a kill may cost: the node comes back, the others find it, and what it did is done again.
const OUTAGE_S: f64 = 5.0;
/// What starting, committing and ending of a task may cost on a shared machine, unoptimised.
const TASK_S: f64 = 0.02;

fn document(trace: &Path, scale: f64) -> Document {
    let options = ReadOptions { time_scale: scale, ..ReadOptions::default() };
    read(&std::fs::read(trace).unwrap(), &options).unwrap()
}

/// The trace as a definition whose tasks take turns on three nodes.
pub(crate) fn definition(run: &str, trace: &Path, scale: f64) -> ValidDefinition {
    let mut definition = document(trace, scale).definition().source().clone();
    for (number, step) in definition.steps.iter_mut().enumerate() {
        let ms = step.input["ms"].as_f64().unwrap();
        step.activity = TASKS_OF[number % 3].to_owned();
        step.input = json!(TaskInput { run: run.to_owned(), task: step.id.clone(), ms });
    }
    definition.validate().unwrap()
}

/// Ids of the parents of each task.
type Parents = BTreeMap<String, Vec<String>>;

fn parents(definition: &ValidDefinition) -> Parents {
    definition.source().steps.iter().map(|step| (step.id.clone(), step.needs.clone())).collect()
}

/// What is wrong in a history: each task completes once, none begins before its parents have ended, and none again
/// after it has completed.
fn wrong_in_history(parents: &Parents, history: &[Happened]) -> Vec<String> {
    let (mut wrong, mut ended) = (Vec::new(), BTreeSet::new());
    for line in history {
        let step = line.step.clone().unwrap_or_default();
        match line.kind.as_str() {
            "step_started" => {
                let Some(needed) = parents.get(&step) else {
                    wrong.push(format!("{step} is no task"));
                    continue;
                };
                if let Some(open) = needed.iter().find(|parent| !ended.contains(*parent)) {
                    wrong.push(format!("{step} starts before {open} has ended"));
                }
                if ended.contains(&step) {
                    wrong.push(format!("{step} starts after it has completed"));
                }
            }
            "step_completed" if !ended.insert(step.clone()) => wrong.push(format!("{step} completes twice")),
            "step_failed" => wrong.push(format!("{step} failed")),
            _ => {}
        }
    }
    if ended.len() != parents.len() {
        wrong.push(format!("{} of {} completed", ended.len(), parents.len()));
    }
    wrong
}

/// What is wrong in what tasks have written where they ran: a task that has a begun child had completed.
fn wrong_outside(parents: &Parents, lines: &[TaskLine]) -> Vec<String> {
    let (mut wrong, mut completed) = (Vec::new(), BTreeSet::new());
    let (mut keys, mut owners) = (BTreeMap::new(), BTreeMap::new());
    for TaskLine { task, key, .. } in lines {
        if completed.contains(task) {
            wrong.push(format!("{task} runs although it had completed"));
        }
        if *keys.entry(task).or_insert(key) != key || *owners.entry(key).or_insert(task) != task {
            wrong.push(format!("{task} runs under another key, or that of another task: {key}"));
        }
        completed.extend(parents.get(task).into_iter().flatten());
    }
    wrong.extend(
        parents.keys().filter(|task| !keys.contains_key(task)).map(|task| format!("{task} never ran")),
    );
    wrong
}

/// From the start of a run to its end.
fn makespan_s(history: &[Happened]) -> f64 {
    let at = |kind: &str| history.iter().find(|line| line.kind == kind).unwrap().at_us;
    (at("run_completed") - at("run_started")) as f64 / 1e6
}

/// The shared traces where they are at hand, and the small one that is always there.
fn traces() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/documents/trace_small.json");
    let mut found = vec![own];
    let Some(cases) = std::env::var_os("STANCHION_CASES") else {
        println!("STANCHION_CASES is not set: the shared traces are not replayed");
        return found;
    };
    for entry in std::fs::read_dir(Path::new(&cases).join("wfinstances")).unwrap() {
        let path = entry.unwrap().path();
        let is_trace =
            path.to_string_lossy().ends_with(".json") || path.to_string_lossy().ends_with(".json.gz");
        // The one of ten thousand tasks takes its time.
        let is_large = path.to_string_lossy().ends_with(".gz");
        if is_trace && (campaign() || !is_large) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A trace under way.
struct Replay {
    run: String,
    node: usize,
    trace: PathBuf,
    scale: f64,
}

impl Replay {
    /// Scaled so that it needs about so many seconds.
    fn of(number: usize, trace: PathBuf, seconds: f64) -> Self {
        let upper = document(&trace, 1.0).bounds(WORKERS).unwrap().upper_s;
        let scale = if upper > 0.0 { seconds / upper } else { 1.0 };
        Self { run: format!("t{number}"), node: number % 3, trace, scale }
    }

    async fn start(&self, fleet: &Fleet) {
        let ask = || Ask::Trace { run: self.run.clone(), trace: self.trace.clone(), scale: self.scale };
        while !matches!(fleet.ask(self.node, ask()).await, Some(Said::Done)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Checks every oracle; how many tasks, and how often they began.
    async fn judge(&self, fleet: &Fleet, lines: &[TaskLine], killed: u64) -> (usize, usize) {
        let told = self.trace.display();
        let parents = parents(&definition(&self.run, &self.trace, self.scale));
        let Some(Said::History(history)) = fleet.ask(self.node, Ask::History { run: self.run.clone() }).await
        else {
            panic!("{told}: no history")
        };
        assert_eq!(wrong_in_history(&parents, &history), Vec::<String>::new(), "{told}");
        let own: Vec<TaskLine> = lines.iter().filter(|line| line.run == self.run).cloned().collect();
        assert_eq!(wrong_outside(&parents, &own), Vec::<String>::new(), "{told}");
        let bounds = document(&self.trace, self.scale).bounds(WORKERS).unwrap();
        let (makespan, tasks) = (makespan_s(&history), parents.len());
        let upper = bounds.upper_s + killed as f64 * OUTAGE_S + tasks as f64 * TASK_S;
        assert!(
            makespan >= bounds.lower_s * 0.999 && makespan <= upper,
            "{told}: {} <= {makespan} <= {upper}",
            bounds.lower_s
        );
        println!(
            "{told}: {tasks} tasks, {} attempts, {makespan:.1} s, at least {:.1}",
            own.len(),
            bounds.lower_s
        );
        (tasks, own.len())
    }
}

#[test]
fn traces_spread_over_three_nodes_keep_every_oracle_while_one_is_killed_every_few_seconds() {
    let (began, seed) = (Instant::now(), seed());
    // A task that takes longer than its nodes live never ends.
    let (seconds, period) =
        if campaign() { (4.0, Duration::from_secs(3)) } else { (2.0, Duration::from_millis(1_500)) };
    let replays = traces().into_iter().enumerate().map(|(number, trace)| Replay::of(number, trace, seconds));
    let replays: Vec<Replay> = replays.collect();
    runtime().block_on(async {
        let fleet = Fleet::start(3).await;
        let (ended, mut draw) = (AtomicBool::new(false), Draw(seed));
        let all = async {
            let fleet = &fleet;
            let replayed = replays.iter().map(|replay| async move {
                replay.start(fleet).await;
                ends(fleet, replay.node, replay.run.clone(), seed).await;
            });
            futures_util::future::join_all(replayed).await;
            ended.store(true, Ordering::SeqCst);
        };
        let ((), killed) = tokio::join!(all, kills(&fleet, &mut draw, &ended, period));
        let text = fleet.tasks();
        let lines: Vec<TaskLine> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut sums = (0, 0);
        for replay in &replays {
            let (tasks, attempts) = replay.judge(&fleet, &lines, killed).await;
            sums = (sums.0 + tasks, sums.1 + attempts);
        }
        let (count, (tasks, attempts)) = (replays.len(), sums);
        println!(
            "STANCHION_SEED={seed}: {count} traces of {tasks} tasks, {attempts} attempts, {killed} kills, {:?}: no fault",
            began.elapsed()
        );
        fleet.end().await;
    });
}

#[test]
fn the_oracles_of_traces_see_what_is_wrong() {
    let parents = Parents::from([("a".into(), vec![]), ("b".into(), vec!["a".into()])]);
    let line = |kind: &str, step: &str| Happened { kind: kind.into(), step: Some(step.into()), at_us: 0 };
    let right = [
        line("step_started", "a"),
        line("step_completed", "a"),
        line("step_started", "b"),
        line("step_completed", "b"),
    ];
    let wrong = |history: &[Happened]| wrong_in_history(&parents, history).len();
    assert_eq!(wrong(&right), 0);
    assert_eq!(wrong(&[&right[..1], &right[..]].concat()), 0, "an attempt may be repeated");
    assert_eq!(wrong(&right[..2]), 1, "a task is missing");
    assert_eq!(wrong(&[&right[..], &right[..1]].concat()), 1, "again after it has completed");
    assert_eq!(wrong(&[&right[..2], &right[1..]].concat()), 1, "completed twice");
    assert_eq!(
        wrong(&[right[0].clone(), right[2].clone(), right[1].clone(), right[3].clone()]),
        1,
        "too early"
    );
    assert_eq!(wrong(&[&right[..], &[line("step_failed", "b")]].concat()), 1, "failed");
    let ran = |task: &str, key: &str| TaskLine { run: "r".into(), task: task.into(), key: key.into() };
    let wrong = |lines: &[TaskLine]| wrong_outside(&parents, lines).len();
    assert_eq!(wrong(&[ran("a", "1"), ran("a", "1"), ran("b", "2")]), 0);
    assert_eq!(wrong(&[ran("a", "1"), ran("b", "2"), ran("a", "1")]), 1, "again after it has completed");
    assert_eq!(wrong(&[ran("a", "1"), ran("a", "3"), ran("b", "2")]), 1, "another key");
    assert_eq!(wrong(&[ran("a", "1"), ran("b", "1")]), 1, "one key for two");
    assert_eq!(wrong(&[ran("a", "1")]), 1, "never");
}
