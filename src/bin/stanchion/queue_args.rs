//! The words of the commands for queues, jobs and dead letters.

use std::{io::Read, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use stanchion::control::{DeadSelect, JobOptions, Problem, QueueChange, QueueOrder, Request};

use super::{args::duration, fault::Fault};

/// Most jobs of one request.
const BATCH: usize = 256;
/// Largest sum of payloads of one request, in bytes, unless it is of one job.
const BATCH_BYTES: usize = 1 << 20;
/// Largest file of payloads.
const INPUT_MAX_BYTES: u64 = 1 << 30;

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List queues
    Ls,
    /// Show a queue
    Show {
        /// Name of the queue
        queue: String,
    },
    /// Show what a queue did since its process began: times, rates, each key
    Stats {
        /// Name of the queue
        queue: String,
    },
    /// Lease nothing until it is resumed
    Pause {
        /// Name of the queue
        queue: String,
    },
    /// End pause and drain
    Resume {
        /// Name of the queue
        queue: String,
    },
    /// Take no more jobs, and wait until there is none
    Drain {
        /// Name of the queue
        queue: String,
        /// How long to wait; then what is left is shown
        #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
        deadline: Duration,
    },
    /// Change settings of a queue; makes it if it is not there
    Set(Box<QueueSetArgs>),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true, id = "settings")]
