//! A second process, while one holds the store.

use super::program::{Program, Running};

fn holding() -> (Program, Running) {
    let program = Program::new();
    program.write(
        "w.yaml",
        "name: w\nsteps:\n  - {id: hold, activity: sleep, input: {ms: 600000}}\n  - {id: after, activity: noop, needs: [hold]}\n",
    );
    let running = program.start(&["run", "w.yaml", "--id", "r", "--json"]);
    program.await_line("r", "step_started", "hold");
    (program, running)
}

#[test]
fn commands_reach_the_process_that_holds_the_store() {
    let (program, running) = holding();
    assert_eq!(program.lines(&["list"])[0]["status"], "running");
    assert_eq!(program.lines(&["show", "r"])[0]["steps"][0]["status"], "running");
    assert_eq!(program.lines(&["history", "r"]).len(), 2);
    assert_eq!(program.lines(&["entity", "ls"])[0]["key"], "r");
    assert_eq!(program.lines(&["entity", "show", "run/r"])[0]["state"]["steps"][1]["status"], "pending");
    assert_eq!(program.lines(&["pause", "r"])[0]["status"], "paused");
    let refused = program.run(&["pause", "r", "--json"]);
    assert_eq!((refused.code, &refused.errors()[0]["code"]), (Some(2), &"run.illegal_transition".into()));
    assert_eq!(program.lines(&["resume", "r"])[0]["status"], "running");
    assert_eq!(program.lines(&["cancel", "r"])[0]["status"], "cancelled");
    let ended = running.end();
    assert_eq!((ended.code, &ended.last()["status"]), (Some(1), &"cancelled".into()), "{ended:?}");
    assert!(!program.path("stanchion.redb.sock").exists());
    assert_eq!(program.lines(&["list"])[0]["status"], "cancelled", "and without a process all the same");
}

#[test]
fn a_held_store_is_not_run_verified_or_replaced_but_backed_up() {
    let (program, running) = holding();
    for words in [&["verify", "--json"] as &[&str], &["run", "w.yaml", "--id", "s", "--json"]] {
        let ended = program.run(words);
        assert_eq!((ended.code, ended.out.as_str()), (Some(3), ""), "{words:?}");
        let error = &ended.errors()[0];
        assert_eq!(error["code"], "store.locked");
        let holder = running.id().to_string();
        assert!(error["message"].as_str().unwrap().ends_with(&holder), "{error} names process {holder}");
    }
    assert!(program.run(&["verify"]).err.contains("stanchion backup"));
    assert_eq!(program.lines(&["backup", "copy"]).len(), 1);
    assert_eq!(program.run(&["backup", "copy"]).code, Some(2), "there is a file already");
    assert_eq!(program.lines(&["backup", "copy", "--force"]).len(), 1);
    assert_eq!(program.lines(&["verify", "--db", "copy"])[0]["ok"], true, "the hint works");
    assert_eq!(program.run(&["restore", "copy"]).code, Some(2), "there is a store already");
    assert_eq!(program.run(&["restore", "copy", "--force"]).code, Some(3), "and it is held");
    running.kill();
}

#[test]
fn the_socket_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (program, running) = holding();
    let mode = std::fs::metadata(program.path("stanchion.redb.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    running.kill();
}

#[test]
fn what_is_no_request_is_refused_and_the_next_one_answered() {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };
    let (program, running) = holding();
    for junk in [&b"\0\0\0\x05hello"[..], b"\xff\xff\xff\xff", b"\0\0", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = UnixStream::connect(program.path("stanchion.redb.sock")).unwrap();
        stream.write_all(junk).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(program.lines(&["list"]).len(), 1);
    }
    running.kill();
}

