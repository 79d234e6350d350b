//! An error as it is told outside: `WHAT at WHERE: WHAT WOULD BE RIGHT`.

use std::fmt;

use serde::{Deserialize, Serialize};
use stanchion_actors::{
    error::{Coded, Family},
    store::StoreError,
    workflow::{ReadError, RunError, RunRefusal},
};

/// An error as it is told outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable code `area.kind`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// Where.
    #[serde(rename = "where")]
    pub place: String,
    /// What would be right.
    pub hint: String,
    /// What the caller should do.
    pub family: Family,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.message, self.place, self.hint)
    }
}

impl std::error::Error for Problem {}

impl Problem {
    /// Something asked for that cannot be: ask for something else.
    #[must_use]
    pub fn rejected(
        code: impl Into<String>,
        message: impl Into<String>,
        place: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let family = Family::Rejected;
        Self { code: code.into(), message: message.into(), place: place.into(), hint: hint.into(), family }
    }

    /// Something that is in the way on our side.
    #[must_use]
    pub fn fatal(
        code: impl Into<String>,
        message: impl Into<String>,
        place: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { family: Family::Fatal, ..Self::rejected(code, message, place, hint) }
    }

    /// A store that cannot say or do.
    #[must_use]
    pub fn of_store(error: &StoreError) -> Self {
        let hint = match error {
            StoreError::NotApplied(_) => "nothing was changed: try again",
            StoreError::Unknown(_) => "it may have been applied: look, then try again",
            StoreError::Corrupt { .. } => "check it with \"stanchion verify\", restore a backup",
            // A fatal one, and what later versions add.
            _ => "free the disk or repair it, then start again",
        };
        let problem = Self::rejected(error.code(), error.to_string(), "the store", hint);
        Self { family: error.family(), ..problem }
    }

    /// A run that cannot be read.
    #[must_use]
    pub fn of_read(error: &ReadError, run: &str) -> Self {
        match error {
            ReadError::Unknown(_) => unknown_run(run),
            ReadError::Unreadable { why, .. } => Self::fatal(
                "run.unreadable",
                format!("its record is not readable ({why})"),
                format!("run {run:?}"),
                "use the program that wrote it, or check the store with \"stanchion verify\"",
            ),
            ReadError::Store(error) => Self::of_store(error),
            other => Self::fatal("run.unreadable", other.to_string(), format!("run {run:?}"), VERIFY),
        }
    }

    /// A run that could not be started or told something.
    #[must_use]
    pub fn of_run(error: &RunError, run: &str) -> Self {
        let place = format!("run {run:?}");
        match error {
            RunError::Read(error) => Self::of_read(error, run),
            RunError::Refused { refusal, .. } => refused(refusal, run),
            RunError::BadId(_) => bad_run_id(run),
            other => {
                let hint = match other.family() {
                    Family::Rejected => "correct what is named",
                    Family::Unavailable => "nothing was changed: try again",
                    Family::Unknown => {
                        "it may have been applied: look with \"stanchion show\", then try again"
                    }
                    Family::Fatal => "start the program again",
                };
                let problem = Self::rejected(other.code(), other.to_string(), place, hint);
                Self { family: other.family(), ..problem }
            }
        }
    }

    /// The exit code of a command that ends with it: 2 for what was asked wrongly, 3 for what is in the way.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.family {
            Family::Rejected => 2,
            Family::Unavailable | Family::Unknown | Family::Fatal => 3,
        }
    }
}

const VERIFY: &str = "check the store with \"stanchion verify\"";

fn unknown_run(run: &str) -> Problem {
    Problem::rejected("run.unknown", "there is no such run", format!("run {run:?}"), "see \"stanchion list\"")
}

fn bad_run_id(run: &str) -> Problem {
    Problem::rejected(
        "run.bad_id",
        "the run id is no id",
        format!("run {:?}", run.chars().take(140).collect::<String>()),
        "use 1 to 128 visible characters without '/'",
    )
}

fn refused(refusal: &RunRefusal, run: &str) -> Problem {
    let hint = match refusal {
        RunRefusal::Unknown => return unknown_run(run),
        RunRefusal::IllegalTransition { command, .. } => match command.as_str() {
            "pause" => "pause a run that is running".to_owned(),
            "resume" => "resume a run that is paused".to_owned(),
            "retry" => "retry a run that is failed or parked".to_owned(),
            "cancel" => "it is being undone already: wait for its end".to_owned(),
            _ => format!("see \"stanchion show {run}\""),
        },
        RunRefusal::AlreadyTerminal(status) if status == "failed" => {
            format!("\"stanchion retry {run}\" goes on with it")
        }
        RunRefusal::AlreadyTerminal(_) => "start a new run under another id".to_owned(),
        RunRefusal::StepNotFailed(_) | RunRefusal::UnknownStep(_) => {
            format!("name a failed step of \"stanchion show {run}\"")
        }
        RunRefusal::AlreadyExists { .. } => {
            "use the document, input and scale it was started with, or another id".to_owned()
        }
        RunRefusal::UnknownDefinition => "start the run again".to_owned(),
        _ => format!("see \"stanchion show {run}\""),
    };
    Problem::rejected(refusal.code(), refusal.to_string(), format!("run {run:?}"), hint)
}
