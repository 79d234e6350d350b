//! Queues, jobs, workers and dead letters on the command line.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use super::program::Program;

fn show(program: &Program, queue: &str) -> Value {
    program.lines(&["queue", "show", queue]).remove(0)
}

fn id(line: &Value) -> String {
    line["id"].as_str().unwrap().to_owned()
}

#[test]
fn jobs_from_a_file_are_added_one_id_a_line_and_worked_until_the_queue_is_empty() {
    let program = Program::new();
    let lines: Vec<String> =
        (0..600).map(|n| json!({ "path": "out", "line": n.to_string() }).to_string()).collect();
    program.write("jobs.ndjson", &lines.join("\n"));
    let ended = program.run(&["job", "add", "mail", "--from", "jobs.ndjson"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ids: Vec<&str> = ended.out.lines().collect();
    assert_eq!((ids.len(), ids[0]), (600, "mail/0-1"));
    let row = show(&program, "mail");
    assert_eq!(
        (&row["pending"], &row["enqueued"], &row["paused"]),
        (&json!(600), &json!(600), &json!(false))
    );
    let worked = program.lines(&["work", "mail", "--activity", "append", "--agents", "8", "--until-empty"]);
    assert_eq!((&worked[0]["done"], &worked[0]["status"]), (&json!(600), &json!("empty")));
    let text = program.read("out");
    let mut written: Vec<&str> = text.lines().collect();
    written.sort_unstable();
    let mut expected: Vec<String> = (1..=600).map(|n| format!("queue/mail/{n} {}", n - 1)).collect();
    expected.sort_unstable();
    assert_eq!(written, expected, "each once, under the job's own idempotency key");
    let row = show(&program, "mail");
    assert_eq!((&row["done"], &row["pending"], &row["in_flight"]), (&json!(600), &json!(0), &json!(0)));
    assert_eq!(program.lines(&["queue", "ls"]).len(), 1);
}

#[test]
fn a_job_is_shown_cancelled_and_added_once_for_a_unique_key() {
    let program = Program::new();
    let add = |words: &[&str]| id(&program.lines(&[&["job", "add", "q"], words].concat())[0]);
    let first = add(&["[1]", "--unique", "k", "--priority", "3", "--key", "ann"]);
    assert_eq!(add(&["[2]", "--unique", "k"]), first, "the one that is there");
    let shown = program.lines(&["job", "show", &first]).remove(0);
    assert_eq!(
        (&shown["payload"], &shown["priority"], &shown["key"]),
        (&json!([1]), &json!(3), &json!("ann"))
    );
    assert_eq!((&shown["status"], &shown["attempts"]), (&json!("pending"), &json!(0)));
    let delayed = add(&["[3]", "--delay", "1h"]);
    assert_eq!(program.lines(&["job", "show", &delayed])[0]["status"], json!("delayed"));
    assert_eq!(program.lines(&["job", "retry", &delayed])[0]["status"], json!("pending"));
    assert_eq!(program.lines(&["job", "cancel", &delayed])[0]["status"], json!("cancelled"));
    let row = show(&program, "q");
    assert_eq!((&row["pending"], &row["cancelled"], &row["enqueued"]), (&json!(1), &json!(1), &json!(2)));
}

#[test]
fn dead_letters_are_listed_edited_requeued_and_purged() {
    let program = Program::new();
    program.lines(&["queue", "set", "q", "--max-attempts", "2", "--retry-after", "1ms"]);
    for message in ["one", "two", "three"] {
        program.lines(&["job", "add", "q", &json!({ "times": 9, "message": message }).to_string()]);
    }
    program.lines(&["work", "q", "--activity", "fail", "--until-empty"]);
    let dead = program.lines(&["dead", "ls", "q"]);
    let told: Vec<_> = dead.iter().map(|row| row["last_error"]["message"].as_str().unwrap()).collect();
    assert_eq!(told, ["one", "two", "three"]);
    assert_eq!((&dead[0]["attempts"], &dead[0]["status"]), (&json!(2), &json!("dead")));
    let first = id(&dead[0]);
    let edited = program.lines(&["dead", "edit", &first, r#"{"times":0}"#, "--priority", "7"]).remove(0);
    assert_eq!((&edited["payload"], &edited["priority"]), (&json!({ "times": 0 }), &json!(7)));
    assert_eq!(program.lines(&["dead", "requeue", &first])[0]["count"], json!(1));
    program.lines(&["work", "q", "--activity", "fail", "--until-empty"]);
    let done = program.lines(&["job", "show", &first]).remove(0);
    assert_eq!((&done["status"], &done["output"]), (&json!("done"), &json!({ "attempt": 3 })));
    assert!(done["history"].as_array().unwrap().iter().any(|line| line["code"] == "requeued"));
    let refused = program.run(&["dead", "purge", "q", "--json"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("queue.no_filter"), "{}", refused.err);
    assert_eq!(program.lines(&["dead", "purge", "q", "--code", "fail"])[0]["count"], json!(2));
    let row = show(&program, "q");
    assert_eq!((&row["dead"], &row["done"], &row["purged"]), (&json!(0), &json!(1), &json!(2)));
}

#[test]
fn a_queue_that_a_worker_holds_is_paused_filled_and_resumed_through_its_socket() {
    let program = Program::new();
    let worker = program.start(&["work", "q", "--activity", "append", "--agents", "2", "--json"]);
    program.await_store();
    program.lines(&["job", "add", "q", r#"{"path":"out","line":"first"}"#]);
    program.until("the first job is done", || show(&program, "q")["done"] == json!(1));
    assert_eq!(program.lines(&["queue", "pause", "q"])[0]["paused"], json!(true));
    let mut add = program.command(&["job", "add", "q", "-"]);
    let mut add = add.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = add.stdin.take().unwrap();
    for number in 0..100 {
        writeln!(input, "{}", json!({ "path": "out", "line": number.to_string() })).unwrap();
    }
    drop(input);
    assert_eq!(add.wait_with_output().unwrap().stdout.iter().filter(|byte| **byte == b'\n').count(), 100);
    let stats = program.lines(&["queue", "stats", "q"]).remove(0);
    assert_eq!((&stats["done"], &stats["depth"], &stats["failed"]), (&json!(1), &json!(100), &json!(0)));
    assert!(stats["run_p99_ms"].as_f64().unwrap() > 0.0 && stats.get("key").is_none(), "{stats}");
    worker.kill();
    assert_eq!(show(&program, "q")["pending"], json!(100), "after kill -9");
    let stats = program.lines(&["queue", "stats", "q"]).remove(0);
    assert_eq!((&stats["done"], &stats["depth"]), (&json!(0), &json!(100)), "it counts from its process on");
    assert_eq!(show(&program, "q")["paused"], json!(true));
    program.lines(&["queue", "resume", "q"]);
    let worked = program.lines(&["work", "q", "--activity", "append", "--until-empty"]);
    assert_eq!(worked[0]["done"], json!(100));
    let drained = program.lines(&["queue", "drain", "q"]).remove(0);
    assert_eq!((&drained["draining"], &drained["done"]), (&json!(true), &json!(101)));
    let refused = program.run(&["job", "add", "q", "1", "--json"]);
    assert_eq!((refused.code, refused.err.contains("queue.draining")), (Some(2), true), "{refused:?}");
}

#[test]
fn leases_of_a_worker_that_was_killed_come_back_at_once() {
    let program = Program::new();
    program.lines(&["job", "add", "q", r#"{"ms":600000}"#]);
    let worker = program.start(&["work", "q", "--activity", "sleep", "--lease", "1h"]);
    program.await_store();
    program.until("it is leased", || show(&program, "q")["in_flight"] == json!(1));
    worker.kill();
    let shown = program.lines(&["job", "show", "q/0-1"]).remove(0);
    assert_eq!((&shown["status"], &shown["worker"]), (&json!("in_flight"), &json!("work-q-1")));
    let again = program.start(&["work", "q", "--activity", "sleep", "--lease", "1h", "--json"]);
    program
        .until("it is leased again", || program.lines(&["job", "show", "q/0-1"])[0]["attempts"] == json!(2));
    program.lines(&["job", "cancel", "q/0-1"]);
    program.until("it is cancelled", || show(&program, "q")["cancelled"] == json!(1));
    again.signal("-TERM");
    let ended = again.end();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert_eq!(ended.json()[0]["status"], json!("interrupted"));
}

#[test]
fn what_is_no_queue_or_job_is_refused_with_2_and_nothing_is_added() {
    let program = Program::new();
    program.write("bad.ndjson", "{\"a\":1}\n\nnope\n");
    let ended = program.run(&["job", "add", "q", "--from", "bad.ndjson", "--json"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("line 3") && ended.err.contains("input.no_json"), "{}", ended.err);
    assert!(!program.path("stanchion.redb").exists(), "nothing was made");
    program.lines(&["queue", "set", "q", "--max", "2"]);
    program.lines(&["job", "add", "q", "1"]);
    let small = program.run(&["queue", "set", "q", "--max", "0", "--json"]);
    assert_eq!((small.code, small.err.contains("queue.bad_config")), (Some(2), true), "{small:?}");
    program.write("three.ndjson", "1\n2\n3\n");
    for (words, code) in [
        (&["job", "add", "q", "--from", "three.ndjson"][..], "queue.full"),
        (&["job", "add", "q", "1", "--priority", "10"], "queue.unknown_priority"),
        (&["job", "add", "q", "{"], "input.no_json"),
        (&["job", "add", "a/b", "1"], "name.key"),
        (&["job", "show", "q"], "job.bad_id"),
        (&["job", "show", "q/0-99"], "queue.unknown_job"),
        (&["job", "retry", "q/0-1"], "queue.wrong_state"),
        (&["dead", "show", "q/0-1"], "queue.wrong_state"),
        (&["dead", "edit", "q/0-1", "1"], "queue.wrong_state"),
        (&["dead", "requeue", "q/0-1"], "queue.wrong_state"),
        (&["dead", "requeue", "q/0-1", "q"], "usage"),
        (&["dead", "ls", "nobody"], "queue.unknown"),
        (&["queue", "show", "nobody"], "queue.unknown"),
        (&["queue", "pause", "nobody"], "queue.unknown"),
        (&["work", "q", "--activity", "nobody", "--until-empty"], "task_agent.unknown_activity"),
        (&["work", "q", "--activity", "shell", "--until-empty"], "task_agent.unknown_activity"),
        (&["work", "q", "--activity", "noop", "--lease", "1ms"], "task_agent.bad_config"),
    ] {
        let ended = program.run(&[words, &["--json"]].concat());
        assert_eq!(ended.code, Some(2), "{words:?}: {ended:?}");
        assert!(ended.err.contains(code), "{words:?}: {}", ended.err);
    }
    assert_eq!(show(&program, "q")["pending"], json!(1));
}
