//! `stanchion run`: starts a run or goes on with it, and waits for its end.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use stanchion::{
    Builder, System,
    activities::{self, AllowedHosts},
    control::{Desk, Problem, somebody_listens},
    ids::Name,
    port::Store,
    store::{OpenError, RedbStore, StoreOptions},
    workflow::{RUN_KIND, ReadError, RunError, RunRefusal, RunStatus, StoredRun},
};

use super::{
    args::RunArgs,
    ask::{PAUSE, TRIES},
    fault::Fault,
    human::Human,
    launch::Programs,
    output::Out,
    prepare::Prepared,
    progress::Progress,
    report::{INTERRUPTED, Report},
    signals::Signals,
};

/// Activities at once, in addition to one for each worker: compensations.
const SPARE_PLACES: usize = 16;
/// Runs the document; the exit code.
pub(crate) async fn run(db: &Path, args: RunArgs, out: &mut Out) -> Result<u8, Fault> {
    let began = Instant::now();
    if args.balance.is_some() || args.key.is_some() {
        return Err(Fault::usage("it is run here", "--balance, --key", "use them with --node auto"));
    }
    let prepared = Prepared::of(&args, false)?;
    let id = prepared.start.id.clone();
    let signals = Signals::listen()
        .map_err(|error| Fault::internal(&error.to_string(), "the signals of the system"))?;
    out.shows(Human::Result);
    let store = open(db).await?;
    if prepared.is_new {
        announce(&id);
    }
    let desk = Desk::of_store(store.clone());
    let earlier = match earlier(&desk, &prepared).await {
        Ok(Some(run)) if has_ended(run.state.status()) => {
            let report =
                Report::of(&run, store.as_ref(), &prepared, false, began.elapsed().as_secs_f64()).await;
            let _ = store.close().await;
            return finish(&report?, out);
        }
        Ok(earlier) => earlier.map(|run| run.state.status()),
        Err(problem) => {
            let _ = store.close().await;
            return Err(problem.into());
        }
    };
    let programs = Programs::new(args.allow_shell);
    let system = start_system(db, store, &args, &id, &programs).await?;
    let attended = Attended { system, prepared, signals, programs, began, resumed: earlier.is_some() };
    attended.work(db, earlier, args.drain_timeout, out).await
}

/// The id of a new run is the first line of standard error.
pub(crate) fn announce(id: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{id}");
}

pub(crate) async fn open(db: &Path) -> Result<Arc<RedbStore>, Fault> {
    let mut tries = 0;
    loop {
        match RedbStore::open(db, StoreOptions::default()) {
            Ok(store) => return Ok(Arc::new(store)),
            Err(OpenError::Locked { .. }) if tries < TRIES && !somebody_listens(db) => {
                tokio::time::sleep(PAUSE).await
            }
            Err(error) => return Err(Fault::of_store(&error, db)),
        }
        tries += 1;
    }
}

/// The run of this id, if there is one; it must have been started with the same document, scale and input.
async fn earlier(desk: &Desk, prepared: &Prepared) -> Result<Option<StoredRun>, Problem> {
    let id = &prepared.start.id;
    match desk.run(id).await {
        Ok(run) if run.card.is_same(&prepared.card()) => Ok(Some(run)),
        Ok(run) => {
            let refusal = RunRefusal::AlreadyExists { definition: run.card.definition.clone() };
            Err(Problem::of_run(&RunError::Refused { id: id.clone(), refusal }, id))
        }
        Err(problem) if problem.code == "run.unknown" => Ok(None),
        Err(problem) => Err(problem),
    }
}

fn has_ended(status: RunStatus) -> bool {
    status.is_terminal() || status == RunStatus::Parked
}

async fn start_system(
    db: &Path,
    store: Arc<RedbStore>,
    args: &RunArgs,
    id: &str,
    programs: &Programs,
) -> Result<System, Fault> {
    let name =
        Name::new(RUN_KIND, id).map_err(|error| Fault::usage(&error.to_string(), "--id", "another id"))?;
    let places = usize::try_from(args.workers).unwrap_or(usize::MAX).saturating_add(SPARE_PLACES);
    let mut builder = activities::register(System::builder())
        .wake_only(name)
        .run_workers(args.workers)
        .activities_at_once(places);
    builder = allow_hosts(builder, &args.allow_hosts)?;
    #[cfg(unix)]
    {
        builder = programs.register(builder.control_socket(true));
    }
    builder.open_on_redb(store, db).await.map_err(|error| Fault::of_open(&error, db))
}

/// Registers `http.request` if a host is allowed.
pub(crate) fn allow_hosts(builder: Builder, hosts: &[String]) -> Result<Builder, Fault> {
    if hosts.is_empty() {
        return Ok(builder);
    }
    let hosts = AllowedHosts::parse(hosts)
        .map_err(|error| Fault::usage(&error.to_string(), "--allow-host", "HOST or HOST:PORT"))?;
    Ok(builder.activity(activities::HttpRequests::new(hosts)))
}

