//! [`Machine`]: the states of a breaker and what moves it between them.

use std::{sync::Arc, time::Duration};

use stanchion_sync::{LaneCounts, Probe, Probes};

use super::{
    BreakerOptions, BreakerState, BreakerStats, Cause, FailureClass, Outcome, StateName, Transition,
    half_open::{HalfOpen, Progress},
    judge::{Streaks, opens, success_is_safe, unruled_failures},
    stats::{Counters, TransitionLog},
    window::{Record, Window},
};
use crate::ids::Timestamp;

#[derive(Clone, Debug)]
pub(super) enum State {
    Closed,
    /// `wait` is how long it was to last; a clock that is set back never makes it longer.
    Open {
        until: Timestamp,
        wait: Duration,
    },
    HalfOpen(HalfOpen),
    ForcedOpen,
    Disabled,
}

impl State {
    pub(super) fn shown(&self) -> BreakerState {
        match self {
            Self::Closed => BreakerState::Closed,
            Self::Open { until, .. } => BreakerState::Open { until: *until },
            Self::HalfOpen(round) => BreakerState::HalfOpen { share: round.share() },
            Self::ForcedOpen => BreakerState::ForcedOpen,
            Self::Disabled => BreakerState::Disabled,
        }
    }
}

/// What a permit carries.
#[derive(Debug)]
pub(super) struct Ticket {
    /// Number of the state that gave it.
    pub(super) epoch: u64,
    /// The place it holds among the probes.
    pub(super) probe: Option<Probe>,
}

/// A refused call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) state: StateName,
    pub(super) until: Option<Timestamp>,
}

/// An outcome as it is reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
    pub(super) draw: u64,
    pub(super) now: Timestamp,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) options: BreakerOptions,
    pub(super) state: State,
    pub(super) epoch: u64,
    pub(super) window: Window,
    pub(super) streaks: Streaks,
    /// Rounds of probes that failed since it was closed last.
    pub(super) failed_rounds: u32,
    probes: Arc<Probes>,
    counters: Counters,
    /// Grows with each call, outcome and clearing.
    counted: u64,
    log: TransitionLog,
    /// Calls are counted beside the machine, for it to [take in](Self::take_in).
    pub(super) lanes_are_open: bool,
    /// Outcomes to come until that is worth it again.
    uneasy: u32,
}

/// Outcomes without a failure before lanes are opened again: while failures come often, opening and closing them costs
/// more than the lock.
const UNEASY: u32 = 16;

impl Machine {
    /// `options` are valid.
    pub(super) fn new(options: BreakerOptions) -> Self {
        Self {
            state: State::Closed,
            epoch: 0,
            window: Window::new(&options),
            streaks: Streaks::default(),
            failed_rounds: 0,
            probes: Probes::new(),
            counters: Counters::default(),
            counted: 0,
            log: TransitionLog::new(options.transition_log_size),
            lanes_are_open: false,
            uneasy: 0,
            options,
        }
    }

    /// Takes in calls that were let run, and successes, while it decided nothing.
    pub(super) fn take_in(&mut self, counts: LaneCounts) {
        self.counted += counts.entered + counts.done;
        self.counters.allowed += counts.entered;
        self.counters.successes += counts.done;
        if counts.done > 0 {
            self.window.add_successes(u32::try_from(counts.done).unwrap_or(u32::MAX));
            self.streaks = Streaks::default();
        }
    }

    /// From when and until when calls may run and succeed without a decision; `None` when the next one needs it, or
    /// soon one will.
    pub(super) fn decides_nothing(&self) -> Option<(Timestamp, Timestamp)> {
        let is_calm = self.uneasy == 0 && matches!(self.state, State::Closed);
        let is_safe = || success_is_safe(&self.options, self.window.total(), &self.streaks);
        self.window.goes_on().filter(|_| is_calm && is_safe())
    }

    /// Lets a call run, or not.
    pub(super) fn admit(&mut self, now: Timestamp) -> Result<Ticket, Refused> {
        self.counted += 1;
        let probe = match self.pass(now) {
            Ok(probe) => probe,
            Err(refused) => {
                self.counters.rejected += 1;
                return Err(refused);
            }
        };
        self.counters.allowed += 1;
        Ok(Ticket { epoch: self.epoch, probe })
    }

    fn pass(&mut self, now: Timestamp) -> Result<Option<Probe>, Refused> {
        if let State::Open { until, wait } = &mut self.state {
            *until = (*until).min(now.after(*wait));
            if now < *until {
                return Err(Refused { state: StateName::Open, until: Some(*until) });
            }
            let round = HalfOpen::begin(&self.options);
            self.probes.begin(round.places());
            self.go(State::HalfOpen(round), Cause::WaitOver, now);
        }
        match &mut self.state {
            State::HalfOpen(HalfOpen::Permits { .. }) => match self.probes.try_take() {
                Some(probe) => Ok(Some(probe)),
                None => Err(Refused { state: StateName::HalfOpen, until: None }),
            },
            State::HalfOpen(HalfOpen::Ramp(ramp)) => match ramp.lets_through() {
                true => Ok(None),
                false => Err(Refused { state: StateName::HalfOpen, until: None }),
            },
            State::Closed | State::Disabled => Ok(None),
            State::Open { until, .. } => Err(Refused { state: StateName::Open, until: Some(*until) }),
            State::ForcedOpen => Err(Refused { state: StateName::ForcedOpen, until: None }),
        }
    }

