//! `stanchion work`: a pool of task agents over the built-in activities.

use std::{path::Path, time::Duration};

use serde::Serialize;
use stanchion::{
    System, TaskAgents, activities,
    control::Problem,
    error::Coded,
    queue::{QUEUE_KIND, Queue, QueueError, QueueRefusal},
    task_agent::{TaskAgent, TaskAgentConfig},
};

use super::{
    args::WorkArgs,
    fault::Fault,
    human::Human,
    launch::Programs,
    output::Out,
    report::INTERRUPTED,
    run::{allow_hosts, open},
    signals::Signals,
};

/// How often it looks whether the queue is empty.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the work came to.
#[derive(Debug, Serialize)]
struct WorkRow {
    queue: String,
    agents: u32,
    done: u64,
    failed: u64,
    cancelled: u64,
    lost: u64,
    status: &'static str,
}

/// Works until the queue is empty, or a signal comes; the exit code.
pub(crate) async fn work(db: &Path, args: WorkArgs, out: &mut Out) -> Result<u8, Fault> {
    let mut signals = Signals::listen()
        .map_err(|error| Fault::internal(&error.to_string(), "the signals of the system"))?;
    out.shows(Human::Work);
    let programs = Programs::new(args.allow_shell);
    let store = open(db).await?;
    let places = usize::try_from(args.agents).unwrap_or(usize::MAX);
    let mut builder = activities::register(System::builder()).wake_kind(QUEUE_KIND);
    builder = allow_hosts(builder.activities_at_once(places), &args.allow_hosts)?;
    #[cfg(unix)]
    {
        builder = programs.register(builder.control_socket(true));
    }
    let system = builder.open_on_redb(store, db).await.map_err(|error| Fault::of_open(&error, db))?;
    let worked = attend(&system, &args, (&mut signals, &programs), out).await;
    tokio::select! {
        // What was acknowledged is on disk, however the system stops.
        _ = system.stop(Duration::ZERO) => {}
        () = signals.next() => programs.end_at_once(INTERRUPTED),
    }
    let row = worked?;
    let code = if row.status == "interrupted" { INTERRUPTED } else { 0 };
    out.line(&row)?;
    out.end(code)
}

async fn attend(
    system: &System,
    args: &WorkArgs,
    (signals, programs): (&mut Signals, &Programs),
    out: &Out,
) -> Result<WorkRow, Fault> {
    let queue = system.queue(&args.queue).map_err(|error| told(&error, &args.queue))?;
    let agents = start(&system.task_agents(), args).await?;
    let ended = tokio::select! {
        ended = until_empty(&queue, args.until_empty) => ended.map(|()| "empty"),
        () = signals.next() => Ok("interrupted"),
        () = system.root().ended() => {
            let hint = "free the disk or repair it, then work again";
            let what = "the store takes nothing any more";
            return Err(Problem::fatal("store.lost", what, "the store", hint).into());
        }
    };
    let status = ended.map_err(|error| told(&error, &args.queue))?;
    if status == "interrupted" {
        let seconds = args.drain_timeout.as_secs_f64();
        out.note(&format!("stopping: running jobs have {seconds} s, a second signal ends at once"));
        tokio::select! {
            _ = system.drain(args.drain_timeout) => {}
            () = signals.next() => programs.end_at_once(INTERRUPTED),
        }
    }
    // The queue knows the end of a job a moment before its agent has counted it.
    for agent in &agents {
        agent.drain(args.drain_timeout).await;
    }
    let mut row = WorkRow {
        queue: args.queue.clone(),
        agents: args.agents,
        done: 0,
        failed: 0,
        cancelled: 0,
        lost: 0,
        status,
    };
    for counts in agents.iter().map(|agent| agent.status().counts) {
        row.done += counts.done;
        row.failed += counts.failed;
        row.cancelled += counts.cancelled;
        row.lost += counts.lost;
    }
    Ok(row)
}

async fn start(task_agents: &TaskAgents, args: &WorkArgs) -> Result<Vec<TaskAgent>, Fault> {
    let mut agents = Vec::new();
    for number in 1..=args.agents {
        let name = format!("work-{}-{number}", args.queue);
        let lease_ms = u64::try_from(args.lease.as_millis()).unwrap_or(u64::MAX);
        let config = TaskAgentConfig { lease_ms, ..TaskAgentConfig::new(name, &args.queue, &args.activity) };
        let started = task_agents.start(config).await.map_err(|error| {
            let hint = "see \"stanchion work --help\"";
            let problem =
                Problem::rejected(error.code(), error.to_string(), format!("queue {:?}", args.queue), hint);
            Problem { family: error.family(), ..problem }
        });
        agents.push(started?);
    }
    Ok(agents)
}

/// Ends when the queue holds no live job; never without `until_empty`.
async fn until_empty(queue: &Queue, until_empty: bool) -> Result<(), QueueError> {
    if !until_empty {
        return std::future::pending().await;
    }
    loop {
        match queue.stats().await {
            Ok(stats) if stats.live() > 0 => {}
            Ok(_) | Err(QueueError::Refused(QueueRefusal::UnknownQueue)) => return Ok(()),
            Err(error) if error.retryable() => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn told(error: &QueueError, queue: &str) -> Problem {
    let hint = "use 1 to 200 visible characters without '/'";
    let problem = Problem::rejected(error.code(), error.to_string(), format!("queue {queue:?}"), hint);
    Problem { family: error.family(), ..problem }
}
