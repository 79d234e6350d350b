//! Leases, searches and second-hand knowledge, rule by rule.

use std::time::Duration;

use super::*;
use crate::{
    balance::{Balancer, ChooseError, InstanceId, Request, Strategy, Unsuitable},
    error::{Coded, Family},
    ids::Timestamp,
};

const START: Timestamp = Timestamp(1_700_000_000_000_000);

pub(super) fn draft(id: &str, node: &str, capabilities: &[&str]) -> RegistrationDraft {
    RegistrationDraft {
        id: Some(id.to_owned()),
        node: Some(node.to_owned()),
        kind: Some("worker".to_owned()),
        capabilities: capabilities.iter().map(|text| (*text).to_owned()).collect(),
        health: Some("healthy".to_owned()),
        ..RegistrationDraft::default()
    }
}

fn worker(id: &str, node: &str) -> Registration {
    draft(id, node, &["ocr@1.4.0"]).check().unwrap()
}

fn in_life(id: &str, node: &str, incarnation: u64) -> Registration {
    RegistrationDraft { incarnation, ..draft(id, node, &["ocr@1.4.0"]) }.check().unwrap()
}

fn empty() -> Discovery {
    Discovery::new(DiscoveryOptions::default()).unwrap()
}

fn at(ms: u64) -> Timestamp {
    START.after(Duration::from_millis(ms))
}

fn join(discovery: &mut Discovery, registration: Registration, now: Timestamp) -> Lease {
    discovery.register(registration, LeaseTerms::default(), now).unwrap().0
}

fn ids(discovery: &Discovery, criteria: &str, now: Timestamp) -> Vec<String> {
    let found = discovery.find(&criteria.parse().unwrap(), now).unwrap();
    let mut ids: Vec<_> = found.iter().map(|found| found.registration.id.to_string()).collect();
    ids.sort();
    ids
}

fn added(id: &str, node: &str) -> DiscoveryEvent {
    DiscoveryEvent::Added { id: id.into(), node: node.into() }
}

fn gone(id: &str, node: &str, reason: GoneReason) -> DiscoveryEvent {
    DiscoveryEvent::Gone { id: id.into(), node: node.into(), reason }
}

