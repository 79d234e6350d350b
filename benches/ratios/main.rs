//! The numbers of the design, each as a ratio inside one run: `cargo bench --bench ratios`.
//!
//! Prints one JSON object a line: `name, value, target, met` and the raw figures. A part of a name as argument
//! runs only those rows: `cargo bench --bench ratios -- own`. What can be set is in `docs/BENCHMARKS.md`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark, not a library"
)]

mod agents;
mod bare;
mod baseline;
#[cfg(feature = "http")]
mod connections;
mod drive;
mod memory;
mod open_loop;
mod policies;
mod queues;
mod registry;
mod reopen;
mod report;
mod volatile;
mod wide;
mod workflows;

use std::path::{Path, PathBuf};

use report::Report;

/// What every row gets: a directory of its own, and how long a cell runs.
pub struct Lab {
    dir: tempfile::TempDir,
    pub seconds: f64,
    /// Whether rows that take gigabytes and minutes run as well.
    pub large: bool,
    only: Option<String>,
    pub report: Report,
}

impl Lab {
    fn new(only: Option<String>) -> Self {
        let seconds =
            std::env::var("STANCHION_BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5.0);
        let dir = match std::env::var_os("STANCHION_BENCH_DIR") {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")),
        };
        let large = std::env::var_os("STANCHION_BENCH_LARGE").is_some_and(|value| value == "1");
        Self { dir: dir.expect("a directory for the stores"), seconds, large, only, report: Report }
    }

    /// A path that no other row uses.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Whether a row was asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }
}

/// Removes a store that no row needs any more.
pub fn discard(path: &Path) {
    let _ = std::fs::remove_file(path);
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runtime = runtime();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["child-reopen", path, entities, runs] => {
            let number = |text: &str| text.parse().expect("a number");
            return runtime.block_on(reopen::child(Path::new(path), number(entities), number(runs)));
        }
        ["child-memory"] => return runtime.block_on(memory::child()),
        _ => {}
    }
    let lab = Lab::new(args.into_iter().next());
    baseline::report(&lab);
    runtime.block_on(async {
        agents::run(&lab).await;
        open_loop::run(&lab).await;
        wide::run(&lab).await;
        workflows::run(&lab).await;
        workflows::traces(&lab).await;
        volatile::run(&lab).await;
        policies::run(&lab).await;
        queues::run(&lab).await;
        #[cfg(feature = "http")]
        connections::run(&lab).await;
        reopen::run(&lab).await;
    });
    registry::run(&lab);
    memory::run(&lab);
}
