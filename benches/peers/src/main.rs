//! Jobs a second from enqueueing to the acknowledged end, ours beside other persistent queues; one JSON object a line.
//!
//! `cargo run --release -- [seconds a row, default 4] [part of a row's name]`
//! Every row counts the flushes to disk of the whole process. `w4` rows are workload W4: 10 000 unique jobs, eight
//! workers, every tenth attempt fails once, each job done exactly once.

#![allow(clippy::print_stdout, clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark")]

mod effectum;
mod flushes;
mod ours;
mod peer;
mod rustqueue;

use std::path::PathBuf;

use peer::{Peer, measure, workload};

/// What was asked for.
struct Plan {
    seconds: f64,
    only: Option<String>,
    dir: PathBuf,
}

impl Plan {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    async fn rows<P: Peer>(&self, peer: &str) {
        for producers in [1, 64, 256] {
            let name = format!("{peer}_{producers}");
            if !self.wants(&name) {
                continue;
            }
            let dir = tempfile::tempdir_in(&self.dir).expect("a folder");
            let row = measure::<P>(dir.path(), producers, self.seconds).await;
            println!(
                r#"{{"name":"{name}","jobs_per_s":{:.0},"flushes":{},"flushes_per_job":{:.3},"enqueue_p50_ms":{:.2},"enqueue_p99_ms":{:.2},"cpu_us_per_job":{:.0}}}"#,
                row.jobs_per_s,
                row.flushes,
                row.flushes_per_job,
                row.enqueue_p50_ms,
                row.enqueue_p99_ms,
                row.cpu_us
            );
        }
        let name = format!("w4_{peer}");
        if self.wants(&name) {
            let jobs = 10_000;
            let dir = tempfile::tempdir_in(&self.dir).expect("a folder");
            let (per_s, flushes) = workload::<P>(dir.path(), jobs, 64).await;
            println!(
                r#"{{"name":"{name}","jobs":{jobs},"jobs_per_s":{per_s:.0},"flushes":{flushes},"flushes_per_job":{:.3}}}"#,
                flushes as f64 / jobs as f64
            );
        }
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(4.0);
    // A disk, not a memory file system.
    let dir = std::env::var_os("STANCHION_BENCH_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    std::fs::create_dir_all(&dir).expect("a folder");
    let plan = Plan { seconds, only: args.next(), dir };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let tokio = builder.worker_threads(2).enable_all().build().expect("a runtime");
    tokio.block_on(async {
        plan.rows::<ours::Stanchion>("stanchion").await;
        plan.rows::<rustqueue::Immediate>("rustqueue_immediate").await;
        plan.rows::<rustqueue::Batched>("rustqueue_batched").await;
        plan.rows::<rustqueue::Buffered>("rustqueue_buffered").await;
        plan.rows::<effectum::Effectum>("effectum").await;
    });
}
