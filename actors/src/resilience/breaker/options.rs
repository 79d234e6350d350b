//! [`BreakerOptions`]: when a breaker opens, how long it waits, how it closes.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{BreakerOptionsError, FailureClass};

/// Most calls a count-based window holds; one byte each.
pub const MAX_WINDOW_CALLS: u32 = 1_000_000;
/// Most transitions remembered.
pub const MAX_LOG_SIZE: usize = 10_000;
/// Longest wait and window: a year, in milliseconds.
const MAX_MS: u64 = 366 * 24 * 3_600 * 1_000;
/// Number of failure classes.
pub const CLASSES: usize = FailureClass::ALL.len();
/// Shares of calls let through by stages of [`HalfOpenMode::ramp`], in percent.
pub const RAMP_STAGES: [u8; 5] = [1, 5, 25, 50, 100];

/// What the window of outcomes is measured in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowType {
    /// The last `sliding_window_size` calls.
    #[default]
    CountBased,
    /// Calls of the last `sliding_window_size` milliseconds, in twentieths: a call leaves between 19 and 20
    /// twentieths of the window after its end.
    TimeBased,
}

/// When failures of one class open the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClassRule {
    /// So many in the window; at least 1.
    Count(u32),
    /// Such a part of the calls in the window, once it holds so many.
    Ratio {
        /// Opens at this part or above; in (0, 1].
        threshold: f64,
        /// Judged from so many calls on; at least 1.
        minimum_number_of_calls: u32,
    },
    /// So many without a success between; at least 1. For [`FailureClass::Slow`]: without a fast call between.
    Consecutive(u32),
    /// They never open it.
    Never,
}

/// How a half-open breaker finds out whether to close.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HalfOpenMode {
    /// Exactly `permitted_number_of_calls_in_half_open_state` calls run; judged when all have an outcome.
    #[default]
    Permits,
    /// A growing share of the calls runs, the first of each stage at once. Not in resilience4j.
    Ramp {
        /// Shares in percent: ascending, in 1..=100, the last 100.
        stages: Vec<u8>,
        /// Successes that end a stage; at least 1.
        successes_per_stage: u32,
        /// At this part of errors or above it opens again; counted over at least `successes_per_stage` calls; in
        /// (0, 1].
        max_error_rate: f64,
    },
}

impl HalfOpenMode {
    /// A ramp over [`RAMP_STAGES`].
    #[must_use]
    pub fn ramp(successes_per_stage: u32, max_error_rate: f64) -> Self {
        Self::Ramp { stages: RAMP_STAGES.to_vec(), successes_per_stage, max_error_rate }
    }
}

/// When a breaker opens, how long it waits, how it closes. Names and defaults follow resilience4j; rates are parts
/// of one, not percent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerOptions {
    /// What the window is measured in. Default calls.
    pub sliding_window_type: WindowType,
    /// Size of the window: calls (1..=[`MAX_WINDOW_CALLS`]), or milliseconds. Default 100.
    pub sliding_window_size: u32,
    /// Rates are judged from so many calls in the window on. Default 100; a count-based window smaller than this
    /// is judged when full.
    pub minimum_number_of_calls: u32,
    /// Opens when this part of the calls failed, or more; in (0, 1]. Default 0.5. Failures of a class that has a
    /// rule of its own do not count here.
    pub failure_rate_threshold: f64,
    /// Opens when this part of the calls was slow, or more; in (0, 1]. Default 1.0. A rule for the class `slow`
    /// takes its place.
    pub slow_call_rate_threshold: f64,
    /// A call that takes longer is slow, in milliseconds. Default 60 000.
    pub slow_call_duration_threshold_ms: u64,
    /// Wait before the first probe, in milliseconds. Default 60 000.
    pub wait_duration_in_open_state_ms: u64,
    /// Factor from one wait to the next while probes fail; at least 1. Absent: 1 with `permits`, 2 with `ramp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_multiplier: Option<f64>,
    /// Longest wait, in milliseconds; at least the first. Absent: ten times the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait_duration_in_open_state_ms: Option<u64>,
    /// Chance shortens a wait by up to this part; in [0, 1]. Default 0.
    pub wait_jitter: f64,
    /// Calls that run while half-open in mode `permits`; at least 1. Default 10.
    pub permitted_number_of_calls_in_half_open_state: u32,
    /// How a half-open breaker finds out whether to close. Default `permits`.
    pub half_open: HalfOpenMode,
    /// Rules of single classes. Default none.
    pub classes: BTreeMap<FailureClass, ClassRule>,
    /// Refuses options in which a class has no rule. Default false.
    pub strict: bool,
    /// Transitions remembered; at most [`MAX_LOG_SIZE`]. Default 64.
    pub transition_log_size: usize,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            sliding_window_type: WindowType::CountBased,
            sliding_window_size: 100,
            minimum_number_of_calls: 100,
            failure_rate_threshold: 0.5,
            slow_call_rate_threshold: 1.0,
            slow_call_duration_threshold_ms: 60_000,
            wait_duration_in_open_state_ms: 60_000,
            wait_multiplier: None,
            max_wait_duration_in_open_state_ms: None,
            wait_jitter: 0.0,
            permitted_number_of_calls_in_half_open_state: 10,
            half_open: HalfOpenMode::Permits,
            classes: BTreeMap::new(),
            strict: false,
            transition_log_size: 64,
        }
    }
}

