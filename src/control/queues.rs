//! Queues: listed, shown, paused, resumed, drained, set.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stanchion_actors::{
    error::{Coded, Family},
    ids::Name,
    queue::{Flow, QUEUE_KIND, Queue, QueueConfig, QueueError, QueueRefusal, QueueStats, Rate},
    store::ListQuery,
};

use super::{
    desk::{Desk, PAGE, Sink, Stop, put},
    problem::Problem,
};

/// One queue of `queue ls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueRow {
    /// Its name.
    pub name: String,
    /// Jobs that may be leased.
    pub pending: u64,
    /// Jobs that wait for their time.
    pub delayed: u64,
    /// Jobs leased.
    pub in_flight: u64,
    /// Jobs done.
    pub done: u64,
    /// Dead letters.
    pub dead: u64,
    /// Jobs accepted.
    pub enqueued: u64,
    /// Seconds since the oldest pending job might have been leased.
    pub oldest_s: u64,
    /// Whether nothing is leased until it is resumed.
    pub paused: bool,
    /// Whether nothing is enqueued until it is resumed.
    pub draining: bool,
    /// Jobs cancelled.
    pub cancelled: u64,
    /// Dead letters purged.
    pub purged: u64,
    /// Failures that were retried.
    pub retried: u64,
    /// Leases lost.
    pub lost: u64,
    /// Partitions.
    pub partitions: u16,
    /// Most live jobs of a partition.
    pub max: u64,
}

impl QueueRow {
    fn of(stats: QueueStats) -> Self {
        Self {
            name: stats.name,
            pending: stats.pending,
            delayed: stats.delayed,
            in_flight: stats.in_flight,
            done: stats.done,
            dead: stats.dead,
            enqueued: stats.enqueued,
            oldest_s: stats.oldest_s,
            paused: stats.paused,
            draining: stats.draining,
            cancelled: stats.cancelled,
            purged: stats.purged,
            retried: stats.retried,
            lost: stats.lost,
            partitions: stats.partitions,
            max: stats.max,
        }
    }
}

/// A row of `queue stats`: the queue, then each key whose jobs are counted. What is not of the store counts from the
/// opening; times are at most a quarter too high.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueStatsRow {
    /// Name of the queue.
    pub name: String,
    /// The key; none: all jobs. `*`: keys beyond the first 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Attempts begun.
    pub started: u64,
    /// Attempts that succeeded.
    pub done: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Of these, followed by another one.
    pub retried: u64,
    /// Leases that ran out.
    pub expired: u64,
    /// Leases of an earlier life of their worker, given back.
    pub released: u64,
    /// Milliseconds from the time a job might have been leased to its lease: half of all jobs waited less.
    pub wait_p50_ms: f64,
    /// The same of 99 in 100.
    pub wait_p99_ms: f64,
    /// Milliseconds from lease to end of attempt: half of all took less.
    pub run_p50_ms: f64,
    /// The same of 99 in 100.
    pub run_p99_ms: f64,
    /// How the queue stands; not of a key.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub standing: Option<QueueStanding>,
}

/// How a queue stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueStanding {
    /// Jobs pending, delayed and leased.
    pub depth: u64,
    /// Seconds since the oldest pending job might have been leased.
    pub oldest_s: u64,
    /// Jobs enqueued in a second, over the last minute.
    pub enqueued_per_s: f64,
    /// Jobs done in a second, over the last minute.
    pub done_per_s: f64,
}

impl QueueStatsRow {
    fn of(name: &str, key: Option<&str>, flow: &Flow, standing: Option<QueueStanding>) -> Self {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        Self {
            name: name.to_owned(),
            key: key.map(str::to_owned),
            started: flow.started,
            done: flow.done,
            failed: flow.failed,
            retried: flow.retried,
            expired: flow.expired,
            released: flow.released,
            wait_p50_ms: ms(flow.wait.quantile(0.5)),
            wait_p99_ms: ms(flow.wait.quantile(0.99)),
            run_p50_ms: ms(flow.run.quantile(0.5)),
            run_p99_ms: ms(flow.run.quantile(0.99)),
            standing,
        }
    }
}

/// What a queue is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueOrder {
    /// Leases nothing.
    Pause,
    /// Goes on, and takes jobs again.
    Resume,
    /// Takes no more jobs, and is waited for.
    Drain {
        /// Milliseconds.
        deadline_ms: u64,
    },
}

/// Settings to change; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueChange {
    /// Most live jobs of a partition.
    pub max: Option<u64>,
    /// Partitions.
    pub partitions: Option<u16>,
    /// Bands of priority.
    pub priorities: Option<u8>,
    /// A job that waited this long goes before every priority.
    pub ageing_ms: Option<u64>,
    /// Most leased jobs; 0: no limit.
    pub concurrency: Option<u32>,
    /// Most leased jobs of one key; 0: no limit.
    pub per_key_limit: Option<u32>,
    /// Starts within milliseconds; 0 starts: no limit.
    pub rate: Option<(u32, u64)>,
    /// Attempts of a job, with the first.
    pub max_attempts: Option<u32>,
    /// First delay after a failure.
    pub retry_after_ms: Option<u64>,
    /// Most dead letters.
    pub dead_max: Option<u32>,
    /// Ended jobs kept for looking at.
    pub keep_ended: Option<u32>,
}

