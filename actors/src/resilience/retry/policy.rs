//! [`RetryPolicy`]: whether another attempt follows a failed one, and after which delay.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resilience::breaker::FailureClass;

/// Longest delay and timeout anybody may ask for: ten years of 365 days, in milliseconds.
pub const TEN_YEARS_MS: u64 = 3_650 * 24 * 3_600 * 1_000;
/// As `max_attempts`: no limit.
pub const UNLIMITED_ATTEMPTS: u32 = u32::MAX;

/// What happens after a failed attempt. Field names follow Temporal's `RetryPolicy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; 1 = no retry, [`UNLIMITED_ATTEMPTS`] = no limit. Default 3. Restarts
    /// after a crash do not count.
    pub max_attempts: u32,
    /// Delay before the second attempt, in milliseconds; 1..=ten years. Default 1 000.
    pub initial_interval_ms: u64,
    /// Factor from one delay to the next; 1.0 = fixed delay. Default 2.0. Linear growth does not use it.
    pub backoff_coefficient: f64,
    /// How delays grow. Default exponential.
    #[serde(skip_serializing_if = "Growth::is_exponential")]
    pub growth: Growth,
    /// Longest delay, in milliseconds; at least `initial_interval_ms`. Absent: 100 times the initial one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_interval_ms: Option<u64>,
    /// How chance spreads the delays. Default none.
    pub jitter: Jitter,
    /// No retry starts later than this after the first start, in milliseconds; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_elapsed_ms: Option<u64>,
    /// No retry starts later than this after the last progress that was told, the first start included, in
    /// milliseconds; absent: no limit. Steps of workflows and jobs of queues tell none: theirs counts from the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_timeout_ms: Option<u64>,
    /// Codes of failures that are never retried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub non_retryable: Vec<String>,
    /// Rules for classes of failures. Default none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<FailureClass, RetryRule>,
}

/// How delays grow from one retry to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Growth {
    /// `initial * coefficient^(n - 1)`.
    #[default]
    Exponential,
    /// `initial * n`.
    Linear,
}

impl Growth {
    fn is_exponential(&self) -> bool {
        *self == Self::Exponential
    }
}

/// How chance spreads retry delays. `d` is the delay without jitter.
///
/// # Source
/// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, for full, equal and decorrelated;
/// gRPC "Connection Backoff Protocol" for around.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// Exactly `d`.
    #[default]
    None,
    /// Uniform in `[0, d]`.
    Full,
    /// Uniform in `[d/2, d]`.
    Equal,
    /// The first delay is `initial`, each later one uniform in `[initial, 3 * previous delay]`, capped.
    Decorrelated,
    /// Uniform in `[(1 - fraction) * d, d]`; 0.0..=1.0.
    Fraction(f64),
    /// Uniform in `[(1 - fraction) * d, (1 + fraction) * d]`; 0.0..=1.0. The one jitter that may exceed the longest
    /// delay, by the fraction.
    Around(f64),
}

/// What a class of failures changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryRule {
    /// No retry.
    Never,
    /// The next attempt starts no earlier than so many milliseconds later; 1..=ten years.
    AfterMs(u64),
    /// No retry after so many attempts in all, if that is less than the policy's; at least 1.
    MaxAttempts(u32),
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial_interval_ms: 1_000,
            backoff_coefficient: 2.0,
            growth: Growth::Exponential,
            maximum_interval_ms: None,
            jitter: Jitter::None,
            max_elapsed_ms: None,
            progress_timeout_ms: None,
            non_retryable: Vec::new(),
            classes: BTreeMap::new(),
        }
    }
}

impl RetryPolicy {
    /// The policy of a step that names none: one attempt.
    #[must_use]
    pub fn once() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }

    /// The same delay each time.
    #[must_use]
    pub fn fixed(interval_ms: u64) -> Self {
        Self { backoff_coefficient: 1.0, ..Self::exponential(interval_ms) }
    }

    /// Delays of one, two, three times the interval.
    #[must_use]
    pub fn linear(interval_ms: u64) -> Self {
        Self { growth: Growth::Linear, ..Self::exponential(interval_ms) }
    }

    /// Delays that double.
    #[must_use]
    pub fn exponential(initial_interval_ms: u64) -> Self {
        Self { initial_interval_ms, ..Self::default() }
    }

    /// Longest delay without jitter, in microseconds.
    #[must_use]
    pub fn cap_us(&self) -> u64 {
        let cap = self.maximum_interval_ms.unwrap_or_else(|| self.initial_interval_ms.saturating_mul(100));
        cap.min(TEN_YEARS_MS).saturating_mul(1_000)
    }

    /// Longest delay with jitter, in microseconds: [`RetryPolicy::cap_us`], and the fraction of [`Jitter::Around`].
    #[must_use]
    pub fn longest_us(&self) -> u64 {
        match self.jitter {
            Jitter::Around(fraction) => (self.cap_us() as f64 * (1.0 + part(fraction))).round() as u64,
            Jitter::None | Jitter::Full | Jitter::Equal | Jitter::Decorrelated | Jitter::Fraction(_) => {
                self.cap_us()
            }
        }
    }

    /// Delay in microseconds after the failure with this number (from 1).
    ///
    /// `previous_us` is the delay before, used by decorrelated jitter alone; `draw` is uniform in `[0, 1)`.
    /// Never above [`RetryPolicy::longest_us`], whatever the numbers; a draw outside its range is clamped.
    #[must_use]
    pub fn delay_us(&self, failures: u32, previous_us: Option<u64>, draw: f64) -> u64 {
        let cap = self.cap_us() as f64;
        let initial = (self.initial_interval_ms as f64 * 1_000.0).min(cap);
        let draw = part(draw);
        let plain = self.plain(failures, initial, cap);
        let delay = match self.jitter {
            Jitter::None => plain,
            Jitter::Full => plain * draw,
            Jitter::Equal => plain / 2.0 + plain / 2.0 * draw,
            Jitter::Fraction(fraction) => plain - plain * part(fraction) * (1.0 - draw),
            Jitter::Around(fraction) => plain + plain * part(fraction) * (2.0 * draw - 1.0),
            Jitter::Decorrelated => previous_us.map_or(initial, |previous| {
                let upper = (previous as f64).max(initial) * 3.0;
                (initial + (upper - initial) * draw).min(cap)
            }),
        };
        // Rounding to microseconds must not lift a delay over the longest; `as` saturates.
        (delay.round() as u64).min(self.longest_us())
    }

    /// The delay without jitter.
    fn plain(&self, failures: u32, initial: f64, cap: f64) -> f64 {
        let grown = match self.growth {
            Growth::Exponential => {
                initial * self.backoff_coefficient.powf(f64::from(failures.saturating_sub(1)))
            }
            Growth::Linear => initial * f64::from(failures.max(1)),
        };
        // An overflow is infinite and a NaN can only come from an unchecked coefficient: both mean the cap.
        if grown.is_nan() { cap } else { grown.clamp(0.0, cap) }
    }
}

/// A part of one: clamped, and 0 for what is no number.
fn part(value: f64) -> f64 {
    if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 }
}
