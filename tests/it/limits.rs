//! Between what is accepted and what is run nothing is left over: ids of any length, inputs of any allowed size, and a
//! decision that cannot be recorded parks its run.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::{Value, json};
use stanchion::{
    Activity, ActivityCtx, Builder, CallOptions, Failure, System,
    error::Coded,
    ids::Name,
    port::{decode, encode, memory::MemoryStore},
    workflow::{
        Definition, Definitions, LiveRun, RUN_INPUT_MAX_BYTES, RUN_KIND, RunCard, RunCommand, RunReply,
        RunStatus, StartRun, Step, StoredRun,
        definition::{Compensation, FailurePolicy},
        run_kind,
    },
};
use stanchion_actors::{entity::EntityAddress, env::Waking};

use crate::kit::{stop, until_async};

/// Gives its input back, of `"large"` something large; an input of `"fail"` fails. Counts.
struct Count(Arc<AtomicU32>);

impl Activity for Count {
    const NAME: &'static str = "count";
    type Input = Value;
    type Output = Value;
    async fn run(&self, _: ActivityCtx, input: Value) -> Result<Value, Failure> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match input.as_str() {
            Some("fail") => Err(Failure::permanent("told", "as told")),
            Some("large") => Ok(json!("x".repeat(1_000))),
            _ => Ok(input),
        }
    }
}

fn counting() -> (Builder, Arc<AtomicU32>) {
    let ran = Arc::new(AtomicU32::new(0));
    (System::builder().activity(Count(Arc::clone(&ran))), ran)
}

async fn run_to_end(system: &System, id: &str, definition: Definition) -> StoredRun {
    let workflows = system.workflows();
    let definition = workflows.define(definition.validate().unwrap());
    workflows.start(StartRun::new(id, definition)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), workflows.wait(id)).await.unwrap().unwrap()
}

/// Step ids of more than 250 bytes passed the check of a document and could not be run: the run began again for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_with_ids_of_any_allowed_length_run_and_are_undone() {
    let (builder, ran) = counting();
    let system = builder.open_on(MemoryStore::new()).await.unwrap();
    for length in [1, 250, 251, 255, 256, 300, 1_019, 1_020, 1_024] {
        let ran_before = ran.load(Ordering::SeqCst);
        let long = "i".repeat(length);
        let undo = Compensation {
            activity: "count".to_owned(),
            input: json!("undo"),
            retry: None,
            attempt_timeout_ms: None,
        };
        let definition = Definition::builder("long")
            .on_failure(FailurePolicy::Compensate)
            .step(Step::new("first").activity("count"))
            .step(Step::new(&long).activity("count").needs(["first"]).compensate_with(undo))
            .step(Step::new("last").activity("count").input("fail").needs([&long]))
            .build();
        let run = run_to_end(&system, &format!("r{length}"), definition).await;
        assert_eq!(run.state.status(), RunStatus::Compensated, "{length} bytes");
        assert_eq!(ran.load(Ordering::SeqCst) - ran_before, 4, "{length} bytes");
    }
    let root = Definition::builder("root").step(Step::new("r".repeat(1_024)).activity("count")).build();
    assert_eq!(run_to_end(&system, "root", root).await.state.status(), RunStatus::Completed);
    stop(system).await;
}

