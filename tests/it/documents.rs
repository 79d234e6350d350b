//! Documents: what is accepted, what is refused and how, and the real traces.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that stops here has failed"
)]

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use serde_json::{Value, json};
use stanchion::documents::{
    Document, DocumentError, DocumentLimits, Format, MissingActivity, ReadOptions, read, read_for,
};
use stanchion_actors::workflow::definition::{FailurePolicy, Join};
use std::io::Write;
use std::path::PathBuf;

const ORDER: &str = include_str!("../fixtures/documents/order.yaml");
const SMALL: &str = include_str!("../fixtures/documents/trace_small.json");
const FAULTS: &str = include_str!("../fixtures/documents/trace_faults.json");
const OLD: &str = include_str!("../fixtures/documents/trace_1_4.json");

fn read_text(text: &str) -> Result<Document, DocumentError> {
    read(text.as_bytes(), &ReadOptions::default())
}

fn refusal(text: &str) -> String {
    read_text(text).map(|document| document.definition().name().to_owned()).unwrap_err().to_string()
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn scaled(scale: f64) -> ReadOptions {
    ReadOptions { time_scale: scale, ..ReadOptions::default() }
}

#[test]
fn every_field_of_a_definition_is_read_from_yaml_and_from_json() {
    let document = read_text(ORDER).unwrap();
    let order = document.definition();
    assert_eq!((order.name(), order.step_count(), order.workers()), ("order", 6, Some(8)));
    assert_eq!(order.on_failure(), FailurePolicy::Compensate);
    let pack = order.step_number("pack").unwrap();
    assert_eq!(order.source().steps[pack as usize].join, Join::Quorum(2));
    assert!(document.bounds(16).is_none());
    let as_json = serde_json::to_string(order.source()).unwrap();
    assert_eq!(read_text(&as_json).unwrap().definition().hash(), order.hash());
    assert_eq!(
        read(&packed(ORDER.as_bytes()), &ReadOptions::default()).unwrap().definition().hash(),
        order.hash()
    );
}

#[test]
fn an_unknown_field_is_refused_by_name_and_step() {
    let json = refusal(r#"{"name": "x", "steps": [{"id": "a", "activity": "noop", "need": []}]}"#);
    assert!(json.starts_with("step \"a\" has the unknown field need at steps[0]: use one of id, "), "{json}");
    let yaml = refusal("name: x\nsteps:\n  - id: a\n    activity: noop\n    need: []\n");
    assert_eq!(yaml, json);
    assert!(refusal("name: x\ntimeout: 3\nsteps: []\n").contains("timeout"));
}

/// The lines of a refusal.
fn lines(text: &str) -> Vec<String> {
    read_text(text).unwrap_err().lines().iter().map(ToString::to_string).collect()
}

/// The reader stopped at the first field of a wrong shape, and did not say whose it is.
#[test]
fn faults_of_shape_are_listed_with_their_steps_beside_all_others() {
    let yaml = "name: x
workers: many
crash_loop: {max_crashes: -1}
steps:
  - {id: a, activity: noop, need: [], retry: {max_attempts: none, tries: 3}}
  - {activity: noop, needs: [nobody]}
  - {id: c, needs: {a: b}, join: any}
  - just a text
  - {id: e, activity: noop, when: [5], attempt_timeout_ms: 0}
  - {id: f, activity: noop, compensation: {input: 1, undo: 2}, on_failure: shrug}
  - {id: g, activity: noop, retry: {jitter: .inf}}
  - {id: 7, activity: noop, needs: [a]}
";
    let expected = [
        "the definition has crash_loop.max_crashes of the wrong shape (invalid value: integer `-1`) at its top level: use a whole number",
        "the definition has workers of the wrong shape (invalid type: string \"many\") at its top level: use a whole number",
        "step \"a\" has retry.max_attempts of the wrong shape (invalid type: string \"none\") at steps[0]: use a whole number",
        "step \"a\" has the unknown field retry.tries at steps[0]",
        "step \"a\" has the unknown field need at steps[0]",
        "the step has no id at steps[1]: give it the field id",
        "step \"steps[1]\" needs \"nobody\", which no step defines at steps[1]",
        "step \"c\" has no activity at steps[2]: give it the field activity",
        "step \"c\" has needs of the wrong shape (invalid type: map) at steps[2]: use a list",
        "the step is \"just a text\" at steps[3]: use an object with named fields",
        "step \"e\" has when of the wrong shape (invalid type: sequence) at steps[4]: use a string",
        "step \"e\" attempt_timeout_ms is 0 at steps[4]",
        "step \"f\" has no compensation.activity at steps[5]",
        "step \"f\" has the unknown field compensation.undo at steps[5]",
        "step \"f\" has on_failure of the wrong shape (unknown variant `shrug`) at steps[5]",
        "step \"g\" has the number inf in retry.jitter at steps[6]: use a finite number",
    ];
    let found = lines(yaml);
    for line in expected {
        assert!(
            found.iter().any(|found| found.starts_with(line)),
            "{line}\nis not among\n{}",
            found.join("\n")
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn numbers_that_json_does_not_have_are_told_of_their_step() {
    let json = r#"{"name": "x", "steps": [{"id": "a", "activity": "noop", "input": {"x": [NaN]}},
        {"id": "b", "activity": "noop", "retry": {"max_attempts": Infinity}, "needs": ["c"]}]}"#;
    let found = lines(json);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!(found[0], "step \"a\" has the number NaN in input at steps[0]: use a finite number");
    assert!(found[1].contains("step \"b\" has the number Infinity in retry.max_attempts"), "{found:#?}");
    assert!(found[2].contains("needs \"c\""), "{found:#?}");
    let yaml = lines("name: x\nsteps:\n  - {id: a, activity: noop, input: {x: [.nan]}}\n");
    assert_eq!(yaml, [found[0].clone()]);
    let open = refusal(r#"{"name": "x", "steps": [{"id": "a", "input": NaN, "activity": }]}"#);
    assert!(open.contains("expected value at line 1"), "{open}");
}

/// A trace with these tasks.
fn trace(specification: &str, execution: &str) -> String {
    format!(
        r#"{{"schemaVersion": "1.5", "workflow": {{"specification": {{"tasks": [{specification}]}},
        "execution": {{"makespanInSeconds": NaN, "tasks": [{execution}]}}}}}}"#
    )
}

