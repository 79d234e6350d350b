//! Runs whose steps take turns on three nodes, one of which is killed every second.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    agents::StepLine,
    child::runtime,
    fleet::{Fleet, PATIENCE},
    orders::{Ask, Said},
    plan::{Draw, campaign, seed},
};

/// The lines that steps have written; a torn one is of a step whose node died while it wrote.
pub(crate) fn lines_of(fleet: &Fleet) -> Vec<StepLine> {
    fleet.lines().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// What must hold of the lines that the steps of chains left, in the order in which they were written.
pub(crate) fn faults(lines: &[StepLine], runs: u64, steps: usize) -> Vec<String> {
    let mut faults = Vec::new();
    let mut keys: BTreeMap<(u64, usize), &str> = BTreeMap::new();
    let mut furthest: BTreeMap<u64, usize> = BTreeMap::new();
    for line in lines {
        let known = *keys.entry((line.run, line.step)).or_insert(&line.key);
        if known != line.key {
            faults.push(format!("another key, {known}: {line:?}"));
        }
        // A step begins when the one before is recorded as completed.
        let last = furthest.entry(line.run).or_default();
        if line.step < *last {
            faults.push(format!("again, although step {last} had begun: {line:?}"));
        }
        if line.step > *last + 1 {
            faults.push(format!("before the one before it: {line:?}"));
        }
        *last = line.step.max(*last);
    }
    for (run, step) in (0..runs).flat_map(|run| (0..steps).map(move |step| (run, step))) {
        if !keys.contains_key(&(run, step)) {
            faults.push(format!("never ran: run {run}, step {step}"));
        }
    }
    let mut owners: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for (step, key) in &keys {
        if let Some(other) = owners.insert(key, *step) {
            faults.push(format!("{step:?} and {other:?} have the same key {key}"));
        }
    }
    faults
}

/// Kills one of three nodes in each period until it is told to stop; how many.
pub(crate) async fn kills(fleet: &Fleet, draw: &mut Draw, ended: &AtomicBool, period: Duration) -> u64 {
    let mut count = 0;
    while !ended.load(Ordering::SeqCst) {
        let next = tokio::time::sleep(period);
        tokio::time::sleep(Duration::from_millis(draw.below(200))).await;
        let node = draw.below(3) as usize;
        fleet.kill(node).await;
        fleet.begin(node).await;
        count += 1;
        next.await;
    }
    count
}

/// Waits until runs that `node` has started are completed.
pub(crate) async fn all_end(fleet: &Fleet, node: usize, runs: Range<u64>, seed: u64) {
    for run in runs {
        ends(fleet, node, format!("r{run}"), seed).await;
    }
}

/// Waits until a run that `node` has started is completed, however often the node is killed meanwhile.
pub(crate) async fn ends(fleet: &Fleet, node: usize, run: String, seed: u64) {
    let until = Instant::now() + PATIENCE * if campaign() { 10 } else { 3 };
    loop {
        match fleet.ask(node, Ask::Wait { run: run.clone() }).await {
            Some(Said::Status(status)) => {
                assert_eq!(status, "Completed", "run {run}, STANCHION_SEED={seed}");
                return;
            }
            // It was killed meanwhile.
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        assert!(Instant::now() < until, "{run} does not end, STANCHION_SEED={seed}: {}", fleet.lines());
    }
}

#[test]
fn runs_with_steps_on_three_nodes_complete_under_kills_and_repeat_no_completed_step() {
    let seed = seed();
    let (runs, steps) = if campaign() { (20, 60) } else { (4, 18) };
    runtime().block_on(async {
        let (began, mut draw) = (Instant::now(), Draw(seed));
        let fleet = Fleet::start(3).await;
        assert!(matches!(fleet.ask(0, Ask::Start { runs: 0..runs, steps }).await, Some(Said::Done)));
        let ended = AtomicBool::new(false);
        let ends = async {
            all_end(&fleet, 0, 0..runs, seed).await;
            ended.store(true, Ordering::SeqCst);
        };
        let ((), killed) = tokio::join!(ends, kills(&fleet, &mut draw, &ended, Duration::from_secs(1)));
        let lines = lines_of(&fleet);
        let found = faults(&lines, runs, steps);
        assert!(found.is_empty(), "STANCHION_SEED={seed}: {found:#?}");
        println!(
            "STANCHION_SEED={seed}: {runs} runs of {steps} steps, {killed} kills, {} lines, {:?}: no fault",
            lines.len(),
            began.elapsed()
        );
        fleet.end().await;
    });
}

#[test]
fn a_step_that_runs_again_under_another_key_or_not_at_all_is_found() {
    let line = |step, key: &str| StepLine { run: 0, step, key: key.to_owned() };
    let sound = [line(0, "a"), line(0, "a"), line(1, "b"), line(2, "c")];
    assert_eq!(faults(&sound, 1, 3), Vec::<String>::new(), "an attempt may be repeated");
    // Negative controls.
    assert_eq!(faults(&[line(0, "a"), line(1, "b"), line(0, "a"), line(2, "c")], 1, 3).len(), 1);
    assert_eq!(faults(&[line(0, "a"), line(0, "x"), line(1, "b"), line(2, "c")], 1, 3).len(), 1);
    assert_eq!(faults(&sound[..3], 1, 3).len(), 1);
    assert_eq!(faults(&[line(0, "a"), line(1, "b"), line(2, "a")], 1, 3).len(), 1);
    assert_eq!(faults(&[line(0, "a"), line(2, "c"), line(1, "b")], 1, 3).len(), 2);
}
