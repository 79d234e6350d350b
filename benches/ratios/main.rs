//! The numbers of the design, each as a ratio inside one run: `cargo bench --bench ratios`.
//!
//! Prints one JSON object a line: `name, value, target, met` and the raw figures. A part of the name as argument
//! runs only those rows: `cargo bench --bench ratios -- own`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark, not a library"
)]

mod agents;
mod baseline;
mod report;

use std::path::PathBuf;

use report::Report;

/// What every row gets: a directory of its own, and how long a cell runs.
pub struct Lab {
    dir: tempfile::TempDir,
    pub seconds: f64,
    only: Option<String>,
    pub report: Report,
}

impl Lab {
    fn new() -> Self {
        let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
        let only = args.next();
        let seconds =
            std::env::var("STANCHION_BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5.0);
        let dir = match std::env::var_os("STANCHION_BENCH_DIR") {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir_in("."),
        };
        Self { dir: dir.expect("a directory for the stores"), seconds, only, report: Report }
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

fn main() {
    let mut lab = Lab::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    baseline::fsync(&mut lab);
    let base = baseline::one_commit_per_transition(&mut lab);
    runtime.block_on(agents::run(&mut lab, base));
}
