//! Resident memory of an agent: known, active, passivated.

use std::{process::Command, time::Duration};

use stanchion::{Address, EntityOptions, System};

use crate::{Lab, agents, agents::Blob, report::Report};

const AGENTS: usize = 20_000;

/// Resident bytes of this process.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or(0.0) * 4_096.0
}

/// Prints the figure from a process of its own, whose memory nothing else has touched.
pub fn run(lab: &Lab) {
    if lab.wants("memory") {
        let this = std::env::current_exe().expect("this program");
        let ended = Command::new(this).arg("child-memory").status().expect("a child");
        assert!(ended.success(), "the child ended well");
    }
}

/// Addresses of agents that nobody has called.
fn know(system: &System, batch: usize) -> Vec<Address<Blob>> {
    let address = |n| system.agent(&format!("b{batch}-{n}")).expect("an address");
    (0..AGENTS).map(address).collect()
}

/// Calls each, with a command that changes nothing: so the store keeps nothing of them.
async fn wake(addresses: &[Address<Blob>]) {
    for some in addresses.chunks(256) {
        let mut calls = tokio::task::JoinSet::new();
        for address in some {
            let address = address.clone();
            calls.spawn(async move { address.call(0).await.expect("an answer") });
        }
        let _ = calls.join_all().await;
    }
}

async fn all_passivated(system: &System) {
    while system.env().tasks().census().actors.iter().any(|actor| &*actor.name == "entity") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Known: what its address keeps. Active: the growth when all of a batch are woken. Passivated: a second batch,
/// woken after the first is passivated, takes the memory the first gave back; what it needs beyond was kept.
pub async fn child() {
    let mut options = EntityOptions::default();
    options.passivate_after = Duration::from_secs(5);
    let builder = System::builder().agent_with::<Blob>(options);
    let path = std::env::temp_dir().join(format!("stanchion-memory-{}", std::process::id()));
    let system = builder.open(&path).await.expect("a system");
    let each = |bytes: f64| bytes / AGENTS as f64;
    wake(&know(&system, 0)[..256]).await;
    let began = resident();
    let first = know(&system, 1);
    let known = resident();
    wake(&first).await;
    let active = resident();
    all_passivated(&system).await;
    let second = know(&system, 2);
    wake(&second).await;
    let again = resident();
    let raw = [
        ("known", each(known - began)),
        ("active", each(active - known)),
        ("passivated", each(again - active)),
        ("agents", AGENTS as f64),
    ];
    Report.figure("memory_bytes_per_agent", &raw);
    agents::stop(system).await;
    crate::discard(&path);
}
