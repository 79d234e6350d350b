//! Killed and asked to stop: what was completed is never run again.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use serde_json::Value;
use stanchion::{System, activities, ids::Name, supervisors::Intensity, workflow::RunStatus};

use super::program::Program;

/// Three steps that leave a line each, one that takes its time, one more line.
fn held(ms: u32) -> String {
    let line = |id: &str, needs: &str| {
        format!("  - {{id: {id}, activity: append, needs: [{needs}], input: {{path: log, line: x}}}}\n")
    };
    format!(
        "name: w\nsteps:\n{}{}{}  - {{id: hold, activity: sleep, needs: [c], input: {{ms: {ms}}}}}\n{}",
        line("a", ""),
        line("b", "a"),
        line("c", "b"),
        line("d", "hold"),
    )
}

fn count(lines: &[Value], kind: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for line in lines.iter().filter(|line| line["kind"] == kind) {
        *counts.entry(line["step"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn a_killed_run_goes_on_and_repeats_no_completed_step() {
    let program = Program::new();
    program.write("w.yaml", &held(700));
    let running = program.start(&["run", "w.yaml", "--id", "r"]);
    program.await_line("r", "step_started", "hold");
    running.kill();
    assert!(program.path("stanchion.redb.sock").exists(), "a socket left behind");
    let ended = program.run(&["run", "w.yaml", "--id", "r", "--json", "--workers", "2"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = ended.last();
    assert_eq!((&result["status"], &result["resumed"]), (&"completed".into(), &true.into()));
    assert_eq!(result["attempts"], 6, "the held step twice");
    assert_eq!(result["lower_bound_s"], Value::Null);
    assert_eq!(program.read("log"), "r/a x\nr/b x\nr/c x\nr/d x\n");
    let lines = program.lines(&["history", "r"]);
    assert!(count(&lines, "step_completed").values().all(|times| *times == 1));
    let again: Vec<_> = count(&lines, "step_started").into_iter().filter(|(_, times)| *times > 1).collect();
    assert_eq!(again, [("hold".to_owned(), 2)]);
    assert_eq!(lines.iter().filter(|line| line["kind"] == "run_recovered").count(), 1);
    assert_eq!(program.lines(&["verify"])[0]["ok"], true);
}

#[test]
fn sigterm_lets_running_steps_end_and_starts_no_others() {
    let program = Program::new();
    program.write("w.yaml", &held(400));
    let mut running = program.start(&["run", "w.yaml", "--id", "r", "--drain-timeout", "30s"]);
    program.await_line("r", "step_started", "hold");
    running.signal("-TERM");
    assert!(running.next_note().starts_with("stopping"));
    let ended = running.end();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let lines = program.lines(&["history", "r"]);
    assert_eq!(count(&lines, "step_completed").get("hold"), Some(&1), "it had the time");
    assert_eq!(program.read("log"), "r/a x\nr/b x\nr/c x\n", "nothing new was started");
    let ended = program.run(&["run", "w.yaml", "--id", "r", "--json"]);
    assert_eq!((ended.code, &ended.last()["resumed"]), (Some(0), &true.into()));
    assert_eq!(program.read("log"), "r/a x\nr/b x\nr/c x\nr/d x\n");
}

#[test]
fn sigint_ends_with_4_after_the_drain_timeout() {
    let program = Program::new();
    program.write("w.yaml", &held(600_000));
    let running = program.start(&["run", "w.yaml", "--id", "r", "--drain-timeout", "0", "--json"]);
    program.await_line("r", "step_started", "hold");
    running.signal("-INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert_eq!(ended.last()["status"], "interrupted");
    assert_eq!(program.lines(&["list"])[0]["status"], "running", "it can be resumed");
}

#[test]
fn a_second_signal_ends_at_once() {
    let program = Program::new();
    program.write("w.yaml", &held(600_000));
    let mut running = program.start(&["run", "w.yaml", "--id", "r", "--drain-timeout", "1h"]);
    program.await_line("r", "step_started", "hold");
    running.signal("-TERM");
    assert!(running.next_note().starts_with("stopping"));
    running.signal("-TERM");
    assert_eq!(running.end().code, Some(4));
}

#[test]
fn a_run_takes_up_no_other_run_of_the_store() {
    let program = Program::new();
    program.write("w.yaml", &held(600_000));
    program.write("other.yaml", "name: o\nsteps:\n  - {id: a, activity: sleep, input: {ms: 300}}\n");
    let running = program.start(&["run", "w.yaml", "--id", "r"]);
    program.await_line("r", "step_started", "hold");
    running.kill();
    let before = program.run(&["history", "r"]).out;
    assert_eq!(program.run(&["run", "other.yaml", "--id", "o"]).code, Some(0));
    assert_eq!(program.run(&["history", "r"]).out, before);
}

#[test]
fn a_failed_run_goes_on_after_retry() {
    let program = Program::new();
    program.write(
        "w.yaml",
        "name: w\nsteps:\n  - {id: a, activity: append, input: {path: log, line: x}}\n  - {id: b, activity: fail, needs: [a], input: {times: 1, message: broken}}\n",
    );
    assert_eq!(program.run(&["run", "w.yaml", "--id", "r"]).code, Some(1));
    assert_eq!(program.run(&["retry", "r", "--step", "a"]).code, Some(2), "it has not failed");
    let told = program.lines(&["retry", "r", "--step", "b"]);
    assert_eq!(told[0], serde_json::json!({"run_id": "r", "status": "running"}));
    let ended = program.run(&["run", "w.yaml", "--id", "r", "--json"]);
    assert_eq!((ended.code, &ended.last()["status"]), (Some(0), &"completed".into()), "{ended:?}");
    assert_eq!(program.read("log"), "r/a x\n");
}

/// Kills the actor of a run until that counts as a crash loop, and lets the next one live: it is there to park the run.
async fn park(program: &Program, run: &str) {
    let builder = activities::register(System::builder());
    let system = builder.open(program.path("stanchion.redb")).await.unwrap();
    let cell = system.env().directory().cell(&Name::new("run", run).unwrap()).unwrap();
    let parked = crate::kit::task({
        let workflows = system.workflows().clone();
        let run = run.to_owned();
        async move { workflows.wait(&run).await.map(|run| run.state.status()) }
    });
    let intensity = Intensity::default();
    let enough = intensity.max_restarts() as usize + 1;
    let mut kills: VecDeque<Instant> = VecDeque::new();
    let mut last = 0;
    crate::kit::until("it is parked", || {
        let is_loop = kills.len() == enough && kills[0].elapsed() < intensity.within();
        if let Some((generation, actor)) =
            cell.owner().filter(|(generation, _)| *generation > last && !is_loop)
        {
            last = generation;
            actor.kill();
            kills.push_back(Instant::now());
            kills.drain(..kills.len().saturating_sub(enough));
        }
        parked.is_finished()
    })
    .await;
    assert_eq!(parked.await.unwrap().unwrap(), RunStatus::Parked);
    crate::kit::stop(system).await;
}

#[test]
fn a_parked_run_ends_with_1_and_goes_on_after_retry() {
    let program = Program::new();
    program.write("w.yaml", &held(3_000));
    let running = program.start(&["run", "w.yaml", "--id", "r"]);
    program.await_line("r", "step_started", "hold");
    running.kill();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(park(&program, "r"));
    let ended = program.run(&["run", "w.yaml", "--id", "r", "--json"]);
    assert_eq!((ended.code, &ended.last()["status"]), (Some(1), &"parked".into()), "{ended:?}");
    assert_eq!(ended.last()["error"]["code"], "parked");
    let history = program.lines(&["history", "r"]);
    assert_eq!(history.last().unwrap()["kind"], "run_parked");
    assert_eq!(program.lines(&["list", "--status", "parked"]).len(), 1);
    assert_eq!(program.lines(&["retry", "r"])[0], serde_json::json!({"run_id": "r", "status": "running"}));
    let resumed = program.lines(&["history", "r"]);
    assert_eq!(resumed.last().unwrap()["kind"], "run_resumed", "no step starts where nobody runs it");
    let ended = program.run(&["run", "w.yaml", "--id", "r", "--json"]);
    assert_eq!((ended.code, &ended.last()["status"]), (Some(0), &"completed".into()), "{ended:?}");
    assert_eq!(program.read("log"), "r/a x\nr/b x\nr/c x\nr/d x\n");
}

/// The signal meets the end of the step: whichever wins, the result says what the history says.
#[test]
fn the_result_of_an_interrupted_run_is_that_of_its_history() {
    for ms in (5..150).step_by(12) {
        let program = Program::new();
        let sleeps: String =
            (0..4).map(|n| format!("  - {{id: s{n}, activity: sleep, input: {{ms: {ms}}}}}\n")).collect();
        program.write(
            "w.yaml",
            &format!("name: w\nsteps:\n{sleeps}  - {{id: last, activity: noop, needs: [s0]}}\n"),
        );
        let running = program.start(&["run", "w.yaml", "--id", "r", "--json", "--drain-timeout", "30s"]);
        program.await_store();
        running.signal("-TERM");
        let ended = running.end();
        let lines = program.lines(&["history", "r"]);
        let result = ended.last();
        let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
        assert_eq!(result["attempts"], of("step_started"), "{ended:?} {lines:?}");
        assert_eq!(result["steps_completed"], of("step_completed"), "{ended:?} {lines:?}");
        let completed = of("run_completed") == 1;
        let expected = if completed { ("completed", Some(0)) } else { ("interrupted", Some(4)) };
        assert_eq!((result["status"].as_str().unwrap(), ended.code), expected, "{ended:?}");
    }
}

#[test]
fn a_signal_after_the_result_changes_nothing() {
    for _ in 0..5 {
        let program = Program::new();
        program.write("w.yaml", "name: w\nsteps:\n  - {id: a, activity: noop}\n");
        let mut running = program.start(&["run", "w.yaml", "--id", "r", "--json"]);
        let result = running.next_result();
        assert!(result.contains("\"completed\""), "{result}");
        running.signal("-TERM");
        assert_eq!(running.end().code, Some(0));
    }
}
