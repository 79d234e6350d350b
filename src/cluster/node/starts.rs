//! Runs placed on nodes of the cluster, and whatever else a node's desk can be asked.

use serde::de::DeserializeOwned;
use stanchion_actors::{
    remote::Placement,
    workflow::{StartRun, Started},
};

use super::Node;
use crate::control::{Desk, PlacedRow, Problem, Request, RunResult, RunStart, StartedRow, collected};

/// A run on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedRun {
    /// The node.
    pub node: String,
    /// How it was started.
    pub started: Started,
}

impl Node {
    /// Starts a run on the node that has it, or else on one that is chosen by capability and load; answers once that is
    /// durable there. A run of this id that was started the same way is found, as long as its node answers.
    ///
    /// # Errors
    /// [`Problem`]: `run.place_unknown` when a node that may have it does not answer, `balance.*` when no node takes work,
    /// those of a start.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the run may be started.
    pub async fn start_run(&self, start: &StartRun, placement: &Placement) -> Result<PlacedRun, Problem> {
        let run = Some(start.id.clone());
        let placed: PlacedRow =
            one(collected(&self.desk, Request::Place { run, placement: placement.clone() }).await)?;
        let started = self.start_run_on(&placed.node, start).await?;
        Ok(PlacedRun { node: placed.node, started })
    }

    /// Starts a run on this node of the cluster.
    ///
    /// # Errors
    /// [`Problem`]: those of a start, and `call.*` when the node does not answer.
    ///
    /// # Cancel safety
    /// As [`Self::start_run`].
    pub async fn start_run_on(&self, node: &str, start: &StartRun) -> Result<Started, Problem> {
        let row: StartedRow = self.first(node, Request::Start(RunStart::of(start)?)).await?;
        Ok(Started { status: row.status, known: row.known })
    }

    /// Waits until a run of a node has ended or is parked. A node that does not answer is asked until it does.
    ///
    /// # Errors
    /// [`Problem`]: its node has no such run, or cannot read it.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_run(&self, node: &str, run: &str) -> Result<RunResult, Problem> {
        use stanchion_actors::error::Family;
        loop {
            let request = Request::Result { run: run.to_owned(), within_ms: u64::MAX };
            match self.first::<RunResult>(node, request).await {
                Ok(result) if result.ended => return Ok(result),
                Ok(_) => {}
                Err(problem) if matches!(problem.family, Family::Unavailable | Family::Unknown) => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Err(problem) => return Err(problem),
            }
        }
    }

    /// Asks the desk of a node, or `*` for every node within reach: runs are listed, shown, paused, resumed, cancelled and
    /// retried like this, queues and policies told. Answers the lines, each a JSON object.
    ///
    /// # Errors
    /// [`Problem`]: of the node's desk, or `call.*` when the node does not answer.
    ///
    /// # Cancel safety
    /// Dropped while it waits, what was asked for may be done.
    pub async fn ask(&self, node: &str, request: Request) -> Result<Vec<String>, Problem> {
        let request = Request::OnNode { node: node.to_owned(), request: Box::new(request) };
        match collected(&self.desk, request).await {
            (lines, None) => Ok(lines),
            (_, Some(problem)) => Err(problem),
        }
    }

    async fn first<T: DeserializeOwned>(&self, node: &str, request: Request) -> Result<T, Problem> {
        one((self.ask(node, request).await?, None))
    }
}

/// A node that did not answer is asked again after so long.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_millis(200);

/// The one line of an answer.
fn one<T: DeserializeOwned>((lines, problem): (Vec<String>, Option<Problem>)) -> Result<T, Problem> {
    if let Some(problem) = problem {
        return Err(problem);
    }
    let line = lines.first().map_or("", String::as_str);
    serde_json::from_str(line).map_err(|error| {
        let hint = "use the same version on all nodes";
        Problem::fatal("control.broken", error.to_string(), "the answer", hint)
    })
}

/// The desk that a node asks through.
pub(super) fn desk(system: &crate::System) -> Desk {
    Desk::of_system(system)
}
