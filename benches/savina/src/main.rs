//! Seven Savina benchmarks on raw ractor, volatile stanchion actors, kameo and actix; one JSON object a line.
//!
//! `cargo run --release -- [scale, default 10] [rounds, default 10] [part of a benchmark's or a runtime's name]`
//! Scale 1 has the sizes of Savina's defaults, 10 a tenth of its messages. Every benchmark is written once, against
//! [`runtime::Runtime`]; each runtime has two threads, and mailboxes that refuse nobody.
//!
//! # Source
//! S. Imam, V. Sarkar, "Savina - An Actor Benchmark Suite", AGERE 2014.

#![allow(clippy::print_stdout, clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark")]

mod banking;
mod big;
mod chameneos;
mod runtime;
mod runtimes;
mod simple;

use std::time::Instant;

use runtime::{Runtime, World};
use runtimes::{Actix, Kameo, Ractor, Stanchion};

/// What was asked for.
struct Plan {
    scale: u64,
    rounds: usize,
    only: Option<String>,
}

/// Savina's generator, the same for every runtime.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(74_755 + seed)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = (self.0 * 1_309 + 13_849) & 65_535;
        self.0 as usize % limit
    }
}

/// Runs one benchmark: two rounds to warm up, then the median of the others.
async fn measure<R: Runtime>(plan: &Plan, name: &str, messages: u64, round: impl AsyncFn(&mut World<R>)) {
    let wanted = |only: &String| name.contains(only.as_str()) || R::NAME.contains(only.as_str());
    if !plan.only.as_ref().is_none_or(wanted) {
        return;
    }
    let mut times = Vec::new();
    for n in 0..plan.rounds + 2 {
        let mut world = World::<R>::open().await;
        let began = Instant::now();
        round(&mut world).await;
        let answered = began.elapsed();
        world.close().await;
        // Where actors are what is measured, their ends are part of it.
        let took = if name == "fjcreate" { began.elapsed() } else { answered };
        if n >= 2 {
            times.push(took.as_secs_f64() * 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        r#"{{"benchmark":"{name}","runtime":"{}","messages":{messages},"median_ms":{median:.3},"best_ms":{:.3},"messages_per_s":{:.0}}}"#,
        R::NAME,
        times[0],
        messages as f64 / median * 1e3,
    );
}

async fn all<R: Runtime>(plan: &Plan) {
    let n = 1_000_000 / plan.scale;
    measure::<R>(plan, "count", n + 2, async |world| simple::count(world, n).await).await;
    let n = 40_000 / plan.scale;
    measure::<R>(plan, "pingpong", 2 * n, async |world| simple::ping_pong(world, n).await).await;
    measure::<R>(plan, "fjcreate", n, async |world| simple::create(world, n).await).await;
    let n = 100_000 / plan.scale;
    measure::<R>(plan, "threadring", n, async |world| simple::ring(world, 100, n).await).await;
    let n = 200_000 / plan.scale;
    measure::<R>(plan, "chameneos", 4 * n, async |world| chameneos::meet(world, 100, n).await).await;
    let (actors, pings) = (120, 20_000 / plan.scale);
    measure::<R>(plan, "big", 2 * actors * pings, async |world| big::talk(world, actors, pings).await).await;
    let n = 50_000 / plan.scale;
    measure::<R>(plan, "banking", 4 * n, async |world| banking::transfer(world, 1_000, n).await).await;
}

fn main() {
    let mut args = std::env::args().skip(1);
    let scale = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(10);
    let rounds = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(10);
    let plan = Plan { scale, rounds, only: args.next() };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let tokio = builder.worker_threads(2).enable_all().build().expect("a runtime");
    tokio.block_on(async {
        all::<Ractor>(&plan).await;
        all::<Stanchion>(&plan).await;
        all::<Kameo>(&plan).await;
    });
    drop(tokio);
    actix::System::new().block_on(all::<Actix>(&plan));
}
