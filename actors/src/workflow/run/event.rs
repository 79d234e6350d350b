//! Facts about a run. Names are short because they are stored once per step and attempt.

use serde::{Deserialize, Serialize};

/// Longest code or message kept in an event, in bytes.
pub(super) const ERROR_TEXT_MAX: usize = 512;

/// One fact. An entry of a run holds one or more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RunEvent {
    /// The run began.
    #[serde(rename = "rs")]
    RunStarted {
        /// Most attempts at once.
        #[serde(rename = "w")]
        workers: u32,
        /// When, in Unix microseconds.
        #[serde(rename = "t")]
        at_us: i64,
    },
    /// The run came back after a crash; running attempts were lost.
    #[serde(rename = "rr")]
    RunRecovered {
        /// Most attempts at once.
        #[serde(rename = "w")]
        workers: u32,
    },
    /// No further steps start.
    #[serde(rename = "rp")]
    RunPaused,
    /// The run goes on after a pause, or after a failure or parking when `retry` is set.
    #[serde(rename = "ru")]
    RunResumed {
        /// Most attempts at once.
        #[serde(rename = "w")]
        workers: u32,
        /// What is tried again.
        #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
        retry: Option<RetryScope>,
        /// When, in Unix microseconds.
        #[serde(rename = "t")]
        at_us: i64,
    },
    /// Completed steps are about to be undone. Not a line of the history.
    #[serde(rename = "rt")]
    RunTurned {
        /// Why the run ends.
        #[serde(rename = "c")]
        cause: EndCause,
    },
    /// Every step has ended and none failed.
    #[serde(rename = "rc")]
    RunCompleted {
        /// Size of the output row in bytes; 0 = no row, the output is null.
        #[serde(rename = "n")]
        size: u32,
        /// Checksum of the output row.
        #[serde(rename = "x")]
        crc32c: u32,
    },
    /// The run failed.
    #[serde(rename = "rf")]
    RunFailed {
        /// Why.
        #[serde(rename = "e")]
        error: RunError,
    },
    /// The run was cancelled.
    #[serde(rename = "rx")]
    RunCancelled,
    /// The run failed and its completed steps were undone.
    #[serde(rename = "rb")]
    RunCompensated,
    /// The run is set aside until somebody retries it.
    #[serde(rename = "rk")]
    RunParked {
        /// What crashed.
        #[serde(rename = "m")]
        reason: String,
    },
    /// An attempt of a step began.
    #[serde(rename = "ss")]
    StepStarted {
        /// Step number.
        #[serde(rename = "s")]
        step: u32,
        /// Attempt number, from 1.
        #[serde(rename = "a")]
        attempt: u32,
        /// When, in Unix microseconds: at the first attempt, and only if the step has a limit on its total time.
        #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
        first_us: Option<i64>,
    },
    /// A step completed.
    #[serde(rename = "sc")]
    StepCompleted {
        /// Step number.
        #[serde(rename = "s")]
        step: u32,
        /// Attempt number.
        #[serde(rename = "a")]
        attempt: u32,
        /// Size of the output row in bytes; 0 = no row, the output is null.
        #[serde(rename = "n")]
        size: u32,
        /// Checksum of the output row.
        #[serde(rename = "x")]
        crc32c: u32,
    },
    /// A step failed for good.
    #[serde(rename = "sf")]
    StepFailed {
        /// Step number.
        #[serde(rename = "s")]
        step: u32,
        /// Attempt number; 0 when the step failed before its first attempt.
        #[serde(rename = "a")]
        attempt: u32,
        /// Why.
        #[serde(rename = "e")]
        error: StepError,
        /// Whether the run goes on as if the step had completed.
        #[serde(rename = "i", default, skip_serializing_if = "std::ops::Not::not")]
        ignored: bool,
    },
    /// A step will not run.
    #[serde(rename = "sk")]
    StepSkipped {
        /// Step number.
        #[serde(rename = "s")]
        step: u32,
        /// Why.
        #[serde(rename = "r")]
        reason: SkipReason,
    },
    /// A running or waiting step was given up because the run ends.
    #[serde(rename = "sx")]
    StepCancelled {
        /// Step number.
        #[serde(rename = "s")]
        step: u32,
        /// Attempt number.
        #[serde(rename = "a")]
        attempt: u32,
    },
    /// An attempt failed and another one is due later.
    #[serde(rename = "sr")]
    RetryScheduled {
        /// Step number.
        #[serde(rename = "s")]
        step: u32,
        /// The attempt that failed.
        #[serde(rename = "a")]
        attempt: u32,
        /// When the next one is due, in Unix microseconds.
        #[serde(rename = "t")]
        at_us: i64,
        /// The delay chosen, in microseconds.
        #[serde(rename = "d")]
        delay_us: u64,
        /// Why the attempt failed.
        #[serde(rename = "e")]
        error: StepError,
        /// Whether it is an attempt of the compensation.
        #[serde(rename = "u", default, skip_serializing_if = "std::ops::Not::not")]
        undo: bool,
        /// What lets the next one run; the attempt then does not count as failed.
        #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
        waiting: Option<WaitingFor>,
    },
    /// No node can run the attempt: until one can, it counts neither as running nor as failed.
    #[serde(rename = "sw")]
    CapabilityAwaited {
        /// Step number.
        #[serde(rename = "s")]
        step: u32,
        /// Attempt number.
        #[serde(rename = "a")]
        attempt: u32,
        /// Whether it is an attempt of the compensation.
        #[serde(rename = "u", default, skip_serializing_if = "std::ops::Not::not")]
        undo: bool,
    },
    /// A retry became due, or a node that can run the step was found. Not a line of the history.
    #[serde(rename = "sd")]
    RetryDue {
        /// Step number.
        #[serde(rename = "s")]
        step: u32,
    },
    /// An attempt to undo a step began.
    #[serde(rename = "cs")]
    CompensationStarted {
        /// Step number.
        #[serde(rename = "s")]
        step: u32,
        /// Attempt number, from 1.
        #[serde(rename = "a")]
        attempt: u32,
        /// When, in Unix microseconds: at the first attempt, and only if its retry policy limits the time.
        #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
        first_us: Option<i64>,
    },
    /// A step was undone.
    #[serde(rename = "cc")]
    CompensationCompleted {
        /// Step number.
        #[serde(rename = "s")]
        step: u32,
        /// Attempt number.
        #[serde(rename = "a")]
        attempt: u32,
    },
    /// A step could not be undone.
    #[serde(rename = "cf")]
    CompensationFailed {
        /// Step number.
        #[serde(rename = "s")]
        step: u32,
        /// Attempt number; 0 when it failed before its first attempt.
        #[serde(rename = "a")]
        attempt: u32,
        /// Why.
        #[serde(rename = "e")]
        error: StepError,
    },
}

