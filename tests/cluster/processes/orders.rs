//! What processes of a cluster are told and what they answer.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stanchion::{cluster::NodeOptions, store::StoreOptions};

use super::{clients::Line, oracle::States};

pub(crate) const NODE: &str = "STANCHION_TEST_CLUSTER_NODE";
/// Begins a line of answers; the test harness writes to the same stream.
pub(crate) const MARK: &str = "@ ";
pub(crate) const COOKIE: &str = "00112233445566778899aabbccddeeff";
/// Where nobody listens: nodes reach each other through their wires and no other way.
const NOWHERE: &str = "127.0.0.1:9";
/// How far a node is behind when others give it up.
pub(crate) const LOST_MS: u64 = 1_200;

/// Told to a node when it begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) dir: PathBuf,
    pub(crate) number: usize,
    pub(crate) seeds: Vec<String>,
    /// Where it listens, when it has an address of its own.
    pub(crate) address: Option<String>,
    pub(crate) role: Role,
}

/// What a process is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Has entities on its file.
    Node,
    /// Has none, and asks those of so many nodes.
    Clients { nodes: usize, seed: u64, life: u64 },
}

impl Orders {
    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    pub(crate) fn options(&self) -> NodeOptions {
        let name = match self.role {
            Role::Node => format!("n{}", self.number),
            Role::Clients { .. } => "clients".to_owned(),
        };
        let options = options(&name, self.seeds.clone());
        match &self.address {
            Some(address) => {
                NodeOptions { listen: Some(address.clone()), advertise: None, insecure: true, ..options }
            }
            None if matches!(self.role, Role::Clients { .. }) => NodeOptions { listen: None, ..options },
            None => options,
        }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join(format!("n{}.redb", self.number))
    }

    pub(crate) fn lines(&self) -> PathBuf {
        self.dir.join("lines")
    }

    pub(crate) fn tasks(&self) -> PathBuf {
        self.dir.join("tasks")
    }
}

/// What a node is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Leaves, stops and ends.
    Leave,
    /// What it knows of the others: name and state.
    Nodes,
    /// Calls an account of another node, many at a time, each with a deadline, for a while.
    Load(Load),
    /// Starts chains of steps that take turns on three nodes; the same again changes nothing.
    Start { runs: std::ops::Range<u64>, steps: usize },
    /// Waits until a run has ended; answers its status.
    Wait { run: String },
    /// Starts a trace under this id; the same again changes nothing.
    Trace { run: String, trace: PathBuf, scale: f64 },
    /// What is written in the history of a run.
    History { run: String },
    /// Lets clients begin nothing any more; answered when each has its last answer.
    Finish,
    /// Asks every entity of so many nodes for its state.
    Look { nodes: usize },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) node: String,
    pub(crate) key: String,
    pub(crate) at_once: u64,
    pub(crate) ms: u64,
    pub(crate) deadline_ms: u64,
    pub(crate) ballast: usize,
}

/// A line of a history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Happened {
    pub(crate) kind: String,
    pub(crate) step: Option<String>,
    pub(crate) at_us: i64,
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It has joined, and listens there.
    Ready(Option<String>),
    Done,
    Nodes(Vec<(String, String)>),
    Loaded(Vec<Line>),
    Status(String),
    Looked(Result<States, String>),
    History(Vec<Happened>),
}

pub(crate) fn options(name: &str, seeds: Vec<String>) -> NodeOptions {
    NodeOptions {
        seeds,
        advertise: Some(NOWHERE.to_owned()),
        heartbeat_ms: 100,
        suspect_ms: 500,
        lost_ms: LOST_MS,
        ..NodeOptions::new(name, COOKIE)
    }
}

/// Small limits make folds a matter of milliseconds.
pub(crate) fn store_options() -> StoreOptions {
    let mut options = StoreOptions::default();
    options.log_max_bytes = 1 << 20;
    options.fold_bytes = 128 << 10;
    options
}
