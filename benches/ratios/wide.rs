//! A random entity each time, and agents on a store that holds a lot.

use std::{sync::Arc, time::Duration};

use stanchion::{Address, System, port::Store};

use crate::{
    Lab,
    agents::{self, Blob, Wanderer},
    bare,
    baseline::one_commit_per_transition,
    discard,
    drive::{Cell, drive},
};

/// Entities that make 0.13 GiB with their first history row, and 2 GiB.
const SMALL: usize = 50_000;
const MEDIUM: usize = 800_000;
/// Entities, and entries of each, that make 8 GiB.
const BIG: (usize, u64) = (1_000_000, 8);

/// Rows "wide" and "own on 8 GiB".
pub async fn run(lab: &Lab) {
    if lab.wants("wide") {
        wide(lab, "0_13_gib", SMALL, 6.0).await;
        if lab.large {
            wide(lab, "2_gib", MEDIUM, 4.0).await;
        }
    }
    if lab.large && lab.wants("own_8_gib") {
        own_on_much(lab).await;
    }
}

async fn wide(lab: &Lab, size: &str, entities: usize, target: f64) {
    let path = lab.path("wide");
    let (store, mut lanes) = bare::filled(&path, entities, 1, 1_024).await;
    let mib = std::fs::metadata(&path).map_or(0.0, |meta| meta.len() as f64 / f64::from(1 << 20));
    let seconds = lab.seconds * 1.6;
    for writers in [256, 4_096] {
        let base = one_commit_per_transition(lab);
        let (cell, back) = drive(bare::shared_out(&store, lanes, writers), seconds, || store.stats()).await;
        lanes = back;
        rows(lab, &format!("wide_{writers}_bare_{size}"), &cell, base, target, mib);
    }
    drop(lanes);
    store.close().await.expect("a clean end");
    drop(store);
    for callers in [256, 4_096] {
        let base = one_commit_per_transition(lab);
        let system = System::builder().agent::<Blob>().open(&path).await.expect("a system");
        let address = |n| -> Address<Blob> { system.agent(&format!("w{n}")).expect("an address") };
        let addresses = Arc::new((0..entities).map(address).collect::<Vec<_>>());
        let lane = |n| Wanderer { addresses: Arc::clone(&addresses), random: bare::Random::new(n) };
        let (cell, _) = drive((0..callers).map(lane).collect(), seconds, || system.store_stats()).await;
        rows(lab, &format!("wide_{callers}_agents_{size}"), &cell, base, target, mib);
        agents::stop(system).await;
    }
    discard(&path);
}

/// The ratio, where it is a target, and the longest ack.
fn rows(lab: &Lab, name: &str, cell: &Cell, base: f64, target: f64, mib: f64) {
    let raw = [cell.raw().as_slice(), &[("base_per_s", base), ("data_mib", mib)]].concat();
    lab.report.at_least(name, cell.per_s / base, target, &raw);
    lab.report.at_most(&format!("{name}_max_ack_ms"), cell.max_ms, 200.0, &raw);
}

async fn own_on_much(lab: &Lab) {
    let path = lab.path("much");
    let (store, lanes) = bare::filled(&path, BIG.0, BIG.1, 1_024).await;
    drop(lanes);
    store.close().await.expect("a clean end");
    drop(store);
    let mib = std::fs::metadata(&path).map_or(0.0, |meta| meta.len() as f64 / f64::from(1 << 20));
    let little = lab.path("little");
    let (store, lanes) = bare::filled(&little, SMALL, 1, 1_024).await;
    drop(lanes);
    store.close().await.expect("a clean end");
    drop(store);
    let mut rates = Vec::new();
    for path in [&little, &path] {
        let system = agents::open(path).await;
        let lanes = agents::callers::<Blob>(&system, 256, 1);
        rates.push(drive(lanes, lab.seconds * 2.0, || system.store_stats()).await.0.per_s);
        let _ = system.stop(Duration::from_secs(60)).await.expect("a clean stop");
    }
    let raw = [("much_per_s", rates[1]), ("little_per_s", rates[0]), ("much_mib", mib)];
    lab.report.at_least("own_8_gib_vs_0_13_gib", rates[1] / rates[0], 0.6, &raw);
    discard(&path);
    discard(&little);
}