#[test]
fn a_backup_is_restored_as_it_was() {
    let (program, running) = holding();
    assert_eq!(program.lines(&["backup", "copy"]).len(), 1);
    let history = program.run(&["history", "r"]).out;
    running.kill();
    let restored = program.lines(&["restore", "copy", "--db", "new.redb"]);
    assert!(restored[0]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(program.run(&["history", "r", "--db", "new.redb"]).out, history);
    assert_eq!(program.lines(&["verify", "--db", "new.redb"])[0]["faults"], serde_json::json!([]));
    assert_eq!(program.run(&["restore", "w.yaml", "--db", "newer.redb"]).code, Some(2), "no backup");
    let mut bytes = std::fs::read(program.path("copy")).unwrap();
    bytes[5_000] ^= 1;
    std::fs::write(program.path("copy"), bytes).unwrap();
    assert_eq!(program.run(&["restore", "copy", "--db", "newer.redb"]).code, Some(3), "a damaged one");
    assert_eq!(program.run(&["verify", "--db", "copy"]).code, Some(3));
    assert!(!program.path("newer.redb").exists());
}

#[test]
fn a_store_with_a_long_path_is_reached_through_the_runtime_directory() {
    let program = Program::new();
    let deep = "d".repeat(100);
    std::fs::create_dir_all(program.path(&deep)).unwrap();
    std::fs::create_dir_all(program.path("runtime")).unwrap();
    program.write("w.yaml", "name: w\nsteps:\n  - {id: hold, activity: sleep, input: {ms: 600000}}\n");
    let db = format!("{deep}/app.redb");
    let at = |words: &[&str]| {
        let mut command = program.command(&[words, &["--db", &db, "--json"]].concat());
        command.env("XDG_RUNTIME_DIR", program.path("runtime"));
        command
    };
    let running = Running::of(at(&["run", "w.yaml", "--id", "r"]).spawn().unwrap());
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !at(&["cancel", "r"]).output().unwrap().status.success() {
        assert!(std::time::Instant::now() < until);
    }
    let ended = running.end();
    assert_eq!((ended.code, &ended.last()["status"]), (Some(1), &"cancelled".into()), "{ended:?}");
    assert_eq!(std::fs::read_dir(program.path("runtime")).unwrap().count(), 0, "the socket is gone");
}

#[test]
fn a_backup_never_takes_the_place_of_its_store_or_of_what_is_no_file() {
    let (program, running) = holding();
    std::os::unix::fs::symlink(program.path("stanchion.redb"), program.path("link")).unwrap();
    std::fs::hard_link(program.path("stanchion.redb"), program.path("other")).unwrap();
    let code = |to: &str| {
        let ended = program.run(&["backup", to, "--force", "--json"]);
        (ended.code, ended.errors()[0]["code"].as_str().unwrap().to_owned())
    };
    let refused = |code: &str| (Some(2), code.to_owned());
    for own in ["stanchion.redb", "./stanchion.redb", "stanchion.redb-log", "link", "other"] {
        assert_eq!(code(own), refused("backup.own_store"), "{own}");
    }
    for odd in [".", "stanchion.redb.sock"] {
        assert_eq!(code(odd), refused("backup.not_a_file"), "{odd}");
    }
    running.kill();
    assert_eq!(code("stanchion.redb"), refused("backup.own_store"), "without a process, too");
    assert_eq!(program.lines(&["verify"])[0]["ok"], true);
}

#[test]
fn a_backup_is_no_store_and_told_as_what_it_is() {
    let (program, running) = holding();
    program.lines(&["backup", "copy"]);
    running.kill();
    let ended = program.run(&["list", "--db", "copy", "--json"]);
    assert_eq!((ended.code, &ended.errors()[0]["code"]), (Some(2), &"store.is_backup".into()), "{ended:?}");
}

#[test]
fn a_file_in_the_place_of_the_socket_is_not_removed() {
    let program = Program::new();
    program.write("w.yaml", "name: w\nsteps:\n  - {id: a, activity: noop}\n");
    program.write("stanchion.redb.sock", "mine");
    let ended = program.run(&["run", "w.yaml", "--id", "r", "--json"]);
    assert_eq!((ended.code, &ended.errors()[0]["code"]), (Some(3), &"store.control".into()), "{ended:?}");
    assert_eq!(program.read("stanchion.redb.sock"), "mine");
}
