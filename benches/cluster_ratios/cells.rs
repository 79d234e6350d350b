//! Nodes on their own files: durable messages between them against local transitions, and what it costs to join.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use serde::{Deserialize, Serialize};
use stanchion::{
    Agent, Ctx, Never, System,
    cluster::{Node, NodeOptions},
};

use crate::{IN_FLIGHT, Server, pipelined};

const COOKIE: &str = "00112233445566778899aabbccddeeff";
/// For a process of ours: directory of its store, and entities in it; or where its peer is.
const STORE: &str = "STANCHION_BENCH_STORE";
const ENTITIES: &str = "STANCHION_BENCH_ENTITIES";
const PEER: &str = "STANCHION_BENCH_PEER";
/// Entities that send, each to one of its own on the other node.
const SENDERS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts what comes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tally {
    got: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Tell {
    Add,
    /// Sends so many to the tally of this key on the peer.
    Send {
        key: String,
        count: u64,
    },
    Look,
}

impl Agent for Tally {
    const KIND: &'static str = "tally";
    type Command = Tell;
    type Reply = u64;
    type Rejection = Never;

    fn handle(&mut self, command: Tell, ctx: &mut Ctx<'_>) -> Result<u64, Never> {
        match command {
            Tell::Add => self.got += 1,
            Tell::Send { key, count } => {
                for _ in 0..count {
                    ctx.send_on::<Self>("peer", &key, &Tell::Add).unwrap();
                }
            }
            Tell::Look => {}
        }
        Ok(self.got)
    }
}

fn options(name: &str, seeds: Vec<String>) -> NodeOptions {
    NodeOptions { seeds, ..NodeOptions::new(name, COOKIE) }
}

async fn open(dir: &Path, name: &str) -> System {
    System::builder().agent::<Tally>().open(dir.join(format!("{name}.redb"))).await.unwrap()
}

/// The peer: fills its store, joins and prints its address.
pub(crate) async fn serve() {
    let dir = PathBuf::from(std::env::var(STORE).unwrap());
    let entities: u64 = std::env::var(ENTITIES).unwrap().parse().unwrap();
    let system = open(&dir, "peer").await;
    let fills = (0..entities).map(|at| {
        let address = system.agent::<Tally>(&format!("e{at}")).unwrap();
        async move { address.call(Tell::Add).await.unwrap() }
    });
    stream::iter(fills).buffer_unordered(IN_FLIGHT).for_each(|_| std::future::ready(())).await;
    // Nobody listens there: it is reached through its seed and no other way.
    let peer = NodeOptions { advertise: Some("127.0.0.1:9".to_owned()), ..options("peer", vec![]) };
    let node = Node::join(&system, peer).await.unwrap();
    println!("{}", node.address().unwrap());
    std::future::pending::<()>().await;
}

/// Starts the peer with so many entities in `dir`.
pub(crate) fn peer(dir: &Path, entities: u64) -> (Server, String) {
    crate::serve_with("cell", &[(STORE, dir.display().to_string()), (ENTITIES, entities.to_string())])
}

/// A node of this process, joined to the peer.
pub(crate) async fn join(system: &System, peer: &str) -> Node {
    let only_dials = NodeOptions { listen: None, ..options("here", vec![peer.to_owned()]) };
    let node = Node::join(system, only_dials).await.unwrap();
    assert!(node.await_peers(1, PATIENCE).await);
    node
}

fn dir() -> tempfile::TempDir {
    let base = std::env::var_os("STANCHION_BENCH_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    tempfile::tempdir_in(base).unwrap()
}

/// Transitions a second here, and messages a second that take effect on the peer.
pub(crate) async fn durable(seconds: u64) -> (f64, f64) {
    let dir = dir();
    let (_server, address) = peer(dir.path(), 0);
    let system = Arc::new(open(dir.path(), "here").await);
    let node = join(&system, &address).await;
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let of = Arc::clone(&system);
    let transitions = pipelined(seconds, move || {
        let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % SENDERS;
        let tally = of.agent::<Tally>(&format!("t{at}")).unwrap();
        async move {
            let _got = tally.call(Tell::Add).await.unwrap();
        }
    })
    .await;
    // Warm, then for as long as the transitions took.
    send(&system, 20).await;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        count += send(&system, 100).await;
    }
    let messages = count as f64 / began.elapsed().as_secs_f64();
    node.leave().await;
    (transitions, messages)
}

/// Each sender sends so many; how many took effect on the peer before this returns: all of them.
async fn send(system: &System, count: u64) -> u64 {
    let sends = (0..SENDERS).map(|at| async move {
        let key = format!("r{at}");
        let there = system.agent_on::<Tally>("peer", &key).unwrap();
        let before = there.call(Tell::Look).await.unwrap();
        let sender = system.agent::<Tally>(&format!("s{at}")).unwrap();
        let _got = sender.call(Tell::Send { key, count }).await.unwrap();
        while there.call(Tell::Look).await.unwrap() < before + count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let _ended = join_all(sends).await;
    count * SENDERS as u64
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What a process that joins measures of itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// From nothing to the peer being up.
    pub(crate) join_us: u64,
    /// The first call to an entity of it.
    pub(crate) call_us: u64,
    /// What this process holds more than before, after gossip has gone round.
    pub(crate) more_kib: i64,
}

/// A process that joins and prints what it took.
pub(crate) async fn joiner() {
    let address = std::env::var(PEER).unwrap();
    let system = System::builder().agent::<Tally>().open_memory().await.unwrap();
    let before = resident_kib();
    let began = Instant::now();
    let quick = NodeOptions { heartbeat_ms: 100, ..options("joiner", vec![address]) };
    let node = Node::join(&system, quick).await.unwrap();
    assert!(node.await_peers(1, PATIENCE).await);
    let join_us = began.elapsed().as_micros() as u64;
    let began = Instant::now();
    let _got = system.agent_on::<Tally>("peer", "e0").unwrap().call(Tell::Look).await.unwrap();
    let call_us = began.elapsed().as_micros() as u64;
    // Each node passes on what it knows every fifth heartbeat.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let more_kib = resident_kib() as i64 - before as i64;
    println!("{}", serde_json::to_string(&Joined { join_us, call_us, more_kib }).unwrap());
    node.leave().await;
}

/// What it takes to join a peer with so many entities, `rounds` times.
pub(crate) fn joins(entities: u64, rounds: u64) -> Vec<Joined> {
    let dir = dir();
    let (_server, address) = peer(dir.path(), entities);
    let one = |_| {
        let (_joiner, line) = crate::serve_with("joiner", &[(PEER, address.clone())]);
        serde_json::from_str(&line).unwrap()
    };
    (0..rounds).map(one).collect()
}
