//! Nodes of the cluster: listed, drained, asked.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stanchion_actors::{
    error::{Coded, FailureKind, Family},
    ids::Name,
    remote::{Remote, RemoteNode},
    store::{decode, encode},
};

use super::{
    desk::{Desk, Gone, Sink, Stop, answer, put},
    problem::Problem,
    request::Request,
};

/// How long a node may take to answer.
const ASK_WITHIN: Duration = Duration::from_secs(60);
/// What stands for every node within reach.
const EVERY: &str = "*";

/// One node of `node ls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub node: String,
    /// Where it is reached.
    pub address: Option<String>,
    /// `up`, `joining`, `suspect`, `unreachable` or `left`.
    pub state: String,
    /// Whether it is the node that was asked.
    pub this: bool,
    /// Whether it takes no new work.
    pub draining: bool,
    /// Milliseconds since something was heard of it; `None`: never.
    pub silent_ms: Option<u64>,
    /// Which life of it.
    pub life: u64,
    /// What it can do, each as `name@version`.
    pub capabilities: Vec<String>,
    /// Through which other node this is known; `None`: at first hand.
    pub via: Option<String>,
}

/// Where an entity is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhereRow {
    /// Its name, with its node.
    pub entity: String,
    /// Its node.
    pub node: String,
    /// State of the node.
    pub state: String,
    /// Where the node is reached.
    pub address: Option<String>,
    /// Whether anything is stored of it; `None`: its node did not say.
    pub exists: Option<bool>,
}

/// A node that was told to leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRow {
    /// Its name.
    pub node: String,
    /// `draining`.
    pub state: String,
}

impl NodeRow {
    fn of(node: RemoteNode, this: bool) -> Self {
        Self {
            this,
            node: node.node,
            address: node.address,
            state: node.state,
            draining: node.draining,
            silent_ms: (node.silent_ms != u64::MAX).then_some(node.silent_ms),
            life: node.life,
            capabilities: node.capabilities,
            via: node.via,
        }
    }
}

pub(super) fn cluster(desk: &Desk) -> Result<std::sync::Arc<dyn Remote>, Problem> {
    desk.env()?.remote().cloned().ok_or_else(|| {
        let hint = "start the node with \"stanchion node start\"";
        Problem::rejected("node.no_cluster", "this process is no node of a cluster", "the store", hint)
    })
}

/// Lists the nodes, the one that was asked first.
pub(super) async fn list(desk: &Desk, sink: &mut impl Sink) -> Result<(), Stop> {
    let cluster = cluster(desk)?;
    for (place, node) in cluster.nodes().into_iter().enumerate() {
        put(sink, &NodeRow::of(node, place == 0)).await?;
    }
    Ok(())
}

/// Tells this node to leave.
pub(super) async fn drain(desk: &Desk, sink: &mut impl Sink) -> Result<(), Stop> {
    let cluster = cluster(desk)?;
    put(sink, &DrainRow { node: cluster.node().to_owned(), state: "draining".to_owned() }).await?;
    cluster.leave();
    Ok(())
}

/// Where an entity is: its name says its node, the node says whether it is there.
pub(super) async fn find(desk: &Desk, name: &str, sink: &mut impl Sink) -> Result<(), Stop> {
    let cluster = cluster(desk)?;
    let name = parsed(name)?;
    let node = name.node().unwrap_or(cluster.node()).to_owned();
    let known = cluster.nodes().into_iter().find(|known| known.node == node);
    let Some(known) = known else {
        let what = format!("no node {node:?} is known");
        return Err(Problem::rejected(
            "node.unknown",
            what,
            format!("entity {name}"),
            "see \"stanchion node ls\"",
        )
        .into());
    };
    let here = name.here();
    let request = Request::EntityShow { kind: here.kind.to_string(), key: here.key.to_string(), at: None };
    let exists = match asked(desk, &cluster, &node, request, ASK_WITHIN).await {
        Ok((_, None)) => Some(true),
        Ok((_, Some(problem))) if problem.code == "entity.unknown" => Some(false),
        // It is there, and cannot be shown.
        Ok((_, Some(_))) => Some(true),
        Err(_) => None,
    };
    let entity =
        if name.node().is_some() { name.to_string() } else { format!("{}@{node}/{}", here.kind, here.key) };
    put(sink, &WhereRow { entity, node, state: known.state, address: known.address, exists }).await
}

fn parsed(name: &str) -> Result<Name, Problem> {
    let parts = name.split_once('/').and_then(|(kind, key)| Name::new(kind, key).ok());
    parts.ok_or_else(|| {
        let hint = "give kind and key, such as counter/visits or counter@berlin/visits";
        Problem::rejected("entity.bad_name", format!("{name:?} names no entity"), "ENTITY", hint)
    })
}

