//! The one implementation of every request.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::Serialize;
use stanchion_actors::{
    env::Env,
    flags::Flags,
    ids::{Name, Version},
    store::{ListQuery, Store, StoreError},
    workflow::{
        Definitions, RUN_KIND, ReadError, RunError, RunReply, RunStatus, StoredRun, Workflows, check_run_id,
    },
};

use super::{
    entities, flags, jobs, names, nodes, policies,
    problem::Problem,
    queues,
    request::Request,
    rows::{BackupRow, RunRow, RunShow, ToldRow},
    starts,
};

/// Runs and entities listed at a time.
pub(super) const PAGE: usize = 256;

/// The reader of the answer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader of the answer is gone")]
pub struct Gone;

/// Why an answer ends before its last line.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Nobody reads on.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// Something is wrong.
    #[error(transparent)]
    Problem(#[from] Problem),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Problem(Problem::of_store(&error))
    }
}

/// Where the lines of an answer go.
pub trait Sink: Send {
    /// Takes one line, a JSON object.
    ///
    /// # Errors
    /// [`Gone`]: nobody reads on.
    fn put(&mut self, line: String) -> impl Future<Output = Result<(), Gone>> + Send;
}

/// What answers requests: a running system, or a store that was opened for it.
#[derive(Clone)]
pub struct Desk {
    source: Source,
    definitions: Arc<Definitions>,
}

#[derive(Clone)]
enum Source {
    Store(Arc<dyn Store>),
    System(Arc<Env>, Workflows),
}

impl Desk {
    /// Reads from an opened store; nothing can be told to a run.
    #[must_use]
    pub fn of_store(store: Arc<dyn Store>) -> Self {
        Self { source: Source::Store(store), definitions: Arc::default() }
    }

    /// Works on a running system.
    #[must_use]
    pub fn of_system(system: &crate::System) -> Self {
        Self::of_parts(Arc::clone(system.env()), system.workflows().clone())
    }

    pub(crate) fn of_parts(env: Arc<Env>, workflows: Workflows) -> Self {
        Self { source: Source::System(env, workflows), definitions: Arc::default() }
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        match &self.source {
            Source::Store(store) => Arc::clone(store),
            Source::System(env, _) => env.store().current(),
        }
    }

    pub(super) fn workflows(&self) -> Result<&Workflows, Problem> {
        match &self.source {
            Source::System(_, workflows) => Ok(workflows),
            Source::Store(_) => Err(only_read()),
        }
    }

    pub(super) fn env(&self) -> Result<&Arc<Env>, Problem> {
        match &self.source {
            Source::System(env, _) => Ok(env),
            Source::Store(_) => Err(only_read()),
        }
    }

    pub(super) fn flags(&self) -> Result<Flags, Problem> {
        Ok(Flags::new(Arc::clone(self.env()?)))
    }

    /// Reads a run at its last durable version.
    ///
    /// # Errors
    /// [`Problem`].
    pub async fn run(&self, id: &str) -> Result<StoredRun, Problem> {
        let store = self.store();
        StoredRun::read(store.as_ref(), &self.definitions, id).await.map_err(|e| Problem::of_read(&e, id))
    }
}

fn only_read() -> Problem {
    let what = "the store is open for reading only";
    Problem::fatal("store.only_read", what, "this process", "open the system")
}

/// Answers a request.
///
/// # Errors
/// [`Stop`]; lines given before it are true all the same.
///
/// # Cancel safety
/// Dropped while it waits, what was told to a run may be applied.
pub async fn answer(desk: &Desk, request: Request, sink: &mut impl Sink) -> Result<(), Stop> {
    match request {
        Request::List { status } => list(desk, status, sink).await,
        Request::Show { run } => put(sink, &RunShow::of(&desk.run(&run).await?)).await,
        Request::History { run } => history(desk, &run, sink).await,
        Request::EntityList { kind } => entities::list(desk, kind, sink).await,
        Request::EntityPurge { kind, key } => entities::purge(desk, &kind, &key, sink).await,
        Request::EntityShow { kind, key, at } => entities::show(desk, &kind, &key, at, sink).await,
        Request::Pause { run } => told(&run, desk.workflows()?.pause(&run).await, sink).await,
        Request::Resume { run } => told(&run, desk.workflows()?.resume(&run, None).await, sink).await,
        Request::Cancel { run } => told(&run, desk.workflows()?.cancel(&run).await, sink).await,
        Request::Retry { run, step } => {
            let done = desk.workflows()?.retry(&run, step.as_deref()).await;
            told(&run, done, sink).await
        }
        Request::FlagList => flags::list(desk, sink).await,
        Request::FlagSet { flag, to, by, reason } => flags::set(desk, &flag, &to, &by, &reason, sink).await,
        Request::BreakerList => policies::breakers(desk, sink).await,
        Request::BreakerTell { breaker, order } => policies::order(desk, &breaker, order, sink).await,
        Request::LimiterList => policies::limiters(desk, sink).await,
        Request::QueueList => queues::list(desk, sink).await,
        Request::QueueShow { queue } => queues::show(desk, &queue, sink).await,
        Request::QueueTell { queue, order } => queues::tell(desk, &queue, order, sink).await,
        Request::QueueSet { queue, change } => queues::set(desk, &queue, change, sink).await,
        Request::JobAdd { queue, payloads, options } => {
            jobs::add(desk, &queue, &payloads, &options, sink).await
        }
        Request::JobShow { id, dead } => jobs::show(desk, &id, dead, sink).await,
        Request::JobRetry { id } => jobs::retry(desk, &id, sink).await,
        Request::JobCancel { id } => jobs::cancel(desk, &id, sink).await,
        Request::DeadList(select) => jobs::dead_list(desk, &select, sink).await,
        Request::DeadEdit { id, payload, priority } => {
            jobs::dead_edit(desk, &id, payload.as_deref(), priority, sink).await
        }
        Request::DeadRequeue(select) => jobs::dead_settle(desk, &select, false, sink).await,
        Request::DeadPurge(select) => jobs::dead_settle(desk, &select, true, sink).await,
        Request::NameList { namespace } => names::list(desk, namespace, sink).await,
        Request::NameShow { name } => names::show(desk, &name, sink).await,
        Request::NameFree { name } => names::free(desk, &name, sink).await,
        Request::NodeList => nodes::list(desk, sink).await,
        Request::NodeDrain => nodes::drain(desk, sink).await,
        Request::Where { name } => nodes::find(desk, &name, sink).await,
        Request::Start(start) => starts::start(desk, start, sink).await,
        Request::Result { run, within_ms } => {
            starts::result(desk, &run, Duration::from_millis(within_ms), sink).await
        }
        Request::Place { run, placement } => starts::place(desk, run.as_deref(), &placement, sink).await,
        Request::OnNode { node, request } => nodes::ask(desk, &node, *request, sink).await,
        Request::Backup { to, force } => backup(desk, &to, force, sink).await,
    }
}

