//! Two processes on loopback: a call and a cast through the gateway against raw ractor_cluster.
//!
//! `cargo bench --bench cluster_ratios --features cluster`; prints one line a measure, and the ratios.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that cannot run shall fail loudly"
)]

mod gate;
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
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(SERVE, what)
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

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match std::env::var(SERVE).as_deref() {
        Ok("raw") => return runtime.block_on(raw::serve()),
        Ok(_) => return runtime.block_on(gate::serve()),
        Err(_) => {}
    }
    let seconds = std::env::var("STANCHION_BENCH_SECONDS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let rounds = std::env::var("STANCHION_BENCH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    for _ in 0..rounds {
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
}