/// Asks the desk of a node, or of every node within reach.
pub(super) async fn ask(desk: &Desk, node: &str, request: Request, sink: &mut impl Sink) -> Result<(), Stop> {
    let cluster = cluster(desk)?;
    if matches!(request, Request::OnNode { .. }) {
        let hint = "name one node";
        return Err(Problem::rejected("usage", "a node passes no request on", "--node", hint).into());
    }
    if node == EVERY {
        return everywhere(desk, &cluster, &request, sink).await;
    }
    let (lines, problem) = asked(desk, &cluster, node, request, ASK_WITHIN).await?;
    for line in lines {
        sink.put(line).await?;
    }
    problem.map_or(Ok(()), |problem| Err(problem.into()))
}

/// Asks every node at once; each line says whose it is. A node that gives no answer is named when all others have
/// given theirs. What is unknown to some nodes and known to others is known.
async fn everywhere(
    desk: &Desk,
    cluster: &std::sync::Arc<dyn Remote>,
    request: &Request,
    sink: &mut impl Sink,
) -> Result<(), Stop> {
    let (near, far): (Vec<_>, Vec<_>) = cluster
        .nodes()
        .into_iter()
        .filter(|node| node.state != "left")
        .partition(|node| matches!(node.state.as_str(), "up" | "suspect"));
    let mut silent: Vec<String> = far.into_iter().map(|node| node.node).collect();
    let answers = near.iter().map(|node| asked(desk, cluster, &node.node, request.clone(), ASK_WITHIN));
    let (mut unknown, mut failed, mut told) = (None, None, false);
    for (node, answer) in near.iter().zip(futures_util::future::join_all(answers).await) {
        let Ok((lines, problem)) = answer else {
            silent.push(node.node.clone());
            continue;
        };
        told |= problem.is_none();
        for line in lines {
            sink.put(of_node(&line, &node.node)).await?;
        }
        match problem {
            Some(problem) if problem.code.ends_with(".unknown") => unknown = unknown.or(Some(problem)),
            Some(problem) => {
                let place = format!("{} on node {}", problem.place, node.node);
                failed = failed.or(Some(Problem { place, ..problem }));
            }
            None => {}
        }
    }
    if let Some(problem) = failed {
        return Err(problem.into());
    }
    if !silent.is_empty() {
        let what = format!("no answer from {}", silent.join(", "));
        let hint = "see \"stanchion node ls\", then try again";
        let problem = Problem::rejected("node.no_answer", what, "--node *", hint);
        return Err(Problem { family: Family::Unavailable, ..problem }.into());
    }
    unknown.filter(|_| !told).map_or(Ok(()), |problem| Err(problem.into()))
}

/// A line of an answer with the node that gave it, as its last field.
fn of_node(line: &str, node: &str) -> String {
    let row = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line);
    let says = row.as_ref().map_or(true, |row| row.is_empty() || row.contains_key("node"));
    match line.trim_end().strip_suffix('}') {
        Some(fields) if !says => format!("{fields},\"node\":{}}}", serde_json::Value::from(node)),
        _ => line.to_owned(),
    }
}

/// Collects the lines of an answer.
#[derive(Default)]
pub(crate) struct Lines(pub(crate) Vec<String>);

impl Sink for Lines {
    async fn put(&mut self, line: String) -> Result<(), Gone> {
        self.0.push(line);
        Ok(())
    }
}

/// The lines of a desk's answer, and what ended them.
pub(crate) async fn collected(desk: &Desk, request: Request) -> (Vec<String>, Option<Problem>) {
    let mut lines = Lines::default();
    // One desk asks another, which asks none: the recursion ends.
    let problem = match Box::pin(answer(desk, request, &mut lines)).await {
        Ok(()) | Err(Stop::Gone(_)) => None,
        Err(Stop::Problem(problem)) => Some(problem),
    };
    (lines.0, problem)
}

/// The lines of a node's answer, and what ended them.
pub(super) async fn asked(
    desk: &Desk,
    cluster: &std::sync::Arc<dyn Remote>,
    node: &str,
    request: Request,
    within: Duration,
) -> Result<(Vec<String>, Option<Problem>), Problem> {
    if node == cluster.node() {
        return Ok(collected(desk, request).await);
    }
    let malformed = |error: &dyn ToString| {
        Problem::fatal(
            "control.broken",
            error.to_string(),
            format!("node {node:?}"),
            "use the same version on all nodes",
        )
    };
    let bytes = encode(&request).map(Bytes::from).map_err(|error| malformed(&error))?;
    let answer = cluster.ask(node, bytes, within).await.map_err(|kind| problem(&kind, node))?;
    decode(&answer).map_err(|error| malformed(&error))
}

fn problem(kind: &FailureKind, node: &str) -> Problem {
    let hint = match kind.family() {
        Family::Unavailable => "nothing was changed: see \"stanchion node ls\", then try again",
        Family::Unknown => "it may have been applied: look there, then try again",
        Family::Rejected | Family::Fatal => "see \"stanchion node ls\"",
    };
    let problem = Problem::rejected(kind.code(), kind.to_string(), format!("node {node:?}"), hint);
    Problem { family: kind.family(), ..problem }
}