impl QueueChange {
    fn apply(self, config: &mut QueueConfig) {
        fn set<T>(field: &mut T, to: Option<T>) {
            if let Some(to) = to {
                *field = to;
            }
        }
        set(&mut config.max, self.max);
        set(&mut config.partitions, self.partitions);
        set(&mut config.priorities, self.priorities);
        set(&mut config.ageing_ms, self.ageing_ms);
        set(&mut config.concurrency, self.concurrency);
        set(&mut config.per_key_limit, self.per_key_limit);
        let rate = self.rate.map(|(permits, per_ms)| (permits > 0).then_some(Rate { permits, per_ms }));
        set(&mut config.rate, rate);
        set(&mut config.retry.max_attempts, self.max_attempts);
        if let Some(after) = self.retry_after_ms {
            config.retry.initial_interval_ms = after;
            config.retry.maximum_interval_ms = config.retry.maximum_interval_ms.map(|most| most.max(after));
        }
        set(&mut config.dead_max, self.dead_max);
        set(&mut config.keep_ended, self.keep_ended);
    }
}

/// Lists queues by name.
pub(super) async fn list(desk: &Desk, sink: &mut impl Sink) -> Result<(), Stop> {
    let mut after: Option<Name> = None;
    loop {
        let query = ListQuery { kind: Some(QUEUE_KIND.to_owned()), status: None, after };
        let page = desk.store().list(query, PAGE).await?;
        for listed in page.iter().filter(|listed| !listed.head.name.key.contains('/')) {
            show(desk, &listed.head.name.key, sink).await?;
        }
        after = page.last().map(|listed| listed.head.name.clone());
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

/// Shows one queue.
pub(super) async fn show(desk: &Desk, queue: &str, sink: &mut impl Sink) -> Result<(), Stop> {
    let stats = open(desk, queue)?.stats().await.map_err(|error| problem(&error, queue))?;
    put(sink, &QueueRow::of(stats)).await
}

/// Shows what a queue did since the system was opened.
pub(super) async fn stats(desk: &Desk, queue: &str, sink: &mut impl Sink) -> Result<(), Stop> {
    let metrics = open(desk, queue)?.metrics().await.map_err(|error| problem(&error, queue))?;
    let (stats, flow) = (metrics.stats, metrics.flow);
    let standing = QueueStanding {
        depth: stats.live(),
        oldest_s: stats.oldest_s,
        enqueued_per_s: flow.enqueued_per_s,
        done_per_s: flow.done_per_s,
    };
    put(sink, &QueueStatsRow::of(queue, None, &flow.all, Some(standing))).await?;
    for (key, flow) in &flow.keys {
        put(sink, &QueueStatsRow::of(queue, Some(key), flow, None)).await?;
    }
    if flow.other_keys.started > 0 {
        put(sink, &QueueStatsRow::of(queue, Some("*"), &flow.other_keys, None)).await?;
    }
    Ok(())
}

/// Tells a queue something, and shows it.
pub(super) async fn tell(
    desk: &Desk,
    queue: &str,
    order: QueueOrder,
    sink: &mut impl Sink,
) -> Result<(), Stop> {
    let handle = open(desk, queue)?;
    let told = match order {
        QueueOrder::Pause => handle.pause().await,
        QueueOrder::Resume => handle.resume().await,
        QueueOrder::Drain { deadline_ms } => handle.drain(Duration::from_millis(deadline_ms)).await.map(drop),
    };
    told.map_err(|error| problem(&error, queue))?;
    show(desk, queue, sink).await
}

/// Changes settings of a queue, made if it is not there, and shows it.
pub(super) async fn set(
    desk: &Desk,
    queue: &str,
    change: QueueChange,
    sink: &mut impl Sink,
) -> Result<(), Stop> {
    let handle = open(desk, queue)?;
    let mut config = handle.config().await.map_err(|error| problem(&error, queue))?;
    change.apply(&mut config);
    handle.configure(config).await.map_err(|error| problem(&error, queue))?;
    show(desk, queue, sink).await
}

pub(super) fn open(desk: &Desk, queue: &str) -> Result<Queue, Problem> {
    Queue::new(desk.env()?, queue).map_err(|error| problem(&error, queue))
}

/// What a queue says, as it is told outside.
pub(super) fn problem(error: &QueueError, queue: &str) -> Problem {
    let hint = match error {
        QueueError::Refused(refusal) => match refusal {
            QueueRefusal::QueueFull { .. } => {
                "let workers catch up, or raise it with \"stanchion queue set\""
            }
            QueueRefusal::UnknownQueue => "see \"stanchion queue ls\"",
            QueueRefusal::Draining => "\"stanchion queue resume\" ends the draining",
            QueueRefusal::NoFilter => "say which: ids, --all, --kind or --code",
            QueueRefusal::NotEmpty(_) => "drain it with \"stanchion queue drain\"",
            QueueRefusal::UnknownJob(_) | QueueRefusal::WrongState(_) | QueueRefusal::LeaseLost => {
                "see \"stanchion job show\""
            }
            _ => "correct what is named",
        },
        QueueError::Name(_) => "use 1 to 200 visible characters without '/'",
        QueueError::Call(failure) => match failure.family() {
            Family::Unknown => "it may have been applied: look with \"stanchion queue show\"",
            _ => "nothing was changed: try again",
        },
        _ => "check the store with \"stanchion verify\"",
    };
    let problem = Problem::rejected(error.code(), error.to_string(), format!("queue {queue:?}"), hint);
    // A queue that is full refuses the command; nothing is in the way on our side.
    let family = if matches!(error, QueueError::Refused(_)) { Family::Rejected } else { error.family() };
    Problem { family, ..problem }
}
