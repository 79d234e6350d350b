//! What clients did and saw, one line per operation, in the order in which it was written.
//!
//! An operation that was invoked and has neither `ok` nor `fail` is unknown: it may have happened.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// What a line says of its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// It begins.
    Invoke,
    /// It happened, and its caller was told.
    Ok,
    /// It did not happen, and its caller was told.
    Fail,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", content = "value", rename_all = "snake_case")]
pub(crate) enum Op {
    /// A process begins.
    Life,
    /// Moves `n` between two accounts in one commit.
    Transfer { id: u64, from: usize, to: usize, n: i64 },
    /// Reads all accounts in one transaction: their sum and the smallest.
    Total { sum: i64, least: i64 },
    /// Moves `n` by a message that the receiver may refuse.
    Send { id: u64, from: usize, to: usize, n: i64 },
    /// Adds one to a counter under (client, seq); `reply` is what it then stood at.
    Add { client: usize, seq: u64, counter: String, reply: u64 },
    /// Reads a counter.
    Read { counter: String, value: u64 },
    /// Enqueues a job.
    Enqueue { id: u64 },
    /// An effect runs.
    Effect { what: String, key: String },
    /// A job is shown as done.
    Done { id: u64 },
    /// Sets a durable timer.
    Sleep { id: u64, due: i64 },
    /// Sends messages in order.
    Emit { count: u64 },
    /// Starts a workflow run.
    Start { run: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// The process it is of.
    pub(crate) life: u32,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) time_us: i64,
    #[serde(flatten)]
    pub(crate) op: Op,
}

/// A history being written: to a file that outlives the process, or in memory.
pub(crate) struct History {
    life: u32,
    file: Option<Mutex<File>>,
    lines: Mutex<Vec<Line>>,
    count: Arc<AtomicU64>,
}

impl History {
    pub(crate) fn in_file(path: &Path, life: u32) -> Arc<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        let file = Some(Mutex::new(file));
        Arc::new(Self { life, file, lines: Mutex::default(), count: Arc::default() })
    }

    pub(crate) fn in_memory(life: u32, before: Vec<Line>) -> Arc<Self> {
        let count = Arc::new(AtomicU64::new(before.len() as u64));
        Arc::new(Self { life, file: None, lines: Mutex::new(before), count })
    }

    pub(crate) fn append(&self, kind: Kind, op: Op) {
        let line = |op| Line { life: self.life, kind, time_us: now_us(), op };
        if let Some(file) = &self.file {
            let mut file = file.lock().unwrap();
            let mut text = serde_json::to_vec(&line(op)).unwrap();
            text.push(b'\n');
            let whole = file.metadata().unwrap().len();
            if let Err(error) = file.write_all(&text) {
                file.set_len(whole).unwrap();
                // The limit of files is met by what is written down here, too: then nothing more can be told.
                eprintln!("{HISTORY_IS_FULL}: {error}");
                std::process::exit(HISTORY_ENDED);
            }
        } else {
            let mut lines = self.lines.lock().unwrap();
            lines.push(line(op));
            self.count.store(lines.len() as u64, Ordering::SeqCst);
        }
    }

    /// Number of lines, for a disk that notes it at each sync.
    pub(crate) fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap().clone()
    }
}

pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros().try_into().unwrap()
}

/// Reads a history file; what a killed process wrote of its last line does not count.
pub(crate) fn read(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Random numbers from a seed.
///
/// SplitMix64, Steele et al., "Fast splittable pseudorandom number generators" (2014).
#[derive(Clone, Debug)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The seed of this run: `STANCHION_SEED`, or a new one.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("STANCHION_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| now_us().unsigned_abs())
}

/// Exit code and words of a process that cannot write its own history on.
pub(crate) const HISTORY_ENDED: i32 = 7;
pub(crate) const HISTORY_IS_FULL: &str = "the history cannot be written";

/// Whether the full numbers are asked for.
pub(crate) fn campaign() -> bool {
    std::env::var("STANCHION_CAMPAIGN").is_ok_and(|value| value == "1")
}
