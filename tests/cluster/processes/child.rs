//! The process of a node: opens its file, joins, and does what it is told line by line.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use stanchion::{
    System,
    cluster::{Node, NodeOptions},
    store::StoreOptions,
    workflow::{Definition, StartRun, Step},
};
use tokio::sync::mpsc;

use super::{
    agents::{self, Move},
    clients::{Answer, Line, Made, answer_of},
};

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
}

impl Orders {
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join(format!("n{}.redb", self.number))
    }

    pub(crate) fn lines(&self) -> PathBuf {
        self.dir.join("lines")
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
    /// Starts chains of steps that take turns on three nodes.
    Start { runs: u64, steps: usize },
    /// Waits until a run has ended; answers its status.
    Wait { run: u64 },
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

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It has joined, and listens there.
    Ready(String),
    Done,
    Nodes(Vec<(String, String)>),
    Loaded(Vec<Line>),
    Status(String),
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

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The process that is killed.
#[test]
fn child_is_a_node_until_it_is_killed() {
    let Ok(orders) = std::env::var(NODE) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    // Without this a panic in a task is only a line; here it is the end.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        std::process::abort();
    }));
    runtime().block_on(live(orders));
}

async fn live(orders: Orders) {
    let name = format!("n{}", orders.number);
    let builder = agents::builder(orders.number, &orders.lines()).store_options(store_options());
    let system = Arc::new(builder.open(orders.store()).await.unwrap());
    let node = Arc::new(Node::join(&system, options(&name, orders.seeds)).await.unwrap());
    let (told, mut asks) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let ask: (u64, Ask) = serde_json::from_str(&line.unwrap()).unwrap();
            told.send(ask).unwrap();
        }
        // Whoever started it is gone.
        std::process::exit(0);
    });
    say(0, &Said::Ready(node.address().unwrap().to_string()));
    let mut tasks = Vec::new();
    while let Some((id, ask)) = asks.recv().await {
        if matches!(ask, Ask::Leave) {
            return leave(system, &node, tasks).await;
        }
        let (system, node) = (Arc::clone(&system), Arc::clone(&node));
        tasks.push(tokio::spawn(async move { say(id, &answer(&system, &node, ask).await) }));
    }
}

/// Ends in order: what it was asked before has no answer any more.
async fn leave(system: Arc<System>, node: &Node, tasks: Vec<tokio::task::JoinHandle<()>>) {
    for task in tasks {
        task.abort();
        let _ended = task.await;
    }
    node.leave().await;
    let system = Arc::into_inner(system).unwrap();
    let _report = system.stop(Duration::from_secs(2)).await.unwrap();
    std::process::exit(0);
}

fn say(id: u64, said: &Said) {
    // A line of its own, in one write.
    println!("\n{MARK}{}", serde_json::to_string(&(id, said)).unwrap());
}

async fn answer(system: &Arc<System>, node: &Node, ask: Ask) -> Said {
    match ask {
        Ask::Leave => Said::Done,
        Ask::Nodes => Said::Nodes(node.nodes().into_iter().map(|node| (node.node, node.state)).collect()),
        Ask::Load(load) => Said::Loaded(load.run(system).await),
        Ask::Start { runs, steps } => {
            for run in 0..runs {
                let definition = system.workflows().define(chain(run, steps).validate().unwrap());
                system.workflows().start(StartRun::new(format!("r{run}"), definition)).await.unwrap();
            }
            Said::Done
        }
        Ask::Wait { run } => {
            let ended = system.workflows().wait(&format!("r{run}")).await.unwrap();
            Said::Status(format!("{:?}", ended.state.status()))
        }
    }
}

/// A chain whose steps take turns on three nodes.
fn chain(run: u64, steps: usize) -> Definition {
    let mut builder = Definition::builder(format!("chain-{run}"));
    for step in 0..steps {
        let input = json!({ "run": run, "step": step });
        let mut made = Step::new(format!("s{step}")).activity(format!("on{}", step % 3)).input(input);
        if step > 0 {
            made = made.needs([format!("s{}", step - 1)]);
        }
        builder = builder.step(made);
    }
    builder.build()
}

impl Load {
    async fn run(self, system: &Arc<System>) -> Vec<Line> {
        let until = Instant::now() + Duration::from_millis(self.ms);
        let ids = AtomicU64::new(1);
        let clients = (0..self.at_once).map(|_| self.client(system, &ids, until));
        futures_util::future::join_all(clients).await.concat()
    }

    async fn client(&self, system: &Arc<System>, ids: &AtomicU64, until: Instant) -> Vec<Line> {
        let deadline = Duration::from_millis(self.deadline_ms);
        let account =
            system.agent_on::<agents::Account>(&self.node, &self.key).unwrap().with_deadline(deadline);
        let mut lines = Vec::new();
        while Instant::now() < until {
            let id = ids.fetch_add(1, Ordering::Relaxed);
            let began_ms = now_ms();
            let began = Instant::now();
            let ballast = json!("x".repeat(self.ballast));
            let answer = answer_of(&account.call(Move::Add { id, ballast }).await);
            let took_ms = began.elapsed().as_millis() as u64;
            let (node, key) = (self.node.clone(), self.key.clone());
            let deadline_ms = self.deadline_ms;
            lines.push(Line { id, made: Made::Add, node, key, answer, began_ms, took_ms, deadline_ms });
            if answer != Answer::Done {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        lines
    }
}

/// Wall time: the same in every process of this machine.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}