impl BreakerOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`BreakerOptionsError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), BreakerOptionsError> {
        let window_max = match self.sliding_window_type {
            WindowType::CountBased => MAX_WINDOW_CALLS,
            WindowType::TimeBased => u32::MAX,
        };
        within("sliding_window_size", u64::from(self.sliding_window_size), 1, u64::from(window_max))?;
        at_least_one("minimum_number_of_calls", self.minimum_number_of_calls)?;
        part("failure_rate_threshold", self.failure_rate_threshold)?;
        part("slow_call_rate_threshold", self.slow_call_rate_threshold)?;
        within("slow_call_duration_threshold_ms", self.slow_call_duration_threshold_ms, 1, MAX_MS)?;
        self.validate_wait()?;
        let permits = self.permitted_number_of_calls_in_half_open_state;
        at_least_one("permitted_number_of_calls_in_half_open_state", permits)?;
        self.validate_ramp()?;
        self.validate_classes()?;
        within("transition_log_size", self.transition_log_size as u64, 0, MAX_LOG_SIZE as u64)
    }

    fn validate_wait(&self) -> Result<(), BreakerOptionsError> {
        let first = self.wait_duration_in_open_state_ms;
        within("wait_duration_in_open_state_ms", first, 1, MAX_MS)?;
        if let Some(longest) = self.max_wait_duration_in_open_state_ms {
            within("max_wait_duration_in_open_state_ms", longest, first, MAX_MS)?;
        }
        let multiplier = self.wait_multiplier.unwrap_or(1.0);
        if !(1.0..=1_000.0).contains(&multiplier) {
            return Err(refused("wait_multiplier", multiplier, "1..=1000"));
        }
        if !(0.0..=1.0).contains(&self.wait_jitter) {
            return Err(refused("wait_jitter", self.wait_jitter, "0..=1"));
        }
        Ok(())
    }

    fn validate_ramp(&self) -> Result<(), BreakerOptionsError> {
        let HalfOpenMode::Ramp { stages, successes_per_stage, max_error_rate } = &self.half_open else {
            return Ok(());
        };
        let ascending = stages.windows(2).all(|pair| matches!(pair, [one, next] if one < next));
        if !ascending || stages.first().is_none_or(|first| *first == 0) || stages.last() != Some(&100) {
            let given = format!("{stages:?}");
            return Err(refused("half_open.ramp.stages", given, "ascending, above 0, ending at 100"));
        }
        at_least_one("half_open.ramp.successes_per_stage", *successes_per_stage)?;
        part("half_open.ramp.max_error_rate", *max_error_rate)
    }

    fn validate_classes(&self) -> Result<(), BreakerOptionsError> {
        for class in FailureClass::ALL {
            let field = format!("classes.{class}");
            match self.classes.get(&class) {
                None if self.strict => {
                    return Err(refused(field, "no rule", "a rule for each class when strict"));
                }
                None | Some(ClassRule::Never) => {}
                Some(ClassRule::Count(n)) => at_least_one(format!("{field}.count"), *n)?,
                Some(ClassRule::Consecutive(n)) => at_least_one(format!("{field}.consecutive"), *n)?,
                Some(ClassRule::Ratio { threshold, minimum_number_of_calls }) => {
                    part(format!("{field}.ratio.threshold"), *threshold)?;
                    at_least_one(format!("{field}.ratio.minimum_number_of_calls"), *minimum_number_of_calls)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a call of this length is slow.
    pub(super) fn is_slow(&self, took: Duration) -> bool {
        took > Duration::from_millis(self.slow_call_duration_threshold_ms)
    }

    /// The wait after so many rounds of probes that failed one after the other; `draw` is uniform over all of u64.
    pub(super) fn wait(&self, failed_rounds: u32, draw: u64) -> Duration {
        let first = self.wait_duration_in_open_state_ms;
        let longest = self.max_wait_duration_in_open_state_ms.unwrap_or_else(|| first.saturating_mul(10));
        let multiplier = self.wait_multiplier.unwrap_or(match self.half_open {
            HalfOpenMode::Permits => 1.0,
            HalfOpenMode::Ramp { .. } => 2.0,
        });
        let rounds = i32::try_from(failed_rounds).unwrap_or(i32::MAX);
        // At most MAX_MS, so the float is exact and finite after the cap.
        let full_ms = (first as f64 * multiplier.powi(rounds)).min(longest as f64);
        let shortened = full_ms * (1.0 - self.wait_jitter * (draw as f64 / u64::MAX as f64));
        Duration::from_micros((shortened * 1_000.0) as u64)
    }
}

fn refused(field: impl Into<String>, given: impl ToString, allowed: &'static str) -> BreakerOptionsError {
    BreakerOptionsError { field: field.into(), given: given.to_string(), allowed: allowed.to_owned() }
}

fn at_least_one(field: impl Into<String>, given: u32) -> Result<(), BreakerOptionsError> {
    if given == 0 { Err(refused(field, given, "at least 1")) } else { Ok(()) }
}

fn part(field: impl Into<String>, given: f64) -> Result<(), BreakerOptionsError> {
    if given > 0.0 && given <= 1.0 { Ok(()) } else { Err(refused(field, given, "above 0, at most 1")) }
}

fn within(field: &str, given: u64, least: u64, most: u64) -> Result<(), BreakerOptionsError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    let allowed = format!("{least}..={most}");
    Err(BreakerOptionsError { field: field.to_owned(), given: given.to_string(), allowed })
}
