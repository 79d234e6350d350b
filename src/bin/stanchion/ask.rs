//! Requests: through the socket of the process that holds the store, or on the store itself.

use std::{path::Path, sync::Arc, time::Duration};

use stanchion::{
    System,
    control::{ClientError, Desk, Problem, Request, Stop, answer, ask},
    port::Store,
    store::{OpenError, RedbStore, StoreOptions},
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

/// Answers a request; the exit code.
pub(crate) async fn execute(db: &Path, request: Request, out: &mut Out) -> Result<u8, Fault> {
    out.shows(how(&request));
    if !db.exists() {
        return Err(missing(db).into());
    }
    let mut options = StoreOptions::default();
    options.must_exist = true;
    let mut tries = 0;
    loop {
        match ask(db, &request, out).await {
            Ok(()) | Err(ClientError::Gone(_)) => return out.end(0),
            Err(ClientError::NobodyListens) => {}
            Err(error) => return Err(broken(error).into()),
        }
        match RedbStore::open(db, options.clone()) {
            Ok(store) => return local(db, Arc::new(store), request, out).await,
            Err(OpenError::Locked { .. }) if tries < TRIES => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(Fault::of_store(&error, db)),
        }
        tries += 1;
    }
}

fn how(request: &Request) -> Human {
    match request {
        Request::List { .. } => Human::Runs(false),
        Request::Show { .. } => Human::Show,
        Request::EntityList { .. } => Human::Entities(false),
        Request::EntityShow { .. } => Human::State,
        Request::Pause { .. } | Request::Resume { .. } | Request::Cancel { .. } | Request::Retry { .. } => {
            Human::Told
        }
        Request::FlagList | Request::FlagSet { .. } => Human::Flags(false),
        Request::Backup { .. } => Human::Copy,
        _ => Human::Lines,
    }
}

fn broken(error: ClientError) -> Problem {
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
async fn local(db: &Path, store: Arc<RedbStore>, request: Request, out: &mut Out) -> Result<u8, Fault> {
    let goes_on = match &request {
        Request::Resume { run } | Request::Retry { run, .. } | Request::Cancel { run } => Some(run.clone()),
        _ => None,
    };
    let answered = if request.only_reads() {
        let desk = Desk::of_store(store.clone());
        let answered = answer(&desk, request, out).await;
        // What was read is true, however the store closes.
        let _ = store.close().await;
        answered
    } else {
        let system = System::builder().wake(false).open_on_redb(store, db).await;
        let system = system.map_err(|error| Fault::of_open(&error, db))?;
        let answered = answer(&Desk::of_system(&system), request, out).await;
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