/// Prints a result.
pub(crate) fn finish(report: &Report, out: &mut Out) -> Result<u8, Fault> {
    out.line(report)?;
    match report.status {
        "parked" | "failed" => {
            out.note(&format!("\"stanchion retry {}\" goes on with it after a fix", report.run_id))
        }
        "interrupted" => out.note("the same command goes on with it"),
        _ => {}
    }
    out.end(report.exit_code())
}

/// What a store that nobody holds any more says of the run.
async fn stored(db: &Path, prepared: &Prepared, began: Instant, resumed: bool) -> Option<Report> {
    let store = open(db).await.ok()?;
    let read = async {
        let run = Desk::of_store(store.clone()).run(&prepared.start.id).await?;
        Report::of(&run, store.as_ref(), prepared, resumed, began.elapsed().as_secs_f64()).await
    };
    let report = read.await.ok();
    // What was read is true, however the store closes.
    let _ = store.close().await;
    report
}

/// The system has given up: its store neither applies anything nor opens anew.
fn lost(system: &System) -> Problem {
    let why = system.store().poisoned().unwrap_or_else(|| "its supervisors gave up".to_owned());
    let hint = "free the disk or repair it, then the same command goes on with the run";
    Problem::fatal("store.lost", format!("the store takes nothing any more ({why})"), "the store", hint)
}

/// Why this process attends to its run no longer.
enum End {
    /// The run has ended, or is parked.
    OfRun,
    /// A signal came.
    OfProcess,
}

/// A system with the run it is there for.
struct Attended {
    system: System,
    prepared: Prepared,
    signals: Signals,
    programs: Programs,
    began: Instant,
    resumed: bool,
}

impl Attended {
    async fn work(
        mut self,
        db: &Path,
        earlier: Option<RunStatus>,
        drain: Duration,
        out: &mut Out,
    ) -> Result<u8, Fault> {
        let ended = self.attend(earlier, drain, out).await;
        let report = match &ended {
            Ok(_) => self.report().await,
            Err(problem) => Err(problem.clone()),
        };
        // The result of a run that has ended stands: it is told before anything else can go wrong.
        let told = match (&ended, &report) {
            (Ok(End::OfRun), Ok(report)) => Some(finish(report, out)),
            _ => None,
        };
        let Self { system, prepared, mut signals, programs, began, resumed } = self;
        let at_once = told.as_ref().map_or(INTERRUPTED, |told| told.as_ref().copied().unwrap_or(INTERRUPTED));
        tokio::select! {
            // What was acknowledged is on disk, however the system stops.
            _ = system.stop(Duration::ZERO) => {}
            () = signals.next() => programs.end_at_once(at_once),
        }
        if let Some(told) = told {
            return told;
        }
        // What was on its way when the signal came is stored while the system stops: the store tells the rest.
        let rest = match ended {
            Ok(_) => stored(db, &prepared, began, resumed).await,
            Err(_) => None,
        };
        match rest {
            Some(report) => finish(&report, out),
            None => finish(&report?, out),
        }
    }

    /// Starts the run, or goes on with it, and waits until it has ended or a signal comes.
    async fn attend(
        &mut self,
        earlier: Option<RunStatus>,
        drain: Duration,
        out: &Out,
    ) -> Result<End, Problem> {
        let id = &self.prepared.start.id;
        let workflows = self.system.workflows();
        let mut start = self.prepared.start.clone();
        start.definition = workflows.adopt(start.definition);
        let told = async {
            workflows.start(start).await?;
            if earlier == Some(RunStatus::Paused) {
                workflows.resume(id, Some(self.prepared.start.workers)).await?;
            }
            Ok::<(), RunError>(())
        };
        told.await.map_err(|error| Problem::of_run(&error, id))?;
        let progress = Progress::new(out.is_json(), self.prepared.start.definition.step_count());
        let waited = tokio::select! {
            ended = workflows.wait(id) => ended.map(|_| false),
            () = progress.follow(workflows, id) => Ok(false),
            () = self.signals.next() => Ok(true),
            () = self.system.root().ended() => return Err(lost(&self.system)),
        };
        progress.clear();
        let signalled = waited.map_err(|error| match error {
            // Reads end with the store.
            ReadError::Store(_) => lost(&self.system),
            other => Problem::of_read(&other, id),
        })?;
        if signalled {
            out.note(&format!(
                "stopping: running steps have {} s, a second signal ends at once",
                drain.as_secs_f64()
            ));
            tokio::select! {
                _ = self.system.drain(drain) => {}
                () = self.signals.next() => self.programs.end_at_once(INTERRUPTED),
            }
            return Ok(End::OfProcess);
        }
        Ok(End::OfRun)
    }

    async fn report(&self) -> Result<Report, Problem> {
        let id = &self.prepared.start.id;
        let run = self.system.workflows().read(id).await.map_err(|error| Problem::of_read(&error, id))?;
        let store = self.system.store();
        let elapsed = self.began.elapsed().as_secs_f64();
        Report::of(&run, store.as_ref(), &self.prepared, self.resumed, elapsed).await
    }
}
