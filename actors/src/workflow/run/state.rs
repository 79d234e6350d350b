//! The state of a run: what a snapshot holds, what is derived from it, and what lives in memory only.

use super::codes::StepCode;
use super::event::{EndCause, RunError, StepError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;

/// Most step errors kept for `show`; the history has them all.
pub(super) const ERRORS_KEPT_MAX: usize = 64;

/// The state of one run.
///
/// [`RunState::default`] is a run that has not started. Snapshot, events and derived counters agree by
/// construction: every change goes through [`RunState::evolve`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunState {
    pub(super) kept: Kept,
    pub(super) derived: Derived,
    pub(super) memory: Memory,
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Kept {
    pub(super) phase: Phase,
    /// Most attempts at once; at least 1 once started.
    pub(super) workers: u32,
    pub(super) started_us: i64,
    /// From when the run's total time counts: start or last retry.
    pub(super) clock_us: i64,
    pub(super) codes: Vec<StepCode>,
    /// Attempts begun so far, per step.
    pub(super) attempts: Vec<u32>,
    /// Steps that may start, in the order they became ready.
    pub(super) ready: VecDeque<u32>,
    /// Pending steps that can no longer run; empty between decisions unless one was cut.
    pub(super) doomed: VecDeque<u32>,
    /// Steps waiting for their next attempt, and when it is due.
    pub(super) waiting: BTreeMap<u32, i64>,
    /// Of these, the steps whose breaker did not let their attempt run.
    pub(super) behind_breaker: BTreeSet<u32>,
    /// Steps whose attempt waits for a node that can run it.
    pub(super) awaiting: BTreeSet<u32>,
    /// First start of open steps whose total time is limited.
    pub(super) first_us: BTreeMap<u32, i64>,
    /// Failed attempts of open steps.
    pub(super) trouble: BTreeMap<u32, Trouble>,
    /// Last error of steps, for people; at most [`ERRORS_KEPT_MAX`].
    pub(super) errors: BTreeMap<u32, StepError>,
    /// The step whose failure makes the run fail in the end.
    pub(super) first_failed: Option<u32>,
    /// Completed steps that can be undone, in order of completion.
    pub(super) undo: Vec<u32>,
    pub(super) undoing: Option<Undoing>,
    /// Why completed steps are being undone.
    pub(super) cause: Option<EndCause>,
    pub(super) error: Option<RunError>,
    pub(super) parked: Option<String>,
}

/// Where a run stands. Waiting and cancelling are seen from the rest of the state, see [`RunStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) enum Phase {
    #[default]
    #[serde(rename = "n")]
    Pending,
    #[serde(rename = "r")]
    Running,
    #[serde(rename = "p")]
    Paused,
    #[serde(rename = "u")]
    Undoing,
    #[serde(rename = "c")]
    Completed,
    #[serde(rename = "f")]
    Failed,
    #[serde(rename = "x")]
    Cancelled,
    #[serde(rename = "b")]
    Compensated,
    #[serde(rename = "k")]
    Parked,
}

/// Failed attempts of an open step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Trouble {
    #[serde(rename = "n")]
    pub(super) failures: u32,
    #[serde(rename = "d")]
    pub(super) last_delay_us: u64,
}

/// The compensation at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Undoing {
    #[serde(rename = "s")]
    pub(super) step: u32,
    /// Attempts begun so far.
    #[serde(rename = "a")]
    pub(super) attempt: u32,
    #[serde(rename = "r")]
    pub(super) running: bool,
    /// When the next attempt is due, while waiting.
    #[serde(rename = "t")]
    pub(super) due_us: Option<i64>,
    #[serde(rename = "f")]
    pub(super) first_us: Option<i64>,
    #[serde(rename = "x")]
    pub(super) trouble: Trouble,
    /// Its breaker did not let the last attempt run.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) behind_breaker: bool,
    /// No node can run the last attempt.
    #[serde(rename = "c", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) awaiting: bool,
}

impl Undoing {
    /// The compensation of a step at this attempt, with no failure so far.
    pub(super) fn begin(step: u32, attempt: u32, running: bool) -> Self {
        let trouble = Trouble::default();
        Self {
            step,
            attempt,
            running,
            due_us: None,
            first_us: None,
            trouble,
            behind_breaker: false,
            awaiting: false,
        }
    }
}

