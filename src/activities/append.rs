//! Appends a line to a file: the smallest effect that can be counted afterwards.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stanchion_actors::{
    agent::Activity,
    entity::{ActivityCtx, Failure},
};

use super::BAD_INPUT;

/// Code of a file that could not be written.
const IO: &str = "append.io";

/// Appends `IDEMPOTENCY_KEY line` to a file, in one write that is flushed to the disk.
#[derive(Clone, Copy, Debug)]
pub struct Append;

/// Input of [`Append`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppendInput {
    /// The file, made if missing; relative to where the program runs.
    pub path: PathBuf,
    /// What is appended after the idempotency key: without line ends.
    pub line: String,
}

impl Activity for Append {
    const NAME: &'static str = "append";
    type Input = AppendInput;
    type Output = Value;

    async fn run(&self, ctx: ActivityCtx, input: AppendInput) -> Result<Value, Failure> {
        if input.line.contains(['\n', '\r']) {
            return Err(Failure::permanent(
                BAD_INPUT,
                "the line holds a line end: append one line at a time",
            ));
        }
        let text = format!("{} {}\n", ctx.idempotency_key, input.line);
        let place = input.path.display().to_string();
        let (tell, told) = tokio::sync::oneshot::channel();
        // A flush takes milliseconds: it must not hold up the runtime.
        let thread = std::thread::Builder::new().name("stanchion-append".into());
        let started = thread.spawn(move || {
            // Nobody waits any more when the attempt was dropped; the line is written all the same.
            let _ = tell.send(append(&input.path, text.as_bytes()));
        });
        let failed = |error: io::Error| Failure::retryable(IO, format!("{place}: {error}"));
        started.map_err(failed)?;
        match told.await {
            Ok(written) => written.map(|()| Value::Null).map_err(failed),
            Err(_dropped) => Err(Failure::retryable(IO, format!("{place}: the writing thread ended"))),
        }
    }
}

fn append(path: &std::path::Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    // One write: lines of several writers do not mix, and what a crash leaves is whole lines.
    let written = file.write(text)?;
    if written < text.len() {
        return Err(io::Error::new(io::ErrorKind::WriteZero, "the line was written in part"));
    }
    file.sync_all()
}
