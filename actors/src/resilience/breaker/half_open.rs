//! [`HalfOpen`]: one round of probes, and what they came to.

use super::{
    BreakerOptions, Cause, HalfOpenMode,
    judge::{Streaks, is_error, opens_again, reaches},
    window::{Record, Tally},
};

/// A round of probes; it keeps the settings it began with.
#[derive(Clone, Debug)]
pub(super) enum HalfOpen {
    Permits { places: u32, tally: Tally, streaks: Streaks },
    Ramp(Ramp),
}

/// What an outcome makes of the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    GoesOn,
    NextStage,
    Closes,
    OpensAgain(Cause),
}

impl HalfOpen {
    pub(super) fn begin(options: &BreakerOptions) -> Self {
        match &options.half_open {
            HalfOpenMode::Permits => Self::Permits {
                places: options.permitted_number_of_calls_in_half_open_state,
                tally: Tally::default(),
                streaks: Streaks::default(),
            },
            HalfOpenMode::Ramp { stages, successes_per_stage, max_error_rate } => Self::Ramp(Ramp {
                stages: stages.clone(),
                successes_per_stage: *successes_per_stage,
                max_error_rate: *max_error_rate,
                stage: 0,
                credit: FULL,
                successes: 0,
                errors: 0,
            }),
        }
    }

    /// Places of the round: none to count in a ramp.
    pub(super) fn places(&self) -> u32 {
        match self {
            Self::Permits { places, .. } => *places,
            Self::Ramp(_) => 0,
        }
    }

    /// Share of calls let through, in percent; `None` where places are counted.
    pub(super) fn share(&self) -> Option<u8> {
        match self {
            Self::Permits { .. } => None,
            Self::Ramp(ramp) => Some(ramp.share()),
        }
    }

    pub(super) fn add(&mut self, record: Record, options: &BreakerOptions) -> Progress {
        match self {
            Self::Permits { places, tally, streaks } => {
                tally.add(record);
                streaks.add(record);
                if tally.calls < *places {
                    return Progress::GoesOn;
                }
                opens_again(options, tally, streaks).map_or(Progress::Closes, Progress::OpensAgain)
            }
            Self::Ramp(ramp) => ramp.add(is_error(options, record)),
        }
    }
}

/// Share that lets a call through.
const FULL: u8 = 100;

/// A growing share of calls.
#[derive(Clone, Debug)]
pub(super) struct Ramp {
    stages: Vec<u8>,
    successes_per_stage: u32,
    max_error_rate: f64,
    stage: usize,
    /// Grows by the share with each call; a call runs when it reaches [`FULL`]. Below 200.
    credit: u8,
    successes: u32,
    errors: u32,
}

impl Ramp {
    fn share(&self) -> u8 {
        self.stages.get(self.stage).copied().unwrap_or(FULL).min(FULL)
    }

    /// Whether this call runs: the first of a stage, then the share, evenly spread.
    pub(super) fn lets_through(&mut self) -> bool {
        let runs = self.credit >= FULL;
        if runs {
            self.credit -= FULL;
        }
        self.credit += self.share();
        runs
    }

    fn add(&mut self, error: bool) -> Progress {
        if error {
            self.errors = self.errors.saturating_add(1);
            let calls = self.successes.saturating_add(self.errors).max(self.successes_per_stage);
            return match reaches(self.errors, calls, self.max_error_rate) {
                true => Progress::OpensAgain(Cause::ProbesFailed),
                false => Progress::GoesOn,
            };
        }
        self.successes = self.successes.saturating_add(1);
        if self.successes < self.successes_per_stage {
            return Progress::GoesOn;
        }
        self.stage += 1;
        (self.successes, self.errors, self.credit) = (0, 0, FULL);
        if self.stage < self.stages.len() { Progress::NextStage } else { Progress::Closes }
    }
}
