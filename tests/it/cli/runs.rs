//! `run` and what shows a run.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use super::program::{Program, Running};

const ORDER: &str = include_str!("../../../examples/order.yaml");
/// Not used by the document, and yet part of what a run is started with.
const INPUT: &str = r#"{"amount": 42, "gift": true}"#;

fn ordered() -> Program {
    let program = Program::new();
    program.write("order.yaml", ORDER);
    program
}

#[test]
fn a_completed_run_prints_its_result_and_ends_with_0() {
    let program = ordered();
    let ended = program.run(&["run", "order.yaml", "--id", "o1", "--input", INPUT, "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.err, "");
    let result = ended.last();
    assert_eq!(result["run_id"], "o1");
    assert_eq!(result["status"], "completed");
    assert_eq!(result["output"], json!({"paid": 42, "parcel": "P-42"}));
    let numbers = ["steps_total", "steps_completed", "steps_failed", "steps_skipped", "attempts"];
    assert_eq!(numbers.map(|name| result[name].as_u64().unwrap()), [6, 6, 0, 0, 7]);
    assert_eq!(result["resumed"], false);
    assert_eq!((&result["lower_bound_s"], &result["upper_bound_s"]), (&Value::Null, &Value::Null));
    assert_eq!(result["error"], Value::Null);
    assert!(result["makespan_s"].as_f64().unwrap() >= 0.15, "a wait of 100 ms and a sleep of 50");
    assert!(result["elapsed_s"].as_f64().unwrap() >= result["makespan_s"].as_f64().unwrap());
    assert_eq!(result.as_object().unwrap().len(), 14);
    assert!(!program.path("stanchion.redb.sock").exists(), "the socket goes with its process");
}

#[test]
fn without_an_id_the_first_line_of_standard_error_names_the_run() {
    let program = ordered();
    let ended = program.run(&["run", "order.yaml", "--input", INPUT, "--json"]);
    let id = ended.err.lines().next().unwrap();
    assert_eq!(ended.last()["run_id"], id);
    assert_eq!(program.lines(&["list"])[0]["run_id"], id);
}

#[test]
fn a_finished_run_is_told_again_and_not_run_again() {
    let program = Program::new();
    program.write(
        "w.yaml",
        "name: w\nsteps:\n  - {id: a, activity: append, input: {path: log, line: x}}\n  - {id: b, activity: fail, needs: [a], input: {times: 9, message: broken}}\n",
    );
    let first = program.run(&["run", "w.yaml", "--id", "r", "--json"]);
    assert_eq!(first.code, Some(1), "{first:?}");
    let history = program.run(&["history", "r"]).out;
    let second = program.run(&["run", "w.yaml", "--id", "r", "--json", "--workers", "3"]);
    assert_eq!(second.code, Some(1), "it exits as it ended");
    let (mut first, mut second) = (first.last(), second.last());
    assert_eq!(
        first["error"],
        json!({"code": "step_failed", "message": first["error"]["message"], "step": "b"})
    );
    first["elapsed_s"] = Value::Null;
    second["elapsed_s"] = Value::Null;
    assert_eq!(first, second);
    assert_eq!(program.run(&["history", "r"]).out, history);
    assert_eq!(program.read("log"), "r/a x\n");
}

#[test]
fn another_document_or_input_is_refused_and_another_number_of_workers_is_not() {
    let program = ordered();
    program.write("other.yaml", &ORDER.replace("P-", "Q-"));
    let run = |words: &[&str]| program.run(&[&["run"], words, &["--id", "o1", "--json"]].concat());
    assert_eq!(run(&["order.yaml", "--input", INPUT]).code, Some(0));
    for words in
        [&["other.yaml", "--input", INPUT] as &[&str], &["order.yaml", "--input", "{}"], &["order.yaml"]]
    {
        let ended = run(words);
        assert_eq!(ended.code, Some(2), "{words:?}");
        assert_eq!(ended.errors()[0]["code"], "run.already_exists");
        assert_eq!(ended.out, "");
    }
    assert_eq!(run(&["order.yaml", "--input", INPUT, "--workers", "1"]).code, Some(0));
}

#[test]
fn documents_come_packed_and_from_standard_input() {
    let program = ordered();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(ORDER.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    program.write("input.json", INPUT);
    let mut command = program.command(&["run", "-", "--input", "@input.json", "--json"]);
    let child = Running::of(command.stdin(Stdio::piped()).spawn().unwrap());
    let ended = child.end_with_input(&packed);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.last()["output"]["paid"], 42);
}

#[test]
fn a_failed_run_is_compensated_in_reverse_order() {
    let program = Program::new();
    let undone =
        |id: &str| format!("compensation: {{activity: append, input: {{path: log, line: undo {id}}}}}");
    program.write(
        "w.yaml",
        &format!(
            "name: w\non_failure: compensate\nsteps:\n  - {{id: a, activity: noop, {}}}\n  - {{id: b, activity: noop, needs: [a], {}}}\n  - {{id: c, activity: fail, needs: [b], input: {{times: 9, message: broken}}}}\n",
            undone("a"),
            undone("b"),
        ),
    );
    let ended = program.run(&["run", "w.yaml", "--id", "r", "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.last()["status"], "compensated");
    assert_eq!(program.read("log"), "r/b/undo undo b\nr/a/undo undo a\n");
}

#[test]
fn list_and_show_tell_where_a_run_stands() {
    let program = ordered();
    assert_eq!(program.run(&["run", "order.yaml", "--id", "o1", "--input", INPUT]).code, Some(0));
    let rows = program.lines(&["list"]);
    assert_eq!(rows.len(), 1);
    let fields: Vec<&str> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["definition", "run_id", "started_us", "status", "steps_completed", "steps_total", "updated_us"];
    assert_eq!(fields, expected);
    assert_eq!(program.lines(&["list", "--status", "completed"]), rows);
    assert!(program.lines(&["list", "--status", "failed"]).is_empty());
    let shown = program.lines(&["show", "o1"]).remove(0);
    for field in expected {
        assert_eq!(shown[field], rows[0][field], "{field}");
    }
    let steps = shown["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 6);
    assert_eq!(
        steps[3],
        json!({"id": "pack", "status": "completed", "attempts": 2, "last_error": steps[3]["last_error"], "retry_at_us": null, "waiting_for": null})
    );
}

#[test]
fn an_empty_store_lists_nothing() {
    let program = ordered();
    assert_eq!(program.run(&["run", "order.yaml", "--id", "o1", "--input", INPUT]).code, Some(0));
    for words in [&["list", "--status", "parked"] as &[&str], &["entity", "ls", "counter"]] {
        let ended = program.run(words);
        assert_eq!((ended.code, ended.out.as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn history_has_its_kinds_in_entry_order() {
    let program = ordered();
    assert_eq!(program.run(&["run", "order.yaml", "--id", "o1", "--input", INPUT]).code, Some(0));
    let lines = program.lines(&["history", "o1"]);
    assert_eq!(lines, program.run(&["history", "o1"]).json(), "with and without --json");
    let versions: Vec<u64> = lines.iter().map(|line| line["version"].as_u64().unwrap()).collect();
    assert!(versions.is_sorted());
    assert_eq!(lines[0]["kind"], "run_started");
    assert_eq!(lines.last().unwrap()["kind"], "run_completed");
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!([of("step_started"), of("step_completed"), of("retry_scheduled")], [7, 6, 1]);
    assert!(
        lines.iter().all(|line| line["kind"].as_str().unwrap().starts_with("run_") == line["step"].is_null())
    );
}

#[test]
fn every_example_document_completes() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut seen = 0;
    for file in std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|end| end == "yaml" || end == "json") {
            let program = Program::new();
            let ended = program.run(&["run", file.to_str().unwrap(), "--allow-shell", "--json"]);
            assert_eq!(
                (ended.code, &ended.last()["status"]),
                (Some(0), &"completed".into()),
                "{file:?} {ended:?}"
            );
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen} documents");
}

#[test]
fn a_reader_that_goes_away_is_no_fault_and_a_full_disk_is() {
    let program = ordered();
    assert_eq!(program.run(&["run", "order.yaml", "--id", "o1"]).code, Some(0));
    let mut early = program.command(&["history", "o1"]).spawn().unwrap();
    drop(early.stdout.take());
    assert_eq!(early.wait().unwrap().code(), Some(0));
    if let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") {
        let ended = program.command(&["history", "o1", "--json"]).stdout(full).output().unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert!(String::from_utf8_lossy(&ended.stderr).contains("output.io"));
    }
}

#[test]
fn a_disk_that_fills_up_ends_with_3_and_the_run_goes_on_later() {
    let program = Program::new();
    let big = "x".repeat(60_000);
    let steps: String = (0..40)
        .map(|n| {
            let needs = if n == 0 { String::new() } else { format!("needs: [s{}], ", n - 1) };
            format!("  - {{id: s{n}, activity: echo, {needs}input: {big}}}\n")
        })
        .collect();
    program.write("w.yaml", &format!("name: w\nsteps:\n{steps}"));
    // Files may have at most 24 000 blocks of 512 bytes; writing beyond is an error, not a signal.
    let words = "ulimit -f 24000; exec \"$0\" run w.yaml --id r --json";
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", words, env!("CARGO_BIN_EXE_stanchion")]).current_dir(program.path("."));
    let ended = limited.env_remove("STANCHION_DB").output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(3), "{told}");
    assert!(told.contains("\"code\":\"store."), "{told}");
    let ended = program.run(&["run", "w.yaml", "--id", "r", "--json"]);
    assert_eq!((ended.code, &ended.last()["steps_completed"]), (Some(0), &40.into()), "{}", ended.err);
}
