//! Discovery against a model that looks at everything: 200 operations in a case, 10^4 with `STANCHION_CAMPAIGN=1`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{tests::draft, *};
use crate::ids::Timestamp;

const IDS: u8 = 24;

#[derive(Clone, Debug)]
enum Op {
    Register { id: u8, traits: u64, incarnation: u64 },
    Beat { id: u8, health: u8, memory: u64 },
    Deregister { id: u8 },
    NodeDown { node: u8 },
    NodeUp { node: u8 },
    Wait { ms: u64 },
    Expire,
    Find { traits: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    let id = || 0..IDS;
    prop_oneof![
        8 => (id(), any::<u64>(), 0..3_u64).prop_map(|(id, traits, incarnation)| Op::Register { id, traits, incarnation }),
        8 => (id(), 0..3_u8, 0..100_u64).prop_map(|(id, health, memory)| Op::Beat { id, health, memory }),
        2 => id().prop_map(|id| Op::Deregister { id }),
        1 => (0..4_u8).prop_map(|node| Op::NodeDown { node }),
        1 => (0..4_u8).prop_map(|node| Op::NodeUp { node }),
        3 => (0..1_500_u64).prop_map(|ms| Op::Wait { ms }),
        2 => Just(Op::Expire),
        6 => any::<u64>().prop_map(|traits| Op::Find { traits }),
    ]
}

fn level(number: u64) -> HealthLevel {
    [HealthLevel::Unhealthy, HealthLevel::Degraded, HealthLevel::Healthy][number as usize % 3]
}

fn version(number: u64) -> &'static str {
    ["0.9.0", "1.0.0", "1.2.0", "2.0.0"][number as usize % 4]
}

/// A registration made of bits.
fn registration(id: u8, traits: u64, incarnation: u64) -> Registration {
    let capabilities: Vec<String> = (0..4)
        .filter(|bit| traits >> bit & 1 == 1)
        .chain([traits >> 4 & 3])
        .map(|bit| format!("c{bit}@{}", version(traits >> (6 + bit))))
        .collect();
    let capabilities: Vec<&str> = capabilities.iter().map(String::as_str).collect();
    let mut given = draft(&format!("i{id}"), &format!("n{}", traits >> 16 & 3), &capabilities);
    given.incarnation = incarnation;
    given.kind = Some(["agent", "worker"][(traits >> 18 & 1) as usize].to_owned());
    given.health = Some(level(traits >> 20 & 3).name().to_owned());
    given.resources.insert("memory".to_owned(), traits >> 24 & 63);
    if traits >> 30 & 1 == 1 {
        given.labels.insert("zone".to_owned(), format!("z{}", traits >> 31 & 1));
    }
    given.check().unwrap()
}

/// Criteria made of bits; each part is there in half of the cases.
fn criteria(traits: u64) -> Criteria {
    let is_there = |bit: u32| traits >> (32 + bit) & 1 == 1;
    let mut parts = Vec::new();
    let range = ["*", "^1", ">=1.1,<3", "=0.9.0"][(traits >> 2 & 3) as usize];
    let mut push = |bit, part: String| parts.extend(is_there(bit).then_some(part));
    push(0, format!("cap:c{}@{range}", traits & 3));
    push(1, format!("cap:c{}", traits >> 4 & 3));
    push(2, format!("kind={}", ["agent", "worker"][(traits >> 6 & 1) as usize]));
    push(3, format!("label:zone=z{}", traits >> 7 & 1));
    push(4, format!("health>={}", level(traits >> 8 & 3).name()));
    push(5, format!("resource:memory>={}", traits >> 10 & 63));
    push(6, format!("node{}n{}", ["=", "!="][(traits >> 16 & 1) as usize], traits >> 17 & 3));
    parts.join(" ").parse().unwrap()
}