    /// Takes what a call came to. What belongs to a state that has ended is counted and not judged.
    pub(super) fn record(&mut self, ticket: Ticket, report: Report) {
        let Report { outcome, took, draw, now } = report;
        let failure = match outcome {
            Outcome::Ignored => return self.ignore(ticket),
            Outcome::Success => None,
            Outcome::Failure(class) => Some(class),
        };
        let slow = failure == Some(FailureClass::Slow) || self.options.is_slow(took);
        self.counters.add(outcome, slow);
        self.counted += 1;
        if ticket.epoch != self.epoch {
            self.counters.stale += 1;
            return;
        }
        ticket.probe.into_iter().for_each(Probe::spend);
        self.uneasy = if failure.is_some() || slow { UNEASY } else { self.uneasy.saturating_sub(1) };
        self.judge(Record { failure, slow }, draw, now);
    }

    /// Takes back a ticket without an outcome; its place among the probes is free again.
    pub(super) fn ignore(&mut self, ticket: Ticket) {
        self.counters.add(Outcome::Ignored, false);
        self.counted += 1;
        self.counters.stale += u64::from(ticket.epoch != self.epoch);
        drop(ticket.probe);
    }

    fn judge(&mut self, record: Record, draw: u64, now: Timestamp) {
        match &mut self.state {
            State::Closed => {
                self.window.add(record, now);
                self.streaks.add(record);
                let tally = self.window.tally(now);
                if let Some(cause) = opens(&self.options, &tally, &self.streaks) {
                    self.open(cause, draw, now);
                }
            }
            State::HalfOpen(round) => match round.add(record, &self.options) {
                Progress::GoesOn => {}
                Progress::NextStage => self.note(StateName::HalfOpen, Cause::StagePassed, now),
                Progress::Closes => self.close(Cause::ProbesPassed, now),
                Progress::OpensAgain(cause) => {
                    self.failed_rounds = self.failed_rounds.saturating_add(1);
                    self.open(cause, draw, now);
                }
            },
            // Nothing is judged while disabled; the others give no tickets of their own.
            State::Open { .. } | State::ForcedOpen | State::Disabled => {}
        }
    }

    /// Opens for the wait that is due.
    pub(super) fn open(&mut self, cause: Cause, draw: u64, now: Timestamp) {
        let wait = self.options.wait(self.failed_rounds, draw);
        self.go(State::Open { until: now.after(wait), wait }, cause, now);
    }

    pub(super) fn close(&mut self, cause: Cause, now: Timestamp) {
        self.failed_rounds = 0;
        self.go(State::Closed, cause, now);
    }

    /// Enters a state: a new epoch, with nothing counted.
    pub(super) fn go(&mut self, state: State, cause: Cause, now: Timestamp) {
        let from = self.state.shown().name();
        self.state = state;
        self.epoch += 1;
        self.window.clear();
        self.streaks = Streaks::default();
        self.note(from, cause, now);
    }

    fn note(&mut self, from: StateName, cause: Cause, at: Timestamp) {
        let to = self.state.shown().name();
        self.log.push(Transition { from, to, cause, at, epoch: self.epoch });
    }

    /// Takes other options (valid) and keeps the state. A window of the same type keeps what still fits; a round
    /// of probes and a wait end as they began.
    pub(super) fn reconfigure(&mut self, options: BreakerOptions) {
        let mut window = Window::new(&options);
        window.fill(&self.window.calls(), &self.window.parts());
        self.window = window;
        self.log.resize(options.transition_log_size);
        self.options = options;
    }

    /// Number of the state, and of what was counted in it and before.
    pub(super) fn mark(&self) -> (u64, u64) {
        (self.epoch, self.counted)
    }

    pub(super) fn clear_counts(&mut self) {
        self.counters.clear();
        self.counted += 1;
    }

    pub(super) fn transitions(&self) -> Vec<Transition> {
        self.log.to_vec()
    }

    pub(super) fn stats(&mut self, now: Timestamp) -> BreakerStats {
        let tally = self.window.tally(now);
        let full = match self.window {
            Window::Calls { .. } => self.options.sliding_window_size,
            Window::Time { .. } => u32::MAX,
        };
        let judged = tally.calls >= self.options.minimum_number_of_calls.min(full);
        let rate = |part: u32| judged.then(|| f64::from(part) / f64::from(tally.calls.max(1)));
        let counters = self.counters;
        BreakerStats {
            state: self.state.shown(),
            allowed: counters.allowed,
            rejected: counters.rejected,
            in_flight: counters.in_flight(),
            successes: counters.successes,
            failures: counters.failures,
            ignored: counters.ignored,
            slow_calls: counters.slow_calls,
            stale: counters.stale,
            window_calls: tally.calls,
            failure_rate: rate(unruled_failures(&self.options, &tally)),
            slow_call_rate: rate(tally.of(FailureClass::Slow)),
        }
    }
}
