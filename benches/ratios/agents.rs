//! Transitions of agents with a 512-byte state.

use std::{
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use stanchion::{Address, Agent, Ctx, Never, System};

use crate::Lab;

/// An agent whose state is 512 bytes.
#[derive(Clone, Serialize, Deserialize)]
pub struct Blob {
    count: u64,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
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

/// What a cell measured.
pub struct Cell {
    pub per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub cpu_us: f64,
    pub entries_per_commit: f64,
}

/// CPU time of this process, in seconds.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let field = |n: usize| after.split_whitespace().nth(n).and_then(|s| s.parse::<f64>().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / 100.0
}

/// `agents` agents, each with `callers` callers that call as soon as they are answered.
pub async fn closed_loop(system: &System, agents: usize, callers: usize, seconds: f64) -> Cell {
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for agent in 0..agents {
        let address: Address<Blob> = system.agent(&format!("a{agent}")).expect("an address");
        for _ in 0..callers {
            let (address, stop, done) = (address.clone(), Arc::clone(&stop), Arc::clone(&done));
            tasks.push(tokio::spawn(async move {
                let mut times = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    address.call(1).await.expect("an answer");
                    times.push(began.elapsed().as_secs_f64() as f32);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                times
            }));
        }
    }
    tokio::time::sleep(Duration::from_secs_f64(seconds * 0.2)).await;
    let (before, stats, cpu, began) =
        (done.load(Ordering::Relaxed), system.store_stats(), cpu_s(), Instant::now());
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let transitions = (done.load(Ordering::Relaxed) - before) as f64;
    let (elapsed, cpu, after) = (began.elapsed().as_secs_f64(), cpu_s() - cpu, system.store_stats());
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a caller"));
    }
    times.sort_by(f32::total_cmp);
    let at = |q: f64| f64::from(times[((times.len() - 1) as f64 * q) as usize]) * 1e3;
    let commits = (after.commits - stats.commits).max(1) as f64;
    Cell {
        per_s: transitions / elapsed,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
        cpu_us: cpu / transitions * 1e6,
        entries_per_commit: (after.entries - stats.entries) as f64 / commits,
    }
}

fn raw(cell: &Cell) -> [(&'static str, f64); 6] {
    [
        ("per_s", cell.per_s),
        ("p50_ms", cell.p50_ms),
        ("p99_ms", cell.p99_ms),
        ("max_ms", cell.max_ms),
        ("cpu_us", cell.cpu_us),
        ("entries_per_commit", cell.entries_per_commit),
    ]
}

/// Rows "transitions".
pub async fn run(lab: &mut Lab, base: f64) {
    let rows = [
        ("own_1", 1, 1, 0.5),
        ("own_256", 256, 1, 30.0),
        ("own_4096", 4096, 1, 30.0),
        ("own_256_x16", 256, 16, 45.0),
        ("hot_1_x256", 1, 256, 0.0),
    ];
    for (name, agents, callers, target) in rows {
        if !lab.wants(name) {
            continue;
        }
        let system = System::builder().agent::<Blob>().open(lab.path(name)).await.expect("a system");
        let cell = closed_loop(&system, agents, callers, lab.seconds).await;
        lab.report.at_least(name, cell.per_s / base, target, &raw(&cell));
        let _ = system.stop(Duration::from_secs(10)).await.expect("a clean stop");
    }
}
