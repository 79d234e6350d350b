//! Transitions of agents, each caller with its own: a 512-byte state, and a 4-KiB one.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use stanchion::{Address, Agent, Ctx, Never, System};

use crate::{
    Lab, bare,
    baseline::{fsync, one_commit_per_transition},
    discard,
    drive::{Cell, Lane, drive},
};

/// An agent whose state is 512 bytes.
#[derive(Clone, Serialize, Deserialize)]
pub struct Blob {
    pub count: u64,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

impl Default for Blob {
    fn default() -> Self {
        Self { count: 0, bytes: vec![7; 490] }
    }
}

impl Agent for Blob {
    const KIND: &'static str = "blob";
    type Command = u64;
    type Reply = u64;
    type Rejection = Never;
    fn handle(&mut self, add: u64, _: &mut Ctx<'_>) -> Result<u64, Never> {
        self.count += add;
        Ok(self.count)
    }
}

/// An agent whose state is 4 KiB.
#[derive(Clone, Serialize, Deserialize)]
struct Large {
    count: u64,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

impl Default for Large {
    fn default() -> Self {
        Self { count: 0, bytes: vec![7; 4_074] }
    }
}

impl Agent for Large {
    const KIND: &'static str = "large";
    type Command = u64;
    type Reply = u64;
    type Rejection = Never;
    fn handle(&mut self, add: u64, _: &mut Ctx<'_>) -> Result<u64, Never> {
        self.count += add;
        Ok(self.count)
    }
}

/// A caller of one agent.
pub struct Caller<A>(pub Address<A>);

impl<A: Agent<Command = u64>> Lane for Caller<A> {
    async fn step(&mut self) {
        assert!(self.0.call(1).await.is_ok(), "an answer");
    }
}

/// `agents` agents with `callers` callers each.
pub fn callers<A: Agent<Command = u64>>(system: &System, agents: usize, callers: usize) -> Vec<Caller<A>> {
    let addresses = (0..agents).map(|n| system.agent::<A>(&format!("a{n}")).expect("an address"));
    addresses.flat_map(|address| vec![Caller(address); callers]).collect()
}

impl<A> Clone for Caller<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A system with both kinds, on a new store.
pub async fn open(path: &std::path::Path) -> System {
    System::builder().agent::<Blob>().agent::<Large>().open(path).await.expect("a system")
}

/// Stops it cleanly.
pub async fn stop(system: System) {
    let _ = system.stop(Duration::from_secs(30)).await.expect("a clean stop");
}

async fn cell<A: Agent<Command = u64>>(lab: &Lab, name: &str, agents: usize, each: usize) -> Cell {
    let path = lab.path(name);
    let system = open(&path).await;
    let (cell, _) = drive(callers::<A>(&system, agents, each), lab.seconds, || system.store_stats()).await;
    stop(system).await;
    discard(&path);
    cell
}

/// Rows about agents that are not the only ones at the store.
pub async fn run(lab: &Lab) {
    if lab.wants("own_1") {
        let cell = cell::<Blob>(lab, "own_1", 1, 1).await;
        lab.report.figure("own_1", &cell.raw());
    }
    for (name, agents, each, target) in
        [("own_256", 256, 1, 30.0), ("own_4096", 4_096, 1, 30.0), ("own_256_x16", 256, 16, 45.0)]
    {
        if !lab.wants(name) {
            continue;
        }
        let (base, flush) = (one_commit_per_transition(lab), fsync(lab));
        let cell = cell::<Blob>(lab, name, agents, each).await;
        let raw = [cell.raw().as_slice(), &[("base_per_s", base), ("fsync_p50_ms", flush.p50_ms)]].concat();
        lab.report.at_least(name, cell.per_s / base, target, &raw);
        if name == "own_256" {
            lab.report.at_most("own_256_ack_p50_ms", cell.p50_ms, 2.5, &raw);
            lab.report.at_most("own_256_ack_p99_in_fsync_medians", cell.p99_ms / flush.p50_ms, 40.0, &raw);
            lab.report.at_most("own_256_cpu_us", cell.cpu_us, 14.0, &raw);
            against_bare(lab).await;
        }
    }
    hot(lab).await;
    if lab.wants("own_256_4kib") {
        lab.report.figure("own_256_4kib", &cell::<Large>(lab, "own_256_4kib", 256, 1).await.raw());
    }
}

/// 256 agents and the writer alone, in turns.
async fn against_bare(lab: &Lab) {
    let seconds = lab.seconds.min(3.0);
    let (mut agents, mut plain, mut encoding) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..2 {
        agents.push(short(lab, 256, seconds).await);
        plain.push(bare::own(lab, 256, false, seconds).await);
        encoding.push(bare::own(lab, 256, true, seconds).await);
    }
    let mean = |cells: &[Cell], of: fn(&Cell) -> f64| cells.iter().map(of).sum::<f64>() / cells.len() as f64;
    let rate = |cells: &[Cell]| mean(cells, |cell| cell.per_s);
    let cpu = |cells: &[Cell]| mean(cells, |cell| cell.cpu_us);
    for (name, bare, target) in
        [("own_256_vs_bare", &plain, 0.7), ("own_256_vs_bare_encoding", &encoding, 0.85)]
    {
        let raw = [
            ("agents_per_s", rate(&agents)),
            ("bare_per_s", rate(bare)),
            ("agents_cpu_us", cpu(&agents)),
            ("bare_cpu_us", cpu(bare)),
        ];
        lab.report.at_least(name, rate(&agents) / rate(bare), target, &raw);
    }
}

/// A short cell, for a row that is against it.
pub async fn short(lab: &Lab, agents: usize, seconds: f64) -> Cell {
    let path = lab.path("own_short");
    let system = open(&path).await;
    let (cell, _) = drive(callers::<Blob>(&system, agents, 1), seconds, || system.store_stats()).await;
    stop(system).await;
    discard(&path);
    cell
}

/// One agent that everybody calls.
async fn hot(lab: &Lab) {
    if !lab.wants("hot_1_x256") {
        return;
    }
    let flush = fsync(lab);
    let cell = cell::<Blob>(lab, "hot_1_x256", 1, 256).await;
    let raw = [cell.raw().as_slice(), &[("fsync_per_s", flush.per_s)]].concat();
    lab.report.at_least("hot_1_x256_vs_fsync", cell.per_s / flush.per_s, 15.0, &raw);
}

/// Every agent of a store that was filled before, a random one each time.
pub struct Wanderer {
    pub addresses: Arc<Vec<Address<Blob>>>,
    pub random: bare::Random,
}

impl Lane for Wanderer {
    async fn step(&mut self) {
        let at = self.random.below(self.addresses.len());
        assert!(self.addresses[at].call(1).await.is_ok(), "an answer");
    }
}