/// Whether the registration is what is looked for, told from the text of both and nothing else.
fn is_wanted(registration: &Registration, traits: u64) -> bool {
    let is_there = |bit: u32| traits >> (32 + bit) & 1 == 1;
    let has = |name: String, good: &[&str]| {
        registration
            .capabilities
            .iter()
            .any(|has| *has.name == *name && good.contains(&has.version.to_string().as_str()))
    };
    let all = ["0.9.0", "1.0.0", "1.2.0", "2.0.0"];
    let range: &[&str] =
        [&all[..], &["1.0.0", "1.2.0"], &["1.2.0", "2.0.0"], &["0.9.0"]][(traits >> 2 & 3) as usize];
    let on_node = *registration.node.as_str() == format!("n{}", traits >> 17 & 3);
    (!is_there(0) || has(format!("c{}", traits & 3), range))
        && (!is_there(1) || has(format!("c{}", traits >> 4 & 3), &all))
        && (!is_there(2) || *registration.kind == *["agent", "worker"][(traits >> 6 & 1) as usize])
        && (!is_there(3)
            || registration.labels.get("zone").is_some_and(|zone| **zone == *format!("z{}", traits >> 7 & 1)))
        && (!is_there(4) || registration.health >= level(traits >> 8 & 3))
        && (!is_there(5) || registration.resources["memory"] >= traits >> 10 & 63)
        && (!is_there(6) || on_node == (traits >> 16 & 1 == 0))
}

/// What is registered, without index or queue.
struct Known {
    registration: Registration,
    lease: Lease,
    beat_at: Timestamp,
    is_down: bool,
}

#[derive(Default)]
struct Model {
    known: BTreeMap<u8, Known>,
    down: BTreeMap<String, u64>,
    /// Leases that were given out and may be held no more.
    leases: BTreeMap<u8, Lease>,
}

impl Model {
    fn lives(known: &Known, now: Timestamp, ttl_ms: u64) -> bool {
        !known.is_down && now.0 - known.beat_at.0 < ttl_ms as i64 * 1_000
    }

    fn may_register(&self, id: u8, new: &Registration, now: Timestamp, ttl_ms: u64) -> bool {
        let is_node_down =
            self.down.get(new.node.as_str()).is_some_and(|incarnation| new.incarnation <= *incarnation);
        !is_node_down
            && self.known.get(&id).is_none_or(|known| {
                let old = &known.registration;
                !Self::lives(known, now, ttl_ms)
                    || (old.node == new.node && old.incarnation < new.incarnation)
            })
    }
}

/// Runs the operations on both; the first difference. `ttl_ms` is what the model takes for the time of a lease.
fn compare(ops: &[Op], ttl_ms: u64) -> Result<(), String> {
    let options = DiscoveryOptions { gone_kept_ms: 86_400_000, ..DiscoveryOptions::default() };
    let mut discovery = Discovery::new(options).unwrap();
    let (mut model, mut told, mut now) = (Model::default(), BTreeSet::new(), Timestamp(1_000_000));
    for (number, op) in ops.iter().enumerate() {
        let differs = |what: &str| Err(format!("operation {number}, {op:?}: {what}"));
        let mut events = Vec::new();
        match op {
            Op::Register { id, traits, incarnation } => {
                let new = registration(*id, *traits, *incarnation);
                let may = model.may_register(*id, &new, now, ttl_ms);
                match discovery.register(new.clone(), LeaseTerms::default(), now) {
                    Ok((lease, happened)) if may => {
                        events = happened;
                        model.leases.insert(*id, lease.clone());
                        let known = Known { registration: new, lease, beat_at: now, is_down: false };
                        model.known.insert(*id, known);
                    }
                    Err(_) if !may => {}
                    other => return differs(&format!("{other:?}, the model says {may}")),
                }
            }
            Op::Beat { id, health, memory } => {
                let Some(lease) = model.leases.get(id) else { continue };
                let health = level(u64::from(*health));
                let beat = Beat {
                    health: Some(health),
                    resources: [("memory".into(), *memory)].into(),
                    ..Beat::default()
                };
                let known = model.known.get_mut(id).filter(|known| known.lease == *lease);
                match (discovery.heartbeat(lease, &beat, now), known) {
                    (Ok(happened), Some(known)) => {
                        events = happened;
                        (known.beat_at, known.is_down) = (now, false);
                        known.registration.health = health;
                        known.registration.resources.insert("memory".into(), *memory);
                    }
                    (Err(_), None) => {}
                    (other, _) => return differs(&format!("{other:?}")),
                }
            }
            Op::Deregister { id } => {
                let Some(lease) = model.leases.get(id) else { continue };
                match (discovery.deregister(lease), model.known.remove(id)) {
                    (Ok((_, happened)), Some(_)) => events = happened,
                    (Err(_), None) => {}
                    (other, _) => return differs(&format!("{other:?}")),
                }
            }
            Op::NodeDown { node } => {
                let node = format!("n{node}");
                events = discovery.node_down(&node.as_str().into(), 1, now);
                for known in model.known.values_mut() {
                    let is_its = known.registration.node.as_str() == node;
                    known.is_down |= is_its && known.registration.incarnation <= 1;
                }
                model.down.insert(node, 1);
            }
            Op::NodeUp { node } => {
                let node = format!("n{node}");
                discovery.node_up(&node.as_str().into());
                model.down.remove(&node);
            }
            Op::Wait { ms } => now = now.after(Duration::from_millis(*ms)),
            Op::Expire => events = discovery.expire(now),
            Op::Find { traits } => {
                let criteria = criteria(*traits);
                let found = discovery.find(&criteria, now).unwrap();
                let found: Vec<_> = found.iter().map(|found| found.registration.clone()).collect();
                let wanted = model.known.values().filter(|known| Model::lives(known, now, ttl_ms));
                let wanted = wanted.map(|known| &known.registration).filter(|one| is_wanted(one, *traits));
                let by_id = |one: &Registration| one.id.clone();
                let (mut found, mut wanted): (Vec<_>, Vec<_>) = (found, wanted.cloned().collect());
                found.sort_by_key(by_id);
                wanted.sort_by_key(by_id);
                if found != wanted {
                    return differs(&format!("{criteria:?} finds {found:#?}, the model {wanted:#?}"));
                }
                let is_indexed = [0, 1, 2, 3].iter().any(|bit| traits >> (32 + bit) & 1 == 1)
                    || (traits >> 38 & 1 == 1 && traits >> 16 & 1 == 0);
                if discovery.explain(&criteria).index.is_some() != is_indexed {
                    return differs("an index is used exactly when one applies");
                }
            }
        }
        hear(&mut told, &events).or_else(|what| differs(&what))?;
        if matches!(op, Op::Expire) {
            let alive = model.known.iter().filter(|(_, known)| Model::lives(known, now, ttl_ms));
            let alive: BTreeSet<String> = alive.map(|(id, _)| format!("i{id}")).collect();
            if alive != told {
                return differs(&format!("events tell of {told:?}, alive are {alive:?}"));
            }
        }
    }
    Ok(())
}

