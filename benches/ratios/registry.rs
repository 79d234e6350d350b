//! Discovery and names at 100 000: how long one look takes, and how many looks threads do at once.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use stanchion::{
    discovery::{Criteria, Discovery, DiscoveryOptions, LeaseTerms, RegistrationDraft},
    ids::Timestamp,
    names::{NameKey, NameSpec, NameTable, Namespace},
};

use crate::Lab;

const AGENTS: u64 = 100_000;
const THREADS: u64 = 8;

/// Agents of 10 000 capabilities, ten of each.
fn discovery() -> Discovery {
    let options = DiscoveryOptions { instances_max: 200_000, ..DiscoveryOptions::default() };
    let mut discovery = Discovery::new(options).expect("options");
    let terms = LeaseTerms::new(Duration::from_secs(60), Duration::from_secs(600)).expect("terms");
    for agent in 0..AGENTS {
        let draft = RegistrationDraft {
            id: Some(format!("agent-{agent}")),
            node: Some(format!("n{}", agent % 16)),
            kind: Some("agent".to_owned()),
            capabilities: vec![format!("skill-{}@1.{}.0", agent % 10_000, agent % 7)],
            labels: [("zone".to_owned(), format!("z{}", agent % 4))].into(),
            resources: [("memory_mb".to_owned(), agent % 1_024)].into(),
            health: Some("healthy".to_owned()),
            ..RegistrationDraft::default()
        };
        let registration = draft.check().expect("a registration");
        let _lease = discovery.register(registration, terms, Timestamp(0)).expect("registered");
    }
    discovery
}

/// The 50th and 99th of a hundred looks, in microseconds.
fn looks(count: u64, mut look: impl FnMut(u64)) -> (f64, f64) {
    let mut took: Vec<f64> = (0..count)
        .map(|number| {
            let began = Instant::now();
            look(number);
            began.elapsed().as_nanos() as f64 / 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

pub fn run(lab: &Lab) {
    if lab.wants("discovery indexed") || lab.wants("discovery scan") {
        let (discovery, now) = (discovery(), Timestamp(1));
        let criteria: Vec<Criteria> = (0..4_096)
            .map(|number| format!("cap:skill-{}@>=1.2 label:zone=z1", number * 7_919 % 10_000))
            .map(|text| text.parse().expect("criteria"))
            .collect();
        let (p50, p99) = looks(100_000, |number| {
            let criteria = &criteria[(number % 4_096) as usize];
            black_box(discovery.find(criteria, now).expect("found"));
        });
        lab.report.at_most("discovery indexed p99 us", p99, 5.0, &[("p50", p50)]);
        let scan: Criteria = "resource:memory_mb>=512 health>=degraded".parse().expect("criteria");
        let (p50, p99) = looks(300, |_| {
            black_box(discovery.find(&scan, now).expect("found"));
        });
        lab.report.at_most("discovery scan p99 us", p99, 5_000.0, &[("p50", p50)]);
    }
    if lab.wants("names whereis") {
        names(lab);
    }
}

fn names(lab: &Lab) {
    let table = NameTable::new(64).expect("shards");
    let space = Namespace::new("bench").expect("a namespace");
    let names: Vec<String> = (0..AGENTS).map(|number| format!("agent-{number}")).collect();
    for name in &names {
        let key = NameKey::new(space.clone(), name.as_str()).expect("a key");
        let spec = NameSpec::of_kind("agent");
        table.register(key, spec, name.as_str().into(), Timestamp(0)).expect("registered");
    }
    let rate = |look: &(dyn Fn(&str) + Sync)| {
        let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let began = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (over, count, names) = (&over, &count, &names);
                scope.spawn(move || {
                    let mut place = thread * 12_345;
                    let mut done = 0;
                    while !over.load(Ordering::Relaxed) {
                        for _ in 0..256 {
                            place = (place * 5 + 1) % AGENTS;
                            look(&names[place as usize]);
                        }
                        done += 256;
                    }
                    count.fetch_add(done, Ordering::Relaxed);
                });
            }
            std::thread::sleep(Duration::from_secs(1));
            over.store(true, Ordering::Relaxed);
        });
        count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64() / 1e6
    };
    let owner = rate(&|name| {
        black_box(table.owner(&space, name));
    });
    let whereis = rate(&|name| {
        black_box(table.whereis(&space, name));
    });
    lab.report.at_least("names whereis M/s", whereis, 10.0, &[("owner", owner), ("threads", THREADS as f64)]);
}
