//! Errors as the program tells them: one line each, or one JSON object each, on standard error.

use std::{any::Any, io::Write, path::Path};

use serde_json::json;
use stanchion::{
    OpenError,
    control::Problem,
    documents::DocumentError,
    store::{CompactError, OpenError as StoreOpenError, RestoreError},
};

/// Exit code of bad usage or input.
pub(crate) const BAD_INPUT: u8 = 2;

/// Why a command ends without what it was asked for: at least one problem.
#[derive(Debug)]
pub(crate) struct Fault {
    problems: Vec<Problem>,
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl From<Vec<Problem>> for Fault {
    fn from(problems: Vec<Problem>) -> Self {
        Self { problems }
    }
}

impl Fault {
    pub(crate) fn usage(what: &str, place: &str, hint: &str) -> Self {
        Problem::rejected("usage", what, place, hint).into()
    }

    pub(crate) fn internal(what: &str, place: &str) -> Self {
        Problem::fatal("internal", what, place, "report this with the command that led to it").into()
    }

    pub(crate) fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Self::internal(&format!("the program has a fault ({text})"), "this command")
    }

    /// What clap says, in our form. Its text has the fault first, then tips and the usage.
    pub(crate) fn of_usage(error: &clap::Error) -> Self {
        let text = error.to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or("the command is not understood");
        let what = first.strip_prefix("error: ").unwrap_or(first).trim_end_matches(':');
        let more: Vec<&str> =
            lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more")).collect();
        let what = match more.is_empty() || !what.ends_with("provided") {
            true => what.to_owned(),
            false => format!("{what}: {}", more.join(", ")),
        };
        let tip = more.iter().find_map(|line| line.strip_prefix("tip: "));
        let hint = tip.map_or_else(|| "see \"stanchion --help\"".to_owned(), str::to_owned);
        Self::usage(&what, "the command line", &hint)
    }

    /// Every fault of a document.
    pub(crate) fn of_document(error: &DocumentError, file: &str) -> Self {
        let problem = |line: stanchion::documents::FaultLine| {
            let place = format!("{} ({file})", line.place);
            Problem::rejected(format!("document.{}", line.code), line.message, place, line.hint)
        };
        error.lines().into_iter().map(problem).collect::<Vec<_>>().into()
    }

    pub(crate) fn of_open(error: &OpenError, db: &Path) -> Self {
        match error {
            OpenError::Store(error) => store_problem(error, db).into(),
            OpenError::Control(source) => Problem::fatal(
                "store.control",
                format!("the control socket does not open ({source})"),
                db.display().to_string(),
                "give the store a directory that can be written",
            )
            .into(),
            other => Self::internal(&other.to_string(), &db.display().to_string()),
        }
    }

    pub(crate) fn of_store(error: &StoreOpenError, db: &Path) -> Self {
        store_problem(error, db).into()
    }

    pub(crate) fn of_compact(error: &CompactError, db: &Path) -> Self {
        let hint = "nothing was changed: free the disk or check the store with \"stanchion verify\"";
        match error {
            CompactError::Open(StoreOpenError::Locked { .. }) => {
                let hint = "stop what holds it first";
                Problem::fatal("store.locked", error.to_string(), db.display().to_string(), hint).into()
            }
            CompactError::Open(error) => Self::of_store(error, db),
            other => {
                Problem::fatal("compact.failed", other.to_string(), db.display().to_string(), hint).into()
            }
        }
    }

