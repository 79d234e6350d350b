//! Real traces, replayed: every oracle, from what `history` says.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::program::Program;

/// Ids of the parents of each task.
type Parents = HashMap<String, Vec<String>>;

fn parents(trace: &Path) -> Parents {
    let bytes = std::fs::read(trace).unwrap();
    let text = if trace.extension().is_some_and(|end| end == "gz") {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(bytes.as_slice()), &mut text)
            .unwrap();
        text
    } else {
        String::from_utf8(bytes).unwrap()
    };
    let trace: Value = serde_json::from_str(&text).unwrap();
    let tasks = trace["workflow"]["specification"]["tasks"].as_array().unwrap().clone();
    let ids = |list: &Value| {
        list.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    tasks.iter().map(|task| (task["id"].as_str().unwrap().to_owned(), ids(&task["parents"]))).collect()
}

/// Each task exactly once, and none before its parents have ended.
fn judge(parents: &Parents, history: &[Value]) -> Result<(), String> {
    let (mut started, mut ended) = (HashSet::new(), HashSet::new());
    for line in history {
        let step = line["step"].as_str().unwrap_or_default();
        match line["kind"].as_str().unwrap() {
            "step_started" => {
                let needed = parents.get(step).ok_or(format!("{step} is no task"))?;
                if let Some(open) = needed.iter().find(|parent| !ended.contains(*parent)) {
                    return Err(format!("{step} starts before {open} has ended"));
                }
                if !started.insert(step.to_owned()) {
                    return Err(format!("{step} starts twice"));
                }
            }
            "step_completed" if !ended.insert(step.to_owned()) => return Err(format!("{step} ends twice")),
            _ => {}
        }
    }
    if ended.len() == parents.len() {
        Ok(())
    } else {
        Err(format!("{} of {} ended", ended.len(), parents.len()))
    }
}

#[test]
fn the_oracle_sees_what_is_wrong() {
    let parents = Parents::from([("a".into(), vec![]), ("b".into(), vec!["a".into()])]);
    let line = |kind: &str, step: &str| serde_json::json!({"kind": kind, "step": step});
    let right = [
        line("step_started", "a"),
        line("step_completed", "a"),
        line("step_started", "b"),
        line("step_completed", "b"),
    ];
    assert_eq!(judge(&parents, &right), Ok(()));
    assert!(judge(&parents, &right[..2]).is_err(), "a task is missing");
    let early = [right[0].clone(), right[2].clone(), right[1].clone(), right[3].clone()];
    assert!(judge(&parents, &early).is_err(), "a task starts too early");
    let twice = [&right[..], &right[..1]].concat();
    assert!(judge(&parents, &twice).is_err(), "a task runs twice");
}

#[test]
fn a_small_trace_keeps_its_ids_and_its_order() {
    let program = Program::new();
    program.write("t.json", include_str!("../../fixtures/documents/trace_small.json"));
    let ended = program.run(&["run", "t.json", "--id", "t", "--time-scale", "0", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!((&ended.last()["lower_bound_s"], &ended.last()["upper_bound_s"]), (&0.0.into(), &0.0.into()));
    judge(&parents(&program.path("t.json")), &program.lines(&["history", "t"])).unwrap();
    let other = program.run(&["run", "t.json", "--id", "t", "--time-scale", "0.5", "--json"]);
    assert_eq!((other.code, &other.errors()[0]["code"]), (Some(2), &"run.already_exists".into()));
}

/// The directory of the shared traces; without it these tests have nothing to look at.
fn shared() -> Option<PathBuf> {
    let found = std::env::var_os("STANCHION_CASES").map(|cases| PathBuf::from(cases).join("wfinstances"));
    if found.is_none() {
        eprintln!("STANCHION_CASES is not set: the shared traces are not replayed");
    }
    found
}

/// One row of the index, by the names of its columns.
fn index(dir: &Path) -> Vec<HashMap<String, String>> {
    let text = std::fs::read_to_string(dir.join("index.tsv")).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    let head = lines.next().unwrap();
    lines.map(|row| head.iter().cloned().zip(row).collect()).collect()
}

fn file_of(dir: &Path, name: &str) -> PathBuf {
    ["json", "json.gz"]
        .iter()
        .map(|end| dir.join(format!("{name}.{end}")))
        .find(|file| file.exists())
        .unwrap()
}

#[test]
fn all_shared_traces_complete_and_every_oracle_holds() {
    let Some(dir) = shared() else { return };
    let rows = index(&dir);
    assert_eq!(rows.len(), 7);
    let program = Program::new();
    for row in &rows {
        let (name, file) = (&row["name"], file_of(&dir, &row["name"]));
        let path = file.to_str().unwrap();
        let ended = program.run(&["run", path, "--id", name, "--time-scale", "0", "--json"]);
        assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
        let result = ended.last();
        let tasks: u64 = row["tasks"].parse().unwrap();
        for field in ["steps_total", "steps_completed", "attempts"] {
            assert_eq!(result[field], tasks, "{field} of {name}");
        }
        judge(&parents(&file), &program.lines(&["history", name]))
            .unwrap_or_else(|why| panic!("{name}: {why}"));
    }
    assert_eq!(program.lines(&["list", "--status", "completed"]).len(), 7);
    assert_eq!(program.lines(&["verify"])[0]["ok"], true);
}

/// What starting, committing and ending of steps adds on a busy machine, in seconds.
const OVERHEAD_S: f64 = 0.5;

#[test]
fn the_makespan_lies_within_grahams_bounds() {
    let Some(dir) = shared() else { return };
    let name = "srasearch-chameleon-10a-001";
    let row = index(&dir).into_iter().find(|row| row["name"] == name).unwrap();
    let number = |column: &str| row[column].parse::<f64>().unwrap();
    // The mean step then takes 100 ms.
    let scale = 0.1 * number("tasks") / number("total_work_s");
    let program = Program::new();
    let path = file_of(&dir, name);
    let words = ["run", path.to_str().unwrap(), "--time-scale", &scale.to_string(), "--json"];
    let result = program.run(&words).last();
    let told = |field: &str| result[field].as_f64().unwrap();
    let (lower, upper) =
        (number("lower_bound_16_workers_s") * scale, number("graham_upper_bound_16_workers_s") * scale);
    assert!((told("lower_bound_s") - lower).abs() < 1e-3 && (told("upper_bound_s") - upper).abs() < 1e-3);
    let makespan = told("makespan_s");
    assert!(makespan >= lower * 0.999 && makespan <= upper * 1.02 + OVERHEAD_S, "{lower} {makespan} {upper}");
}
