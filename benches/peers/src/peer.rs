//! What a queue has to do here, and what runs it.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::flushes;

/// Jobs enqueued and not done, at most: what is enqueued is what is done.
const LIVE_MAX: u64 = 2_048;

/// A persistent queue with its workers.
pub trait Peer: Clone + Send + Sync + 'static {
    /// Opens it in an empty folder, with so many workers.
    fn open(dir: &Path, workers: usize, tally: Arc<Tally>) -> impl Future<Output = Self> + Send;
    /// Enqueues a job: answered when it is enqueued.
    fn enqueue(&self, job: u64) -> impl Future<Output = ()> + Send;
    /// Jobs whose end it has acknowledged, if it counts them itself.
    fn done(&self, tally: &Tally) -> u64 {
        tally.acknowledged.load(Ordering::Relaxed)
    }
    /// Ends it.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// What became of jobs, as seen by those who do them.
#[derive(Debug, Default)]
pub struct Tally {
    /// Jobs that fail at their first attempt: every tenth, if set.
    pub failing: AtomicBool,
    /// Attempts that succeeded, by job; only when `failing`.
    pub succeeded: Mutex<HashMap<u64, u32>>,
    tried: Mutex<HashMap<u64, u32>>,
    /// Jobs that were run.
    pub ran: AtomicU64,
    /// Jobs whose end was acknowledged.
    pub acknowledged: AtomicU64,
    room: Notify,
}

impl Tally {
    /// Does a job; `false`: this attempt fails.
    pub fn run(&self, job: u64) -> bool {
        if self.failing.load(Ordering::Relaxed) {
            let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            let tried = tried.entry(job).or_default();
            *tried += 1;
            if job.is_multiple_of(10) && *tried == 1 {
                return false;
            }
            *self.succeeded.lock().unwrap_or_else(PoisonError::into_inner).entry(job).or_default() += 1;
        }
        self.ran.fetch_add(1, Ordering::Relaxed);
        self.room.notify_waiters();
        true
    }
}

/// What a row measured.
pub struct Row {
    pub jobs_per_s: f64,
    pub flushes: u64,
    pub flushes_per_job: f64,
    pub enqueue_p50_ms: f64,
    pub enqueue_p99_ms: f64,
    pub cpu_us: f64,
}

/// Processor time of this process, in seconds.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let field = |n: usize| after.split_whitespace().nth(n).and_then(|s| s.parse::<f64>().ok()).unwrap_or(0.0);
    (field(11) + field(12)) / 100.0
}

/// Producers enqueue one job at a time, each as soon as the last one is acknowledged, for a fifth of the time unmeasured.
pub async fn measure<P: Peer>(dir: &Path, producers: usize, seconds: f64) -> Row {
    let tally = Arc::new(Tally::default());
    let peer = P::open(dir, producers.clamp(1, 8), Arc::clone(&tally)).await;
    let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let number = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..producers)
        .map(|_| {
            let (peer, tally, number) = (peer.clone(), Arc::clone(&tally), Arc::clone(&number));
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
            tokio::spawn(async move {
                let mut times = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let job = number.fetch_add(1, Ordering::Relaxed);
                    while job > tally.ran.load(Ordering::Relaxed) + LIVE_MAX && !stop.load(Ordering::Relaxed) {
                        let _ = tokio::time::timeout(Duration::from_millis(5), tally.room.notified()).await;
                    }
                    let began = Instant::now();
                    peer.enqueue(job).await;
                    if counts.load(Ordering::Relaxed) {
                        times.push(began.elapsed().as_secs_f64() * 1e3);
                    }
                }
                times
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs_f64(seconds * 0.2)).await;
    counts.store(true, Ordering::Relaxed);
    let (done, flushed, cpu, began) = (peer.done(&tally), flushes::count(), cpu_s(), Instant::now());
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let (elapsed, done) = (began.elapsed().as_secs_f64(), (peer.done(&tally) - done).max(1));
    let (flushes, cpu) = (flushes::count() - flushed, cpu_s() - cpu);
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a producer"));
    }
    peer.close().await;
    times.sort_by(f64::total_cmp);
    let quantile = |q: f64| times.get((times.len().max(1) as f64 * q) as usize).copied().unwrap_or(0.0);
    Row {
        jobs_per_s: done as f64 / elapsed,
        flushes,
        flushes_per_job: flushes as f64 / done as f64,
        enqueue_p50_ms: quantile(0.5),
        enqueue_p99_ms: quantile(0.99),
        cpu_us: cpu / done as f64 * 1e6,
    }
}

/// Workload W4: so many unique jobs, eight workers, every tenth job fails once. Answers jobs a second and flushes, after it
/// has checked that each job succeeded exactly once.
pub async fn workload<P: Peer>(dir: &Path, jobs: u64, producers: usize) -> (f64, u64) {
    let tally = Arc::new(Tally::default());
    tally.failing.store(true, Ordering::Relaxed);
    let peer = P::open(dir, 8, Arc::clone(&tally)).await;
    let (flushed, began) = (flushes::count(), Instant::now());
    let number = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..producers)
        .map(|_| {
            let (peer, number) = (peer.clone(), Arc::clone(&number));
            tokio::spawn(async move {
                loop {
                    let job = number.fetch_add(1, Ordering::Relaxed);
                    if job >= jobs {
                        return;
                    }
                    peer.enqueue(job).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a producer");
    }
    while peer.done(&tally) < jobs {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (elapsed, flushes) = (began.elapsed().as_secs_f64(), flushes::count() - flushed);
    peer.close().await;
    let succeeded = tally.succeeded.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(succeeded.len() as u64, jobs, "every job was done");
    assert!(succeeded.values().all(|times| *times == 1), "no job was done twice");
    (jobs as f64 / elapsed, flushes)
}
