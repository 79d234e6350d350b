//! `run` and what shows a run.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use super::program::{Program, Running};

const ORDER: &str = include_str!("../../../examples/order.yaml");
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
    assert_eq!(result["output"], json!({"amount": 42, "parcel": "P-42"}));
    let numbers = ["steps_total", "steps_completed", "steps_failed", "steps_skipped", "attempts"];
    assert_eq!(numbers.map(|name| result[name].as_u64().unwrap()), [5, 5, 0, 0, 6]);
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
fn another_document_input_or_scale_is_refused_and_another_number_of_workers_is_not() {
    let program = ordered();
    program.write("other.yaml", &ORDER.replace("P-", "Q-"));
    let run = |words: &[&str]| program.run(&[&["run"], words, &["--id", "o1", "--json"]].concat());
    assert_eq!(run(&["order.yaml", "--input", INPUT]).code, Some(0));
    for words in [
        &["other.yaml", "--input", INPUT] as &[&str],
        &["order.yaml", "--input", "{}"],
        &["order.yaml"],
        &["order.yaml", "--input", INPUT, "--time-scale", "2"],
    ] {
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
    assert_eq!(ended.last()["output"]["amount"], 42);
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
    assert_eq!(steps.len(), 5);
    assert_eq!(
        steps[2],
        json!({"id": "pack", "status": "completed", "attempts": 2, "last_error": steps[2]["last_error"], "retry_at_us": null})
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
    assert_eq!([of("step_started"), of("step_completed"), of("retry_scheduled")], [6, 5, 1]);
    assert!(
        lines.iter().all(|line| line["kind"].as_str().unwrap().starts_with("run_") == line["step"].is_null())
    );
}