    pub(crate) fn of_restore(error: &RestoreError, db: &Path) -> Self {
        let problem = |code: &str, what: &dyn ToString, place: &Path, hint: &str| {
            Problem::rejected(code, what.to_string(), place.display().to_string(), hint)
        };
        let fatal =
            |problem: Problem| Problem::fatal(problem.code, problem.message, problem.place, problem.hint);
        match error {
            RestoreError::NotABackup(path) => {
                problem("restore.no_backup", &"it is not a whole backup", path, "choose another file")
            }
            RestoreError::Damaged { path, what } => {
                fatal(problem("restore.damaged", what, path, "choose another backup"))
            }
            RestoreError::NewerFormat { path, .. } => {
                fatal(problem("restore.newer_format", error, path, "use a newer stanchion"))
            }
            RestoreError::Exists(path) => {
                let hint = "choose another path, or replace it with --force";
                problem("restore.exists", &"there is a store already", path, hint)
            }
            RestoreError::Open(error) => store_problem(error, db),
            RestoreError::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                problem("restore.unreadable", source, path, "name a backup that exists")
            }
            RestoreError::Io { path, source } => {
                fatal(problem("restore.io", source, path, "free the disk or repair it, then try again"))
            }
            other => fatal(problem("restore.failed", other, db, "choose another backup")),
        }
        .into()
    }

    /// Prints it; answers the exit code, the gravest of all.
    pub(crate) fn tell(&self, json: bool) -> u8 {
        let mut err = std::io::stderr().lock();
        for problem in &self.problems {
            let Problem { code, message, place, hint, .. } = problem;
            // Where nobody reads the errors, nothing can be done about it.
            let _ = if json {
                let [code, message, place, hint] = [code, message, place, hint].map(|text| json!(text));
                let fields = format!(r#""code":{code},"message":{message},"where":{place},"hint":{hint}"#);
                writeln!(err, r#"{{"error":{{{fields}}}}}"#)
            } else {
                writeln!(err, "error: {}", one_line(&problem.to_string()))
            };
        }
        self.problems.iter().map(Problem::exit_code).max().unwrap_or(BAD_INPUT)
    }
}

/// An error is one line, whatever names it quotes.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn store_problem(error: &StoreOpenError, db: &Path) -> Problem {
    let place = db.display().to_string();
    let fatal = |code: &str, what: String, hint: &str| Problem::fatal(code, what, place.as_str(), hint);
    match error {
        StoreOpenError::Locked { pid, .. } => {
            let holder = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            let hint = "stop it first, or let it open its control socket";
            fatal("store.locked", format!("the store is held by {holder}"), hint)
        }
        StoreOpenError::Missing(_) => missing(db),
        StoreOpenError::NotAStore(_) => {
            fatal("store.not_a_store", "it is not a store".into(), "choose another path")
        }
        StoreOpenError::NewerFormat { found, .. } => fatal(
            "store.newer_format",
            format!(
                "the store has format {found}, this program knows up to {}",
                stanchion::store::FILE_FORMAT
            ),
            "use a newer stanchion",
        ),
        StoreOpenError::Corrupt { .. } if stanchion::store::is_backup(db) => {
            let hint = "make a store of it with \"stanchion restore\"";
            Problem::rejected("store.is_backup", "it is a backup", place.as_str(), hint)
        }
        StoreOpenError::Corrupt { what, .. } => {
            fatal("store.corrupt", format!("the store is corrupt ({what})"), "restore a backup")
        }
        StoreOpenError::LogMissing { .. } => fatal(
            "store.log_missing",
            "the store was not closed cleanly and its log is missing".into(),
            "put the file with the ending -log back beside it, or restore a backup",
        ),
        StoreOpenError::Gap { .. } => fatal(
            "store.gap",
            "the store and its log do not belong together".into(),
            "put the right log back beside it, or restore a backup",
        ),
        StoreOpenError::ReadOnly { source, .. } => {
            let hint = "let this user write the file and its directory";
            fatal("store.read_only", format!("the store cannot be written ({source})"), hint)
        }
        StoreOpenError::Io { source, .. } => {
            let hint = "free the disk or repair it, or choose another path";
            fatal("store.io", format!("the store cannot be opened ({source})"), hint)
        }
        other => fatal("store.open", other.to_string(), "restore a backup"),
    }
}

/// There is no store.
pub(crate) fn missing(db: &Path) -> Problem {
    let hint = "name another one with --db, or make it with \"stanchion run\" or \"stanchion restore\"";
    Problem::rejected("store.missing", "there is no store", db.display().to_string(), hint)
}

/// A panic is told once, where it is caught: in an activity as its failure, in the program as an error.
pub(crate) fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::warn!(place, "panic");
    }));
}
