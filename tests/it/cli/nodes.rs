//! Nodes of a cluster on the command line: three processes on loopback.

use std::time::Duration;

use serde_json::{Value, json};
use stanchion::System;

use super::program::{Program, Running};

/// A node with a store and settings of its own.
pub(super) struct Place {
    pub(super) program: Program,
    name: &'static str,
}

impl Place {
    pub(super) fn new(name: &'static str, port: u16, seed: u16, more: &str) -> Self {
        let program = Program::new();
        program.write(
            "node.toml",
            &format!(
                "name = \"{name}\"\nlisten = \"127.0.0.1:{port}\"\nseeds = [\"127.0.0.1:{seed}\"]\n\
                 cookie = \"00112233445566778899aabbccddeeff\"\nheartbeat_ms = 100\nsuspect_ms = 1500\nlost_ms = 3000\n{more}"
            ),
        );
        Self { program, name }
    }

    pub(super) fn start(&self) -> Running {
        let running = self.program.start(&["node", "start", "--config", "node.toml", "--json"]);
        self.program.await_store();
        running
    }

    pub(super) fn lines(&self, words: &[&str]) -> Vec<Value> {
        self.program.lines(words)
    }

    pub(super) fn until_up(&self, count: usize) {
        self.program.until(&format!("{} sees {count} nodes", self.name), || {
            let ended = self.program.run(&["node", "ls", "--json"]);
            ended.code == Some(0) && ended.json().iter().filter(|node| node["state"] == "up").count() == count
        });
    }
}

/// Ports that are free at the moment.
pub(super) fn ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

#[test]
fn three_nodes_find_each_other_answer_for_each_other_and_drain() {
    let [a, b, c] = ports();
    let places = [
        Place::new("a", a, a, "activities = [\"noop\"]"),
        Place::new("b", b, a, "activities = [\"echo\", \"append\"]\n[labels]\nzone = \"eu\""),
        Place::new("c", c, b, ""),
    ];
    let mut running: Vec<Running> = places.iter().map(Place::start).collect();
    places.iter().for_each(|place| place.until_up(3));
    let [a, b, c] = &places;
    let listed = a.lines(&["node", "ls"]);
    assert_eq!((&listed[0]["node"], &listed[0]["this"]), (&json!("a"), &json!(true)));
    let of_b = listed.iter().find(|node| node["node"] == "b").unwrap();
    assert!(of_b["capabilities"].as_array().unwrap().contains(&json!("activity:append@1.0.0")), "{of_b}");

    // A queue of another node.
    let added = a.lines(&["job", "add", "mail", "[1]", "--node", "b"]);
    assert_eq!(added[0]["id"], json!("mail/0-1"));
    assert_eq!(b.lines(&["queue", "show", "mail"])[0]["pending"], json!(1));
    let everywhere = c.lines(&["queue", "ls", "--node", "*"]);
    assert_eq!((everywhere.len(), &everywhere[0]["node"]), (1, &json!("b")), "each line says whose it is");
    assert_eq!(
        c.lines(&["queue", "show", "mail", "--node", "*"])[0]["node"],
        json!("b"),
        "one of them knows it"
    );
    let place = c.lines(&["where", "queue@b/mail"]).remove(0);
    assert_eq!(
        (&place["node"], &place["state"], &place["exists"]),
        (&json!("b"), &json!("up"), &json!(true))
    );
    assert_eq!(a.lines(&["where", "queue/mail"])[0]["exists"], json!(false), "not on this one");
    for (words, code) in [
        (&["where", "queue@nobody/mail"][..], "node.unknown"),
        (&["where", "mail"], "entity.bad_name"),
        (&["queue", "show", "nobody", "--node", "b"], "queue.unknown"),
    ] {
        let ended = a.program.run(&[words, &["--json"]].concat());
        assert_eq!((ended.code, ended.err.contains(code)), (Some(2), true), "{words:?}: {ended:?}");
    }
    let far = a.program.run(&["queue", "ls", "--node", "nobody", "--json"]);
    assert_eq!((far.code, far.err.contains("call.unreachable")), (Some(3), true), "{far:?}");

    // One is killed, and is back on its file.
    running.pop().unwrap().kill();
    a.program.until("c is gone", || {
        a.lines(&["node", "ls"]).iter().any(|node| node["node"] == "c" && node["state"] == "unreachable")
    });
    let ended = a.program.run(&["queue", "ls", "--node", "*", "--json"]);
    let error = &ended.errors()[0];
    assert_eq!(
        (ended.code, &error["code"], &ended.last()["node"]),
        (Some(3), &json!("node.no_answer"), &json!("b"))
    );
    assert!(error["message"].as_str().unwrap().ends_with("from c"), "{error}");
    running.push(places[2].start());
    places.iter().for_each(|place| place.until_up(3));

    // One is told to leave, the others to end.
    assert_eq!(c.lines(&["node", "drain"])[0]["state"], json!("draining"));
    let ended = running.pop().unwrap().end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.json()[0]["status"], json!("joined"));
    a.program.until("c has left", || {
        a.lines(&["node", "ls"]).iter().any(|node| node["node"] == "c" && node["state"] == "left")
    });
    for node in running {
        node.signal("-TERM");
        assert_eq!(node.end().code, Some(0));
    }
}

#[test]
fn settings_that_do_not_hold_are_refused_with_2_and_a_store_that_is_no_node_says_so() {
    let program = Program::new();
    let good = "name = \"a\"\ncookie = \"00112233445566778899aabbccddeeff\"\n";
    for (text, code) in [
        ("name = ", "node.bad_options"),
        ("name = \"a\"", "node.bad_options"),
        (&format!("{good}speed = 9"), "node.bad_options"),
        (&format!("{good}listen = \"0.0.0.0:0\""), "node.gateway"),
        (
            &format!(
                "{good}[tls]\nauthority = \"no.pem\"\ncertificate = \"no.pem\"\nkey = \"no.pem\"\nserver_name = \"a\""
            ),
            "node.gateway",
        ),
        (&format!("{good}lost_ms = 1"), "node.bad_options"),
        ("name = \"a b\"\ncookie = \"00112233445566778899aabbccddeeff\"", "node.bad_options"),
        ("name = \"a\"\ncookie = \"0011\"", "node.bad_options"),
        (&format!("{good}activities = [\"nobody\"]"), "usage"),
    ] {
        program.write("node.toml", text);
        let ended = program.run(&["node", "start", "--config", "node.toml", "--json"]);
        assert!(ended.code == Some(2) && ended.err.contains(code), "{text}: {ended:?}");
    }
    let far = program.run(&["verify", "--node", "b", "--json"]);
    assert_eq!((far.code, far.err.contains("--node")), (Some(2), true), "{far:?}");
    let missing = program.run(&["node", "start", "--config", "nobody.toml", "--json"]);
    assert_eq!((missing.code, missing.err.contains("input.unreadable")), (Some(2), true));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let system =
            System::builder().control_socket(true).open(program.path("stanchion.redb")).await.unwrap();
        let ended = program.run(&["node", "ls", "--json"]);
        assert_eq!((ended.code, ended.err.contains("node.no_cluster")), (Some(2), true), "{ended:?}");
        let _ = system.stop(Duration::ZERO).await.unwrap();
    });
}
