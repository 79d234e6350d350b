//! Steps that reach hosts.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use serde_json::json;

use super::program::Program;

/// Answers one request, whatever it is.
fn answer_one(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        asked.push(byte[0]);
    }
    let head = String::from_utf8(asked).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    // What is not read when the stream closes would reset it.
    let mut unread = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut unread).unwrap();
    let body = "{\"n\": 7}";
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    head
}

#[test]
fn a_job_reaches_an_allowed_host() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let program = Program::new();
    let payload = json!({"method": "POST", "url": format!("http://{address}/hook"), "body": {"n": 1}});
    assert_eq!(program.run(&["job", "add", "hooks", &payload.to_string()]).code, Some(0));
    let asked = std::thread::spawn(move || answer_one(&listener));
    let words =
        ["work", "hooks", "--activity", "http.request", "--allow-host", &address, "--until-empty", "--json"];
    let ended = program.run(&words);
    assert_eq!((ended.code, ended.last()["done"].as_u64()), (Some(0), Some(1)), "{ended:?}");
    assert!(asked.join().unwrap().starts_with("POST /hook HTTP/1.1\r\n"));
}

#[test]
fn a_step_reaches_an_allowed_host_and_no_other() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let program = Program::new();
    program.write(
        "w.yaml",
        &format!(
            "name: w\noutput: \"${{steps.s.output.body.n}}\"\nsteps:\n  - {{id: s, activity: http.request, input: {{url: \"http://{address}/x\"}}}}\n"
        ),
    );
    let refused = program.run(&["run", "w.yaml", "--json"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.errors()[0]["hint"].as_str().unwrap().contains("--allow-host"), "{refused:?}");
    let bad = program.run(&["run", "w.yaml", "--allow-host", "http://a.example"]);
    assert_eq!(bad.code, Some(2), "{bad:?}");
    let other = program.run(&["run", "w.yaml", "--allow-host", "a.example", "--json"]);
    assert!(other.last()["error"].to_string().contains("http.host_refused"), "{other:?}");
    let asked = std::thread::spawn(move || answer_one(&listener));
    let ended = program.run(&["run", "w.yaml", "--id", "r", "--allow-host", &address, "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.last()["output"], json!(7));
    let asked = asked.join().unwrap();
    assert!(
        asked.starts_with("GET /x HTTP/1.1\r\n") && asked.contains("idempotency-key: r/s\r\n"),
        "{asked}"
    );
}
