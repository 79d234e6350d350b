//! [`BreakerSnapshot`]: what of a breaker outlives its process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    BreakerState, CLASSES, Cause,
    judge::Streaks,
    machine::{Machine, State},
    window::Tally,
};
use crate::ids::Timestamp;

/// State, window and waits of a breaker; counts and the log of transitions are of one life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerSnapshot {
    /// The state.
    pub state: SavedState,
    /// Rounds of probes that failed since it was closed last.
    pub failed_rounds: u32,
    /// What the window held.
    pub window: SavedWindow,
}

/// A state as it is kept. Probes die with their process: a half-open breaker is kept as one whose wait is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SavedState {
    /// Closed.
    Closed,
    /// Open, or half-open with `wait_us` 0.
    Open {
        /// End of the wait, whoever restarts meanwhile.
        until: Timestamp,
        /// How long it was to last, in microseconds.
        wait_us: u64,
    },
    /// Forced open.
    ForcedOpen,
    /// Disabled.
    Disabled,
}

/// A window as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedWindow {
    /// One byte a call, oldest first.
    calls: Vec<u8>,
    /// Parts of a time-based window with their starts, oldest first.
    parts: Vec<(Timestamp, Tally)>,
    /// Failures of each class without a success between.
    streaks: [u32; CLASSES],
}

impl BreakerSnapshot {
    /// A breaker that is to begin in this state, with nothing counted.
    #[must_use]
    pub fn begin(state: SavedState) -> Self {
        Self { state, failed_rounds: 0, window: SavedWindow::default() }
    }

    /// Keeps of a window of calls only the newest `calls`.
    #[must_use]
    pub fn with_newest(mut self, calls: usize) -> Self {
        let over = self.window.calls.len().saturating_sub(calls);
        self.window.calls.drain(..over);
        self
    }
}

impl SavedState {
    /// What it is once it is restored.
    #[must_use]
    pub fn shown(&self) -> BreakerState {
        match self {
            Self::Closed => BreakerState::Closed,
            Self::Open { until, .. } => BreakerState::Open { until: *until },
            Self::ForcedOpen => BreakerState::ForcedOpen,
            Self::Disabled => BreakerState::Disabled,
        }
    }
}

impl Machine {
    pub(super) fn snapshot(&self, now: Timestamp) -> BreakerSnapshot {
        let state = match &self.state {
            State::Closed => SavedState::Closed,
            State::Open { until, wait } => SavedState::Open {
                until: *until,
                wait_us: u64::try_from(wait.as_micros()).unwrap_or(u64::MAX),
            },
            State::HalfOpen(_) => SavedState::Open { until: now, wait_us: 0 },
            State::ForcedOpen => SavedState::ForcedOpen,
            State::Disabled => SavedState::Disabled,
        };
        let window =
            SavedWindow { calls: self.window.calls(), parts: self.window.parts(), streaks: self.streaks.0 };
        BreakerSnapshot { state, failed_rounds: self.failed_rounds, window }
    }

    /// Takes the state of an earlier life; permits given out before are stale.
    pub(super) fn restore(&mut self, snapshot: &BreakerSnapshot, now: Timestamp) {
        let state = match snapshot.state {
            SavedState::Closed => State::Closed,
            SavedState::Open { until, wait_us } => {
                State::Open { until, wait: Duration::from_micros(wait_us) }
            }
            SavedState::ForcedOpen => State::ForcedOpen,
            SavedState::Disabled => State::Disabled,
        };
        self.go(state, Cause::Restored, now);
        self.failed_rounds = snapshot.failed_rounds;
        self.window.fill(&snapshot.window.calls, &snapshot.window.parts);
        self.streaks = Streaks(snapshot.window.streaks);
    }
}
