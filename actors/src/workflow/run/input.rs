//! What a run is told, and why it may refuse.

use super::effect::TimerId;
use super::state::RunStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a run is told.
#[derive(Debug, Clone, PartialEq)]
pub enum RunInput {
    /// Begin.
    Start {
        /// Input of the run; kept in memory, see [`super::RunState::restore_input`].
        input: Value,
        /// Most attempts running at once; 0 counts as 1.
        workers: u32,
    },
    /// The process or the actor restarted: attempts that were running are gone.
    Recovered {
        /// New number of workers, if it changed.
        workers: Option<u32>,
    },
    /// Go on with a decision that was cut, see [`super::Decision::more`]; without one it changes nothing.
    Continue,
    /// An attempt ended.
    AttemptEnded {
        /// Which attempt; one that is not running any more is ignored.
        attempt: AttemptId,
        /// How it ended.
        result: AttemptResult,
    },
    /// No node can run the attempt: it waits; one that is not running any more is ignored.
    CapabilityAwaited {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// A node that can run the waiting attempt was found: the step starts again, when its turn comes.
    CapabilityFound {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// A timer is due; one that is not set any more is ignored.
    TimerFired {
        /// Which timer.
        timer: TimerId,
    },
    /// Start no further steps.
    Pause,
    /// Go on after a pause.
    Resume {
        /// New number of workers, if it changed.
        workers: Option<u32>,
    },
    /// A breaker was closed by hand: steps that wait for one look again at once. A run in which none waits is told
    /// nothing new.
    LookAgain,
    /// End the run.
    Cancel,
    /// Go on after the run failed or was parked.
    Retry {
        /// Only this failed step (number); `None`: all failed steps.
        step: Option<u32>,
    },
    /// The run crashed too often: park it.
    CrashLooped {
        /// What crashed, for people.
        reason: String,
    },
}

impl RunInput {
    /// Name of the input as a command, for error messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Recovered { .. } => "recover",
            Self::Continue => "continue",
            Self::AttemptEnded { .. } => "end an attempt of",
            Self::CapabilityAwaited { .. } | Self::CapabilityFound { .. } => "place an attempt of",
            Self::TimerFired { .. } => "fire a timer of",
            Self::Pause => "pause",
            Self::Resume { .. } => "resume",
            Self::LookAgain => "look again in",
            Self::Cancel => "cancel",
            Self::Retry { .. } => "retry",
            Self::CrashLooped { .. } => "park",
        }
    }
}

/// One attempt of a step or of its compensation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptId {
    /// Number of the step.
    pub step: u32,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Whether it is an attempt of the compensation.
    pub undo: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptResult {
    /// The activity gave an output.
    Completed(Value),
    /// The activity failed.
    Failed(Failure),
    /// The attempt ran into its timeout.
    TimedOut,
    /// The activity panicked with this message.
    Panicked(String),
    /// The attempt was cancelled although the run had not asked for it.
    Cancelled,
}

/// Why an activity failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Failure {
    /// Short code that policies may name, such as `card_declined`.
    pub code: String,
    /// What happened, for people; kept up to 512 bytes.
    pub message: String,
    /// Whether another attempt may help.
    pub retryable: bool,
    /// Shortest wait before the next attempt that the activity asks for, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure that another attempt may mend.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), retryable: true, retry_after_ms: None }
    }

    /// A failure that no other attempt can mend.
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { retryable: false, ..Self::retryable(code, message) }
    }
}

/// Why an input was refused; the state is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunRejection {
    /// Not possible from where the run is.
    #[error(transparent)]
    IllegalTransition(#[from] IllegalTransition),
    /// The run has ended.
    #[error("the run has ended as {status}")]
    AlreadyTerminal {
        /// How it ended.
        status: RunStatus,
    },
    /// A retry named a step that has not failed.
    #[error("step \"{step}\" has not failed")]
    StepNotFailed {
        /// Id of the step.
        step: String,
    },
}

/// A command that the run's status does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot {command} a run that is {from}")]
pub struct IllegalTransition {
    /// Where the run is.
    pub from: RunStatus,
    /// The command.
    pub command: &'static str,
}
