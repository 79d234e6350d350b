//! Names that outlive their owners: durable, in namespaces, recovered after a crash.

use futures_util::future::join_all;
use stanchion::{
    error::Coded,
    names::{AfterEnd, Exit, Metadata, NameKey, NameRef, NameSearch, NameSpec, Namespace, Respawn},
    port::memory::MemoryStore,
};

use crate::kit::{crash, open, stop};

fn space(namespace: &str) -> Namespace {
    Namespace::new(namespace).unwrap()
}

fn key(namespace: &str, name: &str) -> NameKey {
    NameKey::new(space(namespace), name).unwrap()
}

fn spec(respawn: Respawn) -> NameSpec {
    let metadata = Metadata::new([("zone", "eu")]).unwrap();
    NameSpec { respawn, metadata, start: "argument".into(), ..NameSpec::of_kind("till") }
}

fn code<T: std::fmt::Debug>(result: Result<T, impl Coded>) -> &'static str {
    result.map_err(|error| error.code()).unwrap_err()
}

#[tokio::test]
async fn after_a_crash_names_recover_as_their_policy_says_and_old_references_are_refused() {
    let (store, shop) = (MemoryStore::new(), space("shop"));
    let system = open(&store).await;
    let names = system.names();
    let mut before: Vec<NameRef> = Vec::new();
    for (name, respawn) in
        [("p", Respawn::Permanent), ("t", Respawn::Transient), ("temporary", Respawn::Temporary)]
    {
        before.push(names.register(key("shop", name), spec(respawn), "actor-1".into()).await.unwrap());
    }
    assert_eq!(names.recover().await.unwrap(), [], "they live");
    let reopened = store.reopen();
    crash(system).await;

    let system = open(&reopened).await;
    let names = system.names();
    for reference in &before {
        assert!(names.resolve(&shop, reference).await.is_err(), "{reference:?}");
        assert_eq!(names.whereis(&reference.key).await.unwrap(), None);
    }
    assert_eq!(code(names.resolve(&shop, &before[0]).await), "names.stale_epoch");
    let taken = names.register(key("shop", "p"), spec(Respawn::Temporary), "actor-9".into()).await;
    assert_eq!(code(taken), "names.already_registered");
    let awaited = names.recover().await.unwrap();
    let of: Vec<&str> = awaited.iter().map(|(reference, _)| reference.key.name()).collect();
    assert_eq!(of, ["p", "t"]);
    assert_eq!((awaited[0].1.clone(), names.recover().await.unwrap().len()), (spec(Respawn::Permanent), 2));
    let (p, _) = &awaited[0];
    names.respawned(&shop, p, "actor-2".into()).await.unwrap();
    assert_eq!(code(names.respawned(&shop, p, "actor-3".into()).await), "names.already_registered");
    assert_eq!(names.resolve(&shop, p).await.unwrap().as_str(), "actor-2");
    assert_eq!(names.recover().await.unwrap().len(), 1, "one is still awaited");
    // What nobody starts anew may be taken at once.
    let again = names.register(key("shop", "temporary"), spec(Respawn::Temporary), "actor-4".into()).await;
    assert!(again.unwrap().epoch > before[2].epoch);
    stop(system).await;
}

#[tokio::test]
async fn of_a_thousand_callers_that_want_one_name_exactly_one_gets_it() {
    let system = open(&MemoryStore::new()).await;
    let names = system.names();
    let calls = (0..1_000).map(|number| {
        names.register(key("shop", "a"), spec(Respawn::Temporary), format!("actor-{number}").into())
    });
    let answers = join_all(calls).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 999));
    for answer in lost {
        assert_eq!(code(answer), "names.already_registered");
    }
    stop(system).await;
}

#[tokio::test]
async fn owners_end_and_come_back_under_a_new_reference() {
    let (system, shop) = (open(&MemoryStore::new()).await, space("shop"));
    let names = system.names();
    let first = names.register(key("shop", "a"), spec(Respawn::Transient), "actor-1".into()).await.unwrap();
    let AfterEnd::Respawn(next) = names.ended(&shop, &first, Exit::Crashed).await.unwrap() else {
        panic!("a transient owner is respawned after a crash")
    };
    assert_eq!(code(names.ended(&shop, &first, Exit::Crashed).await), "names.stale_epoch");
    assert_eq!(code(names.resolve(&shop, &next).await), "names.recovering");
    names.respawned(&shop, &next, "actor-2".into()).await.unwrap();
    names.set_metadata(&shop, &next, Metadata::new([("zone", "us")]).unwrap()).await.unwrap();
    assert_eq!(names.search(&shop, &NameSearch::with("zone", "us")).await.unwrap().len(), 1);
    assert_eq!(names.ended(&shop, &next, Exit::Normal).await.unwrap(), AfterEnd::Free);
    assert_eq!(code(names.unregister(&shop, &next).await), "names.not_registered");
    assert_eq!(names.search(&shop, &NameSearch::default()).await.unwrap(), []);
    stop(system).await;
}

#[tokio::test]
async fn namespaces_are_apart_and_one_that_is_dropped_says_whom_to_stop() {
    let (system, shop) = (open(&MemoryStore::new()).await, space("shop"));
    let names = system.names();
    let mut references = Vec::new();
    for name in ["a", "b/c", "/d", &"x".repeat(255), &"y".repeat(255)] {
        for namespace in ["shop", "shop2"] {
            let owner = format!("{namespace}-actor");
            let reference =
                names.register(key(namespace, name), spec(Respawn::Permanent), owner.into()).await;
            references.push(reference.unwrap());
        }
    }
    assert_eq!(code(names.resolve(&shop, &references[1]).await), "names.cross_namespace");
    assert_eq!(code(names.unregister(&shop, &references[1]).await), "names.cross_namespace");
    let found = names.search(&shop, &NameSearch::with("zone", "eu")).await.unwrap();
    let found: Vec<NameRef> = found.into_iter().map(|found| found.reference).collect();
    let mut of_shop: Vec<NameRef> = references.iter().step_by(2).cloned().collect();
    of_shop.sort();
    assert_eq!(found, of_shop);
    let stopped = names.drop_namespace(&shop).await.unwrap();
    assert!(stopped.iter().all(|one| one.owner == Some("shop-actor".into())));
    assert_eq!(stopped.into_iter().map(|one| one.reference).collect::<Vec<_>>(), of_shop);
    assert_eq!(names.drop_namespace(&shop).await.unwrap(), []);
    for (number, reference) in references.iter().enumerate() {
        let resolved = names.resolve(reference.key.namespace(), reference).await;
        assert_eq!(resolved.is_ok(), number % 2 == 1, "{reference:?}");
    }
    stop(system).await;
}
