//! The program in a directory of its own.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// A directory in which the program runs.
pub(super) struct Program {
    dir: TempDir,
}

/// What a command left behind.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

/// An event that does not come within this time will not come.
const PATIENCE: Duration = Duration::from_secs(60);

impl Program {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The command, in the directory, without what is set around the tests.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stanchion"));
        command
            .args(words)
            .current_dir(self.dir.path())
            .env_remove("STANCHION_DB")
            .env_remove("STANCHION_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(super) fn run(&self, words: &[&str]) -> Ended {
        Ended::of(self.command(words).output().unwrap())
    }

    /// Runs a command that must succeed; its lines.
    pub(super) fn lines(&self, words: &[&str]) -> Vec<Value> {
        let ended = self.run(&[words, &["--json"]].concat());
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        ended.json()
    }

    pub(super) fn start(&self, words: &[&str]) -> Running {
        Running::of(self.command(words).spawn().unwrap())
    }

    /// Waits until a process listens at the socket of the store.
    pub(super) fn await_store(&self) {
        self.until("the store is held", || self.path("stanchion.redb.sock").exists());
    }

    /// Waits until `look` says yes.
    pub(super) fn until(&self, what: &str, mut look: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !look() {
            assert!(Instant::now() < until, "waited in vain until {what}");
        }
    }

    /// Waits until the history of the run has a line like this.
    pub(super) fn await_line(&self, run: &str, kind: &str, step: &str) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let ended = self.run(&["history", run]);
            let seen = |line: &Value| line["kind"] == kind && line["step"] == step;
            if ended.code == Some(0) && ended.json().iter().any(seen) {
                return;
            }
        }
        panic!("no {kind} of {step}: {:?}", self.run(&["history", run]));
    }
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Standard output, which holds JSON objects and nothing else.
    pub(super) fn json(&self) -> Vec<Value> {
        let read = |line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let lines: Vec<Value> = self.out.lines().map(read).collect();
        assert!(lines.iter().all(Value::is_object), "{self:?}");
        lines
    }

    pub(super) fn last(&self) -> Value {
        self.json().pop().unwrap_or_else(|| panic!("no result: {self:?}"))
    }

    /// The errors of `--json`, each with the four fields and no more.
    pub(super) fn errors(&self) -> Vec<Value> {
        let mut errors = Vec::new();
        for line in self.err.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let error = line["error"].as_object().unwrap();
            assert_eq!(error.len(), 4, "{line}");
            for field in ["code", "message", "where", "hint"] {
                assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {line}");
            }
            errors.push(line["error"].clone());
        }
        errors
    }
}

/// A command on its way; killed when dropped.
pub(super) struct Running {
    child: Option<Child>,
}

impl Running {
    pub(super) fn of(child: Child) -> Self {
        Self { child: Some(child) }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the next line on standard output.
    pub(super) fn next_result(&mut self) -> String {
        let mut line = String::new();
        let out = self.child.as_mut().unwrap().stdout.as_mut().unwrap();
        BufReader::with_capacity(1, out).read_line(&mut line).unwrap();
        line
    }

    /// Waits for the next line on standard error.
    pub(super) fn next_note(&mut self) -> String {
        let mut line = String::new();
        let err = self.child.as_mut().unwrap().stderr.as_mut().unwrap();
        BufReader::with_capacity(1, err).read_line(&mut line).unwrap();
        line
    }

    /// Kills it as a crash does.
    pub(super) fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(super) fn end(mut self) -> Ended {
        Ended::of(self.child.take().unwrap().wait_with_output().unwrap())
    }

    pub(super) fn end_with_input(mut self, input: &[u8]) -> Ended {
        use std::io::Write;
        let mut child = self.child.take().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Ended::of(child.wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            let mut text = String::new();
            if let Some(mut err) = child.stderr.take() {
                let _ = err.read_to_string(&mut text);
            }
            eprintln!("left running: {text}");
        }
    }
}
