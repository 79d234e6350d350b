//! `stanchion run --node`: starts a run on a node of the cluster and waits for its end.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;
use stanchion::{
    control::{ClientError, Gone, PlacedRow, Problem, Request, RunResult, RunStart, Sink, StartedRow, ask},
    error::Family,
    remote::Placement,
};

use super::{
    args::RunArgs,
    ask::broken,
    fault::Fault,
    human::Human,
    output::Out,
    prepare::Prepared,
    report::Report,
    run::{announce, finish},
    signals::Signals,
};

/// Longest wait of one question for the end of the run.
const LOOK_MS: u64 = 20_000;
/// Pause before a question that had no answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// A start that may have been applied is asked for again so often.
const START_TRIES: u32 = 50;
/// The word for any node.
const AUTO: &str = "auto";

/// Runs the document on a node; the exit code.
pub(crate) async fn run(db: &Path, node: &str, args: RunArgs, out: &mut Out) -> Result<u8, Fault> {
    let began = Instant::now();
    let prepared = Prepared::of(&args, true)?;
    if node == "*" {
        return Err(Fault::usage("a run is on one node", "--node", "name a node, or auto"));
    }
    if node != AUTO && (args.balance.is_some() || args.key.is_some()) {
        return Err(Fault::usage("the node is named", "--node", "use --balance and --key with --node auto"));
    }
    let mut signals = Signals::listen()
        .map_err(|error| Fault::internal(&error.to_string(), "the signals of the system"))?;
    out.shows(Human::Result);
    let wire = Wire { db };
    let node = if node == AUTO { wire.place(&prepared, &args).await? } else { node.to_owned() };
    if prepared.is_new {
        announce(&prepared.start.id);
    }
    let started = wire.start(&node, &prepared).await?;
    let mut result = None;
    let ended = tokio::select! {
        ended = wire.wait(&node, &prepared.start.id, &mut result) => Some(ended?),
        () = signals.next() => None,
    };
    let elapsed_s = began.elapsed().as_secs_f64();
    if ended.is_none() {
        let id = &prepared.start.id;
        out.note(&format!("it goes on on node {node}: \"stanchion cancel {id} --node {node}\" ends it"));
    }
    let known = ended.or(result).unwrap_or_else(|| nothing_yet(&prepared, &started));
    finish(&Report::of_result(known, &prepared, started.known, elapsed_s), out)
}

/// What is known of a run of which nothing was heard since its start.
fn nothing_yet(prepared: &Prepared, started: &StartedRow) -> RunResult {
    RunResult {
        run_id: started.run_id.clone(),
        status: started.status.clone(),
        ended: false,
        steps_total: prepared.start.definition.step_count(),
        steps_completed: 0,
        steps_failed: 0,
        steps_skipped: 0,
        attempts: 0,
        resumed: started.known,
        workers: prepared.start.workers,
        makespan_s: 0.0,
        error: None,
        output: serde_json::Value::Null,
    }
}

/// The way to the cluster: the process that holds the store.
struct Wire<'a> {
    db: &'a Path,
}

/// Keeps the lines of an answer.
#[derive(Default)]
struct Lines(Vec<String>);

impl Sink for Lines {
    async fn put(&mut self, line: String) -> Result<(), Gone> {
        self.0.push(line);
        Ok(())
    }
}

impl Wire<'_> {
    /// Where the run goes.
    async fn place(&self, prepared: &Prepared, args: &RunArgs) -> Result<String, Problem> {
        let placement = Placement {
            strategy: args.balance,
            key: args.key.clone(),
            ..Placement::of(&prepared.start.definition)
        };
        let run = (!prepared.is_new).then(|| prepared.start.id.clone());
        let placed: PlacedRow = self.one(&Request::Place { run, placement }).await?;
        Ok(placed.node)
    }

    /// Starts the run; under the same id it is started once, however often it is asked for.
    async fn start(&self, node: &str, prepared: &Prepared) -> Result<StartedRow, Problem> {
        let request = on(node, Request::Start(RunStart::of(&prepared.start)?));
        let mut tries = 0;
        loop {
            match self.one(&request).await {
                Err(problem) if problem.family == Family::Unknown && tries < START_TRIES => {
                    tries += 1;
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                ended => return ended,
            }
        }
    }

    /// Waits for the end of the run, over lost connections and restarts of the nodes; `last` is what was heard last.
    async fn wait(&self, node: &str, run: &str, last: &mut Option<RunResult>) -> Result<RunResult, Problem> {
        let request = |within_ms| on(node, Request::Result { run: run.to_owned(), within_ms });
        *last = self.one(&request(0)).await.ok();
        loop {
            match self.one::<RunResult>(&request(LOOK_MS)).await {
                Ok(result) if result.ended => return Ok(result),
                Ok(result) => *last = Some(result),
                Err(problem) if problem.family == Family::Rejected => return Err(problem),
                // Its node, or the one between, is away: what was acknowledged goes on when it is back.
                Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    }

    /// The one line of an answer.
    async fn one<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Problem> {
        let mut lines = Lines::default();
        match ask(self.db, request, &mut lines).await {
            Ok(()) => {}
            Err(ClientError::NobodyListens) => return Err(no_node()),
            // The connection broke: what was asked for may have been done.
            Err(ClientError::Frame(error)) => {
                let hint = "look with \"stanchion show\", then try again";
                let problem = Problem::fatal("control.broken", error.to_string(), "the control socket", hint);
                return Err(Problem { family: Family::Unknown, ..problem });
            }
            Err(error) => return Err(broken(error)),
        }
        let line = lines.0.first().map_or("", String::as_str);
        serde_json::from_str(line).map_err(|error| {
            let hint = "use the same version on all nodes";
            Problem::fatal("control.broken", error.to_string(), "the answer", hint)
        })
    }
}

fn on(node: &str, request: Request) -> Request {
    Request::OnNode { node: node.to_owned(), request: Box::new(request) }
}

fn no_node() -> Problem {
    let what = "no process holds the store, or it listens to nobody";
    let hint = "start the node with \"stanchion node start\"";
    let problem = Problem::rejected("node.not_running", what, "the store", hint);
    Problem { family: Family::Unavailable, ..problem }
}
