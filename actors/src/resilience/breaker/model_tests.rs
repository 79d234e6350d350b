//! Random operations against a model that keeps every call in a list: 1 000 traces, 10^5 with `STANCHION_CAMPAIGN=1`.

use proptest::prelude::*;

use super::*;
use crate::ids::Timestamp;

/// The plainest breaker with a count-based window, permits, and no rules for classes.
struct Model {
    options: BreakerOptions,
    window: Vec<bool>,
    state: Simple,
    epoch: u64,
    allowed: u64,
    rejected: u64,
    ignored: u64,
    failures: u64,
    successes: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Simple {
    Closed,
    Open(Timestamp),
    /// Places left, and outcomes.
    HalfOpen(u32, Vec<bool>),
    ForcedOpen,
    Disabled,
}

impl Model {
    fn new(options: BreakerOptions) -> Self {
        let (window, state) = (Vec::new(), Simple::Closed);
        Self {
            options,
            window,
            state,
            epoch: 0,
            allowed: 0,
            rejected: 0,
            ignored: 0,
            failures: 0,
            successes: 0,
        }
    }

    fn go(&mut self, state: Simple) {
        (self.state, self.epoch) = (state, self.epoch + 1);
        self.window.clear();
    }

    fn open(&mut self, now: Timestamp) {
        let wait = std::time::Duration::from_millis(self.options.wait_duration_in_open_state_ms);
        self.go(Simple::Open(now.after(wait)));
    }

    /// The epoch under which a call runs.
    fn acquire(&mut self, now: Timestamp) -> Option<u64> {
        if matches!(self.state, Simple::Open(until) if now >= until) {
            let places = self.options.permitted_number_of_calls_in_half_open_state;
            self.go(Simple::HalfOpen(places, Vec::new()));
        }
        let runs = match &mut self.state {
            Simple::Closed | Simple::Disabled => true,
            Simple::Open(_) | Simple::ForcedOpen => false,
            Simple::HalfOpen(places, _) => {
                let free = *places > 0;
                *places -= u32::from(free);
                free
            }
        };
        *(if runs { &mut self.allowed } else { &mut self.rejected }) += 1;
        runs.then_some(self.epoch)
    }

    fn finish(&mut self, epoch: u64, outcome: Outcome, now: Timestamp) {
        let failed = match outcome {
            Outcome::Ignored => {
                self.ignored += 1;
                if let Simple::HalfOpen(places, _) = &mut self.state
                    && epoch == self.epoch
                {
                    *places += 1;
                }
                return;
            }
            Outcome::Success => false,
            Outcome::Failure(_) => true,
        };
        *(if failed { &mut self.failures } else { &mut self.successes }) += 1;
        if epoch != self.epoch {
            return;
        }
        let reached = |calls: &[bool], threshold: f64| {
            calls.iter().filter(|failed| **failed).count() as f64 / calls.len() as f64 >= threshold
        };
        let threshold = self.options.failure_rate_threshold;
        match &mut self.state {
            Simple::Closed => {
                self.window.push(failed);
                if self.window.len() > self.options.sliding_window_size as usize {
                    self.window.remove(0);
                }
                let minimum = self.options.minimum_number_of_calls.min(self.options.sliding_window_size);
                if self.window.len() >= minimum as usize && reached(&self.window, threshold) {
                    self.open(now);
                }
            }
            Simple::HalfOpen(_, outcomes) => {
                outcomes.push(failed);
                if outcomes.len() == self.options.permitted_number_of_calls_in_half_open_state as usize {
                    if reached(outcomes, threshold) {
                        self.open(now);
                    } else {
                        self.go(Simple::Closed);
                    }
                }
            }
            _ => {}
        }
    }

    /// The state alone: looking at it leaves calls in lanes that are not counted yet.
    fn agrees_in_state(&self, breaker: &Breaker) {
        let state = breaker.state();
        let same = match (&self.state, state) {
            (Simple::Open(until), BreakerState::Open { until: found }) => *until == found,
            (Simple::Closed, BreakerState::Closed)
            | (Simple::HalfOpen(..), BreakerState::HalfOpen { .. })
            | (Simple::ForcedOpen, BreakerState::ForcedOpen)
            | (Simple::Disabled, BreakerState::Disabled) => true,
            _ => false,
        };
        assert!(same, "{:?} against {state:?}", self.state);
    }

