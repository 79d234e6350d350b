//! What a decision asks the shell to do once its events are durable.

use super::event::RunEvent;
use super::input::AttemptId;
use crate::discovery::Requirement;
use serde_json::Value;
use std::time::Duration;

/// The outcome of one input: facts to store in one entry, rows beside them, things to do afterwards.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// Facts, already applied to the state; empty: the input changed nothing.
    pub events: Vec<RunEvent>,
    /// Output rows to store in the same entry.
    pub rows: Vec<OutputRow>,
    /// To be performed after the commit, in order.
    pub effects: Vec<RunEffect>,
    /// More follows: the entry has [`EVENTS_MAX`] events; advance with [`super::RunInput::Continue`] next.
    pub more: bool,
    /// Something would have started, were the run not held, see [`super::RunState::hold`].
    pub held_back: bool,
}

/// Events after which a decision is cut, so that its entry stays below 1 MiB whatever the events hold.
pub const EVENTS_MAX: usize = 1_024;

/// An output to store in the run's own key range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRow {
    /// Whose output.
    pub key: RowKey,
    /// Named MessagePack of the JSON value; at most 1 MiB.
    pub bytes: Vec<u8>,
}

/// Whose output a row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKey {
    /// Output of the step with this number.
    Step(u32),
    /// Output of the run.
    Run,
}

impl OutputRow {
    /// Reads the value back.
    ///
    /// # Errors
    /// When the bytes are not an output row; the row is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Value, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}

/// One thing to do after the commit.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEffect {
    /// Run an activity; report with [`super::RunInput::AttemptEnded`].
    StartAttempt {
        /// Which attempt.
        attempt: AttemptId,
        /// Name of the activity.
        activity: Box<str>,
        /// Its input.
        input: Value,
        /// Longest time; when over, cancel it and report [`super::AttemptResult::TimedOut`].
        timeout: Option<Duration>,
        /// What the node that runs it has to have beside the activity.
        requires: Vec<Requirement>,
    },
    /// Cancel a running activity; no report is needed.
    CancelAttempt(AttemptId),
    /// Set a durable timer, replacing one of the same id; report with [`super::RunInput::TimerFired`].
    SetTimer {
        /// Which timer.
        timer: TimerId,
        /// When it is due, in Unix microseconds.
        due_us: i64,
    },
    /// Clear a timer; clearing one that is not set is no error.
    ClearTimer(TimerId),
}

/// A timer of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimerId {
    /// The next attempt of a step is due.
    Retry(u32),
    /// The next attempt of a compensation is due.
    UndoRetry(u32),
    /// A step's total time is over.
    StepDeadline(u32),
    /// The run's total time is over.
    RunDeadline,
}

impl TimerId {
    /// One number per timer: the kind in the upper half, the step in the lower.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        match self {
            Self::Retry(step) => u64::from(step),
            Self::UndoRetry(step) => 1 << 32 | u64::from(step),
            Self::StepDeadline(step) => 2 << 32 | u64::from(step),
            Self::RunDeadline => 3 << 32,
        }
    }

    /// The timer of this number, if it is one.
    #[must_use]
    pub fn from_u64(number: u64) -> Option<Self> {
        let step = u32::try_from(number & u64::from(u32::MAX)).ok()?;
        match number >> 32 {
            0 => Some(Self::Retry(step)),
            1 => Some(Self::UndoRetry(step)),
            2 => Some(Self::StepDeadline(step)),
            3 if step == 0 => Some(Self::RunDeadline),
            _ => None,
        }
    }
}

/// Ending of the id, and of the idempotency key, of a compensation.
pub(crate) const UNDO: &str = "/undo";

/// The idempotency key of all attempts of a step (`RUN/STEP`) or of its compensation (`RUN/STEP/undo`).
#[must_use]
pub fn idempotency_key(run_id: &str, step_id: &str, undo: bool) -> String {
    format!("{run_id}/{step_id}{}", if undo { UNDO } else { "" })
}