/// What a subscriber makes of the events: nobody is added twice, and nobody leaves who was not there.
fn hear(told: &mut BTreeSet<String>, events: &[DiscoveryEvent]) -> Result<(), String> {
    for event in events {
        let is_right = match event {
            DiscoveryEvent::Added { id, .. } => told.insert(id.to_string()),
            DiscoveryEvent::Gone { id, .. } => told.remove(id.as_str()),
            DiscoveryEvent::Suspect { id } => told.contains(id.as_str()),
            DiscoveryEvent::Changed { id } => told.contains(id.as_str()),
        };
        if !is_right {
            return Err(format!("{event:?} while {told:?} were told"));
        }
    }
    Ok(())
}

fn length() -> usize {
    if std::env::var("STANCHION_CAMPAIGN").is_ok_and(|value| value == "1") { 10_000 } else { 200 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn discovery_does_what_its_model_does(ops in prop::collection::vec(op(), length())) {
        prop_assert_eq!(compare(&ops, 3_000), Ok(()));
    }

    #[test]
    fn matching_is_what_a_look_at_everything_finds(
        agents in prop::collection::vec(any::<u64>(), 0..60), searches in prop::collection::vec(any::<u64>(), 1..20),
    ) {
        let agents = agents.iter().take(usize::from(IDS)).zip(0..);
        let joins = agents.map(|(traits, id)| Op::Register { id, traits: *traits, incarnation: 1 });
        let ops: Vec<Op> = joins.chain(searches.iter().map(|traits| Op::Find { traits: *traits })).collect();
        prop_assert_eq!(compare(&ops, 3_000), Ok(()));
    }
}

#[test]
fn a_model_with_leases_that_are_too_long_is_found() {
    let ops = [
        Op::Register { id: 1, traits: 1, incarnation: 1 },
        Op::Wait { ms: 1_400 },
        Op::Wait { ms: 1_400 },
        Op::Wait { ms: 200 },
        Op::Find { traits: 0 },
    ];
    assert_eq!(compare(&ops, 3_000), Ok(()));
    assert!(compare(&ops, 3_001).is_err());
}
