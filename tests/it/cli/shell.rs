//! Steps that run programs.

use serde_json::json;

use super::program::Program;

fn step(argv: &str, more: &str) -> String {
    format!(
        "name: w\noutput: \"${{steps.s.output}}\"\nsteps:\n  - {{id: s, activity: shell, input: {{argv: {argv}}}{more}}}\n"
    )
}

fn shell(program: &Program, document: &str) -> super::program::Ended {
    program.write("w.yaml", document);
    program.run(&["run", "w.yaml", "--id", "r", "--allow-shell", "--json"])
}

#[test]
fn output_exit_code_and_signal_are_told() {
    let program = Program::new();
    let ended = shell(
        &program,
        &step(
            r#"[sh, -c, "cat; echo $GREETING $STANCHION_IDEMPOTENCY_KEY"], stdin: "in\n", env: {GREETING: hello}"#,
            "",
        ),
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let expected =
        json!({"exit_code": 0, "signal": null, "stdout": "in\nhello r/s\n", "stdout_truncated": false});
    assert_eq!(ended.last()["output"], expected);
}

#[test]
fn output_is_bounded() {
    let program = Program::new();
    let ended = shell(&program, &step(r#"[sh, -c, "head -c 200000 /dev/zero | tr '\\0' x"]"#, ""));
    let output = &ended.last()["output"];
    assert_eq!(
        (output["stdout"].as_str().unwrap().len(), &output["stdout_truncated"]),
        (65_536, &true.into())
    );
}

#[test]
fn another_exit_code_than_0_fails_the_step() {
    let program = Program::new();
    let ended = shell(&program, &step(r#"[sh, -c, "echo broken >&2; exit 7"]"#, ""));
    assert_eq!(ended.code, Some(1));
    let message = ended.last()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("exit code 7: broken"), "{message}");
    let program = Program::new();
    assert_eq!(shell(&program, &step("[no-such-program-anywhere]", "")).code, Some(1));
}

/// The processes whose command line holds this mark.
fn alive(mark: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|process| {
        let text = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.contains(mark) && text.starts_with("sleep")
    })
}

fn await_end(mark: &str) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while alive(mark) {
        assert!(std::time::Instant::now() < until, "{mark} still runs");
        std::thread::yield_now();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_timeout_kills_the_whole_process_group() {
    let program = Program::new();
    let document = step(r#"[sh, -c, "sleep 7771 & sleep 7771"]"#, ", attempt_timeout_ms: 300");
    assert_eq!(shell(&program, &document).code, Some(1));
    await_end("7771");
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_dies_with_a_killed_stanchion() {
    let program = Program::new();
    program.write("w.yaml", &step("[sleep, \"7772\"]", ""));
    let running = program.start(&["run", "w.yaml", "--id", "r", "--allow-shell"]);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !alive("7772") {
        assert!(std::time::Instant::now() < until, "it does not start");
        std::thread::yield_now();
    }
    running.kill();
    await_end("7772");
}

#[test]
#[cfg(target_os = "linux")]
fn what_a_program_leaves_behind_is_not_waited_for_and_killed() {
    let program = Program::new();
    let ended = shell(&program, &step(r#"[sh, -c, "sleep 7773 & echo hi"]"#, ""));
    assert_eq!((ended.code, &ended.last()["output"]["stdout"]), (Some(0), &"hi\n".into()), "{ended:?}");
    await_end("7773");
}

#[test]
#[cfg(target_os = "linux")]
fn a_second_signal_kills_programs_with_all_they_started() {
    let program = Program::new();
    program.write("w.yaml", &step(r#"[sh, -c, "sleep 7774 & wait"]"#, ""));
    let mut running =
        program.start(&["run", "w.yaml", "--id", "r", "--allow-shell", "--drain-timeout", "1h"]);
    program.until("it has started", || alive("7774"));
    running.signal("-INT");
    assert!(running.next_note().starts_with("stopping"));
    running.signal("-INT");
    assert_eq!(running.end().code, Some(4));
    await_end("7774");
}