pub(crate) struct QueueSettings {
    /// Most pending, delayed and leased jobs of a partition
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Partitions; only while there is no live job
    #[arg(long, value_name = "N")]
    partitions: Option<u16>,
    /// Bands of priority, 0 the lowest
    #[arg(long, value_name = "N")]
    priorities: Option<u8>,
    /// A job that waited this long goes before every priority; 0: never
    #[arg(long, value_name = "TIME", value_parser = duration)]
    ageing: Option<Duration>,
    /// Most leased jobs; 0: no limit
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Most leased jobs of one key; 0: no limit, 1: strictly in order
    #[arg(long, value_name = "N")]
    per_key: Option<u32>,
    /// Most starts in a time, such as 100/1s; 0: no limit
    #[arg(long, value_name = "N/TIME", value_parser = rate)]
    rate: Option<(u32, u64)>,
    /// Attempts of a job, with the first; 0: no limit
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// First delay after a failure
    #[arg(long, value_name = "TIME", value_parser = duration)]
    retry_after: Option<Duration>,
    /// Most dead letters; the oldest makes room
    #[arg(long, value_name = "N")]
    dead_max: Option<u32>,
    /// Ended jobs kept for looking at
    #[arg(long, value_name = "N")]
    keep_ended: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct QueueSetArgs {
    /// Name of the queue
    queue: String,
    #[command(flatten)]
    settings: QueueSettings,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Enqueue jobs; prints one id a line, each after its commit
    Add(Box<JobAddArgs>),
    /// Show a job
    Show {
        /// Its id, as it was printed
        id: String,
    },
    /// Let a dead letter or a delayed job run at once
    Retry {
        /// Its id
        id: String,
    },
    /// Cancel a job
    Cancel {
        /// Its id
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct JobAddArgs {
    /// Name of the queue; made if it is not there
    queue: String,
    /// The input of the job's activity, as JSON; - reads one JSON value a line from standard input
    #[arg(value_name = "JSON|-", conflicts_with = "from")]
    payload: Option<String>,
    /// A file with one JSON value a line, each a job; - reads standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Priority, 0 the lowest
    #[arg(long, value_name = "P", default_value_t = 0)]
    priority: u8,
    /// Run no earlier than that from now
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    delay: Duration,
    /// At most one live job of this name: of a second one, the first one's id is printed
    #[arg(long, value_name = "KEY")]
    unique: Option<String>,
    /// Jobs of one key run in the order they were added
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Kind, by which agents choose what they do
    #[arg(long, value_name = "KIND", default_value = "")]
    kind: String,
    /// Longest time of an attempt; 0: none
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = duration)]
    timeout: Duration,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters
    Ls {
        /// Name of the queue
        queue: String,
        /// Only of this kind
        #[arg(long)]
        kind: Option<String>,
        /// Only with this error code
        #[arg(long)]
        code: Option<String>,
    },
    /// Show a dead letter
    Show {
        /// Its id, as it was printed
        id: String,
    },
    /// Change the payload or the priority of a dead letter
    Edit {
        /// Its id
        id: String,
        /// The new payload, as JSON
        #[arg(required_unless_present = "priority")]
        payload: Option<String>,
        /// The new priority
        #[arg(long, value_name = "P")]
        priority: Option<u8>,
    },
    /// Enqueue dead letters again, with their payload and history
    Requeue(Selected),
    /// Forget dead letters
    Purge(Selected),
}

#[derive(Debug, Args)]
pub(crate) struct Selected {
    /// Ids of dead letters of one queue; or the name of a queue, with one of the options
    #[arg(required = true, value_name = "ID|QUEUE")]
    targets: Vec<String>,
    /// All of the queue
    #[arg(long)]
    all: bool,
    /// Those of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Those with this error code
    #[arg(long)]
    code: Option<String>,
}

impl QueueCommand {
    pub(crate) fn into_request(self) -> Request {
        let tell = |queue, order| Request::QueueTell { queue, order };
        match self {
            Self::Ls => Request::QueueList,
            Self::Show { queue } => Request::QueueShow { queue },
            Self::Stats { queue } => Request::QueueStats { queue },
            Self::Pause { queue } => tell(queue, QueueOrder::Pause),
            Self::Resume { queue } => tell(queue, QueueOrder::Resume),
            Self::Drain { queue, deadline } => tell(queue, QueueOrder::Drain { deadline_ms: ms(deadline) }),
            Self::Set(args) => {
                let QueueSetArgs { queue, settings } = *args;
                Request::QueueSet { queue, change: settings.into_change() }
            }
        }
    }
}

impl QueueSettings {
    fn into_change(self) -> QueueChange {
        QueueChange {
            max: self.max,
            partitions: self.partitions,
            priorities: self.priorities,
            ageing_ms: self.ageing.map(ms),
            concurrency: self.concurrency,
            per_key_limit: self.per_key,
            rate: self.rate,
            max_attempts: self.max_attempts,
            retry_after_ms: self.retry_after.map(ms),
            dead_max: self.dead_max,
            keep_ended: self.keep_ended,
        }
    }
}

impl JobCommand {
    /// The requests the command stands for, in order. All payloads are read and checked before the first one.
    pub(crate) fn into_requests(self) -> Result<Vec<Request>, Fault> {
        match self {
            Self::Add(args) => args.into_requests(),
            Self::Show { id } => Ok(vec![Request::JobShow { id, dead: false }]),
            Self::Retry { id } => Ok(vec![Request::JobRetry { id }]),
            Self::Cancel { id } => Ok(vec![Request::JobCancel { id }]),
        }
    }
}

impl JobAddArgs {
    fn into_requests(self) -> Result<Vec<Request>, Fault> {
        let payloads = match (self.payload.as_deref(), &self.from) {
            (Some("-"), _) => lines(&PathBuf::from("-"))?,
            (Some(payload), _) => vec![checked(payload, "the payload")?],
            (None, Some(file)) => lines(file)?,
            (None, None) => vec!["null".to_owned()],
        };
        let options = JobOptions {
            kind: self.kind,
            priority: self.priority,
            delay_ms: ms(self.delay),
            unique: self.unique,
            key: self.key,
            timeout_ms: ms(self.timeout),
        };
        let queue = self.queue;
        let request = |payloads| Request::JobAdd { queue: queue.clone(), payloads, options: options.clone() };
        Ok(batches(payloads).into_iter().map(request).collect())
    }
}

impl DeadCommand {
    pub(crate) fn into_request(self) -> Result<Request, Fault> {
        Ok(match self {
            Self::Ls { queue, kind, code } => {
                Request::DeadList(DeadSelect { queue, kind, code, ..DeadSelect::default() })
            }
            Self::Show { id } => Request::JobShow { id, dead: true },
            Self::Edit { id, payload, priority } => {
                let payload = payload.map(|payload| checked(&payload, "the payload")).transpose()?;
                Request::DeadEdit { id, payload, priority }
            }
            Self::Requeue(selected) => Request::DeadRequeue(selected.into_select()?),
            Self::Purge(selected) => Request::DeadPurge(selected.into_select()?),
        })
    }
}

impl Selected {
    fn into_select(self) -> Result<DeadSelect, Fault> {
        let queue_of = |target: &String| target.split('/').next().unwrap_or_default().to_owned();
        let queue = self.targets.first().map(queue_of).unwrap_or_default();
        let ids: Vec<String> = self.targets.iter().filter(|target| target.contains('/')).cloned().collect();
        if self.targets.iter().any(|target| queue_of(target) != queue) {
            return Err(Fault::usage(
                "the ids are of several queues",
                "ID",
                "name those of one queue at a time",
            ));
        }
        if !ids.is_empty() && ids.len() < self.targets.len() {
            return Err(Fault::usage("a queue and ids do not go together", "ID", "name ids, or one queue"));
        }
        Ok(DeadSelect { queue, ids, all: self.all, kind: self.kind, code: self.code })
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn rate(text: &str) -> Result<(u32, u64), String> {
    let wrong = || "use starts and a time, such as 100/1s, or 0".to_owned();
    if text == "0" {
        return Ok((0, 1));
    }
    let (permits, per) = text.split_once('/').ok_or_else(wrong)?;
    let permits = permits.parse().map_err(|_| wrong())?;
    Ok((permits, ms(duration(per)?)))
}

/// One JSON value a line; empty lines are left out. All of them are checked before any is used.
fn lines(file: &PathBuf) -> Result<Vec<String>, Fault> {
    let place = file.display().to_string();
    let unreadable = |what: &dyn ToString| {
        let hint = "give a file with one JSON value a line";
        Fault::from(Problem::rejected("input.unreadable", what.to_string(), place.as_str(), hint))
    };
    let mut text = String::new();
    let read = if place == "-" {
        std::io::stdin().lock().take(INPUT_MAX_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(INPUT_MAX_BYTES).read_to_string(&mut text))
    };
    let bytes = read.map_err(|error| unreadable(&error))?;
    if bytes as u64 >= INPUT_MAX_BYTES {
        return Err(unreadable(&"it is over 1 GiB"));
    }
    let numbered = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    numbered.map(|(number, line)| checked(line, &format!("{place}, line {number}"))).collect()
}

fn checked(payload: &str, place: &str) -> Result<String, Fault> {
    match serde_json::from_str::<serde::de::IgnoredAny>(payload) {
        Ok(_) => Ok(payload.to_owned()),
        Err(error) => {
            let hint = "give one JSON value, one a line in a file";
            Err(Problem::rejected("input.no_json", error.to_string(), place, hint).into())
        }
    }
}

fn batches(payloads: Vec<String>) -> Vec<Vec<String>> {
    let mut batches: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for payload in payloads {
        let size = payload.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH && bytes + size <= BATCH_BYTES => {
                bytes += size;
                batch.push(payload);
            }
            _ => {
                bytes = size;
                batches.push(vec![payload]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use stanchion_actors::testing::bytes::{cases, damaged};

    use super::*;

    #[test]
    fn rates_have_a_time() {
        assert_eq!(rate("100/1s"), Ok((100, 1_000)));
        assert_eq!(rate("0"), Ok((0, 1)));
        assert!(rate("100").is_err() && rate("x/1s").is_err() && rate("1/x").is_err());
    }

    #[test]
    fn batches_keep_order_and_limits() {
        let cut = batches((0..600).map(|n| n.to_string()).collect());
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [256, 256, 88]);
        let large = batches(vec!["x".repeat(BATCH_BYTES); 2]);
        assert_eq!(large.len(), 2);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: cases(200), failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_file_of_jobs_is_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), seed: u64) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let valid = b"{\"a\": [1, 2.5]}\n\n\"text\"\n[null, true, {\"k\": \"\\u00e9\"}]\n";
            for bytes in [bytes, damaged(valid, seed)] {
                std::fs::write(file.path(), &bytes).unwrap();
                if let Ok(jobs) = lines(&file.path().to_owned()) {
                    assert!(jobs.len() <= bytes.split(|byte| *byte == b'\n').count());
                    assert_eq!(batches(jobs.clone()).concat(), jobs);
                }
            }
        }
    }
}
