//! What is said to a run, and what it answers: the wire schema of the kind `run`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    definition::{DefinitionHash, is_invisible},
    run::{RunRejection, RunStatus, check_levels},
};
use crate::{error::Refusal, store::encode};

/// Kind of the entities that are workflow runs.
pub const RUN_KIND: &str = "run";
/// Longest run id, in characters.
pub const RUN_ID_MAX_CHARS: usize = 128;

/// Largest input of a run, as it is stored: MessagePack, where short fractions take up to three times their text.
pub const RUN_INPUT_MAX_BYTES: usize = 2 << 20;

/// A command to a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RunCommand {
    /// Begins. The definition was stored before.
    Start(RunCard),
    /// Starts no further steps.
    Pause,
    /// Goes on after a pause.
    Resume {
        /// New number of workers.
        workers: Option<u32>,
    },
    /// Ends it.
    Cancel,
    /// Goes on after a failure or parking.
    Retry {
        /// Only this step.
        step: Option<String>,
    },
}

/// What a run was started with; kept in a row of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunCard {
    /// Content hash of the definition.
    #[serde(rename = "h", with = "serde_bytes")]
    pub hash: Vec<u8>,
    /// Name of the definition.
    #[serde(rename = "d")]
    pub definition: String,
    /// Input of the run.
    #[serde(rename = "i")]
    pub input: Value,
    /// Most attempts at once.
    #[serde(rename = "w")]
    pub workers: u32,
    /// What else must be the same when the run is asked for again, such as the scale of a trace.
    #[serde(rename = "n", default, skip_serializing_if = "Value::is_null")]
    pub note: Value,
}

impl RunCard {
    /// The hash as a hash; `None` when it has not 32 bytes.
    #[must_use]
    pub fn hash(&self) -> Option<DefinitionHash> {
        <[u8; 32]>::try_from(self.hash.as_slice()).ok().map(DefinitionHash::from_bytes)
    }

    /// Whether `other` asks for the same run: all but the number of workers.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.hash == other.hash && self.input == other.input && self.note == other.note
    }
}

/// What a run answers to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReply {
    /// Where it stands after the command, as [`RunStatus::name`].
    pub status: String,
    /// Whether it had been started before, and the same way.
    pub known: bool,
}

impl RunReply {
    pub(super) fn new(status: RunStatus, known: bool) -> Self {
        Self { status: status.name().to_owned(), known }
    }
}

/// Why a run refuses a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum RunRefusal {
    /// Not possible from where the run is.
    #[error("cannot {command} a run that is {from}")]
    IllegalTransition {
        /// Where the run is.
        from: String,
        /// The command.
        command: String,
    },
    /// The run has ended.
    #[error("the run has ended as {0}")]
    AlreadyTerminal(String),
    /// A retry named a step that has not failed.
    #[error("step {0:?} has not failed")]
    StepNotFailed(String),
    /// No step of this id.
    #[error("no step {0:?} in this run")]
    UnknownStep(String),
    /// There is no such run.
    #[error("there is no such run")]
    Unknown,
    /// The id is taken by a run with another definition or input.
    #[error("the id is taken by a run of {definition:?} with another definition, input or scale")]
    AlreadyExists {
        /// Its definition.
        definition: String,
    },
    /// The definition is not known to this process.
    #[error("the definition is not stored")]
    UnknownDefinition,
}

impl From<RunRejection> for RunRefusal {
    fn from(rejection: RunRejection) -> Self {
        match rejection {
            RunRejection::IllegalTransition(illegal) => Self::IllegalTransition {
                from: illegal.from.name().to_owned(),
                command: illegal.command.to_owned(),
            },
            RunRejection::AlreadyTerminal { status } => Self::AlreadyTerminal(status.name().to_owned()),
            RunRejection::StepNotFailed { step } => Self::StepNotFailed(step),
        }
    }
}

/// Checks the size of the input of a run, as it is stored: at most [`RUN_INPUT_MAX_BYTES`], and 500 levels inside each
/// other.
///
/// # Errors
/// [`Refusal::TooLarge`]: its size; [`Refusal::Malformed`]: it nests too deep.
pub fn check_run_input(input: &Value) -> Result<(), Refusal> {
    check_levels(input).map_err(Refusal::Malformed)?;
    let bytes = encode(input).map_err(|error| Refusal::Malformed(error.to_string()))?.len();
    if bytes > RUN_INPUT_MAX_BYTES {
        return Err(Refusal::TooLarge { what: "input".to_owned(), bytes, limit: RUN_INPUT_MAX_BYTES });
    }
    Ok(())
}

/// Checks the id of a run: 1..=128 visible characters without `/`.
///
/// # Errors
/// What would be right.
pub fn check_run_id(id: &str) -> Result<(), String> {
    let visible = |c: char| !is_invisible(c) && c != ' ' && c != '/';
    if (1..=RUN_ID_MAX_CHARS).contains(&id.chars().count()) && id.chars().all(visible) {
        return Ok(());
    }
    Err(format!("run id {id:?} is no id: use 1..={RUN_ID_MAX_CHARS} visible characters without '/'"))
}
