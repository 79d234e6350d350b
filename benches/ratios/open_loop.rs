//! An open loop: calls begin at their time, whether or not earlier ones are answered.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use stanchion::Address;

use crate::{
    Lab,
    agents::{self, Blob},
    bare::Random,
    discard,
    drive::{cpu_s, quantile},
};

const AGENTS: usize = 1_000;
/// Calls that begin together, so that the clock of the loop takes little time itself.
const TOGETHER: usize = 5;

/// Row "ack at 1 000 agents", and a figure at a higher rate.
pub async fn run(lab: &Lab) {
    for (name, per_s, is_target) in
        [("open_1000_10k_p99_ms", 10_000.0, true), ("open_1000_25k_p99_ms", 25_000.0, false)]
    {
        if lab.wants(name) {
            cell(lab, name, per_s, is_target).await;
        }
    }
}

async fn cell(lab: &Lab, name: &str, per_s: f64, is_target: bool) {
    let path = lab.path(name);
    let system = agents::open(&path).await;
    let address = |n| -> Address<Blob> { system.agent(&format!("a{n}")).expect("an address") };
    let addresses: Vec<_> = (0..AGENTS).map(address).collect();
    for address in &addresses {
        address.call(1).await.expect("an answer");
    }
    let times = Arc::new(Mutex::new(Vec::new()));
    let (handle, seconds, kept) = (tokio::runtime::Handle::current(), lab.seconds, Arc::clone(&times));
    let cpu = cpu_s();
    let pacer = std::thread::spawn(move || pace(&handle, &addresses, (per_s, seconds), &kept));
    let calls = tokio::task::spawn_blocking(move || pacer.join().expect("a pacer")).await.expect("calls");
    for call in calls {
        call.await.expect("a call");
    }
    let cpu = cpu_s() - cpu;
    agents::stop(system).await;
    discard(&path);
    let mut times = std::mem::take(&mut *times.lock().expect("times"));
    times.sort_by(f32::total_cmp);
    let at = |q| quantile(&times, q) * 1e3;
    let raw = [
        ("per_s", times.len() as f64 / seconds),
        ("p50_ms", at(0.5)),
        ("p90_ms", at(0.9)),
        ("p99_ms", at(0.99)),
        ("p999_ms", at(0.999)),
        ("max_ms", at(1.0)),
        ("cpu_us", cpu / times.len() as f64 * 1e6),
    ];
    if is_target {
        lab.report.at_most(name, at(0.99), 5.0, &raw);
    } else {
        lab.report.figure(name, &raw);
    }
}

/// Begins the calls, each timed from when it was to begin.
fn pace(
    handle: &tokio::runtime::Handle,
    addresses: &[Address<Blob>],
    (per_s, seconds): (f64, f64),
    times: &Arc<Mutex<Vec<f32>>>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut random = Random::new(1);
    let (began, mut calls) = (Instant::now(), Vec::new());
    while calls.len() < (per_s * seconds) as usize {
        let due = began + Duration::from_secs_f64(calls.len() as f64 / per_s);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for _ in 0..TOGETHER {
            let address = addresses[random.below(addresses.len())].clone();
            let times = Arc::clone(times);
            calls.push(handle.spawn(async move {
                address.call(1).await.expect("an answer");
                let took = due.elapsed().as_secs_f64() as f32;
                times.lock().expect("times").push(took);
            }));
        }
    }
    calls
}
