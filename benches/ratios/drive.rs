//! A closed loop: each lane takes its next step as soon as the last one is answered.

use std::{
    future::Future,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use stanchion::port::StoreStats;

/// One caller.
pub trait Lane: Send + 'static {
    /// One transition, answered.
    fn step(&mut self) -> impl Future<Output = ()> + Send;
}

/// What a cell measured.
pub struct Cell {
    pub per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    pub cpu_us: f64,
    pub commits_per_s: f64,
    pub entries_per_commit: f64,
}

impl Cell {
    pub fn raw(&self) -> [(&'static str, f64); 7] {
        [
            ("per_s", self.per_s),
            ("p50_ms", self.p50_ms),
            ("p99_ms", self.p99_ms),
            ("max_ms", self.max_ms),
            ("cpu_us", self.cpu_us),
            ("commits_per_s", self.commits_per_s),
            ("entries_per_commit", self.entries_per_commit),
        ]
    }
}

/// CPU time of this process, in seconds.
pub fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let field = |n: usize| after.split_whitespace().nth(n).and_then(|s| s.parse::<f64>().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / 100.0
}

/// The value at quantile `q` of a sorted list.
pub fn quantile(sorted: &[f32], q: f64) -> f64 {
    sorted.get(((sorted.len().max(1) - 1) as f64 * q) as usize).map_or(0.0, |value| f64::from(*value))
}

/// Drives the lanes for a fifth of `seconds` unmeasured, then for `seconds`; gives them back.
pub async fn drive<L: Lane>(lanes: Vec<L>, seconds: f64, stats: impl Fn() -> StoreStats) -> (Cell, Vec<L>) {
    let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::with_capacity(lanes.len());
    for mut lane in lanes {
        let (stop, counts, done) = (Arc::clone(&stop), Arc::clone(&counts), Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                lane.step().await;
                if counts.load(Ordering::Relaxed) {
                    times.push(began.elapsed().as_secs_f64() as f32);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            (lane, times)
        }));
    }
    tokio::time::sleep(Duration::from_secs_f64(seconds * 0.2)).await;
    counts.store(true, Ordering::Relaxed);
    let (before, cpu, began) = (stats(), cpu_s(), Instant::now());
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let transitions = done.load(Ordering::Relaxed).max(1) as f64;
    let (elapsed, cpu, after) = (began.elapsed().as_secs_f64(), cpu_s() - cpu, stats());
    stop.store(true, Ordering::Relaxed);
    let (mut lanes, mut times) = (Vec::with_capacity(tasks.len()), Vec::new());
    for task in tasks {
        let (lane, of_lane) = task.await.expect("a caller");
        lanes.push(lane);
        times.extend(of_lane);
    }
    times.sort_by(f32::total_cmp);
    let commits = (after.commits - before.commits) as f64;
    let cell = Cell {
        per_s: transitions / elapsed,
        p50_ms: quantile(&times, 0.5) * 1e3,
        p99_ms: quantile(&times, 0.99) * 1e3,
        max_ms: quantile(&times, 1.0) * 1e3,
        cpu_us: cpu / transitions * 1e6,
        commits_per_s: commits / elapsed,
        entries_per_commit: (after.entries - before.entries) as f64 / commits.max(1.0),
    };
    (cell, lanes)
}
