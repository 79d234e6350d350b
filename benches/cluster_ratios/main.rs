//! Processes on loopback: a call and a cast through the gateway against raw ractor_cluster, durable messages between
//! nodes against local transitions, what it costs to join, and how long it takes to notice that a peer is gone.
//!
//! `cargo bench --bench cluster_ratios --features cluster,testing`; prints one line a measure, and the ratios. A word
//! after `--` chooses: `gate`, `durable`, `join`, `notice`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that cannot run shall fail loudly"
)]

mod cells;
mod gate;
mod notice;
mod raw;

use std::{
    future::Future,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Bytes of each body.
const BODY_BYTES: usize = 1_024;
/// Calls in flight.
const IN_FLIGHT: usize = 256;
/// Set for the second process: which server it is.
const SERVE: &str = "STANCHION_BENCH_SERVE";

/// The second process, killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the second process; it prints its address.
fn serve(what: &str) -> (Server, String) {
    serve_with(what, &[])
}

/// The same, with more in its environment.
fn serve_with(what: &str, settings: &[(&str, String)]) -> (Server, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(SERVE, what)
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Server(child), line.trim().to_owned())
}

/// Calls per second with `IN_FLIGHT` callers, each waiting for its answer.
async fn pipelined<F: Future<Output = ()> + Send + 'static>(
    seconds: u64,
    call: impl Fn() -> F + Clone + Send + 'static,
) -> f64 {
    let done = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs(seconds);
    let began = Instant::now();
    let callers = (0..IN_FLIGHT).map(|_| {
        let (call, done) = (call.clone(), done.clone());
        async move {
            while Instant::now() < until {
                call().await;
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let scope = stanchion_actors::task::TaskScope::root("bench");
    let tasks: Vec<_> = callers.map(|caller| scope.spawn("caller", caller).unwrap()).collect();
    for task in tasks {
        task.await.unwrap();
    }
    done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match std::env::var(SERVE).as_deref() {
        Ok("raw") => return runtime.block_on(raw::serve()),
        Ok("cell") => return runtime.block_on(cells::serve()),
        Ok("joiner") => return runtime.block_on(cells::joiner()),
        Ok(_) => return runtime.block_on(gate::serve()),
        Err(_) => {}
    }
    let (seconds, rounds) = (number("STANCHION_BENCH_SECONDS", 5), number("STANCHION_BENCH_ROUNDS", 3));
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    if wants("gate") {
        (0..rounds).for_each(|_| gate_against_raw(&runtime, seconds));
    }
    if wants("durable") {
        for _ in 0..rounds {
            let (transitions, messages) = runtime.block_on(cells::durable(seconds));
            println!(
                "durable: {messages:.0} messages/s between two nodes, {transitions:.0} local transitions/s: {:.2}",
                messages / transitions
            );
        }
    }
    if wants("join") {
        for entities in [0, 10_000, 100_000] {
            for joined in cells::joins(entities, rounds) {
                println!(
                    "join: {entities} entities on the peer: {:.1} ms, first call {:.1} ms, {} KiB more",
                    joined.join_us as f64 / 1e3,
                    joined.call_us as f64 / 1e3,
                    joined.more_kib
                );
            }
        }
    }
    if wants("notice") {
        for fate in [notice::Fate::Killed, notice::Fate::Stopped, notice::Fate::Partitioned] {
            for _ in 0..rounds {
                let (suspected, lost) = runtime.block_on(notice::measure(fate));
                println!("notice: {fate:?}: not up after {suspected:.2?}, given up after {lost:.2?}");
            }
        }
    }
}

fn gate_against_raw(runtime: &tokio::runtime::Runtime, seconds: u64) {
    let raw = runtime.block_on(raw::measure(seconds));
    let gate = runtime.block_on(gate::measure(seconds));
    println!(
        "calls/s, {IN_FLIGHT} in flight: raw {:.0}, gateway {:.0}: cost {:.2}x",
        raw.0,
        gate.0,
        raw.0 / gate.0
    );
    println!("casts/s: raw {:.0}, gateway {:.0}: cost {:.2}x", raw.1, gate.1, raw.1 / gate.1);
}
