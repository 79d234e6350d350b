//! The process of a node: opens its file, joins, and does what it is told line by line.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use stanchion::{
    System,
    cluster::Node,
    workflow::{Definition, StartRun, Step, run::HistoryLine},
};
use tokio::sync::mpsc;

use super::{
    agents::{self, Move},
    clients::{Answer, CLIENTS, Clients, Line, Made, answer_of},
    fleet::{PATIENCE, name_of},
    journal::Journal,
    oracle::States,
    orders::{Ask, Happened, Load, MARK, NODE, Orders, Role, Said, store_options},
    plan::Draw,
    traces,
};

impl Orders {
    /// Clients have no file: what they know is in their journal.
    async fn open(&self) -> System {
        let builder =
            agents::builder(self.number, &self.lines(), &self.tasks()).store_options(store_options());
        match self.role {
            Role::Node => builder.open(self.store()).await.unwrap(),
            Role::Clients { .. } => builder.open_memory().await.unwrap(),
        }
    }

    fn clients(&self, system: &Arc<System>) -> Option<Clients> {
        let Role::Clients { nodes, life, .. } = self.role else { return None };
        let nodes = (0..nodes).map(name_of).collect();
        Some(Clients::new(Arc::clone(system), nodes, Journal::open(&self.journal()), life))
    }
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

/// What a process has.
struct Here {
    system: Arc<System>,
    node: Node,
    /// The clients, and what ends when each of them has ended.
    clients: Option<Clients>,
    working: tokio::sync::Semaphore,
}

async fn live(orders: Orders) {
    let system = Arc::new(orders.open().await);
    let node = Node::join(&system, orders.options()).await.unwrap();
    let (told, mut asks) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let ask: (u64, Ask) = serde_json::from_str(&line.unwrap()).unwrap();
            told.send(ask).unwrap();
        }
        // Whoever started it is gone.
        std::process::exit(0);
    });
    let mut tasks = Vec::new();
    let clients = orders.clients(&system);
    let here = Arc::new(Here { system, node, clients, working: tokio::sync::Semaphore::new(0) });
    if let Role::Clients { seed, life, nodes } = orders.role {
        // The first ones begin when all are there; later ones at once, whoever is there.
        let patience = if life == 0 { PATIENCE / 2 } else { Duration::ZERO };
        let up = here.node.await_peers(nodes, patience).await;
        assert!(up || life > 0, "not all nodes are up: {:#?}", here.node.peers());
        tasks.push(tokio::spawn(work(Arc::clone(&here), Draw(seed.wrapping_add(life)))));
    }
    say(0, &Said::Ready(here.node.address().map(|address| address.to_string())));
    while let Some((id, ask)) = asks.recv().await {
        if matches!(ask, Ask::Leave) {
            return leave(here, tasks).await;
        }
        let here = Arc::clone(&here);
        tasks.push(tokio::spawn(async move { say(id, &answer(&here, ask).await) }));
    }
}

async fn work(here: Arc<Here>, mut draw: Draw) {
    let Some(clients) = &here.clients else { return };
    let draws: Vec<Draw> = (0..CLIENTS).map(|_| Draw(draw.next())).collect();
    let work = draws.into_iter().enumerate().map(|(client, draw)| clients.work(client as u64, draw));
    futures_util::future::join_all(work).await;
    here.working.close();
}

/// Ends in order: what it was asked before has no answer any more.
async fn leave(here: Arc<Here>, tasks: Vec<tokio::task::JoinHandle<()>>) {
    for task in tasks {
        task.abort();
        let _ended = task.await;
    }
    let Here { system, node, clients, .. } = Arc::into_inner(here).unwrap();
    drop(clients);
    node.leave().await;
    let system = Arc::into_inner(system).unwrap();
    let _report = system.stop(Duration::from_secs(2)).await.unwrap();
    std::process::exit(0);
}

fn say(id: u64, said: &Said) {
    // A line of its own, in one write.
    println!("\n{MARK}{}", serde_json::to_string(&(id, said)).unwrap());
}

async fn answer(here: &Here, ask: Ask) -> Said {
    let Here { system, node, clients, working } = here;
    match ask {
        Ask::Leave => Said::Done,
        Ask::Nodes => Said::Nodes(node.nodes().into_iter().map(|node| (node.node, node.state)).collect()),
        Ask::Load(load) => Said::Loaded(load.run(system).await),
        Ask::Start { runs, steps } => {
            for run in runs {
                let definition = system.workflows().define(chain(run, steps).validate().unwrap());
                system.workflows().start(StartRun::new(format!("r{run}"), definition)).await.unwrap();
            }
            Said::Done
        }
        Ask::Wait { run } => {
            let ended = system.workflows().wait(&run).await.unwrap();
            Said::Status(format!("{:?}", ended.state.status()))
        }
        Ask::Trace { run, trace, scale } => {
            let definition = traces::definition(&run, &trace, scale);
            let definition = system.workflows().define(definition);
            system.workflows().start(StartRun::new(run, definition)).await.unwrap();
            Said::Done
        }
        Ask::History { run } => Said::History(history(system, &run).await),
        Ask::Finish => {
            let Some(clients) = clients else { return Said::Done };
            clients.ends.store(true, Ordering::SeqCst);
            // Closed when the last one has ended.
            let _closed = working.acquire().await.unwrap_err();
            Said::Done
        }
        Ask::Look { nodes } => Said::Looked(States::look(system, nodes).await),
    }
}

async fn history(system: &System, run: &str) -> Vec<Happened> {
    let run = system.workflows().read(run).await.unwrap();
    let mut lines = Vec::new();
    let mut each = |line: HistoryLine| {
        let HistoryLine { kind, step, at_us, .. } = line;
        lines.push(Happened { kind: kind.to_owned(), step, at_us });
    };
    run.history(system.store().as_ref(), &mut each).await.unwrap();
    lines
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
            let (client, made, again) = (0, Made::Add, false);
            lines.push(Line { id, client, made, node, key, answer, again, began_ms, took_ms, deadline_ms });
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