    fn agrees(&self, breaker: &Breaker, now: Timestamp) {
        self.agrees_in_state(breaker);
        let stats = breaker.stats(now);
        assert_eq!(
            (stats.allowed, stats.rejected, stats.ignored, stats.failures.total(), stats.successes),
            (self.allowed, self.rejected, self.ignored, self.failures, self.successes)
        );
        assert_eq!(stats.window_calls as usize, self.window.len());
        let ended = stats.ignored + stats.failures.total() + stats.successes;
        assert_eq!(stats.in_flight, stats.allowed - ended, "allowed = ended + in flight");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    /// Ends the call that has run for so many others.
    Finish(usize, Outcome),
    Drop(usize),
    Wait(i64),
    ForceOpen,
    Disable,
    Reset,
    /// Dies and comes back.
    Restore,
    /// Compares every count.
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Success),
        4 => Just(Outcome::Failure(FailureClass::Network)),
        1 => Just(Outcome::Ignored),
    ];
    let step = prop_oneof![
        20 => Just(Step::Acquire),
        20 => (0..4_usize, outcome).prop_map(|(at, outcome)| Step::Finish(at, outcome)),
        3 => (0..4_usize).prop_map(Step::Drop),
        6 => (0..4_000_000_i64).prop_map(Step::Wait),
        1 => Just(Step::ForceOpen),
        1 => Just(Step::Disable),
        2 => Just(Step::Reset),
        1 => Just(Step::Restore),
        3 => Just(Step::Look),
    ];
    prop::collection::vec(step, 1..100)
}

fn cases() -> u32 {
    let is_campaign = std::env::var("STANCHION_CAMPAIGN").is_ok_and(|value| value == "1");
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    cases.unwrap_or(if is_campaign { 100_000 } else { 1_000 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_breaker_does_what_its_model_does(
        steps in steps(),
        size in 1..8_u32,
        minimum in 1..8_u32,
        permits in 1..4_u32,
        threshold in prop_oneof![Just(0.25), Just(0.5), Just(1.0)],
    ) {
        let options = BreakerOptions {
            sliding_window_size: size,
            minimum_number_of_calls: minimum,
            permitted_number_of_calls_in_half_open_state: permits,
            failure_rate_threshold: threshold,
            wait_duration_in_open_state_ms: 2_000,
            ..BreakerOptions::default()
        };
        let breaker = Breaker::new("b", options.clone()).unwrap();
        let mut model = Model::new(options);
        let mut now = Timestamp(0);
        let mut running: Vec<(BreakerPermit, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Acquire => match (breaker.acquire(now), model.acquire(now)) {
                    (Ok(permit), Some(epoch)) => running.push((permit, epoch)),
                    (Err(_), None) => {}
                    (real, model) => panic!("{real:?} against {model:?}"),
                },
                Step::Finish(at, outcome) if at < running.len() => {
                    let (permit, epoch) = running.remove(at);
                    permit.finish(outcome, now);
                    model.finish(epoch, outcome, now);
                }
                Step::Drop(at) if at < running.len() => {
                    let (permit, epoch) = running.remove(at);
                    drop(permit);
                    model.finish(epoch, Outcome::Ignored, now);
                }
                Step::Finish(..) | Step::Drop(_) => {}
                Step::Look => model.agrees(&breaker, now),
                Step::Wait(us) => now = Timestamp(now.0 + us),
                Step::ForceOpen => {
                    breaker.force_open(now);
                    model.go(Simple::ForcedOpen);
                }
                Step::Disable => {
                    breaker.disable(now);
                    model.go(Simple::Disabled);
                }
                Step::Reset => {
                    breaker.reset(now);
                    model.go(Simple::Closed);
                }
                Step::Restore => {
                    breaker.restore(&breaker.snapshot(now), now);
                    let window = std::mem::take(&mut model.window);
                    let state = match model.state.clone() {
                        Simple::HalfOpen(..) => Simple::Open(now),
                        state => state,
                    };
                    model.go(state);
                    model.window = window;
                }
            }
            model.agrees_in_state(&breaker);
        }
        model.agrees(&breaker, now);
    }
}
