//! What is to be run: everything that can be checked before the store is touched.

use std::{io::Read, path::Path, sync::Arc};

use serde_json::{Value, json};
use stanchion::{
    activities,
    control::Problem,
    documents::{self, Bounds, Document, DocumentLimits, MissingActivity, ReadOptions},
    workflow::{Definitions, RUN_INPUT_MAX_BYTES, RunCard, StartRun, check_run_id, check_run_input},
};

use super::{args::RunArgs, fault::Fault};

/// Largest input of a run, as JSON text.
const INPUT_MAX_BYTES: usize = 1 << 20;

/// A run that can be started.
pub(crate) struct Prepared {
    pub(crate) start: StartRun,
    document: Shape,
    /// The id was made here.
    pub(crate) is_new: bool,
}

/// What bounds can be told of.
enum Shape {
    Definition,
    Trace { work_s: f64, critical_path_s: f64 },
}

impl Prepared {
    /// Reads and checks everything; touches nothing. With `elsewhere`, which activities there are is not known here.
    pub(crate) fn of(args: &RunArgs, elsewhere: bool) -> Result<Self, Fault> {
        if let Some(id) = &args.id {
            check_run_id(id).map_err(|_| {
                Fault::usage("the run id is no id", "--id", "use 1 to 128 visible characters without '/'")
            })?;
        }
        let input = input(args.input.as_deref())?;
        let file = args.file.display().to_string();
        let limits = DocumentLimits::default();
        let bytes = read_file(&args.file, limits.bytes_max)?;
        let options = ReadOptions { format: args.format, time_scale: args.time_scale, limits };
        let document = documents::read_for(&bytes, &options, &|activity| {
            if elsewhere { None } else { missing(activity, args) }
        });
        let document = document.map_err(|e| Fault::of_document(&e, &file))?;
        let shape = match &document {
            Document::Definition(_) if args.time_scale != 1.0 => {
                let what = "a time scale is given, and the document is no trace";
                return Err(Fault::usage(what, "--time-scale", "leave it out"));
            }
            Document::Definition(_) => Shape::Definition,
            Document::Trace(trace) => {
                Shape::Trace { work_s: trace.work_s, critical_path_s: trace.critical_path_s }
            }
        };
        let definition = document.into_definition();
        Definitions::write(&definition).map_err(|error| {
            Problem::rejected("document.too_large", error.to_string(), file, "split the workflow")
        })?;
        let id = args.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let start = StartRun {
            id,
            definition: Arc::new(definition),
            input,
            workers: args.workers,
            note: json!({ "time_scale": args.time_scale }),
        };
        Ok(Self { start, document: shape, is_new: args.id.is_none() })
    }

    /// Bounds on the makespan with this many workers; `None` for a definition.
    pub(crate) fn bounds(&self, workers: u32) -> Option<Bounds> {
        match self.document {
            Shape::Definition => None,
            Shape::Trace { work_s, critical_path_s } => Some(Bounds::of(work_s, critical_path_s, workers)),
        }
    }

    /// What the run is started with, as it is stored.
    pub(crate) fn card(&self) -> RunCard {
        RunCard {
            hash: self.start.definition.hash().as_bytes().to_vec(),
            definition: self.start.definition.name().to_owned(),
            input: self.start.input.clone(),
            workers: self.start.workers,
            note: self.start.note.clone(),
        }
    }
}

fn input(text: Option<&str>) -> Result<Value, Fault> {
    let Some(text) = text else { return Ok(Value::Null) };
    let bytes = match text.strip_prefix('@') {
        Some(path) => read_file(Path::new(path), INPUT_MAX_BYTES)?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.len() > INPUT_MAX_BYTES {
        return Err(too_large("the input is too large").into());
    }
    let input = serde_json::from_slice(&bytes).map_err(|error| {
        let place = format!("--input line {} column {}", error.line(), error.column());
        let what = format!("the input is no JSON ({error})");
        Problem::rejected("input.no_json", what, place, "give one JSON value, strings in quotes")
    })?;
    check_run_input(&input).map_err(|_| too_large("the input is too large as it is stored"))?;
    Ok(input)
}

fn too_large(what: &str) -> Problem {
    let hint =
        format!("use at most {INPUT_MAX_BYTES} bytes of JSON and {RUN_INPUT_MAX_BYTES} of MessagePack");
    Problem::rejected("input.too_large", what, "--input", hint)
}

/// The bytes of a file, or of standard input; one byte more than the limit tells that there are more.
fn read_file(path: &Path, limit: usize) -> Result<Vec<u8>, Fault> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let what = format!("the file cannot be read ({error})");
            let place = path.display().to_string();
            Err(Problem::rejected("input.unreadable", what, place, "name a file that can be read").into())
        }
    }
}

/// A step whose activity this program does not have would fail only when it is reached.
fn missing(activity: &str, args: &RunArgs) -> Option<MissingActivity> {
    let missing = |what: String, hint: &str| Some(MissingActivity { what, hint: hint.to_owned() });
    match activity {
        "shell" if args.allow_shell => return None,
        "shell" => return missing("runs a program".to_owned(), "allow it with --allow-shell"),
        "http.request" if !args.allow_hosts.is_empty() => return None,
        "http.request" => {
            return missing("reaches a host".to_owned(), "allow it with --allow-host HOST");
        }
        _ if activities::NAMES.contains(&activity) => return None,
        _ => {}
    }
    let what = format!("needs the activity {activity:?}, which this program does not have");
    let names = activities::NAMES.join(", ");
    missing(what, &format!("use {names}, shell or http.request, or run it from a Rust program that has it"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000), ..ProptestConfig::default() })]

        #[test]
        fn random_inputs_never_panic(text in "[^@].{0,80}") {
            let _ = input(Some(&text));
        }
    }
}
