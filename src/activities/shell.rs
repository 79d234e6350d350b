//! Runs a program, in a process group of its own.

use std::{collections::BTreeMap, ffi::OsString, io, os::unix::process::ExitStatusExt, process::Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use stanchion_actors::{
    agent::Activity,
    entity::{ActivityCtx, Failure},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use super::BAD_INPUT;

/// Most bytes of standard output that are kept.
pub const STDOUT_MAX_BYTES: usize = 64 << 10;
/// Code of a program that did not start.
const NOT_STARTED: &str = "shell.not_started";
/// Code of a program that ended with another exit code than 0, or by a signal.
const FAILED: &str = "shell.failed";
/// Bytes of standard error told with a failure.
const STDERR_MAX_BYTES: usize = 512;

/// Words put in front of a command so that it dies with this process.
///
/// The program they name asks the system for a signal when its parent dies, then becomes the command. Without a
/// launcher, and on systems other than Linux, a command outlives a killed parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launcher(pub Vec<OsString>);

/// Runs a program. It is in a process group of its own, which is killed when the attempt is cancelled or runs over
/// its time. Its standard error is not kept but for the end of it when it fails.
#[derive(Clone, Debug, Default)]
pub struct Shell {
    /// What makes it die with this process.
    pub launcher: Launcher,
}

/// Input of [`Shell`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShellInput {
    /// The program and its arguments: at least one word.
    pub argv: Vec<String>,
    /// Variables set beside those of this process.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What it reads from standard input.
    #[serde(default)]
    pub stdin: Option<String>,
}

/// Output of [`Shell`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellOutput {
    /// Its exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote, up to [`STDOUT_MAX_BYTES`]; what is no UTF-8 is replaced.
    pub stdout: String,
    /// Whether it wrote more.
    pub stdout_truncated: bool,
}

impl Activity for Shell {
    const NAME: &'static str = "shell";
    type Input = ShellInput;
    type Output = ShellOutput;

    async fn run(&self, ctx: ActivityCtx, input: ShellInput) -> Result<ShellOutput, Failure> {
        let mut child = self.start(&ctx, &input)?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        tokio::select! {
            ended = work(&mut child, input.stdin.unwrap_or_default()) => {
                ended.map_err(|error| Failure::retryable(NOT_STARTED, error.to_string()))?
            }
            () = ctx.cancel.cancelled() => {
                drop(group);
                // Reaped here, so that no zombie stays.
                let _ = child.wait().await;
                Err(Failure::retryable(Failure::CANCELLED, "killed with its process group"))
            }
        }
    }
}

/// Kills the process group when dropped: also what the program left behind, and when the attempt is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // No such group: everything in it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Shell {
    fn start(&self, ctx: &ActivityCtx, input: &ShellInput) -> Result<Child, Failure> {
        let words = self.launcher.0.iter().cloned().chain(input.argv.iter().map(OsString::from));
        let words: Vec<OsString> = words.collect();
        let (Some((program, arguments)), Some(name)) = (words.split_first(), input.argv.first()) else {
            return Err(Failure::permanent(BAD_INPUT, "argv is empty: name a program"));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(&input.env)
            .env("STANCHION_IDEMPOTENCY_KEY", &ctx.idempotency_key)
            .env("STANCHION_ATTEMPT", ctx.attempt.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => {
                Failure::permanent(NOT_STARTED, format!("{name}: {error}"))
            }
            _ => Failure::retryable(NOT_STARTED, format!("{name}: {error}")),
        })
    }
}

/// Feeds the program and waits for its end; the inner result is the program's.
async fn work(child: &mut Child, stdin: String) -> io::Result<Result<ShellOutput, Failure>> {
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut input) = input {
            // A program that does not read its input is none of our business.
            let _ = input.write_all(stdin.as_bytes()).await;
        }
    };
    let ((), out, err) =
        tokio::join!(feed, first_bytes(output, STDOUT_MAX_BYTES), last_bytes(errors, STDERR_MAX_BYTES));
    let status = child.wait().await?;
    let (stdout, stdout_truncated) = out?;
    if !status.success() {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown end".to_owned(),
        };
        let said = String::from_utf8_lossy(&err?).trim().to_owned();
        let message = if said.is_empty() { how } else { format!("{how}: {said}") };
        return Ok(Err(Failure::retryable(FAILED, message)));
    }
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    Ok(Ok(ShellOutput { exit_code: status.code(), signal: status.signal(), stdout, stdout_truncated }))
}

/// The first bytes, and whether there were more; reads to the end, so that the program is never held up.
async fn first_bytes(from: Option<impl AsyncRead + Unpin>, limit: usize) -> io::Result<(Vec<u8>, bool)> {
    let Some(mut from) = from else { return Ok((Vec::new(), false)) };
    let mut kept = Vec::new();
    let mut block = [0; 8_192];
    let mut more = false;
    loop {
        let count = from.read(&mut block).await?;
        if count == 0 {
            return Ok((kept, more));
        }
        let room = limit.saturating_sub(kept.len()).min(count);
        more |= room < count;
        kept.extend_from_slice(block.get(..room).unwrap_or_default());
    }
}

/// The last bytes.
async fn last_bytes(from: Option<impl AsyncRead + Unpin>, limit: usize) -> io::Result<Vec<u8>> {
    let Some(mut from) = from else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    let mut block = [0; 8_192];
    loop {
        let count = from.read(&mut block).await?;
        if count == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(block.get(..count).unwrap_or_default());
        let over = kept.len().saturating_sub(limit);
        kept.drain(..over);
    }
}