#[test]
fn everything_that_is_missing_or_wrong_is_named_at_once() {
    let error = RegistrationDraft::default().check().unwrap_err();
    assert_eq!(error.missing, ["id", "node", "kind", "capabilities", "health"]);
    assert_eq!(
        error.to_string(),
        "registration is not complete: missing are id, node, kind, capabilities, health"
    );
    let mut wrong = draft("a b", "n1", &["ocr", "ocr@1", "@1.0.0"]);
    wrong.kind = None;
    wrong.health = Some("fine".to_owned());
    wrong.weight = Some(0.0);
    wrong.labels.insert("zone=".to_owned(), "eu".to_owned());
    wrong.resources.insert(String::new(), 1);
    let error = wrong.check().unwrap_err();
    let fields: Vec<_> = error.faults.iter().map(|fault| fault.field).collect();
    assert_eq!(error.missing, ["kind"]);
    assert_eq!(
        fields,
        ["id", "capabilities", "capabilities", "capabilities", "health", "labels", "resources", "weight"]
    );
    assert_eq!(error.code(), "discovery.registration");
    let many: Vec<String> = (0..65).map(|number| format!("c{number}@1.0.0")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(draft("a", "n", &many).check().unwrap_err().faults[0].given, "65 of them");
    assert!(draft(&"x".repeat(255), "n", &["c@1.0.0"]).check().is_ok());
    assert!(draft(&"x".repeat(256), "n", &["c@1.0.0"]).check().is_err());
}

#[test]
fn a_registration_is_read_from_bytes_as_it_was_and_only_when_it_is_whole() {
    let mut given = draft("a", "n1", &["ocr@1.4.0", "pdf@2.0.0-rc.1"]);
    given.labels.insert("zone".to_owned(), "eu west".to_owned());
    given.resources.insert("memory_mb".to_owned(), 512);
    given.weight = Some(2.5);
    let registration = given.check().unwrap();
    let bytes = rmp_serde::to_vec_named(&registration).unwrap();
    assert_eq!(rmp_serde::from_slice::<Registration>(&bytes).unwrap(), registration);
    let error = serde_json::from_str::<Registration>(r#"{"id": "a"}"#).unwrap_err().to_string();
    assert!(error.contains("missing are node, kind, capabilities, health"), "{error}");
    assert!(serde_json::from_str::<Registration>(r#"{"idd": "a"}"#).is_err());
}

#[test]
fn terms_under_which_one_late_heartbeat_ends_a_lease_are_refused() {
    let ms = Duration::from_millis;
    let field = |interval, ttl, suspect| {
        LeaseTerms::with_suspect_after(ms(interval), ms(ttl), suspect).map_err(|error| error.field)
    };
    assert_eq!(field(1_000, 1_999, 1), Err("ttl"));
    assert_eq!(field(0, 10, 1), Err("interval"));
    assert_eq!(field(1_000, 86_400_001, 1), Err("ttl"));
    assert_eq!(field(1_000, 3_000, 0), Err("suspect_after"));
    assert_eq!(field(1_000, 3_000, 4), Err("suspect_after"));
    assert!(field(1_000, 2_000, 2).is_ok());
    assert_eq!(LeaseTerms::new(ms(10), ms(30)).unwrap().ttl(), ms(30));
    let read = |text| serde_json::from_str::<LeaseTerms>(text).map_err(|error| error.to_string());
    assert!(
        read(r#"{"interval_ms": 1000, "ttl_ms": 1500, "suspect_after": 1}"#).unwrap_err().contains("ttl")
    );
    let written = serde_json::to_string(&LeaseTerms::default()).unwrap();
    assert_eq!(read(&written), Ok(LeaseTerms::default()));
}

#[test]
fn who_misses_heartbeats_is_suspect_then_gone_and_back_with_the_next_one() {
    let mut discovery = empty();
    let lease = join(&mut discovery, worker("a", "n1"), START);
    assert_eq!(
        (ids(&discovery, "", at(2_999)), ids(&discovery, "", at(3_000))),
        (vec!["a".to_owned()], vec![])
    );
    assert_eq!(discovery.instance(&"a".into(), at(1_999)).unwrap().state, LeaseState::Live);
    assert_eq!(discovery.instance(&"a".into(), at(2_000)).unwrap().state, LeaseState::Suspect);
    assert_eq!(discovery.expire(at(1_999)), []);
    assert_eq!(discovery.expire(at(2_000)), [DiscoveryEvent::Suspect { id: "a".into() }]);
    assert_eq!(discovery.expire(at(2_500)), []);
    let beat = Beat::default();
    assert_eq!(
        discovery.heartbeat(&lease, &beat, at(2_600)),
        Ok(vec![DiscoveryEvent::Changed { id: "a".into() }])
    );
    assert_eq!(discovery.heartbeat(&lease, &beat, at(3_000)), Ok(vec![]));
    assert_eq!(discovery.next_change_at(), Some(at(4_600)), "the queue looks too early rather than too late");
    assert_eq!(discovery.expire(at(4_600)), []);
    assert_eq!(discovery.expire(at(6_000)), [gone("a", "n1", GoneReason::Expired)]);
    assert_eq!(discovery.stats().gone, 1);
    assert_eq!(discovery.heartbeat(&lease, &beat, at(60_000)), Ok(vec![added("a", "n1")]));
    assert_eq!(ids(&discovery, "cap:ocr", at(62_999)), ["a"]);
}

#[test]
fn what_is_gone_for_long_is_forgotten_and_its_lease_is_not_held() {
    let mut discovery = empty();
    let lease = join(&mut discovery, worker("a", "n1"), START);
    discovery.expire(at(3_000));
    assert_eq!(discovery.next_change_at(), Some(at(303_000)));
    discovery.expire(at(303_000));
    assert_eq!((discovery.stats(), discovery.next_change_at()), (DiscoveryStats::default(), None));
    assert_eq!(discovery.explain(&"kind=worker".parse().unwrap()).looked_at, 0, "no index holds it");
    let error = discovery.heartbeat(&lease, &Beat::default(), at(303_001)).unwrap_err();
    assert_eq!((error.code(), error.family()), ("discovery.lease_not_held", Family::Rejected));
    let error = discovery.deregister(&lease).unwrap_err();
    assert_eq!(error.to_string(), "no lease on instance \"a\": register it");
}

#[test]
fn a_living_owner_keeps_its_id_and_a_dead_one_is_replaced() {
    let mut discovery = empty();
    let first = join(&mut discovery, worker("a", "n1"), START);
    for node in ["n1", "n2"] {
        let error = discovery.register(worker("a", node), LeaseTerms::default(), at(2_999)).unwrap_err();
        assert_eq!(error, RegisterError::AlreadyRegistered { id: "a".into(), owner: "n1".into() });
    }
    let (second, events) = discovery.register(worker("a", "n2"), LeaseTerms::default(), at(3_000)).unwrap();
    assert_eq!(events, [gone("a", "n1", GoneReason::Replaced), added("a", "n2")]);
    let error = discovery.heartbeat(&first, &Beat::default(), at(3_001)).unwrap_err();
    assert_eq!(error, LeaseError::TakenOver { lease: first.clone(), owner: "n2".into() });
    assert_eq!(discovery.deregister(&first).unwrap_err().code(), "discovery.lease_taken_over");
    let (report, events) = discovery.deregister(&second).unwrap();
    assert_eq!(events, [gone("a", "n2", GoneReason::Deregistered)]);
    assert_eq!(report.body, ReportBody::Withdrawn { id: "a".into() });
    assert_eq!(discovery.stats(), DiscoveryStats::default());
}

#[test]
fn a_later_life_of_a_node_takes_over_what_its_earlier_one_registered() {
    let mut discovery = empty();
    let ghost = join(&mut discovery, in_life("a", "n1", 1), START);
    let (_, events) = discovery.register(in_life("a", "n1", 2), LeaseTerms::default(), at(1)).unwrap();
    assert_eq!(events, [gone("a", "n1", GoneReason::Replaced), added("a", "n1")]);
    assert!(discovery.heartbeat(&ghost, &Beat::default(), at(2)).is_err());
    assert!(discovery.register(in_life("a", "n1", 1), LeaseTerms::default(), at(3)).is_err());
}

#[test]
fn instances_of_a_node_that_is_down_are_gone_and_none_comes_until_it_is_up() {
    let mut discovery = empty();
    let _ = join(&mut discovery, in_life("a", "n1", 1), START);
    let _ = join(&mut discovery, in_life("b", "n2", 1), START);
    assert_eq!(discovery.node_down(&"n1".into(), 1, at(1)), [gone("a", "n1", GoneReason::NodeDown)]);
    assert_eq!(discovery.node_down(&"n1".into(), 1, at(1)), []);
    assert_eq!(ids(&discovery, "", at(1)), ["b"]);
    let refused = discovery.register(in_life("a", "n1", 1), LeaseTerms::default(), at(2)).unwrap_err();
    assert_eq!(refused, RegisterError::NotAlive { id: "a".into(), node: "n1".into() });
    assert!(discovery.register(in_life("a", "n1", 2), LeaseTerms::default(), at(3)).is_ok(), "a later life");
    discovery.node_down(&"n1".into(), 2, at(4));
    discovery.node_up(&"n1".into());
    assert!(discovery.register(in_life("a", "n1", 2), LeaseTerms::default(), at(5)).is_ok());
}

#[test]
fn no_more_instances_than_allowed_are_known() {
    let options = DiscoveryOptions { instances_max: 1, ..DiscoveryOptions::default() };
    let mut discovery = Discovery::new(options).unwrap();
    let lease = join(&mut discovery, worker("a", "n1"), START);
    let error = discovery.register(worker("b", "n1"), LeaseTerms::default(), START).unwrap_err();
    assert_eq!((error.code(), error.family()), ("discovery.full", Family::Unavailable));
    discovery.deregister(&lease).unwrap();
    assert!(discovery.register(worker("b", "n1"), LeaseTerms::default(), START).is_ok());
    for options in [
        DiscoveryOptions { instances_max: 0, ..DiscoveryOptions::default() },
        DiscoveryOptions { gone_kept_ms: 86_400_001, ..DiscoveryOptions::default() },
    ] {
        assert_eq!(Discovery::new(options).unwrap_err().code(), "discovery.options");
    }
}

#[test]
fn a_heartbeat_changes_health_load_and_draining_and_who_is_not_well_gets_no_work() {
    let mut discovery = empty();
    let mut given = draft("a", "n1", &["ocr@1.4.0"]);
    given.resources.insert("memory_mb".to_owned(), 512);
    let lease = join(&mut discovery, given.check().unwrap(), START);
    let changed = Ok(vec![DiscoveryEvent::Changed { id: "a".into() }]);
    let beat = Beat { resources: [("memory_mb".into(), 100), ("gpu".into(), 1)].into(), ..Beat::default() };
    assert_eq!(discovery.heartbeat(&lease, &beat, at(1)), changed);
    assert_eq!(discovery.heartbeat(&lease, &beat, at(2)), Ok(vec![]), "as before");
    assert_eq!(ids(&discovery, "resource:memory_mb>=101", at(2)), [""; 0]);
    assert_eq!(ids(&discovery, "resource:memory_mb>=100", at(2)), ["a"]);
    assert_eq!(ids(&discovery, "resource:gpu>=1", at(2)), [""; 0], "it registered none");
    let reason = |discovery: &Discovery, now| {
        let found = discovery.find(&Criteria::capability("ocr"), now).unwrap();
        let candidates: Vec<_> = found.iter().map(Found::candidate).collect();
        match Balancer::new(Strategy::RoundRobin).choose(&candidates, Request::default(), now, 0) {
            Err(ChooseError::NoSuitableInstance(nobody)) => Some(nobody.why[0].1.clone()),
            other => {
                assert_eq!(other, Ok(InstanceId::from("a")));
                None
            }
        }
    };
    assert_eq!(reason(&discovery, at(2)), None);
    assert_eq!(reason(&discovery, at(2_002)), Some(Unsuitable::Suspect));
    let draining = Beat { draining: Some(true), ..Beat::default() };
    discovery.heartbeat(&lease, &draining, at(2_100)).unwrap();
    assert_eq!(reason(&discovery, at(2_100)), Some(Unsuitable::Draining));
    let unwell = Beat { health: Some(HealthLevel::Unhealthy), ..Beat::default() };
    assert_eq!(discovery.heartbeat(&lease, &unwell, at(2_200)), changed);
    assert_eq!(reason(&discovery, at(2_200)), Some(Unsuitable::Unhealthy));
    assert_eq!(ids(&discovery, "cap:ocr health>=degraded", at(2_200)), [""; 0]);
}

#[test]
fn a_search_goes_through_the_narrowest_index_and_explains_it() {
    let mut discovery = empty();
    for number in 0..100 {
        let node = format!("n{}", number % 4);
        let mut given = draft(&format!("w{number}"), &node, &["ocr@1.4.0"]);
        if number % 10 == 0 {
            given.labels.insert("zone".to_owned(), "eu".to_owned());
        }
        let _ = join(&mut discovery, given.check().unwrap(), START);
    }
    let plan = |text: &str| {
        let plan = discovery.explain(&text.parse().unwrap());
        (plan.index.map(|index| index.to_string()), plan.looked_at)
    };
    assert_eq!(plan("cap:ocr node=n1 label:zone=eu"), (Some("label:zone=eu".to_owned()), 10));
    assert_eq!(plan("cap:ocr node=n1"), (Some("node=n1".to_owned()), 25));
    assert_eq!(plan("kind=worker health>=healthy"), (Some("kind=worker".to_owned()), 100));
    assert_eq!(plan("cap:ocr cap:nobody"), (Some("cap:nobody".to_owned()), 0));
    assert_eq!(plan("health>=healthy"), (None, 100));
    assert_eq!(discovery.explain(&"cap:ocr node=n1".parse().unwrap()).considered.len(), 2);

    let unindexed = Criteria { require_index: true, ..Criteria::default() };
    let error = discovery.find(&unindexed, START).unwrap_err();
    assert_eq!((error.clone(), error.code()), (FindError::NoIndex { scanned: 100 }, "discovery.no_index"));
    let indexed = Criteria { require_index: true, ..Criteria::capability("ocr") };
    assert_eq!(discovery.find(&indexed, START).unwrap().len(), 100);
}

#[test]
fn the_preferred_node_comes_first_also_when_few_are_asked_for() {
    let mut discovery = empty();
    for (id, node) in [("a", "n1"), ("b", "n2"), ("c", "n1"), ("d", "n2")] {
        let _ = join(&mut discovery, worker(id, node), START);
    }
    let prefer = |answers_max| Criteria {
        affinity: Some(Affinity::PreferNode("n2".into())),
        answers_max,
        ..Criteria::default()
    };
    let nodes = |criteria: &Criteria| -> Vec<String> {
        let found = discovery.find(criteria, START).unwrap();
        found.iter().map(|found| found.registration.node.to_string()).collect()
    };
    assert_eq!(nodes(&prefer(None)), ["n2", "n2", "n1", "n1"]);
    assert_eq!(nodes(&prefer(Some(1))), ["n2"]);
    assert_eq!(
        (ids(&discovery, "node=n1", START).len(), ids(&discovery, "node!=n1", START)),
        (2, vec!["b".into(), "d".into()])
    );
}

#[test]
fn versions_match_by_range_and_pre_releases_only_when_named() {
    let mut discovery = empty();
    for (id, version) in [("a", "1.2.0"), ("b", "1.9.3"), ("c", "2.0.0"), ("d", "2.1.0-rc.1")] {
        let _ = join(&mut discovery, draft(id, "n", &[&format!("ocr@{version}")]).check().unwrap(), START);
    }
    for (range, expected) in [
        ("cap:ocr", "abc"),
        ("cap:ocr@^1.2", "ab"),
        ("cap:ocr@>=1.3,<3", "bc"),
        ("cap:ocr@=1.2.0", "a"),
        ("cap:ocr@>=2.1.0-rc.0", "d"),
        ("cap:ocr@>=3", ""),
    ] {
        assert_eq!(ids(&discovery, range, START).concat(), expected, "{range}");
    }
}

#[test]
fn what_is_no_criterion_is_refused_by_name() {
    for text in [
        "health>degraded",
        "health>=fine",
        "health=healthy",
        "cap:",
        "cap:ocr@newest",
        "cap:ocr@>>1",
        "kind=",
        "kind~worker",
        "label:zone",
        "label:=eu",
        "resource:memory_mb>512",
        "resource:memory_mb>=much",
        "resource:memory_mb>=-1",
        "node<>n1",
        "zone=eu",
        "cap",
    ] {
        let error = format!("kind=worker {text}").parse::<Criteria>().unwrap_err();
        assert_eq!(error.code(), "discovery.invalid_criteria", "{text}");
        assert!(text.contains(&error.given), "{error} names the part");
    }
    assert!("kind=a ".repeat(3_000).parse::<Criteria>().is_err());
}

/// Two nodes that tell each other what they have.
fn two_nodes() -> (Discovery, Discovery, Lease) {
    let (mut home, mut other) = (empty(), empty());
    let lease = join(&mut home, in_life("a", "n1", 1), START);
    let report = home.report(&"a".into(), at(500)).unwrap();
    assert_eq!(other.learn(report, &"n1".into(), at(600)), Ok(vec![added("a", "n1")]));
    (home, other, lease)
}

#[test]
fn what_is_known_at_second_hand_says_how_old_it_is_and_through_whom() {
    let (home, mut other, _) = two_nodes();
    let seen = home.instance(&"a".into(), at(700)).unwrap().seen;
    assert_eq!((seen.age, seen.via), (Duration::from_millis(700), None));
    let seen = other.instance(&"a".into(), at(700)).unwrap().seen;
    assert_eq!(seen, Seen { at: at(100), age: Duration::from_millis(600), via: Some("n1".into()) });
    assert_eq!(other.stats().second_hand, 1);
    // Passed on, the age goes along.
    let mut third = empty();
    let passed_on = other.report(&"a".into(), at(1_600)).unwrap();
    third.learn(passed_on, &"n2".into(), at(1_600)).unwrap();
    let seen = third.instance(&"a".into(), at(1_700)).unwrap().seen;
    assert_eq!((seen.age, seen.via), (Duration::from_millis(1_600), Some("n2".into())));
    // Cut off, the other side still answers who asks for old knowledge, with its age.
    other.expire(at(20_000));
    assert_eq!(ids(&other, "cap:ocr", at(20_000)), [""; 0]);
    let old =
        |secs| Criteria { gone_since_max: Some(Duration::from_secs(secs)), ..Criteria::capability("ocr") };
    let found = other.find(&old(60), at(20_000)).unwrap();
    assert_eq!((found[0].state, found[0].seen.age), (LeaseState::Gone, Duration::from_millis(19_900)));
    assert_eq!(other.find(&old(19), at(20_000)).unwrap(), []);
}

#[test]
fn heartbeats_at_second_hand_renew_and_bring_back() {
    let (mut home, mut other, lease) = two_nodes();
    other.expire(at(10_000));
    assert_eq!(ids(&other, "", at(10_000)), [""; 0]);
    home.heartbeat(&lease, &Beat::default(), at(10_000)).unwrap();
    let mut report = home.report(&"a".into(), at(10_000)).unwrap();
    report.body = ReportBody::Beat { id: "a".into() };
    assert_eq!(other.learn(report.clone(), &"n1".into(), at(10_000)), Ok(vec![added("a", "n1")]));
    assert_eq!(other.learn(report.clone(), &"n1".into(), at(10_001)), Ok(vec![]), "the same word again");
    assert_eq!(ids(&other, "", at(12_999)), ["a"]);
    // Who does not know the instance asks for its registration.
    let error = empty().learn(report, &"n1".into(), at(10_000)).unwrap_err();
    assert_eq!(error, LearnError::Unknown { id: "a".into(), via: "n1".into() });
}

#[test]
fn an_older_word_changes_nothing_whatever_the_order_of_arrival() {
    let (mut home, mut other, lease) = two_nodes();
    let old = home.report(&"a".into(), at(1_000)).unwrap();
    let unwell = Beat { health: Some(HealthLevel::Unhealthy), ..Beat::default() };
    home.heartbeat(&lease, &unwell, at(1_000)).unwrap();
    let new = home.report(&"a".into(), at(1_000)).unwrap();
    assert_eq!(
        other.learn(new, &"n1".into(), at(1_100)),
        Ok(vec![DiscoveryEvent::Changed { id: "a".into() }])
    );
    assert_eq!(other.learn(old.clone(), &"n3".into(), at(1_200)), Ok(vec![]));
    assert_eq!(ids(&other, "health>=degraded", at(1_200)), [""; 0]);
    let (withdrawn, _) = home.deregister(&lease).unwrap();
    let events = other.learn(withdrawn, &"n1".into(), at(1_300)).unwrap();
    assert_eq!(events, [gone("a", "n1", GoneReason::Deregistered)]);
    assert_eq!(other.learn(old, &"n3".into(), at(1_400)), Ok(vec![]), "no ghost comes back");
    let any = Criteria { gone_since_max: Some(Duration::from_secs(60)), ..Criteria::default() };
    assert_eq!(other.find(&any, at(1_400)).unwrap(), [], "it took its leave");
    // It registers again: a later word.
    let _ = join(&mut home, in_life("a", "n1", 1), at(1_500));
    let back = home.report(&"a".into(), at(1_500)).unwrap();
    assert_eq!(other.learn(back, &"n1".into(), at(1_500)), Ok(vec![added("a", "n1")]));
}

#[test]
fn what_others_say_never_changes_what_is_registered_here() {
    let (mut home, other, lease) = two_nodes();
    let mut lie = other.report(&"a".into(), at(700)).unwrap();
    lie.stamp.revision = 1_000;
    lie.body = ReportBody::Withdrawn { id: "a".into() };
    assert_eq!(home.learn(lie, &"n2".into(), at(800)), Ok(vec![]));
    assert_eq!(home.heartbeat(&lease, &Beat::default(), at(900)), Ok(vec![]));
}

#[test]
fn one_id_on_two_nodes_stays_with_the_one_that_lives() {
    let (_, mut other, _) = two_nodes();
    let mut third = empty();
    let _ = join(&mut third, worker("a", "n3"), at(700));
    let report = third.report(&"a".into(), at(700)).unwrap();
    let refused = other.learn(report.clone(), &"n3".into(), at(700)).unwrap_err();
    assert_eq!(refused.code(), "discovery.already_registered");
    let events = other.learn(report, &"n3".into(), at(3_100)).unwrap();
    assert_eq!(events, [gone("a", "n1", GoneReason::Replaced), added("a", "n3")]);
    assert_eq!(other.instance(&"a".into(), at(3_100)).unwrap().registration.node, "n3".into());
}

#[test]
fn who_is_suspect_where_it_is_comes_as_a_suspect() {
    let (mut home, mut other) = (empty(), empty());
    let _ = join(&mut home, worker("a", "n1"), START);
    let report = home.report(&"a".into(), at(2_500)).unwrap();
    let report: Report = rmp_serde::from_slice(&rmp_serde::to_vec_named(&report).unwrap()).unwrap();
    let events = other.learn(report, &"n1".into(), at(2_500)).unwrap();
    assert_eq!(events, [added("a", "n1"), DiscoveryEvent::Suspect { id: "a".into() }]);
    assert_eq!(other.expire(at(3_000)), [gone("a", "n1", GoneReason::Expired)]);
}

#[test]
fn a_report_that_comes_too_late_adds_nobody() {
    let mut home = empty();
    let _ = join(&mut home, worker("a", "n1"), START);
    let (mut other, late) = (empty(), home.report(&"a".into(), at(3_000)).unwrap());
    assert_eq!(other.learn(late, &"n1".into(), at(3_000)), Ok(vec![]));
    assert_eq!(other.stats(), DiscoveryStats::default());
}

#[test]
fn a_node_that_was_cut_off_is_back_with_its_next_word_once_it_is_up() {
    let (mut home, mut other, lease) = two_nodes();
    assert_eq!(other.node_down(&"n1".into(), 1, at(1_000)), [gone("a", "n1", GoneReason::NodeDown)]);
    home.heartbeat(&lease, &Beat::default(), at(1_000)).unwrap();
    let report = home.report(&"a".into(), at(1_000)).unwrap();
    let refused = other.learn(report.clone(), &"n1".into(), at(1_100)).unwrap_err();
    assert_eq!(refused.code(), "discovery.not_alive");
    other.node_up(&"n1".into());
    assert_eq!(other.learn(report, &"n1".into(), at(1_200)), Ok(vec![added("a", "n1")]));
}

#[test]
fn work_that_waits_goes_on_when_somebody_appears_who_can_do_it() {
    let (mut discovery, mut waiting) = (empty(), Waiting::default());
    let ocr = || "cap:ocr@^1 health>=degraded".parse::<Criteria>().unwrap();
    assert_eq!(waiting.wait(&discovery, ocr(), "step 1", START), Ok(None));
    assert_eq!(waiting.wait(&discovery, Criteria::capability("pdf"), "step 2", START), Ok(None));
    let mut arrive = |registration, now| {
        let (_, events) = discovery.register(registration, LeaseTerms::default(), now).unwrap();
        waiting.unblocked(&discovery, &events, now)
    };
    assert_eq!(arrive(draft("old", "n1", &["ocr@0.9.0"]).check().unwrap(), START), [""; 0]);
    let draining = RegistrationDraft { draining: true, ..draft("late", "n1", &["ocr@1.0.0"]) };
    assert_eq!(arrive(draining.check().unwrap(), START), [""; 0]);
    assert_eq!(arrive(worker("new", "n1"), START), ["step 1"]);
    assert_eq!((waiting.len(), waiting.is_empty()), (1, false));
    assert_eq!(waiting.wait(&discovery, ocr(), "step 3", START), Ok(Some("step 3")), "it need not wait");
    let unindexed = Criteria { require_index: true, ..Criteria::default() };
    let refused = waiting.wait(&discovery, unindexed, "step 4", START);
    assert!(matches!(refused, Err((FindError::NoIndex { .. }, "step 4"))));
}
