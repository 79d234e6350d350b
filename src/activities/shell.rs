//! Runs a program, in a process group of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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
/// What a program leaves behind is killed with its group. Who has left the group and still holds the program's output
/// is not waited for longer.
const OUTPUT_PATIENCE: Duration = Duration::from_millis(500);

/// Words put in front of a command so that it dies with this process.
///
/// The program they name asks the system for a signal when its parent dies, then becomes the command. Without a
/// launcher, and on systems other than Linux, a command outlives a killed parent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launcher(pub Vec<OsString>);

/// Runs a program. It is in a process group of its own, which is killed when the program ends, and when the attempt is
/// cancelled or runs over its time. Its standard error is not kept but for the end of it when it fails.
///
/// Clones share what they know of the programs that run.
#[derive(Clone, Debug, Default)]
pub struct Shell {
    launcher: Launcher,
    running: Running,
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
        let mut group = self.running.add(child.id());
        tokio::select! {
            ended = work(&mut child, &mut group, input.stdin.unwrap_or_default()) => {
                ended.map_err(|error| Failure::retryable(NOT_STARTED, error.to_string()))?
            }
            () = ctx.cancel.cancelled() => {
                group.kill();
                // Reaped here, so that no zombie stays.
                let _ = child.wait().await;
                Err(Failure::retryable(Failure::CANCELLED, "killed with its process group"))
            }
        }
    }
}

/// Process groups of the programs that run.
#[derive(Clone, Debug, Default)]
struct Running(Arc<Mutex<BTreeSet<i32>>>);

impl Running {
    /// The group of a program that was started: its number is that of the program.
    fn add(&self, program: Option<u32>) -> Group {
        let pid = program.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            self.lock().insert(pid.as_raw_nonzero().get());
        }
        Group { pid, running: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kills the process group when dropped: also what the program left behind, and when the attempt is dropped.
struct Group {
    pid: Option<Pid>,
    running: Running,
}

impl Group {
    fn kill(&mut self) {
        if let Some(group) = self.pid.take() {
            self.running.lock().remove(&group.as_raw_nonzero().get());
            // No such group: everything in it has ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Shell {
    /// Runs programs behind a launcher.
    #[must_use]
    pub fn new(launcher: Launcher) -> Self {
        Self { launcher, running: Running::default() }
    }

    /// Kills the programs that run, with their groups: for a process that ends without waiting for its attempts.
    pub fn kill_all(&self) {
        for pid in std::mem::take(&mut *self.running.lock()).into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

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
async fn work(
    child: &mut Child,
    group: &mut Group,
    stdin: String,
) -> io::Result<Result<ShellOutput, Failure>> {
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut input) = input {
            // A program that does not read its input is none of our business.
            let _ = input.write_all(stdin.as_bytes()).await;
        }
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut more = false;
    let (status, read) = {
        let reads = async {
            let (fed, read, erred) = tokio::join!(
                feed,
                first_bytes(output, STDOUT_MAX_BYTES, &mut out, &mut more),
                last_bytes(errors, STDERR_MAX_BYTES, &mut err)
            );
            let () = fed;
            read.and(erred)
        };
        tokio::pin!(reads);
        let ended = tokio::select! {
            status = child.wait() => Ok(status),
            read = &mut reads => Err(read),
        };
        match ended {
            Err(read) => (child.wait().await?, read),
            Ok(status) => {
                // What it left behind goes, so that its output has an end.
                group.kill();
                (status?, tokio::time::timeout(OUTPUT_PATIENCE, reads).await.unwrap_or(Ok(())))
            }
        }
    };
    read?;
    if !status.success() {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown end".to_owned(),
        };
        let said = String::from_utf8_lossy(&err).trim().to_owned();
        let message = if said.is_empty() { how } else { format!("{how}: {said}") };
        return Ok(Err(Failure::retryable(FAILED, message)));
    }
    let stdout = String::from_utf8_lossy(&out).into_owned();
    Ok(Ok(ShellOutput { exit_code: status.code(), signal: status.signal(), stdout, stdout_truncated: more }))
}

/// The first bytes, and whether there were more; reads to the end, so that the program is never held up.
async fn first_bytes(
    from: Option<impl AsyncRead + Unpin>,
    limit: usize,
    kept: &mut Vec<u8>,
    more: &mut bool,
) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut block = [0; 8_192];
    loop {
        let count = from.read(&mut block).await?;
        if count == 0 {
            return Ok(());
        }
        let room = limit.saturating_sub(kept.len()).min(count);
        *more |= room < count;
        kept.extend_from_slice(block.get(..room).unwrap_or_default());
    }
}

/// The last bytes.
async fn last_bytes(
    from: Option<impl AsyncRead + Unpin>,
    limit: usize,
    kept: &mut Vec<u8>,
) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut block = [0; 8_192];
    loop {
        let count = from.read(&mut block).await?;
        if count == 0 {
            return Ok(());
        }
        kept.extend_from_slice(block.get(..count).unwrap_or_default());
        let over = kept.len().saturating_sub(limit);
        kept.drain(..over);
    }
}