/// What follows from the kept part and the definition.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Derived {
    pub(super) needs: Vec<NeedCounts>,
    /// Steps per [`StepCode`].
    pub(super) counts: [u32; StepCode::CompensationFailed as usize + 1],
    /// Per step: readers that have not started for the last time.
    pub(super) readers_left: Vec<u32>,
    pub(super) attempts_total: u64,
}

/// How a step's needs stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct NeedCounts {
    pub(super) open: u32,
    pub(super) done: u32,
    pub(super) bad: u32,
}

/// Values the run works with; rows hold them durably.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Memory {
    pub(super) input: Value,
    pub(super) outputs: HashMap<u32, Value>,
    /// No attempt starts: nobody here performs it.
    pub(super) held: bool,
}

/// Where a run stands, as shown to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Not started.
    Pending,
    /// Steps run or are about to.
    Running,
    /// Nothing runs: the next attempt of some step is due later, or waits for a node that can run it.
    Waiting,
    /// No further steps start until it is resumed.
    Paused,
    /// Completed steps are undone because something failed.
    Compensating,
    /// Completed steps are undone because it was cancelled.
    Cancelling,
    /// Every step has ended and none failed.
    Completed,
    /// Failed.
    Failed,
    /// Cancelled.
    Cancelled,
    /// Failed, and its completed steps were undone.
    Compensated,
    /// Set aside until somebody retries it.
    Parked,
}

impl RunStatus {
    /// The word users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Compensating => "compensating",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Compensated => "compensated",
            Self::Parked => "parked",
        }
    }

    /// The status of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::Pending,
            Self::Running,
            Self::Waiting,
            Self::Paused,
            Self::Compensating,
            Self::Cancelling,
            Self::Completed,
            Self::Failed,
            Self::Cancelled,
            Self::Compensated,
            Self::Parked,
        ];
        all.into_iter().find(|status| status.name() == name)
    }

    /// Whether the run has ended. A failed run may still be retried; a parked one has not ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled | Self::Compensated => true,
            Self::Pending
            | Self::Running
            | Self::Waiting
            | Self::Paused
            | Self::Compensating
            | Self::Cancelling
            | Self::Parked => false,
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl RunState {
    /// A run that has not started.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the run stands.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        match self.kept.phase {
            Phase::Pending => RunStatus::Pending,
            Phase::Running
                if self.running() == 0 && self.kept.ready.is_empty() && self.count(StepCode::Waiting) > 0 =>
            {
                RunStatus::Waiting
            }
            Phase::Running => RunStatus::Running,
            Phase::Paused => RunStatus::Paused,
            Phase::Undoing => match self.kept.cause {
                Some(EndCause::Cancelled) => RunStatus::Cancelling,
                Some(EndCause::Failed(_)) | None => RunStatus::Compensating,
            },
            Phase::Completed => RunStatus::Completed,
            Phase::Failed => RunStatus::Failed,
            Phase::Cancelled => RunStatus::Cancelled,
            Phase::Compensated => RunStatus::Compensated,
            Phase::Parked => RunStatus::Parked,
        }
    }

    /// Whether an attempt waits for a node that can run it.
    #[must_use]
    pub fn awaits_capability(&self) -> bool {
        !self.kept.awaiting.is_empty() || self.kept.undoing.as_ref().is_some_and(|undoing| undoing.awaiting)
    }

    /// Attempts of steps running; compensations not counted.
    pub(super) fn running(&self) -> u32 {
        self.count(StepCode::Running)
    }

    pub(super) fn count(&self, code: StepCode) -> u32 {
        self.derived.counts.get(code as usize).copied().unwrap_or(0)
    }

    /// Steps that have not ended.
    pub(super) fn unsettled(&self) -> u32 {
        [StepCode::Pending, StepCode::Ready, StepCode::Running, StepCode::Waiting]
            .iter()
            .map(|&code| self.count(code))
            .sum()
    }

    pub(super) fn code(&self, step: u32) -> StepCode {
        self.kept.codes.get(step as usize).copied().unwrap_or_default()
    }

    pub(super) fn attempts(&self, step: u32) -> u32 {
        self.kept.attempts.get(step as usize).copied().unwrap_or(0)
    }
}
