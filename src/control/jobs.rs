//! Jobs and dead letters: added, shown, told, edited, requeued, purged.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stanchion_actors::{
    queue::{
        DeadEdit, DeadFilter, JobEnqueued, JobId, JobState, JobStatus, JobView, NewJob, Queue, RunAt,
        Settled, Unique,
    },
    store::encode,
};

use super::{
    desk::{Desk, PAGE, Sink, Stop, put},
    msgpack,
    problem::Problem,
    queues::{open, problem},
};

/// A worker that is told to stop has this long.
const CANCEL_GRACE: Duration = Duration::from_secs(10);

/// What all jobs of one `job add` have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// Kind.
    pub kind: String,
    /// Priority.
    pub priority: u8,
    /// Milliseconds until it may run.
    pub delay_ms: u64,
    /// At most one live job of this name.
    pub unique: Option<String>,
    /// Key within which jobs keep their order.
    pub key: Option<String>,
    /// Longest time of an attempt in milliseconds; 0: none.
    pub timeout_ms: u64,
}

/// Which dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadSelect {
    /// The queue.
    pub queue: String,
    /// Ids within it; empty: whatever the rest says.
    pub ids: Vec<String>,
    /// All of them.
    pub all: bool,
    /// Of this kind.
    pub kind: Option<String>,
    /// With this code.
    pub code: Option<String>,
}

/// A job that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedRow {
    /// Its id: queue, partition and number.
    pub id: String,
    /// Whether there was a live job of the unique key already, of which this is the id.
    pub duplicate: bool,
}

/// A job as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRow {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub status: String,
    /// Its kind.
    pub kind: String,
    /// Its priority.
    pub priority: u8,
    /// Its key.
    pub key: Option<String>,
    /// Attempts begun.
    pub attempts: u32,
    /// Of these, failed since it was enqueued or requeued.
    pub failures: u32,
    /// When it was enqueued, in Unix microseconds.
    pub enqueued_us: i64,
    /// When it may run, in Unix microseconds; `None` unless it waits.
    pub due_us: Option<i64>,
    /// Who has leased it.
    pub worker: Option<String>,
    /// Percentage done, as its worker says.
    pub progress: u8,
    /// What its worker said last.
    pub note: String,
    /// Its last failure.
    pub last_error: Option<JobFault>,
    /// Its input.
    pub payload: Value,
    /// Its output.
    pub output: Value,
    /// What happened to it, the last 16 times.
    pub history: Vec<JobHappening>,
}

/// Why an attempt of a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFault {
    /// Stable code.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobHappening {
    /// Attempt.
    pub attempt: u32,
    /// When, in Unix microseconds.
    pub at_us: i64,
    /// Worker.
    pub worker: String,
    /// What.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What was told to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobToldRow {
    /// Its id.
    pub id: String,
    /// Where it stands now.
    pub status: String,
}

/// How many dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadCountRow {
    /// The queue.
    pub queue: String,
    /// How many.
    pub count: u64,
}

impl JobRow {
    fn of(queue: &str, view: JobView) -> Self {
        let job = view.job;
        let value = |bytes: Option<Bytes>| match bytes {
            None => Value::Null,
            Some(bytes) => msgpack::to_json(&bytes).unwrap_or_else(|| Value::String(msgpack::hex(&bytes))),
        };
        let last_error = match &job.state {
            JobState::Dead { code, message, .. } => {
                Some(JobFault { code: code.clone(), message: message.clone() })
            }
            _ => {
                let failed = |code: &str| !matches!(code, "done" | "requeued" | "edited");
                let last = job.history.iter().rev().find(|happening| failed(&happening.code));
                last.filter(|_| !matches!(job.state, JobState::Done(_)))
                    .map(|last| JobFault { code: last.code.clone(), message: last.message.clone() })
            }
        };
        let happened = |happening: &stanchion_actors::queue::Happening| JobHappening {
            attempt: happening.attempt,
            at_us: happening.at,
            worker: happening.worker.to_string(),
            code: happening.code.clone(),
            message: happening.message.clone(),
        };
        Self {
            id: format!("{queue}/{}", view.id),
            status: view.status.name().to_owned(),
            kind: job.kind.to_string(),
            priority: job.priority,
            key: job.key.as_ref().map(ToString::to_string),
            attempts: job.attempt,
            failures: job.failures,
            enqueued_us: job.enqueued_at,
            due_us: match job.state {
                JobState::Waiting(at) => Some(at),
                _ => None,
            },
            worker: match &job.state {
                JobState::Leased(lease) => Some(lease.worker.to_string()),
                _ => None,
            },
            progress: job.progress,
            note: job.note.clone(),
            last_error,
            payload: value(view.payload),
            output: value(view.output),
            history: job.history.iter().map(happened).collect(),
        }
    }
}

