//! What a breaker shows: state, counts, and how it came there.

use std::{collections::VecDeque, fmt};

use serde::{Deserialize, Serialize};

use super::{FailureClass, Outcome};
use crate::ids::Timestamp;

/// The name of a state; as in resilience4j.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// Every call runs.
    Closed,
    /// No call runs until the wait is over.
    Open,
    /// A few calls run.
    HalfOpen,
    /// No call runs, until somebody resets it.
    ForcedOpen,
    /// Every call runs and nothing is judged.
    Disabled,
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
        })
    }
}

/// A state with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Every call runs.
    Closed,
    /// No call runs before `until`; the first one after it is a probe.
    Open {
        /// End of the wait.
        until: Timestamp,
    },
    /// A few calls run.
    HalfOpen {
        /// Share of calls let through by a ramp, in percent; `None` in mode `permits`.
        share: Option<u8>,
    },
    /// No call runs.
    ForcedOpen,
    /// Every call runs.
    Disabled,
}

impl BreakerState {
    /// The state's name.
    #[must_use]
    pub const fn name(self) -> StateName {
        match self {
            Self::Closed => StateName::Closed,
            Self::Open { .. } => StateName::Open,
            Self::HalfOpen { .. } => StateName::HalfOpen,
            Self::ForcedOpen => StateName::ForcedOpen,
            Self::Disabled => StateName::Disabled,
        }
    }
}

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The failure rate reached its threshold.
    FailureRate,
    /// The rate of slow calls reached its threshold.
    SlowCallRate,
    /// The rule of this class.
    Class(FailureClass),
    /// The wait was over and a call came.
    WaitOver,
    /// Too many errors in a stage of a ramp.
    ProbesFailed,
    /// A stage of a ramp had its successes.
    StagePassed,
    /// The probes were good.
    ProbesPassed,
    /// Opened by hand.
    Opened,
    /// Forced open by hand.
    ForcedOpen,
    /// Disabled by hand.
    Disabled,
    /// Closed by hand.
    Reset,
    /// Set to what was kept from an earlier life.
    Restored,
}

/// One change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// State before.
    pub from: StateName,
    /// State after.
    pub to: StateName,
    /// Why.
    pub cause: Cause,
    /// When.
    pub at: Timestamp,
    /// Number of the state after; permits carry it.
    pub epoch: u64,
}

/// Failed calls by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailuresByClass {
    /// Not reached, or broken off.
    pub network: u64,
    /// No answer in time.
    pub timeout: u64,
    /// Answered with an error.
    pub application: u64,
    /// Reported as failed because slow.
    pub slow: u64,
}

impl FailuresByClass {
    /// Failures of every class.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.network + self.timeout + self.application + self.slow
    }

    fn add(&mut self, class: FailureClass) {
        match class {
            FailureClass::Network => self.network += 1,
            FailureClass::Timeout => self.timeout += 1,
            FailureClass::Application => self.application += 1,
            FailureClass::Slow => self.slow += 1,
        }
    }
}

/// Counts since the breaker was made, and the window as it is.
///
/// Always `allowed = in_flight + successes + failures.total() + ignored`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerStats {
    /// State.
    pub state: BreakerState,
    /// Calls let through.
    pub allowed: u64,
    /// Calls refused.
    pub rejected: u64,
    /// Calls let through without an outcome yet.
    pub in_flight: u64,
    /// Outcomes: success.
    pub successes: u64,
    /// Outcomes: failure.
    pub failures: FailuresByClass,
    /// Outcomes: ignored, permits dropped among them.
    pub ignored: u64,
    /// Calls that took too long, with whatever result.
    pub slow_calls: u64,
    /// Outcomes that came after the state they belong to had ended: counted above, judged nowhere.
    pub stale: u64,
    /// Calls in the window.
    pub window_calls: u32,
    /// Part of them that failed with a class without a rule of its own; `None` below the minimum.
    pub failure_rate: Option<f64>,
    /// Part of them that was slow; `None` below the minimum.
    pub slow_call_rate: Option<f64>,
}

impl BreakerStats {
    /// Nothing is counted in this state.
    #[must_use]
    pub fn begin(state: BreakerState) -> Self {
        Self {
            state,
            allowed: 0,
            rejected: 0,
            in_flight: 0,
            successes: 0,
            failures: FailuresByClass::default(),
            ignored: 0,
            slow_calls: 0,
            stale: 0,
            window_calls: 0,
            failure_rate: None,
            slow_call_rate: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) allowed: u64,
    pub(super) rejected: u64,
    pub(super) successes: u64,
    pub(super) failures: FailuresByClass,
    pub(super) ignored: u64,
    pub(super) slow_calls: u64,
    pub(super) stale: u64,
}

impl Counters {
    /// Counts from zero; what is in flight stays.
    pub(super) fn clear(&mut self) {
        *self = Self { allowed: self.in_flight(), ..Self::default() };
    }

    pub(super) fn add(&mut self, outcome: Outcome, slow: bool) {
        match outcome {
            Outcome::Success => self.successes += 1,
            Outcome::Failure(class) => self.failures.add(class),
            Outcome::Ignored => self.ignored += 1,
        }
        self.slow_calls += u64::from(slow);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.allowed.saturating_sub(self.successes + self.failures.total() + self.ignored)
    }
}

/// The last transitions.
#[derive(Clone, Debug)]
pub(super) struct TransitionLog {
    entries: VecDeque<Transition>,
    size: usize,
}

impl TransitionLog {
    pub(super) fn new(size: usize) -> Self {
        Self { entries: VecDeque::with_capacity(size), size }
    }

    pub(super) fn push(&mut self, transition: Transition) {
        self.entries.push_back(transition);
        self.resize(self.size);
    }

    pub(super) fn resize(&mut self, size: usize) {
        self.size = size;
        let over = self.entries.len().saturating_sub(size);
        self.entries.drain(..over);
    }

    pub(super) fn to_vec(&self) -> Vec<Transition> {
        self.entries.iter().copied().collect()
    }
}
