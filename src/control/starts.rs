//! Runs from outside: where a new one goes, its start, and its end.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stanchion_actors::{
    error::{Coded, Family},
    remote::{Placement, Remote},
    store::decode,
    workflow::{Definition, Definitions, StartRun, Workflows, check_run_id},
};

use super::{
    desk::{Desk, Sink, Stop, put},
    nodes::{asked, cluster},
    problem::Problem,
    request::Request,
    result::RunResult,
};

/// Longest wait of one request for the end of a run; who waits longer asks again.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// How long a node may take to say whether it has a run.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// A run to be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStart {
    /// Its id.
    pub run: String,
    /// Its definition, as it is stored.
    pub definition: Bytes,
    /// Its input.
    pub input: Value,
    /// Most attempts at once.
    pub workers: u32,
    /// What else must be the same when it is asked for again.
    pub note: Value,
}

impl RunStart {
    /// What is sent of a run.
    ///
    /// # Errors
    /// [`Problem`] when its definition is too large to be stored.
    pub fn of(start: &StartRun) -> Result<Self, Problem> {
        let definition = Definitions::write(&start.definition).map_err(|error| {
            Problem::rejected(
                "definition.too_large",
                error.to_string(),
                "the definition",
                "split the workflow",
            )
        })?;
        let StartRun { id, input, workers, note, .. } = start.clone();
        Ok(Self { run: id, definition: Bytes::from(definition), input, workers, note })
    }
}

/// The answer to a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedRow {
    /// Its id.
    pub run_id: String,
    /// Where it stands.
    pub status: String,
    /// Whether it had been started before, and the same way.
    pub known: bool,
}

/// Where a run goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedRow {
    /// The node.
    pub node: String,
    /// Whether it has the run already.
    pub known: bool,
}

/// Starts a run on this node, or finds it started the same way; one that is paused goes on.
pub(super) async fn start(desk: &Desk, start: RunStart, sink: &mut impl Sink) -> Result<(), Stop> {
    let RunStart { run, definition, input, workers, note } = start;
    let place = || format!("run {run:?}");
    let bad = |code: &str, what: &dyn ToString| {
        Problem::rejected(code, what.to_string(), place(), "use the same version on all nodes")
    };
    check_run_id(&run).map_err(|what| bad("run.bad_id", &what))?;
    let definition: Definition = decode(&definition).map_err(|error| bad("definition.unreadable", &error))?;
    let definition = definition.validate().map_err(|faults| bad("definition.faults", &faults))?;
    let workflows = desk.workflows()?;
    let definition = workflows.define(definition);
    let started = workflows.start(StartRun { id: run.clone(), definition, input, workers, note }).await;
    let started = started.map_err(|error| Problem::of_run(&error, &run))?;
    let status = go_on(workflows, &run, started.status, workers).await?;
    put(sink, &StartedRow { run_id: run, status, known: started.known }).await
}

async fn go_on(workflows: &Workflows, run: &str, status: String, workers: u32) -> Result<String, Problem> {
    if status != "paused" {
        return Ok(status);
    }
    let resumed = workflows.resume(run, Some(workers)).await;
    Ok(resumed.map_err(|error| Problem::of_run(&error, run))?.status)
}

/// What became of a run; waits for its end a while.
pub(super) async fn result(
    desk: &Desk,
    run: &str,
    within: Duration,
    sink: &mut impl Sink,
) -> Result<(), Stop> {
    if let Ok(workflows) = desk.workflows() {
        // It may not have ended in time: then what there is is told.
        let _ = tokio::time::timeout(within.min(WAIT_MAX), workflows.wait(run)).await;
    }
    let stored = desk.run(run).await?;
    put(sink, &RunResult::of(&stored, desk.store().as_ref()).await?).await
}

/// Where a run goes: to the node that has it, or else to one that is chosen. Nothing is started.
pub(super) async fn place(
    desk: &Desk,
    run: Option<&str>,
    placement: &Placement,
    sink: &mut impl Sink,
) -> Result<(), Stop> {
    let cluster = cluster(desk)?;
    if let Some(run) = run
        && let Some(node) = has_run(desk, &cluster, run).await?
    {
        return put(sink, &PlacedRow { node, known: true }).await;
    }
    let node = cluster.place(placement).map_err(|error| {
        let hint = match error.family() {
            Family::Rejected => "give --key KEY, or another --balance",
            Family::Unavailable | Family::Unknown | Family::Fatal => {
                "see \"stanchion node ls\", then try again"
            }
        };
        let problem = Problem::rejected(error.code(), error.to_string(), "--node auto", hint);
        Problem { family: error.family(), ..problem }
    })?;
    put(sink, &PlacedRow { node, known: false }).await
}

/// The node that has the run. When it is nowhere found, a node out of reach may have it: then nobody can say.
async fn has_run(
    desk: &Desk,
    cluster: &std::sync::Arc<dyn Remote>,
    run: &str,
) -> Result<Option<String>, Problem> {
    let mut silent = Vec::new();
    for node in cluster.nodes() {
        let request = Request::Show { run: run.to_owned() };
        match asked(desk, cluster, &node.node, request, LOOK_WITHIN).await {
            Ok((_, Some(problem))) if problem.code == "run.unknown" => {}
            // It is there, readable or not.
            Ok(_) => return Ok(Some(node.node)),
            Err(_) => silent.push(node.node),
        }
    }
    if silent.is_empty() {
        return Ok(None);
    }
    let what = format!("{} did not answer: the run may be there", silent.join(", "));
    let hint = "name the node, or try again when it is back";
    let problem = Problem::rejected("run.place_unknown", what, format!("run {run:?}"), hint);
    Err(Problem { family: Family::Unavailable, ..problem })
}