/// Python's json.dumps writes NaN and Infinity.
#[test]
fn runtimes_that_are_not_finite_and_tasks_of_wrong_shapes_are_all_listed() {
    let text = trace(
        r#"{"id": "a"}, {"id": "b", "parents": "a"}, {"id": "c", "parents": [1, "a"]}, {"parents": []}, 7,
        {"id": "d", "parents": ["nobody"]}, {"id": ["e"]}, {"id": "f", "parents": null}"#,
        r#"{"id": "a", "runtimeInSeconds": NaN}, {"id": "b", "runtimeInSeconds": Infinity},
        {"id": "c", "runtimeInSeconds": -Infinity}, {"id": "d", "runtimeInSeconds": {}}, {"runtimeInSeconds": 1},
        {"id": "f", "runtimeInSeconds": 1e999}"#,
    );
    let expected = [
        "its parents are \"a\" at task \"b\": use a list of the ids of tasks, each a text",
        "among its parents is 1 at task \"c\": use a list of the ids of tasks, each a text",
        "the task has no id at workflow.specification.tasks[3]: give it an id, as a text",
        "the task is 7 at workflow.specification.tasks[4]: use an object with named fields",
        "the id of the task is a list at workflow.specification.tasks[6]: give it an id, as a text",
        "its parents are null at task \"f\": use a list of the ids of tasks, each a text",
        "the task has no id at workflow.execution.tasks[4]: give it an id, as a text",
        "its runtimeInSeconds is not finite: NaN at task \"a\": use seconds from 0 to ten years, as a number",
        "its runtimeInSeconds is not finite: Infinity at task \"b\": use seconds from 0 to ten years, as a number",
        "its runtimeInSeconds is not finite: -Infinity at task \"c\": use seconds from 0 to ten years, as a number",
        "its runtimeInSeconds is an object at task \"d\": use seconds from 0 to ten years, as a number",
        "its runtimeInSeconds is not finite: 1e999 at task \"f\": use seconds from 0 to ten years, as a number",
        "its parent \"nobody\" is no task at task \"d\": name the id of a task",
    ];
    assert_eq!(lines(&text), expected);
    let yaml = "schemaVersion: '1.5'\nworkflow:\n  specification: {tasks: [{id: a}, {id: b}]}\n  execution: {tasks: [{id: a, runtimeInSeconds: .nan}, {id: b, runtimeInSeconds: -.inf}]}\n";
    let found = lines(yaml);
    assert!(found.len() == 2 && found.iter().all(|line| line.contains("not finite")), "{found:#?}");
    let sound = trace(r#"{"id": "a"}"#, r#"{"id": "a", "runtimeInSeconds": 1}"#);
    assert!(read_text(&sound).is_ok(), "fields that are not used are not looked at");
}

#[test]
fn ids_of_a_trace_are_verbatim_and_runtimes_end_at_ten_years() {
    let one = |id: &str, seconds: &str| {
        let id = Value::from(id);
        trace(&format!(r#"{{"id": {id}}}"#), &format!(r#"{{"id": {id}, "runtimeInSeconds": {seconds}}}"#))
    };
    for id in [" a", "a ", "  a b  ", "a/b", &"i".repeat(1_024)] {
        assert_eq!(read_text(&one(id, "1")).unwrap().definition().step_id(0), id);
    }
    for id in ["", " ", "a\u{200B}", "a\tb", &"i".repeat(1_025)] {
        assert!(refusal(&one(id, "1")).contains("its id "), "{id:?}");
    }
    assert!(read_text(&one("a", "315360000")).is_ok());
    assert!(refusal(&one("a", "315360001")).contains("its runtimeInSeconds is 315360001"));
}

#[test]
fn activities_a_program_lacks_stand_beside_the_other_faults() {
    let text = "name: x\nsteps:\n  - {id: a, activity: nope, needs: [b]}\n  - {id: b, activity: noop, tries: 1, compensation: {activity: nope}}\n";
    let missing = |activity: &str| {
        (activity == "nope").then(|| MissingActivity { what: "needs nope".into(), hint: "use noop".into() })
    };
    let error = read_for(text.as_bytes(), &ReadOptions::default(), &missing).unwrap_err();
    let codes: Vec<_> = error.lines().iter().map(|line| line.code).collect();
    assert_eq!(codes, ["activity", "definition", "activity"], "{error}");
}

/// The ids of a cycle of thousands, and the nearest of thousands of ids, took long and filled the screen.
#[test]
fn large_definitions_with_many_faults_are_refused_in_few_words() {
    let mut round = String::from("name: x\nsteps:\n");
    let mut lost = round.clone();
    for n in 0..2_000 {
        round.push_str(&format!("  - {{id: step-{n}, activity: noop, needs: [step-{}]}}\n", (n + 1) % 2_000));
        lost.push_str(&format!("  - {{id: step-{n}, activity: noop, needs: [stop-{n}]}}\n"));
    }
    let found = lines(&round);
    assert!(found.len() == 1 && found[0].len() < 400 && found[0].contains("more)"), "{found:?}");
    let found = lines(&lost);
    assert_eq!(found.len(), 2_000);
    let suggested = found.iter().filter(|line| line.contains("did you mean")).count();
    assert_eq!(suggested, 16, "looking for what was meant is bounded");
}

#[test]
fn wrong_types_duplicate_keys_and_deep_nesting_are_refused() {
    assert!(refusal(r#"{"name": "x", "steps": 3}"#).contains("has steps that are 3"));
    assert!(refusal(r#"{"name": "x", "name": "y", "steps": []}"#).contains("duplicate"));
    assert!(refusal("name: x\nname: y\nsteps: []\n").contains("duplicate"));
    let deep = format!(
        r#"{{"name": "x", "steps": [{{"id": "a", "activity": "n", "input": {}{}}}]}}"#,
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    assert!(refusal(&deep).contains("recursion"));
    let deep = format!(
        "name: x\nsteps:\n- {{id: a, activity: n, input: {}{}}}\n",
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    assert!(read_text(&deep).is_err());
    assert!(refusal("").contains("empty"));
    assert!(read(&[b'a', 0xFF], &ReadOptions::default()).unwrap_err().to_string().contains("at byte 1"));
}

#[test]
fn lists_of_fields_by_position_are_refused() {
    for text in [
        r#"["x", null, null, "fail_fast", false, null, {}, [], null]"#,
        r#"{"name": "x", "steps": [["a", "noop"]]}"#,
        r#"{"name": "x", "steps": [{"id": "a", "activity": "noop", "retry": [3]}]}"#,
        r#"{"name": "x", "crash_loop": [3, 5], "steps": [{"id": "a", "activity": "noop"}]}"#,
        "name: x\nsteps:\n  - [a, noop]\n",
        r#"{"schemaVersion": "1.5", "workflow": {"specification": {"tasks": [["a"]]}, "execution": {"tasks": [["a", 1]]}}}"#,
        r#"{"schemaVersion": "1.5", "workflow": [[[{"id": "a"}]], [[{"id": "a", "runtimeInSeconds": 1}]]]}"#,
    ] {
        let why = refusal(text);
        assert!(why.contains("an object with named fields") || why.contains("map"), "{text}: {why}");
    }
}

#[test]
fn every_fault_of_a_definition_is_a_line_of_its_own() {
    let error = read_text("name: x\nsteps:\n  - {id: a, activity: noop, needs: [c]}\n  - {id: a, activity: noop, attempt_timeout_ms: 0}\n").unwrap_err();
    let lines: Vec<String> = error.lines().iter().map(ToString::to_string).collect();
    assert_eq!(lines[0], r#"step "a" needs "c", which no step defines at steps[0]: did you mean "a"?"#);
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_trace_becomes_sleeping_steps_with_ids_verbatim() {
    let document = read(SMALL.as_bytes(), &scaled(0.5)).unwrap();
    let steps = &document.definition().source().steps;
    let ids: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["d", "b", "c", "a/1", "e"]);
    assert!(steps.iter().all(|step| step.activity == "sleep"));
    assert_eq!(
        (&steps[0].needs, &steps[0].input),
        (&vec!["b".to_owned(), "c".to_owned()], &json!({"ms": 0}))
    );
    assert_eq!(steps[1].input, json!({"ms": 1250}));
    assert_eq!(steps[2].input, json!({"ms": 0.001}));
    let still = read(SMALL.as_bytes(), &scaled(0.0)).unwrap();
    assert!(still.definition().source().steps.iter().all(|step| step.input == json!({"ms": 0})));
}

#[test]
fn bounds_follow_from_work_and_critical_path() {
    let bounds = |workers| read(SMALL.as_bytes(), &scaled(2.0)).unwrap().bounds(workers).unwrap();
    let close = |a: f64, b: f64| (a - b).abs() < 1e-4;
    assert!(close(bounds(1).lower_s, 8.0) && close(bounds(1).upper_s, 8.0), "{:?}", bounds(1));
    assert!(close(bounds(2).lower_s, 7.0) && close(bounds(2).upper_s, 7.5), "{:?}", bounds(2));
    assert_eq!(bounds(0), bounds(1));
}

#[test]
fn every_fault_of_a_trace_names_its_task() {
    let error = read_text(FAULTS).unwrap_err();
    let lines: Vec<String> =
        error.lines().iter().map(|line| format!("{}: {}", line.place, line.message)).collect();
    let expected = [
        r#"task "dup": its id occurs twice in workflow.specification.tasks"#,
        r#"task "dup": its runtimeInSeconds is -1"#,
        r#"task "orphan": its runtimeInSeconds is "12""#,
        r#"task "self": its runtimeInSeconds is missing"#,
        r#"task "x": its runtimeInSeconds is missing"#,
        r#"task "y": its runtimeInSeconds is 315532800.1"#,
        r#"task "boastful": its id occurs twice in workflow.execution.tasks"#,
        r#"task "ghost": it is missing in workflow.specification.tasks"#,
        r#"task "lonely": it is missing in workflow.execution.tasks"#,
        r#"task "orphan": its parent "nobody" is no task"#,
        r#"task "self": it is its own parent"#,
        r#"task "orphan": its child "nowhere" is no task"#,
        r#"task "boastful": it has the child "dup", which does not name it back"#,
        r#"task "forgotten": it has the parent "forgetful", which does not name it back"#,
        r#"task "y": it is on a cycle: y -> x -> y"#,
    ];
    for line in expected {
        assert!(lines.iter().any(|found| found == line), "{line}\nis not among\n{}", lines.join("\n"));
    }
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
}

#[test]
fn other_schemas_and_empty_traces_are_refused_by_name() {
    assert_eq!(
        refusal(OLD),
        "wfformat schema 1.4 is not supported at schemaVersion: use schema 1.5 or a newer 1.x"
    );
    let schema = |version: &str| refusal(&SMALL.replace("\"1.7\"", version));
    assert!(schema("\"2.0\"").contains("schema 2.0"));
    assert!(schema("\"newest\"").contains("schema newest"));
    assert!(read_text(&SMALL.replace("\"1.7\"", "1.5")).is_ok());
    let empty = r#"{"schemaVersion": "1.5", "workflow": {"specification": {"tasks": []}, "execution": {"tasks": []}}}"#;
    assert!(refusal(empty).starts_with("the trace has no tasks at workflow.specification.tasks"));
}

#[test]
fn the_format_can_be_forced() {
    let forced =
        |text: &str, format| read(text.as_bytes(), &ReadOptions { format, ..ReadOptions::default() }).is_ok();
    assert!(forced(SMALL, Format::Wfformat) && !forced(SMALL, Format::Definition));
    assert!(forced(ORDER, Format::Definition) && !forced(ORDER, Format::Wfformat));
    assert_eq!("wfformat".parse(), Ok(Format::Wfformat));
    assert!("xml".parse::<Format>().is_err());
}

#[test]
fn sizes_and_scales_are_limited() {
    let mut limits = DocumentLimits::default();
    limits.bytes_max = 1_000;
    let options = ReadOptions { limits, ..ReadOptions::default() };
    let bomb = packed(&vec![b' '; 1_000_000]);
    assert!(bomb.len() < 10_000);
    assert_eq!(read(&bomb, &options).unwrap_err(), DocumentError::TooLarge { limit: 1_000 });
    let mut damaged = packed(ORDER.as_bytes());
    damaged.truncate(40);
    assert!(matches!(read(&damaged, &ReadOptions::default()), Err(DocumentError::Gzip { .. })));
    for scale in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(read(SMALL.as_bytes(), &scaled(scale)), Err(DocumentError::BadScale { .. })));
    }
    assert!(
        read(SMALL.as_bytes(), &scaled(1e9)).unwrap_err().to_string().contains("use a smaller time scale")
    );
}

#[test]
fn aliases_cannot_blow_a_document_up() {
    let mut text = String::from("name: x\nsteps: []\noutput:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        text.push_str(&format!("  a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", ")));
    }
    assert!(read_text(&text).is_err());
}

/// The directory of the cases, or a reason printed why there is none.
fn cases() -> Option<PathBuf> {
    let Some(dir) = std::env::var_os("STANCHION_CASES") else {
        println!("skipped: STANCHION_CASES is not set, so the real traces are not at hand");
        return None;
    };
    Some(PathBuf::from(dir).join("wfinstances"))
}

#[test]
fn the_real_traces_have_the_sizes_their_index_says() {
    let Some(dir) = cases() else { return };
    let index = std::fs::read_to_string(dir.join("index.tsv")).unwrap();
    let mut rows = index.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let mut seen = 0;
    for row in rows {
        let field = |name: &str| row[header.iter().position(|column| *column == name).unwrap()];
        let number = |name: &str| field(name).parse::<f64>().unwrap();
        let plain = dir.join(format!("{}.json", field("name")));
        let path = if plain.exists() { plain } else { dir.join(format!("{}.json.gz", field("name"))) };
        let document = read(&std::fs::read(&path).unwrap(), &ReadOptions::default()).unwrap();
        let Document::Trace(trace) = &document else { panic!("{} is no trace", path.display()) };
        let graph = trace.definition.graph();
        let close = |a: f64, b: f64| (a - b).abs() <= 0.002;
        assert_eq!(f64::from(graph.len()), number("tasks"), "{}", path.display());
        assert_eq!(graph.edge_count() as f64, number("edges"), "{}", path.display());
        assert_eq!(graph.roots().count() as f64, number("roots"), "{}", path.display());
        let depth = (0..graph.len()).map(|step| graph.level(step)).max().unwrap() + 1;
        assert_eq!(f64::from(depth), number("depth"), "{}", path.display());
        assert!(
            close(trace.critical_path_s, number("critical_path_s")),
            "{}: {}",
            path.display(),
            trace.critical_path_s
        );
        assert!(close(trace.work_s, number("total_work_s")), "{}: {}", path.display(), trace.work_s);
        let bounds = trace.bounds(16);
        assert!(close(bounds.lower_s, number("lower_bound_16_workers_s")), "{}: {bounds:?}", path.display());
        assert!(
            close(bounds.upper_s, number("graham_upper_bound_16_workers_s")),
            "{}: {bounds:?}",
            path.display()
        );
        seen += 1;
    }
    assert_eq!(seen, 7);
}

/// Puts one value of a JSON document out of place.
fn mutate(value: &mut Value, at: usize, with: &Value) {
    let mut open = vec![value];
    let mut seen = 0;
    while let Some(next) = open.pop() {
        if seen == at {
            *next = with.clone();
            return;
        }
        seen += 1;
        match next {
            Value::Array(items) => open.extend(items.iter_mut()),
            Value::Object(map) => open.extend(map.values_mut()),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn odd_values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(-1)),
        Just(json!(1e308)),
        Just(json!(0)),
        Just(json!(u64::MAX)),
        Just(json!("")),
        Just(json!("a")),
        Just(json!("${steps.charge.output")),
        Just(json!([])),
        Just(json!({})),
        Just(json!(["d", "d"])),
        Just(json!({"quorum": 9})),
        "\\PC{0,8}".prop_map(Value::from),
    ]
}

fn read_every_way(bytes: &[u8]) {
    for format in [Format::Auto, Format::Definition, Format::Wfformat] {
        let options = ReadOptions { format, ..ReadOptions::default() };
        if let Err(error) = read(bytes, &options) {
            assert!(!error.lines().is_empty() && !error.to_string().is_empty());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_document_or_a_refusal(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[a-z0-9:{}\\[\\]\"'&*!|>%@ ,?#\n-]{0,120}") {
        read_every_way(&bytes);
        read_every_way(text.as_bytes());
        read_every_way(&packed(&bytes));
    }

    #[test]
    fn damaged_documents_are_refused_or_still_sound(
        which in 0usize..3, cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5), length in any::<prop::sample::Index>(), cut in any::<bool>(),
    ) {
        let mut bytes = [ORDER, SMALL, FAULTS][which].as_bytes().to_vec();
        for (at, byte) in cuts {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        read_every_way(&bytes);
    }

    #[test]
    fn documents_with_odd_values_are_refused_or_still_sound(
        trace in any::<bool>(), changes in proptest::collection::vec((0usize..80, odd_values()), 1..4),
    ) {
        let mut value: Value = if trace {
            serde_json::from_str(SMALL).unwrap()
        } else {
            serde_json::to_value(read_text(ORDER).unwrap().definition().source()).unwrap()
        };
        for (at, with) in changes {
            mutate(&mut value, at, &with);
        }
        read_every_way(value.to_string().as_bytes());
    }
}

#[test]
fn a_runtime_that_no_float_holds_names_its_task() {
    let text = r#"{"name":"t","schemaVersion":"1.5","workflow":{
        "specification":{"tasks":[{"id":"a b","parents":[]},{"id":"c","parents":["a b"]}]},
        "execution":{"tasks":[{"id":"a b","runtimeInSeconds":1e999},{"id":"c","runtimeInSeconds":-9e400}]}}}"#;
    let refused = refusal(text);
    assert!(refused.contains(r#"task "a b""#) && refused.contains(r#"task "c""#), "{refused}");
}
