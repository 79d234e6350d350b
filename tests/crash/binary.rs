//! kill -9 of the shipped binary: steps that append to a file, in chains.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::history::{Draw, campaign, seed};

const STEPS: usize = 10;

/// A directory with a document, the file that its steps append to, and a store.
struct Bench {
    dir: tempfile::TempDir,
    chains: usize,
    kills: u64,
}

/// The binary: the one that `STANCHION_BIN` names, else the one built beside the tests, with their features.
pub(crate) fn shipped() -> OsString {
    std::env::var_os("STANCHION_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_stanchion").into())
}

/// One line of the file: the step that wrote it.
fn step_of<'a>(line: &'a str, run: &str) -> Result<&'a str, String> {
    let (key, written) = line.split_once(' ').ok_or_else(|| format!("half a line: {line:?}"))?;
    let step = key.strip_prefix(run).and_then(|rest| rest.strip_prefix('/'));
    let step = step.ok_or_else(|| format!("key {key:?} is not of run {run:?}"))?;
    if step == written { Ok(step) } else { Err(format!("step {written} ran under the key {key:?}")) }
}

/// What is wrong with the file: a step that ran again although the next one of its chain had begun, or although
/// it was shown as completed when the file had so many lines.
fn faults(run: &str, lines: &[&str], shown: &HashMap<String, usize>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut reached: HashMap<&str, usize> = HashMap::new();
    for (number, line) in lines.iter().enumerate() {
        let step = match step_of(line, run) {
            Ok(step) => step,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        if shown.get(step).is_some_and(|then| number >= *then) {
            faults.push(format!("{step} ran again after it was shown as completed"));
        }
        let Some((chain, place)) = step.split_once('s') else { continue };
        let place: usize = place.parse().unwrap();
        let furthest = reached.entry(chain).or_insert(0);
        if place < *furthest {
            faults.push(format!("{step} ran again, though step {furthest} of its chain had begun"));
        }
        *furthest = place.max(*furthest);
    }
    faults
}

impl Bench {
    fn new(chains: usize) -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap(), chains, kills: 0 };
        let mut steps = Vec::new();
        for chain in 0..chains {
            for n in 0..STEPS {
                let id = format!("c{chain}s{n}");
                let mut step = json!({
                    "id": id, "activity": "append",
                    "input": {"path": bench.effects(), "line": id},
                });
                if n > 0 {
                    step["needs"] = json!([format!("c{chain}s{}", n - 1)]);
                }
                steps.push(step);
            }
        }
        let document = json!({"name": "appends", "output": "done", "steps": steps});
        std::fs::write(bench.file("document.json"), document.to_string()).unwrap();
        bench
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn effects(&self) -> PathBuf {
        self.file("effects")
    }

    fn stanchion(&self) -> Command {
        let mut command = Command::new(shipped());
        command.args(["--json", "--db"]).arg(self.file("app.redb"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    fn run(&self, run: &str) -> Command {
        let mut command = self.stanchion();
        command.args(["run", "--id", run, "--workers", "8"]).arg(self.file("document.json"));
        command
    }

    /// Runs it, killed at random times at most `kills` times, to its end.
    fn finish(&mut self, run: &str, kills: u64, draw: &mut Draw, longest: u64) -> Value {
        let from = lines(&self.effects()).len();
        let mut shown = HashMap::new();
        for _ in 0..kills {
            let mut child = self.run(run).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(1 + draw.below(longest)));
            let ended = child.try_wait().unwrap().is_some();
            child.kill().unwrap();
            child.wait().unwrap();
            if ended {
                break;
            }
            self.kills += 1;
            let written = lines(&self.effects()).len() - from;
            for step in self.completed(run) {
                shown.entry(step).or_insert(written);
            }
        }
        let output = self.run(run).output().unwrap();
        let text = lines(&self.effects());
        let lines: Vec<&str> = text.iter().skip(from).map(String::as_str).collect();
        let faults = faults(run, &lines, &shown);
        assert!(faults.is_empty(), "{run}: {faults:#?}");
        let distinct: HashSet<&str> = lines.iter().copied().collect();
        assert_eq!(distinct.len(), self.chains * STEPS, "{run}: every step ran");
        let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
        // What differs between any two runs.
        for field in
            ["elapsed_s", "makespan_s", "lower_bound_s", "upper_bound_s", "resumed", "run_id", "attempts"]
        {
            report.as_object_mut().unwrap().remove(field);
        }
        report
    }

    /// Steps that the store shows as completed.
    fn completed(&self, run: &str) -> Vec<String> {
        let output = self.stanchion().args(["history", run]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let completed = lines.filter(|line| line["kind"] == "step_completed");
        completed.filter_map(|line| line["step"].as_str().map(str::to_owned)).collect()
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn a_completed_step_never_runs_again_when_the_binary_is_killed() {
    let first = seed();
    let mut draw = Draw(first);
    println!("STANCHION_SEED={first}");
    let mut undisturbed = Value::Null;
    // Kills fall within the time that an undisturbed run takes here, so most of them hit.
    let calm = (0..3).map(|_| {
        let (began, mut bench) = (std::time::Instant::now(), Bench::new(1));
        undisturbed = bench.finish("calm", 0, &mut draw, 1);
        u64::try_from(began.elapsed().as_millis()).unwrap()
    });
    let calm = calm.min().unwrap().max(4);
    assert_eq!((&undisturbed["status"], &undisturbed["output"]), (&json!("completed"), &json!("done")));
    // Some runs end before their kill: so many more are made as it takes to kill as many as are asked for.
    let asked: u64 = if campaign() { 1_000 } else { 12 };
    let (mut bench, mut runs, mut killed) = (Bench::new(1), 0, 0);
    while killed < asked && runs < asked * 3 {
        let before = bench.kills;
        let report = bench.finish(&format!("r{runs}"), 1 + draw.below(3), &mut draw, calm);
        assert_eq!(report, undisturbed, "r{runs}");
        killed += u64::from(bench.kills > before);
        runs += 1;
    }
    let mut wide = Bench::new(40);
    let report = wide.finish("wide", if campaign() { 40 } else { 8 }, &mut draw, calm);
    assert_eq!(report["status"], "completed");
    let verified = wide.stanchion().arg("verify").output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    println!("{} kills of {killed} of {runs} runs and {} kills of a wide one", bench.kills, wide.kills);
    assert!(killed >= asked / 2 && wide.kills > 2);
}

#[test]
fn a_step_that_runs_again_is_found_in_the_file() {
    // Negative control of the scan.
    let shown = HashMap::from([("c0s0".to_owned(), 1)]);
    let none = HashMap::new();
    assert!(faults("r", &["r/c0s0 c0s0", "r/c0s0 c0s0", "r/c0s1 c0s1"], &none).is_empty());
    assert_eq!(faults("r", &["r/c0s0 c0s0", "r/c0s0 c0s0"], &shown).len(), 1);
    assert_eq!(faults("r", &["r/c0s0 c0s0", "r/c0s1 c0s1", "r/c0s0 c0s0"], &none).len(), 1);
    assert_eq!(faults("r", &["q/c0s0 c0s0"], &none).len(), 1);
    assert_eq!(faults("r", &["r/c0s0 c0s1"], &none).len(), 1);
    assert_eq!(faults("r", &["r/c0s0"], &none).len(), 1);
}