/// Adds jobs; payloads are JSON.
pub(super) async fn add(
    desk: &Desk,
    queue: &str,
    payloads: &[String],
    options: &JobOptions,
    sink: &mut impl Sink,
) -> Result<(), Stop> {
    let handle = open(desk, queue)?;
    let jobs = payloads.iter().map(|payload| new_job(payload, options)).collect::<Result<Vec<_>, _>>()?;
    let added = handle.enqueue(jobs).await.map_err(|error| problem(&error, queue))?;
    for one in added {
        let duplicate = matches!(one, JobEnqueued::Duplicate { .. });
        put(sink, &AddedRow { id: format!("{queue}/{}", one.id()), duplicate }).await?;
    }
    Ok(())
}

fn new_job(payload: &str, options: &JobOptions) -> Result<NewJob, Problem> {
    Ok(NewJob {
        payload: packed(payload)?,
        kind: Arc::from(options.kind.as_str()),
        priority: options.priority,
        key: options.key.as_deref().map(Arc::from),
        run_at: if options.delay_ms == 0 { RunAt::Now } else { RunAt::After(options.delay_ms) },
        unique: options.unique.as_deref().map(Unique::while_live),
        retry: None,
        timeout_ms: options.timeout_ms,
    })
}

/// JSON text as the MessagePack that activities read.
fn packed(payload: &str) -> Result<Bytes, Problem> {
    let no_json = |error: &dyn ToString| {
        let hint = "give one JSON value, one a line with --from";
        Problem::rejected("input.no_json", error.to_string(), "the payload", hint)
    };
    let value: Value = serde_json::from_str(payload).map_err(|error| no_json(&error))?;
    encode(&value).map(Bytes::from).map_err(|error| no_json(&error))
}

/// A queue and a job of it, from an id as it is printed.
fn place(desk: &Desk, id: &str) -> Result<(Queue, JobId), Problem> {
    let parts = id.split_once('/').and_then(|(queue, job)| Some((queue, job.parse().ok()?)));
    let Some((queue, job)) = parts else {
        let what = format!("{id:?} is no id of a job");
        return Err(Problem::rejected(
            "job.bad_id",
            what,
            "ID",
            "give an id as \"stanchion job add\" prints it",
        ));
    };
    Ok((open(desk, queue)?, job))
}

/// Shows a job; with `dead` only a dead letter.
pub(super) async fn show(desk: &Desk, id: &str, dead: bool, sink: &mut impl Sink) -> Result<(), Stop> {
    let (queue, job) = place(desk, id)?;
    let view = queue.job(job).await.map_err(|error| problem(&error, queue.name()))?;
    if dead && view.status != JobStatus::Dead {
        let what = format!("the job is {}", view.status.name());
        let hint = "see \"stanchion dead ls\"";
        return Err(Problem::rejected("queue.wrong_state", what, format!("job {id:?}"), hint).into());
    }
    put(sink, &JobRow::of(queue.name(), view)).await
}

/// Lets a dead letter or a delayed job run at once.
pub(super) async fn retry(desk: &Desk, id: &str, sink: &mut impl Sink) -> Result<(), Stop> {
    let (queue, job) = place(desk, id)?;
    let settled = queue.retry(job).await.map_err(|error| problem(&error, queue.name()))?;
    told(id, settled, sink).await
}

/// Cancels a job.
pub(super) async fn cancel(desk: &Desk, id: &str, sink: &mut impl Sink) -> Result<(), Stop> {
    let (queue, job) = place(desk, id)?;
    let settled = queue.cancel(job, CANCEL_GRACE).await.map_err(|error| problem(&error, queue.name()))?;
    told(id, settled, sink).await
}

