//! Entities of kinds that the program does not know.

use serde::{Deserialize, Serialize};
use serde_json::json;
use stanchion::{Agent, Ctx, Never, System};

use super::program::Program;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Basket {
    items: Vec<String>,
    #[serde(with = "serde_bytes_like")]
    seal: Vec<u8>,
}

/// Bytes, as MessagePack stores them.
mod serde_bytes_like {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        Ok(bytes::Bytes::deserialize(from)?.to_vec())
    }
}

impl Agent for Basket {
    const KIND: &'static str = "basket";
    type Command = String;
    type Reply = usize;
    type Rejection = Never;
    fn handle(&mut self, item: String, _: &mut Ctx<'_>) -> Result<usize, Never> {
        self.items.push(item);
        self.seal = vec![0xAB, self.items.len() as u8];
        Ok(self.items.len())
    }
}

async fn filled(program: &Program, held: bool) -> System {
    let builder = System::builder().agent::<Basket>().control_socket(held);
    let system = builder.open(program.path("stanchion.redb")).await.unwrap();
    let basket = system.agent::<Basket>("b/1").unwrap();
    for item in ["bread", "milk", "salt"] {
        basket.call(item.to_owned()).await.unwrap();
    }
    system
}

fn look(program: &Program) {
    let listed = program.lines(&["entity", "ls", "basket"]);
    assert_eq!(
        (&listed[0]["kind"], &listed[0]["key"], &listed[0]["version"]),
        (&json!("basket"), &json!("b/1"), &json!(3))
    );
    assert_eq!(program.lines(&["entity", "ls", "run"]).len(), 0);
    let shown = program.lines(&["entity", "show", "basket/b/1"]).remove(0);
    assert_eq!(shown["state"], json!({"items": ["bread", "milk", "salt"], "seal": "ab03"}));
    let earlier = program.lines(&["entity", "show", "basket/b/1", "--at", "2"]).remove(0);
    assert_eq!((&earlier["version"], &earlier["state"]["items"]), (&json!(2), &json!(["bread", "milk"])));
    for (words, code) in [
        (&["entity", "show", "basket/b/1", "--at", "4", "--json"], "entity.no_version"),
        (&["entity", "show", "basket/b/1", "--at", "0", "--json"], "entity.no_version"),
    ] {
        let ended = program.run(words);
        assert_eq!((ended.code, &ended.errors()[0]["code"]), (Some(2), &json!(code)));
    }
    assert_eq!(program.run(&["entity", "show", "basket/nobody"]).code, Some(2));
    assert_eq!(program.run(&["entity", "show", "basket"]).code, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_of_another_program_are_shown_from_the_file() {
    let program = Program::new();
    let system = filled(&program, false).await;
    let held = program.run(&["entity", "ls", "--json"]);
    assert_eq!(
        (held.code, &held.errors()[0]["code"]),
        (Some(3), &json!("store.locked")),
        "no socket, no way in"
    );
    let _ = system.stop(std::time::Duration::from_secs(5)).await.unwrap();
    look(&program);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_with_a_control_socket_is_asked() {
    let program = Program::new();
    let system = filled(&program, true).await;
    look(&program);
    let report = system.stop(std::time::Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.left_over, 0);
    assert!(!program.path("stanchion.redb.sock").exists());
}

#[test]
fn a_run_is_an_entity_too() {
    let program = Program::new();
    program.write("w.yaml", "name: w\nsteps:\n  - {id: a, activity: noop}\n");
    assert_eq!(program.run(&["run", "w.yaml", "--id", "r"]).code, Some(0));
    let shown = program.lines(&["entity", "show", "run/r"]).remove(0);
    assert_eq!(shown["state"], program.lines(&["show", "r"])[0]);
    let first = program.lines(&["entity", "show", "run/r", "--at", "1"]).remove(0);
    assert_eq!(first["state"]["steps"][0]["status"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_is_purged_whether_its_program_holds_the_store_or_not() {
    for held in [true, false] {
        let program = Program::new();
        let system = filled(&program, held).await;
        let system = if held {
            Some(system)
        } else {
            let _ = system.stop(std::time::Duration::from_secs(5)).await.unwrap();
            None
        };
        let purged = program.lines(&["entity", "purge", "basket/b/1"]);
        assert_eq!(purged, [json!({"kind": "basket", "key": "b/1", "purged": true})]);
        let again = program.run(&["entity", "purge", "basket/b/1", "--json"]);
        assert_eq!((again.code, &again.errors()[0]["code"]), (Some(2), &json!("entity.unknown")));
        assert_eq!(program.lines(&["entity", "ls"]).len(), 0);
        assert_eq!(program.run(&["entity", "purge", "basket"]).code, Some(2));
        if let Some(system) = system {
            let basket = system.agent::<Basket>("b/1").unwrap();
            assert_eq!(basket.call("new".to_owned()).await.unwrap(), 1, "it begins anew");
            let _ = system.stop(std::time::Duration::from_secs(5)).await.unwrap();
        }
        assert_eq!(program.lines(&["verify"])[0]["ok"], true);
    }
}

#[test]
fn a_run_that_has_ended_is_purged_and_compacting_takes_its_place_away() {
    let program = Program::new();
    program.write("w.yaml", "name: w\nsteps:\n  - {id: a, activity: noop}\n");
    program.write("p.yaml", "name: p\nsteps:\n  - {id: a, activity: sleep, input: {ms: 600000}}\n");
    for id in ["r", "s"] {
        assert_eq!(program.run(&["run", "w.yaml", "--id", id]).code, Some(0));
    }
    let running = program.start(&["run", "p.yaml", "--id", "p", "--json"]);
    program.await_line("p", "step_started", "a");
    let busy = program.run(&["entity", "purge", "run/p", "--json"]);
    assert_eq!((busy.code, &busy.errors()[0]["code"]), (Some(2), &json!("purge.busy")));
    let held = program.run(&["compact", "--json"]);
    assert_eq!((held.code, &held.errors()[0]["code"]), (Some(3), &json!("store.locked")));
    running.kill();
    assert_eq!(program.lines(&["entity", "purge", "run/r"]).len(), 1);
    let done = program.lines(&["compact"]).remove(0);
    assert_eq!(done.as_object().unwrap().len(), 4, "{done}");
    assert!(done["bytes"].as_u64() <= done["bytes_before"].as_u64(), "{done}");
    let ids: Vec<_> = program.lines(&["list"]).iter().map(|row| row["run_id"].clone()).collect();
    assert_eq!(ids, [json!("p"), json!("s")]);
    assert_eq!(program.lines(&["list", "--status", "completed"]).len(), 1);
    assert_eq!(program.lines(&["verify"])[0]["ok"], true);
    assert_eq!(program.run(&["run", "w.yaml", "--id", "r"]).code, Some(0), "the id is free again");
    assert_eq!(program.run(&["--db", "none", "compact"]).code, Some(2), "a missing store");
}