pub(super) async fn put(sink: &mut impl Sink, line: &impl Serialize) -> Result<(), Stop> {
    let text = serde_json::to_string(line);
    let text = text.map_err(|e| {
        Problem::fatal("answer.no_json", e.to_string(), "the answer", "report this with the command")
    })?;
    Ok(sink.put(text).await?)
}

async fn list(desk: &Desk, status: Option<String>, sink: &mut impl Sink) -> Result<(), Stop> {
    if let Some(status) = status.as_deref().filter(|status| RunStatus::from_name(status).is_none()) {
        let hint = "use pending, running, waiting, paused, compensating, cancelling, completed, failed, \
                    cancelled, compensated or parked";
        return Err(Problem::rejected("usage", format!("no status {status:?}"), "--status", hint).into());
    }
    let mut after: Option<Name> = None;
    // Runs of one definition follow each other as a rule: it is read once while the last run is kept.
    let mut last;
    loop {
        let store = desk.store();
        let query = ListQuery { kind: Some(RUN_KIND.to_owned()), status: status.clone(), after };
        let page = store.list(query, PAGE).await?;
        for listed in &page {
            let id = &listed.head.name.key;
            last = StoredRun::read(store.as_ref(), &desk.definitions, id).await;
            let row = match &last {
                Ok(run) => RunRow::of(run),
                Err(ReadError::Store(error)) => return Err(Problem::of_store(error).into()),
                Err(_unreadable) => RunRow::unreadable(&listed.head),
            };
            put(sink, &row).await?;
        }
        after = page.last().map(|listed| listed.head.name.clone());
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

async fn history(desk: &Desk, id: &str, sink: &mut impl Sink) -> Result<(), Stop> {
    let run = desk.run(id).await?;
    let mut from = Some(Version(1));
    while let Some(version) = from {
        let mut lines = Vec::new();
        let page = run.history_page(desk.store().as_ref(), version, &mut |line| lines.push(line)).await;
        from = page.map_err(|e| Problem::of_read(&e, id))?;
        for line in &lines {
            put(sink, line).await?;
        }
    }
    Ok(())
}

async fn told(id: &str, done: Result<RunReply, RunError>, sink: &mut impl Sink) -> Result<(), Stop> {
    let reply = done.map_err(|error| match check_run_id(id) {
        Ok(()) => Problem::of_run(&error, id),
        Err(why) => Problem::of_run(&RunError::BadId(why), id),
    })?;
    put(sink, &ToldRow { run_id: id.to_owned(), status: reply.status }).await
}

async fn backup(desk: &Desk, to: &str, force: bool, sink: &mut impl Sink) -> Result<(), Stop> {
    let path = PathBuf::from(to);
    match std::fs::symlink_metadata(&path) {
        Ok(_) if !force => {
            let hint = "choose another path, or replace it with --force";
            return Err(Problem::rejected("backup.exists", "there is a file already", to, hint).into());
        }
        Ok(found) if !found.is_file() => {
            let hint = "name a new file, or a regular one to replace";
            return Err(Problem::rejected("backup.not_a_file", "it is no regular file", to, hint).into());
        }
        _ => {}
    }
    if !path.is_absolute() {
        let hint = "give an absolute path";
        return Err(Problem::rejected("backup.relative", "the path is relative", to, hint).into());
    }
    desk.store().backup(path.clone(), force).await?;
    let bytes = std::fs::metadata(&path).map_or(0, |file| file.len());
    put(sink, &BackupRow { file: to.to_owned(), bytes }).await
}