async fn told(id: &str, settled: Settled, sink: &mut impl Sink) -> Result<(), Stop> {
    let status = match settled {
        Settled::Done => JobStatus::Done.name(),
        Settled::Waits(_) => JobStatus::Pending.name(),
        Settled::Dead => JobStatus::Dead.name(),
        Settled::Cancelled => JobStatus::Cancelled.name(),
        // Its worker has been told; it is cancelled when that one stops.
        _ => JobStatus::InFlight.name(),
    };
    put(sink, &JobToldRow { id: id.to_owned(), status: status.to_owned() }).await
}

/// Lists dead letters, the oldest number first.
pub(super) async fn dead_list(desk: &Desk, select: &DeadSelect, sink: &mut impl Sink) -> Result<(), Stop> {
    let queue = open(desk, &select.queue)?;
    // Of a queue that is not there, nobody should read that it has no dead letters.
    queue.stats().await.map_err(|error| problem(&error, queue.name()))?;
    let mut after = None;
    loop {
        let page = queue.list(Some(JobStatus::Dead), after, PAGE).await;
        let page = page.map_err(|error| problem(&error, queue.name()))?;
        after = page.last().map(|view| view.id);
        let ended = page.len() < PAGE;
        for view in page {
            let row = JobRow::of(queue.name(), view);
            let code = row.last_error.as_ref().map(|fault| &fault.code);
            let kind = select.kind.as_ref().is_none_or(|kind| *kind == row.kind);
            if kind && select.code.as_ref().is_none_or(|wanted| Some(wanted) == code) {
                put(sink, &row).await?;
            }
        }
        if ended {
            return Ok(());
        }
    }
}

/// Changes a dead letter.
pub(super) async fn dead_edit(
    desk: &Desk,
    id: &str,
    payload: Option<&str>,
    priority: Option<u8>,
    sink: &mut impl Sink,
) -> Result<(), Stop> {
    let (queue, job) = place(desk, id)?;
    let payload = payload.map(packed).transpose()?;
    let edit = DeadEdit { job: job.seq, payload, kind: None, priority };
    queue.dead_edit(job.partition, edit).await.map_err(|error| problem(&error, queue.name()))?;
    show(desk, id, true, sink).await
}

/// Requeues or purges dead letters; tells how many.
pub(super) async fn dead_settle(
    desk: &Desk,
    select: &DeadSelect,
    purge: bool,
    sink: &mut impl Sink,
) -> Result<(), Stop> {
    let queue = open(desk, &select.queue)?;
    let mut count = 0;
    for (partition, filter) in filters(desk, &queue, select).await? {
        let settled = match (partition, purge) {
            (Some(partition), true) => queue.dead_purge_in(partition, &filter).await,
            (Some(partition), false) => queue.dead_requeue_in(partition, &filter).await,
            (None, true) => queue.dead_purge(&filter).await,
            (None, false) => queue.dead_requeue(&filter).await,
        };
        count += settled.map_err(|error| problem(&error, queue.name()))?;
    }
    put(sink, &DeadCountRow { queue: queue.name().to_owned(), count }).await
}

/// What is meant in which partition; in all of them, unless ids are given.
async fn filters(
    desk: &Desk,
    queue: &Queue,
    select: &DeadSelect,
) -> Result<Vec<(Option<u16>, DeadFilter)>, Problem> {
    let kind = select.kind.as_deref().map(Arc::from);
    let rest =
        DeadFilter { all: select.all, jobs: Vec::new(), kind, code: select.code.clone(), before: None };
    if select.ids.is_empty() {
        return Ok(vec![(None, rest)]);
    }
    let mut by_partition: std::collections::BTreeMap<u16, Vec<u64>> = std::collections::BTreeMap::new();
    for id in &select.ids {
        let (_, job) = place(desk, id)?;
        // Every one is looked at before any is changed.
        let view = queue.job(job).await.map_err(|error| problem(&error, queue.name()))?;
        if view.status != JobStatus::Dead {
            let what = format!("the job is {}", view.status.name());
            let hint = "see \"stanchion dead ls\"";
            return Err(Problem::rejected("queue.wrong_state", what, format!("job {id:?}"), hint));
        }
        by_partition.entry(job.partition).or_default().push(job.seq);
    }
    let of = |(partition, jobs)| (Some(partition), DeadFilter { jobs, ..rest.clone() });
    Ok(by_partition.into_iter().map(of).collect())
}
