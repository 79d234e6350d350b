//! Durable names on the command line, and in backups.

use std::time::Duration;

use serde_json::json;
use stanchion::{
    System,
    names::{Metadata, NameKey, NameSpec, Namespace, Respawn},
};

use super::program::Program;

fn key(name: &str) -> NameKey {
    NameKey::new(Namespace::new("shop").unwrap(), name).unwrap()
}

fn spec() -> NameSpec {
    let metadata = Metadata::new([("zone", "eu")]).unwrap();
    NameSpec { respawn: Respawn::Permanent, metadata, ..NameSpec::of_kind("till") }
}

#[test]
fn names_are_listed_shown_and_given_free_and_come_back_from_a_backup_with_the_store() {
    let program = Program::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let system =
            System::builder().control_socket(true).open(program.path("stanchion.redb")).await.unwrap();
        let names = system.names();
        names.register(key("till-1"), spec(), "actor-1".into()).await.unwrap();
        names.register(key("till-2"), NameSpec::of_kind("till"), "actor-2".into()).await.unwrap();
        let other = NameKey::new(Namespace::new("bank").unwrap(), "desk").unwrap();
        names.register(other, spec(), "actor-3".into()).await.unwrap();
        let listed = program.lines(&["name", "ls"]);
        let of: Vec<_> = listed.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(of, ["desk", "till-1", "till-2"]);
        let shown = program.lines(&["name", "show", "shop/till-1"]).remove(0);
        for (field, value) in [
            ("state", json!("live")),
            ("owner", json!("actor-1")),
            ("respawn", json!("permanent")),
            ("kind", json!("till")),
            ("metadata", json!({ "zone": "eu" })),
            ("epoch", json!(1)),
        ] {
            assert_eq!(shown[field], value, "{field}");
        }
        assert_eq!(program.lines(&["name", "ls", "--namespace", "bank"]).len(), 1);
        assert_eq!(program.lines(&["name", "free", "shop/till-2"])[0]["state"], json!("free"));
        assert_eq!(names.whereis(&key("till-2")).await.unwrap(), None);
        program.lines(&["backup", "copy.redb"]);
        let _ = system.stop(Duration::from_secs(5)).await.unwrap();
    });
    for (words, code) in [
        (&["name", "show", "shop/till-2"][..], "names.not_registered"),
        (&["name", "free", "shop/nobody"], "names.not_registered"),
        (&["name", "show", "till-1"], "names.invalid_name"),
        (&["name", "ls", "--namespace", "a/b"], "names.invalid_name"),
    ] {
        let ended = program.run(&[words, &["--json"]].concat());
        assert_eq!((ended.code, ended.err.contains(code)), (Some(2), true), "{words:?}: {ended:?}");
    }

    // The registry is in the store, and in its backups.
    let restored = Program::new();
    std::fs::copy(program.path("copy.redb"), restored.path("copy.redb")).unwrap();
    restored.lines(&["restore", "copy.redb"]);
    let listed = restored.lines(&["name", "ls", "--namespace", "shop"]);
    assert_eq!(
        (listed.len(), &listed[0]["state"]),
        (1, &json!("recovering")),
        "its process has ended: {listed:?}"
    );
    let refused = restored.run(&["restore", "copy.redb", "--json"]);
    assert_eq!(refused.code, Some(2), "there is a store: {refused:?}");
    runtime.block_on(async {
        let system = System::builder().open(restored.path("stanchion.redb")).await.unwrap();
        let awaited = system.names().recover().await.unwrap();
        let of: Vec<_> = awaited.iter().map(|(reference, _)| reference.key.to_string()).collect();
        assert_eq!(of, ["bank/desk", "shop/till-1"]);
        let taken = system.names().register(key("till-1"), spec(), "thief".into()).await;
        assert!(taken.is_err(), "it is awaited");
        system.names().respawned(key("till-1").namespace(), &awaited[1].0, "actor-9".into()).await.unwrap();
        let (reference, owner) = system.names().whereis(&key("till-1")).await.unwrap().unwrap();
        assert_eq!((reference.epoch, owner.as_str()), (2, "actor-9"));
        let _ = system.stop(Duration::from_secs(5)).await.unwrap();
    });
}