/// What a step waits for beside the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WaitingFor {
    /// A circuit breaker that does not let its attempts run.
    #[serde(rename = "b")]
    Breaker,
    /// A node that can run its attempts.
    #[serde(rename = "c")]
    Capability,
}

impl WaitingFor {
    /// The word users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Breaker => "breaker",
            Self::Capability => "capability",
        }
    }
}

/// Why a step will not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its condition is false.
    Condition,
    /// A failed need, or too few needs that completed, because of a failure.
    NeedFailed,
    /// Too few needs ran; nothing failed.
    NeedsSkipped,
}

/// What is tried again by a retry of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RetryScope {
    /// Every failed step.
    #[serde(rename = "all")]
    All,
    /// One failed step, by number.
    #[serde(rename = "step")]
    Step(u32),
}

/// Why a run ends other than by completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum EndCause {
    /// Something failed.
    #[serde(rename = "f")]
    Failed(RunError),
    /// Somebody cancelled it.
    #[serde(rename = "x")]
    Cancelled,
}

/// Why an attempt failed, as kept in events and shown to people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// Short code: the activity's own, or `timeout`, `panic`, `cancelled`, `total_timeout`, `condition`,
    /// `input_template`, `input_too_large`, `output_too_large`.
    #[serde(rename = "c")]
    pub code: Box<str>,
    /// What happened; at most 512 bytes.
    #[serde(rename = "m")]
    pub message: Box<str>,
}

impl StepError {
    /// Keeps code and message within their limit.
    pub(super) fn new(code: &str, message: &str) -> Self {
        Self { code: clipped(code, 64).into(), message: clipped(message, ERROR_TEXT_MAX).into() }
    }
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// Short code: `step_failed`, `compensation_failed`, `run_timeout`, `output_template` or `output_too_large`.
    #[serde(rename = "c")]
    pub code: Box<str>,
    /// What happened; at most 512 bytes.
    #[serde(rename = "m")]
    pub message: Box<str>,
    /// The step at fault.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
}

impl RunError {
    pub(super) fn new(code: &str, message: &str, step: Option<u32>) -> Self {
        Self { code: code.into(), message: clipped(message, ERROR_TEXT_MAX).into(), step }
    }
}

/// The longest prefix of whole characters within a number of bytes.
pub(super) fn clipped(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
