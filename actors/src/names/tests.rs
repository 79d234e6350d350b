//! Names, rule by rule, and from many threads.

use std::sync::Barrier;

use bytes::Bytes;

use super::*;
use crate::{
    error::{Coded, Family},
    ids::Timestamp,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

pub(super) fn space(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

pub(super) fn key(namespace: &str, name: &str) -> NameKey {
    NameKey::new(space(namespace), name).unwrap()
}

fn spec(respawn: Respawn) -> NameSpec {
    NameSpec { respawn, ..NameSpec::of_kind("till") }
}

fn with(items: &[(&str, &str)]) -> NameSpec {
    NameSpec { metadata: Metadata::new(items.iter().copied()).unwrap(), ..NameSpec::of_kind("till") }
}

fn register(names: &mut Names, name: &str, respawn: Respawn) -> NameRef {
    names.register(key("shop", name), spec(respawn), "actor-1".into(), NOW).unwrap()
}

fn awaited(after: AfterEnd) -> NameRef {
    match after {
        AfterEnd::Respawn(reference) => reference,
        AfterEnd::Free => panic!("is not respawned"),
    }
}

#[test]
fn a_name_has_one_owner_and_the_refusal_names_it() {
    let (mut names, shop) = (Names::new(), space("shop"));
    let reference = register(&mut names, "a", Respawn::Temporary);
    let error =
        names.register(key("shop", "a"), spec(Respawn::Temporary), "actor-2".into(), NOW).unwrap_err();
    assert_eq!(error, NamesError::AlreadyRegistered { key: key("shop", "a"), owner: "actor-1".into() });
    assert_eq!((error.code(), error.family()), ("names.already_registered", Family::Rejected));
    assert_eq!(error.to_string(), "name shop/a is already registered by actor-1");
    assert_eq!(names.whereis(&shop, "a"), Some((reference.clone(), &"actor-1".into())));
    assert_eq!((names.owner(&shop, "a"), names.owner(&shop, "b")), (Some(&"actor-1".into()), None));
    names.unregister(&shop, &reference).unwrap();
    assert_eq!((names.whereis(&shop, "a"), names.stats()), (None, NamesStats::default()));
    assert!(names.register(key("shop", "a"), spec(Respawn::Temporary), "actor-2".into(), NOW).is_ok());
}

#[test]
fn a_reference_of_an_owner_that_ended_is_refused_whoever_has_the_name_then() {
    let (mut names, shop) = (Names::new(), space("shop"));
    let first = register(&mut names, "a", Respawn::Temporary);
    assert_eq!(names.ended(&shop, &first, Exit::Crashed, NOW), Ok(AfterEnd::Free));
    assert_eq!(names.resolve(&shop, &first), Err(NamesError::NotRegistered { key: key("shop", "a") }));
    let second = register(&mut names, "a", Respawn::Temporary);
    assert!(second.epoch > first.epoch, "also where the first was forgotten");
    let stale = NamesError::StaleEpoch { key: key("shop", "a"), given: first.epoch, current: second.epoch };
    assert_eq!(names.resolve(&shop, &first), Err(stale.clone()));
    assert_eq!(names.unregister(&shop, &first), Err(stale.clone()));
    assert_eq!(names.ended(&shop, &first, Exit::Normal, NOW), Err(stale.clone()));
    assert_eq!(names.set_metadata(&shop, &first, Metadata::default()), Err(stale.clone()));
    assert_eq!(names.respawned(&shop, &first, "actor-3".into(), NOW), Err(stale));
    assert_eq!(names.resolve(&shop, &second).unwrap().as_str(), "actor-1");
}

#[test]
fn who_is_respawned_after_which_end() {
    for (respawn, exit, is_respawned) in [
        (Respawn::Permanent, Exit::Normal, true),
        (Respawn::Permanent, Exit::Crashed, true),
        (Respawn::Transient, Exit::Normal, false),
        (Respawn::Transient, Exit::Crashed, true),
        (Respawn::Temporary, Exit::Normal, false),
        (Respawn::Temporary, Exit::Crashed, false),
    ] {
        let mut names = Names::new();
        let reference = register(&mut names, "a", respawn);
        let after = names.ended(&space("shop"), &reference, exit, NOW).unwrap();
        assert_eq!(matches!(after, AfterEnd::Respawn(_)), is_respawned, "{respawn:?} after {exit:?}");
        assert_eq!(names.stats().recovering, usize::from(is_respawned));
    }
}

#[test]
fn a_name_that_recovers_is_kept_for_the_one_start_that_was_asked_for() {
    let (mut names, shop) = (Names::new(), space("shop"));
    let first = register(&mut names, "a", Respawn::Permanent);
    let next = awaited(names.ended(&shop, &first, Exit::Crashed, NOW).unwrap());
    let recovering = names.resolve(&shop, &next).unwrap_err();
    assert_eq!((recovering.code(), recovering.family()), ("names.recovering", Family::Unavailable));
    assert_eq!(names.whereis(&shop, "a"), None);
    let stranger = names.register(key("shop", "a"), spec(Respawn::Temporary), "actor-9".into(), NOW);
    assert_eq!(stranger.unwrap_err().code(), "names.already_registered");
    names.respawned(&shop, &next, "actor-2".into(), NOW).unwrap();
    let twice = names.respawned(&shop, &next, "actor-3".into(), NOW).unwrap_err();
    assert_eq!(twice, NamesError::AlreadyRegistered { key: key("shop", "a"), owner: "actor-2".into() });
    assert_eq!(names.resolve(&shop, &next).unwrap().as_str(), "actor-2");
    // Given up: the start that comes after all is told so.
    let next = awaited(names.ended(&shop, &next, Exit::Crashed, NOW).unwrap());
    names.unregister(&shop, &next).unwrap();
    let late = names.respawned(&shop, &next, "actor-4".into(), NOW).unwrap_err();
    assert_eq!(late.code(), "names.not_registered");
}

#[test]
fn after_a_crash_of_the_process_names_recover_as_their_policy_says() {
    let (mut names, shop) = (Names::new(), space("shop"));
    let permanent = register(&mut names, "permanent", Respawn::Permanent);
    let _ = register(&mut names, "temporary", Respawn::Temporary);
    let transient = register(&mut names, "transient", Respawn::Transient);
    let waits = register(&mut names, "waits", Respawn::Permanent);
    let waits = awaited(names.ended(&shop, &waits, Exit::Crashed, NOW).unwrap());
    let stored = rmp_serde::to_vec_named(&names).unwrap();

    let mut names: Names = rmp_serde::from_slice(&stored).unwrap();
    let recovered = names.recover(NOW);
    let of = |names: &[(NameRef, NameSpec)]| -> Vec<String> {
        names.iter().map(|(reference, _)| reference.key.name().to_owned()).collect()
    };
    assert_eq!(of(&recovered), ["permanent", "transient", "waits"]);
    assert_eq!((recovered[2].0.clone(), recovered[0].1.respawn), (waits, Respawn::Permanent));
    assert_eq!((names.stats().live, names.stats().recovering), (0, 3));
    for before in [permanent, transient] {
        assert_eq!(names.resolve(&shop, &before).unwrap_err().code(), "names.stale_epoch");
    }
    for (reference, _) in &recovered {
        names.respawned(&shop, reference, "actor-7".into(), NOW).unwrap();
    }
    assert_eq!((names.stats().live, names.recover(NOW).len()), (3, 3));
}

#[test]
fn two_namespaces_never_see_each_other() {
    let (mut names, shop, bank) = (Names::new(), space("shop"), space("bank"));
    let of_shop = names.register(key("shop", "a"), with(&[("zone", "eu")]), "actor-1".into(), NOW).unwrap();
    assert_eq!(names.whereis(&bank, "a"), None);
    assert_eq!(names.search(&bank, &NameSearch::with("zone", "eu")), []);
    let of_bank = names.register(key("bank", "a"), with(&[("zone", "eu")]), "actor-2".into(), NOW).unwrap();
    assert_eq!(names.resolve(&shop, &of_shop).unwrap().as_str(), "actor-1");
    assert_eq!(names.resolve(&bank, &of_bank).unwrap().as_str(), "actor-2");
    let crossed = NamesError::CrossNamespace { key: key("shop", "a"), namespace: bank.clone() };
    assert_eq!(names.resolve(&bank, &of_shop), Err(crossed.clone()));
    assert_eq!(names.ended(&bank, &of_shop, Exit::Normal, NOW), Err(crossed.clone()));
    assert_eq!(names.respawned(&bank, &of_shop, "actor-3".into(), NOW), Err(crossed.clone()));
    assert_eq!(names.unregister(&bank, &of_shop), Err(crossed.clone()));
    assert_eq!(names.set_metadata(&bank, &of_shop, Metadata::default()), Err(crossed));
}

#[test]
fn a_dropped_namespace_says_whom_to_stop_and_leaves_the_others_alone() {
    let (mut names, shop) = (Names::new(), space("shop"));
    let live = register(&mut names, "live", Respawn::Permanent);
    let waits = register(&mut names, "waits", Respawn::Permanent);
    let waits = awaited(names.ended(&shop, &waits, Exit::Crashed, NOW).unwrap());
    let other = names.register(key("bank", "a"), spec(Respawn::Temporary), "actor-2".into(), NOW).unwrap();
    let stopped = names.drop_namespace(&shop);
    let expected = [
        Stopped { reference: live.clone(), owner: Some("actor-1".into()) },
        Stopped { reference: waits.clone(), owner: None },
    ];
    assert_eq!(stopped, expected);
    assert_eq!(names.stats(), NamesStats { live: 1, recovering: 0, namespaces: 1 });
    assert!(names.respawned(&shop, &waits, "actor-3".into(), NOW).is_err(), "nobody comes back");
    assert!(names.resolve(&space("bank"), &other).is_ok());
    assert!(register(&mut names, "live", Respawn::Permanent).epoch > live.epoch);
    assert_eq!(names.drop_namespace(&space("none")), []);
}

#[test]
fn names_are_found_by_metadata_kind_and_prefix() {
    let (mut names, shop) = (Names::new(), space("shop"));
    for number in 0..20 {
        let zone = if number % 4 == 0 { "eu" } else { "us" };
        let spec = with(&[("zone", zone), ("size", if number < 10 { "small" } else { "large" })]);
        names.register(key("shop", &format!("till-{number:02}")), spec, "actor".into(), NOW).unwrap();
    }
    let reference =
        names.register(key("shop", "door"), NameSpec::of_kind("door"), "actor".into(), NOW).unwrap();
    let found = |names: &Names, search: &NameSearch| -> Vec<String> {
        names.search(&shop, search).iter().map(|found| found.reference.key.name().to_owned()).collect()
    };
    let eu = NameSearch::with("zone", "eu");
    assert_eq!(found(&names, &eu), ["till-00", "till-04", "till-08", "till-12", "till-16"]);
    let large = NameSearch {
        metadata: [("zone".into(), "eu".into()), ("size".into(), "large".into())].into(),
        ..eu.clone()
    };
    assert_eq!(found(&names, &large), ["till-12", "till-16"]);
    let prefixed = NameSearch { prefix: Some("till-1".into()), ..NameSearch::default() };
    assert_eq!(found(&names, &prefixed).len(), 10);
    let doors = NameSearch { kind: Some("door".into()), ..NameSearch::default() };
    assert_eq!(found(&names, &doors), ["door"]);
    names.set_metadata(&shop, &reference, Metadata::new([("zone", "eu")]).unwrap()).unwrap();
    assert_eq!(found(&names, &eu).len(), 6, "new metadata counts");
    names.set_metadata(&shop, &reference, Metadata::default()).unwrap();
    assert_eq!(found(&names, &eu).len(), 5, "old metadata does not");
    names.unregister(&shop, &reference).unwrap();
    assert_eq!(found(&names, &doors), [""; 0]);
    let waits = register(&mut names, "waits", Respawn::Permanent);
    let _ = names.ended(&shop, &waits, Exit::Crashed, NOW).unwrap();
    let waiting = NameSearch { prefix: Some("waits".into()), ..NameSearch::default() };
    assert_eq!(found(&names, &waiting), ["waits"]);
    assert_eq!(found(&names, &NameSearch { live_only: true, ..waiting }), [""; 0]);
}

#[test]
fn names_metadata_and_specifications_outside_their_shape_are_refused() {
    assert!(NameKey::new(space("shop"), "x".repeat(255)).is_ok());
    assert!(NameKey::new(space("shop"), "Kasse 7, Süd").is_ok());
    for name in [String::new(), "x".repeat(256), "ü".repeat(128), "a\nb".to_owned()] {
        assert_eq!(NameKey::new(space("shop"), name).unwrap_err().code(), "names.invalid_name");
    }
    for namespace in [String::new(), "a/b".to_owned(), "a b".to_owned(), "x".repeat(65)] {
        let error = Namespace::new(namespace).unwrap_err();
        assert_eq!((&*error.what, error.code()), ("namespace", "names.invalid_name"));
    }
    let long = "x".repeat(65);
    for (key, value) in
        [("", "v".to_owned()), (&long, "v".to_owned()), ("k", "x".repeat(1_025)), ("k", "\0".to_owned())]
    {
        assert_eq!(Metadata::new([(key, value)]).unwrap_err().code(), "names.invalid_metadata");
    }
    let many = (0..33).map(|number| (number.to_string(), "v"));
    assert_eq!(Metadata::new(many).unwrap_err().given, "33 keys");
    assert!(serde_json::from_str::<Metadata>(r#"{"": "v"}"#).is_err());
    assert!(serde_json::from_str::<NameKey>(r#"["shop", ""]"#).is_err());

    let mut names = Names::new();
    let large = NameSpec { start: Bytes::from(vec![0; 64 * 1_024 + 1]), ..NameSpec::of_kind("till") };
    let error = names.register(key("shop", "a"), large, "actor-1".into(), NOW).unwrap_err();
    assert_eq!(error.code(), "names.spec_too_large");
    let error =
        names.register(key("shop", "a"), NameSpec::of_kind("a b"), "actor-1".into(), NOW).unwrap_err();
    assert_eq!(error.code(), "names.invalid_name");
    assert_eq!(names.stats(), NamesStats::default(), "a refusal leaves nothing");
}

#[test]
fn a_table_without_shards_is_refused_and_a_new_number_of_shards_keeps_every_name() {
    for shards in [0, 4_097] {
        let error = NameTable::new(shards).unwrap_err();
        assert_eq!((error.given, error.code()), (shards, "names.shards"));
    }
    let (mut table, shop) = (NameTable::new(1).unwrap(), space("shop"));
    let register = |table: &NameTable, name: &str| {
        table.register(key("shop", name), with(&[("zone", "eu")]), "actor-1".into(), NOW).unwrap()
    };
    let references: Vec<NameRef> = (0..1_000).map(|number| register(&table, &number.to_string())).collect();
    table.unregister(&shop, &references[0]).unwrap();
    for shards in [16, 7, 64] {
        let before = table.snapshot();
        table = table.rehash(shards).unwrap();
        assert_eq!((table.shards(), table.snapshot()), (shards, before));
        assert!(references[1..].iter().all(|reference| table.resolve(&shop, reference).is_ok()));
        assert_eq!(table.stats(), NamesStats { live: 999, recovering: 0, namespaces: 1 });
        assert_eq!(table.search(&shop, &NameSearch::with("zone", "eu")).len(), 999);
    }
    assert!(register(&table, "0").epoch > references[0].epoch, "epochs do not begin anew");
    assert!(table.rehash(0).is_err());
}

#[test]
fn a_table_does_in_shards_what_names_do_in_one() {
    let (table, shop) = (NameTable::new(8).unwrap(), space("shop"));
    let mut references = Vec::new();
    for number in 0..20 {
        let spec = spec(if number % 2 == 0 { Respawn::Permanent } else { Respawn::Temporary });
        references.push(
            table.register(key("shop", &format!("n{number:02}")), spec, "actor-1".into(), NOW).unwrap(),
        );
    }
    let next = awaited(table.ended(&shop, &references[0], Exit::Normal, NOW).unwrap());
    assert_eq!(table.resolve(&shop, &references[0]).unwrap_err().code(), "names.stale_epoch");
    table.respawned(&shop, &next, "actor-2".into(), NOW).unwrap();
    assert_eq!(table.whereis(&shop, "n00"), Some((next.clone(), "actor-2".into())));
    assert_eq!(table.owner(&shop, "n00"), Some("actor-2".into()));
    table.set_metadata(&shop, &next, Metadata::new([("zone", "eu")]).unwrap()).unwrap();
    assert_eq!(table.search(&shop, &NameSearch::with("zone", "eu")).len(), 1);
    let recovered: Vec<String> =
        table.recover(NOW).iter().map(|(reference, _)| reference.key.name().to_owned()).collect();
    assert_eq!(recovered.len(), 10);
    assert!(recovered.is_sorted());
    let stopped = table.drop_namespace(&shop);
    assert_eq!((stopped.len(), stopped.iter().filter(|one| one.owner.is_some()).count()), (10, 0));
    assert_eq!(table.stats(), NamesStats::default());
}

#[test]
fn of_a_thousand_threads_that_want_one_name_exactly_one_gets_it() {
    let (table, barrier) = (NameTable::new(8).unwrap(), Barrier::new(1_000));
    let answers: Vec<Result<NameRef, NamesError>> = std::thread::scope(|scope| {
        let start = |number: usize| {
            let (table, barrier) = (&table, &barrier);
            let run = move || {
                barrier.wait();
                table.register(
                    key("shop", "a"),
                    spec(Respawn::Temporary),
                    format!("actor-{number}").into(),
                    NOW,
                )
            };
            let thread = std::thread::Builder::new().stack_size(64 * 1_024);
            thread.spawn_scoped(scope, run).unwrap()
        };
        let threads: Vec<_> = (0..1_000).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (_, owner) = table.whereis(&space("shop"), "a").unwrap();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for refused in answers.into_iter().filter_map(Result::err) {
        assert_eq!(refused, NamesError::AlreadyRegistered { key: key("shop", "a"), owner: owner.clone() });
    }
}

#[test]
fn a_namespace_dropped_while_names_come_stops_all_that_came_before() {
    for _ in 0..20 {
        let (table, shop, barrier) = (NameTable::new(16).unwrap(), space("shop"), Barrier::new(5));
        let (registered, stopped) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    let (table, barrier) = (&table, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        let name = |number| key("shop", &format!("{thread}-{number}"));
                        let register = |number| {
                            table
                                .register(name(number), spec(Respawn::Temporary), "actor".into(), NOW)
                                .unwrap()
                        };
                        (0..100).map(register).collect::<Vec<_>>()
                    })
                })
                .collect();
            barrier.wait();
            let stopped = table.drop_namespace(&shop);
            let registered: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            (registered, stopped)
        });
        let is_stopped = |reference: &NameRef| stopped.iter().any(|one| one.reference == *reference);
        for reference in &registered {
            assert_ne!(is_stopped(reference), table.resolve(&shop, reference).is_ok(), "stopped or there");
        }
        assert_eq!(stopped.len() + table.stats().live, 400);
    }
}