/// A run whose next decision is over a limit was read anew and came to the same decision, without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_that_cannot_be_recorded_parks_the_run() {
    let (builder, ran) = counting();
    let definitions = Arc::new(Definitions::default());
    let mut tight = run_kind(Arc::clone(&definitions), None, Waking::All);
    tight.name = Arc::from("tight");
    tight.options.command_max_bytes = 400;
    let system = builder.kind(tight).open_on(MemoryStore::new()).await.unwrap();
    let definition = Definition::builder("large")
        .step(Step::new("a").activity("count").input("large"))
        .step(Step::new("b").activity("count").needs(["a"]).input("${steps.a.output}"))
        .build();
    // A run of the usual kind, which brings the definition into the store.
    assert_eq!(run_to_end(&system, "wide", definition.clone()).await.state.status(), RunStatus::Completed);
    let definition = definitions.remember(definition.validate().unwrap());
    let card = RunCard {
        hash: definition.hash().as_bytes().to_vec(),
        definition: "large".to_owned(),
        input: Value::Null,
        workers: 4,
        note: Value::Null,
    };
    let name = Name::new("tight", "r").unwrap();
    let address = EntityAddress::new(system.env(), &name).unwrap();
    let start = Bytes::from(encode(&RunCommand::Start(card)).unwrap());
    let before = ran.load(Ordering::SeqCst);
    let reply = address.call(start, CallOptions::default()).await.unwrap();
    drop(decode::<RunReply>(&reply).unwrap());
    until_async("the run is parked", || async {
        let status = |state: &dyn std::any::Any| {
            state.downcast_ref::<Option<LiveRun>>().and_then(|run| run.as_ref().map(|run| run.state.status()))
        };
        address.read(status, Duration::from_secs(10)).await.unwrap() == Some(RunStatus::Parked)
    })
    .await;
    assert_eq!(ran.load(Ordering::SeqCst) - before, 1, "the step before ran once");
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_runs_have_128_visible_characters_however_many_bytes() {
    let (builder, _) = counting();
    let system = builder.open_on(MemoryStore::new()).await.unwrap();
    let one = || Definition::builder("one").step(Step::new("a").activity("count")).build();
    for id in ["é".repeat(128), "😀".repeat(128), "a-b".to_owned()] {
        assert_eq!(run_to_end(&system, &id, one()).await.state.status(), RunStatus::Completed, "{id}");
        assert_eq!(system.workflows().read(&id).await.unwrap().state.status(), RunStatus::Completed);
    }
    let definition = system.workflows().define(one().validate().unwrap());
    let hidden = ["a\u{200B}", "\u{202E}a", "a\u{7}", "a\u{FEFF}b", "a b", "\u{A0}", "a/b", ""];
    for id in hidden.map(str::to_owned).into_iter().chain(["é".repeat(129)]) {
        let refused = system.workflows().start(StartRun::new(&id, Arc::clone(&definition))).await;
        assert_eq!(refused.unwrap_err().code(), "run.bad_id", "{id:?}");
    }
    stop(system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inputs_of_runs_are_taken_up_to_their_limit_and_refused_before_anything_is_stored() {
    let (builder, _) = counting();
    let system = builder.open_on(MemoryStore::new()).await.unwrap();
    let name = "n".repeat(1_024);
    let one = Definition::builder(name).step(Step::new("a").activity("count")).build();
    let definition = system.workflows().define(one.validate().unwrap());
    let input = |bytes: usize| {
        let mut start = StartRun::new(format!("r{bytes}"), Arc::clone(&definition));
        // Beside the text itself there are five bytes.
        start.input = json!("x".repeat(bytes - 5));
        start
    };
    let refused = system.workflows().start(input(RUN_INPUT_MAX_BYTES + 1)).await.unwrap_err();
    assert_eq!(refused.code(), "call.too_large");
    let refused = Name::new(RUN_KIND, format!("r{}", RUN_INPUT_MAX_BYTES + 1)).unwrap();
    assert!(system.store().resolve(&refused).await.unwrap().is_none(), "nothing is stored");
    let largest = input(RUN_INPUT_MAX_BYTES);
    let id = largest.id.clone();
    system.workflows().start(largest).await.unwrap();
    let run = tokio::time::timeout(Duration::from_secs(60), system.workflows().wait(&id)).await.unwrap();
    assert_eq!(run.unwrap().state.status(), RunStatus::Completed);
    stop(system).await;
}

/// Words in backquotes behind `start` on the line of the document that has it.
fn documented(start: &str, end: &str) -> BTreeSet<String> {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/WORKFLOWS.md")).unwrap();
    let line = text.split(start).nth(1).unwrap_or_else(|| panic!("no {start:?}")).lines().next().unwrap();
    let part = line.split(end).next().unwrap();
    part.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Literals behind `start` in the engine's sources.
fn in_sources(files: &[&str], start: &[&str]) -> BTreeSet<String> {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("actors/src/workflow/run");
    let mut found = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(run.join(file)).unwrap();
        for start in start {
            let literals = text.split(start).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(literals.map(str::to_owned));
        }
    }
    found
}

#[test]
fn documented_failure_codes_are_those_of_the_engine() {
    let files = ["advance.rs", "attempts.rs", "commands.rs", "failures.rs", "undo.rs"];
    let of_steps = in_sources(
        &files,
        &["StepError::new(\"", "Failure::permanent(\"", "Failure::retryable(\"", "const TIMEOUT: &str = \""],
    );
    assert!(of_steps.len() > 5, "{of_steps:?}");
    assert_eq!(documented("Failure codes of the engine:", ";"), of_steps);
    let of_runs = in_sources(&files, &["RunError::new(\""]);
    assert_eq!(documented("Failure codes of a run:", "."), of_runs);
}

#[test]
fn documented_statuses_are_those_of_the_engine() {
    let names = |file: &str| {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("actors/src/workflow/run");
        let text = std::fs::read_to_string(run.join(file)).unwrap();
        let body = text.split("pub fn name(self)").nth(1).or(text.split("pub(super) fn name(self)").nth(1));
        let body = body.unwrap().split("\n    }").next().unwrap().to_owned();
        body.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next().map(str::to_owned)).collect()
    };
    let (steps, runs): (BTreeSet<String>, BTreeSet<String>) = (names("codes.rs"), names("state.rs"));
    assert!(steps.contains("ready") && runs.contains("parked"));
    assert_eq!(documented("Statuses of a step:", "."), steps);
    assert_eq!(documented("Statuses of a run:", "."), runs);
}
