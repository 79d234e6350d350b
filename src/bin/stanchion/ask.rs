//! Requests: through the socket of the process that holds the store, or on the store itself.

use std::{path::Path, sync::Arc, time::Duration};

use stanchion::{
    System,
    control::{ClientError, Desk, Problem, Request, Stop, answer, ask},
    port::Store,
    store::{Backends, FileBackends, OpenError, RedbStore, StoreOptions},
    workflow::RunStatus,
};

use super::{
    fault::{Fault, missing},
    human::Human,
    output::Out,
};

/// A store that another command holds for a moment is asked for again so often.
pub(crate) const TRIES: u32 = 200;
/// Pause between two tries.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// Answers requests, one after another; the exit code.
pub(crate) async fn execute(db: &Path, requests: Vec<Request>, out: &mut Out) -> Result<u8, Fault> {
    let mut left = requests.into_iter().peekable();
    let mut options = StoreOptions::default();
    if let Some(first) = left.peek() {
        out.shows(how(first));
        if matches!(first, Request::OnNode { node, .. } if node == "*") {
            out.names_nodes();
        }
        refuse_own_store(db, first)?;
        if !db.exists() && !first.makes_store() {
            return Err(missing(db).into());
        }
        options.must_exist = !first.makes_store();
    }
    let mut tries = 0;
    while let Some(request) = left.peek() {
        match ask(db, request, out).await {
            Ok(()) => {
                left.next();
                tries = 0;
                continue;
            }
            Err(ClientError::Gone(_)) => return out.end(0),
            Err(ClientError::NobodyListens) => {}
            // Its process ended over it, and nothing was told: the store can be asked.
            Err(ClientError::Frame(_)) if request.only_reads() && !out.has_told() && tries < TRIES => {
                tokio::time::sleep(PAUSE).await;
                tries += 1;
                continue;
            }
            Err(error) => return Err(broken(error).into()),
        }
        match RedbStore::open(db, options.clone()) {
            Ok(store) => return local(db, Arc::new(store), left.collect(), out).await,
            Err(OpenError::Locked { .. }) if tries < TRIES => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(Fault::of_store(&error, db)),
        }
        tries += 1;
    }
    out.end(0)
}

/// A copy in place of the store it is taken from would leave neither.
fn refuse_own_store(db: &Path, request: &Request) -> Result<(), Problem> {
    match request {
        Request::Backup { to, .. } if FileBackends::new(db.to_path_buf()).has(Path::new(to)) => {
            let hint = "choose another path";
            Err(Problem::rejected("backup.own_store", "it is the store itself", to.as_str(), hint))
        }
        _ => Ok(()),
    }
}

fn how(request: &Request) -> Human {
    match request {
        Request::OnNode { request, .. } => how(request),
        Request::NodeList => Human::Nodes(false),
        Request::NodeDrain => Human::Drained,
        Request::Where { .. } => Human::Where,
        Request::List { .. } => Human::Runs(false),
        Request::Show { .. } => Human::Show,
        Request::EntityList { .. } => Human::Entities(false),
        Request::EntityShow { .. } => Human::State,
        Request::EntityPurge { .. } => Human::Purged,
        Request::Pause { .. } | Request::Resume { .. } | Request::Cancel { .. } | Request::Retry { .. } => {
            Human::Told
        }
        Request::FlagList | Request::FlagSet { .. } => Human::Flags(false),
        Request::NameList { .. } | Request::NameShow { .. } => Human::Names(false),
        Request::NameFree { .. } => Human::Named,
        Request::Backup { .. } => Human::Copy,
        Request::BreakerList | Request::BreakerTell { .. } => Human::Breakers(false),
        Request::LimiterList => Human::Limiters(false),
        Request::QueueList
        | Request::QueueShow { .. }
        | Request::QueueTell { .. }
        | Request::QueueSet { .. } => Human::Queues(false),
        Request::QueueStats { .. } => Human::QueueStats(false),
        Request::JobAdd { .. } => Human::Id,
        Request::JobShow { .. } | Request::DeadEdit { .. } => Human::Job,
        Request::JobRetry { .. } | Request::JobCancel { .. } => Human::JobTold,
        Request::DeadList(_) => Human::Dead(false),
        Request::DeadRequeue(_) | Request::DeadPurge(_) => Human::DeadCount,
        _ => Human::Lines,
    }
}

pub(crate) fn broken(error: ClientError) -> Problem {
    match error {
        ClientError::Problem(problem) => problem,
        other => Problem::fatal(
            "control.broken",
            other.to_string(),
            "the control socket",
            "look with \"stanchion show\" what was done, then try again",
        ),
    }
}

/// On a store that nobody holds: what only reads needs no system; a command is applied by one that starts nothing.
async fn local(db: &Path, store: Arc<RedbStore>, requests: Vec<Request>, out: &mut Out) -> Result<u8, Fault> {
    let goes_on = requests.iter().find_map(|request| match request {
        Request::Resume { run } | Request::Retry { run, .. } | Request::Cancel { run } => Some(run.clone()),
        _ => None,
    });
    let answered = if requests.iter().all(Request::only_reads) {
        let desk = Desk::of_store(store.clone());
        let answered = answer_all(&desk, requests, out).await;
        // What was read is true, however the store closes.
        let _ = store.close().await;
        answered
    } else {
        let system = System::builder().wake(false).open_on_redb(store, db).await;
        let system = system.map_err(|error| Fault::of_open(&error, db))?;
        let answered = answer_all(&Desk::of_system(&system), requests, out).await;
        // What was answered is on disk, however the system stops.
        let _ = system.stop(Duration::ZERO).await;
        answered
    };
    match answered {
        Ok(()) | Err(Stop::Gone(_)) => {}
        Err(Stop::Problem(problem)) => return Err(problem.into()),
    }
    let open = out.status().and_then(RunStatus::from_name).is_some_and(|status| !status.is_terminal());
    if let Some(run) = goes_on.filter(|_| open) {
        out.note(&format!("nothing runs it here: \"stanchion run FILE --id {run}\" goes on with it"));
    }
    out.end(0)
}

async fn answer_all(desk: &Desk, requests: Vec<Request>, out: &mut Out) -> Result<(), Stop> {
    for request in requests {
        answer(desk, request, out).await?;
    }
    Ok(())
}
