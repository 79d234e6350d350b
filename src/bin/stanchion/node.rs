//! `stanchion node start`: a system that joins a cluster and works what is in its store.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use stanchion::{
    System, activities,
    cluster::{JoinError, Node, NodeOptions},
    control::Problem,
    error::Coded,
};

use super::{
    args::NodeArgs, fault::Fault, launch::Programs, output::Out, report::INTERRUPTED, run::open,
    signals::Signals,
};

/// Largest file of settings, in bytes.
const CONFIG_MAX_BYTES: u64 = 1 << 20;

/// A file of settings: those of the node, and what it runs.
#[derive(Debug, Deserialize)]
struct Config {
    /// Built-in activities that this node runs; default: all.
    #[serde(default)]
    activities: Option<Vec<String>>,
    #[serde(flatten)]
    node: toml::Table,
}

/// Printed when the node has joined.
#[derive(Debug, Serialize)]
struct StartedRow {
    node: String,
    address: Option<String>,
    status: &'static str,
}

/// Runs a node until a signal comes or it is told to leave; the exit code.
pub(crate) async fn start(db: &Path, args: NodeArgs, out: &mut Out) -> Result<u8, Fault> {
    let (options, activities) = settings(&args.config)?;
    let mut signals = Signals::listen()
        .map_err(|error| Fault::internal(&error.to_string(), "the signals of the system"))?;
    let programs = Programs::new(args.allow_shell);
    let store = open(db).await?;
    let mut builder = System::builder().joins_cluster(true);
    for name in activities {
        builder = activities::register_one(builder, &name).map_err(|unknown| {
            let hint = format!("use {}", activities::NAMES.join(", "));
            Fault::usage(&format!("no built-in activity {unknown:?}"), "activities", &hint)
        })?;
    }
    #[cfg(unix)]
    {
        builder = programs.register(builder.control_socket(true));
    }
    let system = builder.open_on_redb(store, db).await.map_err(|error| Fault::of_open(&error, db))?;
    let node = match Node::join(&system, options).await {
        Ok(node) => node,
        Err(error) => {
            let _ = system.stop(Duration::ZERO).await;
            return Err(not_joined(&error, &args.config).into());
        }
    };
    let address = node.address().map(|address| address.to_string());
    out.line(&StartedRow { node: node.name().to_owned(), address, status: "joined" })?;
    tokio::select! {
        () = signals.next() => {}
        () = node.asked_to_leave() => {}
        () = node.gateway().ended() => {
            let what = "the gateway of the node has ended";
            let _ = system.stop(Duration::ZERO).await;
            return Err(Problem::fatal("node.ended", what, "the cluster", "start the node again").into());
        }
        () = system.root().ended() => {
            let hint = "free the disk or repair it, then start the node again";
            return Err(Problem::fatal("store.lost", "the store takes nothing any more", "the store", hint).into());
        }
    }
    let seconds = args.drain_timeout.as_secs_f64();
    out.note(&format!("leaving: running work has {seconds} s, a second signal ends at once"));
    let leaves = async {
        let cut = system.drain(args.drain_timeout).await;
        node.leave().await;
        // What was acknowledged is on disk, however the system stops.
        let _ = system.stop(Duration::ZERO).await;
        cut
    };
    let cut = tokio::select! {
        cut = leaves => cut,
        () = signals.next() => programs.end_at_once(INTERRUPTED),
    };
    // What was cut goes on with the next start.
    out.end(if cut > 0 { INTERRUPTED } else { 0 })
}

fn settings(file: &Path) -> Result<(NodeOptions, Vec<String>), Fault> {
    let place = file.display().to_string();
    let bad = |code: &str, what: &dyn ToString, hint: &str| {
        Fault::from(Problem::rejected(code, what.to_string(), place.as_str(), hint))
    };
    let size = std::fs::metadata(file).map(|meta| meta.len());
    if size.as_ref().is_ok_and(|size| *size > CONFIG_MAX_BYTES) {
        return Err(bad("input.too_large", &"it is over 1 MiB", "give the settings of one node"));
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| bad("input.unreadable", &error, "give a file of settings, see docs/CLUSTER.md"))?;
    let syntax = |error: &dyn ToString| {
        let text = error.to_string();
        let what = text.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("; ");
        bad("node.bad_options", &what, "see docs/CLUSTER.md")
    };
    let config: Config = toml::from_str(&text).map_err(|error| syntax(&error))?;
    let options: NodeOptions = config.node.try_into().map_err(|error: toml::de::Error| syntax(&error))?;
    let all = || activities::NAMES.iter().map(|name| (*name).to_owned()).collect();
    Ok((options, config.activities.unwrap_or_else(all)))
}

fn not_joined(error: &JoinError, config: &Path) -> Problem {
    let hint = "correct what is named, see docs/CLUSTER.md";
    let problem = Problem::rejected(error.code(), error.to_string(), config.display().to_string(), hint);
    Problem { family: error.family(), ..problem }
}
