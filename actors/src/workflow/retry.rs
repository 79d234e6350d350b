//! Retry policies: when the next attempt of a failed step is due.

use serde::{Deserialize, Serialize};

/// Longest delay and timeout anybody may ask for: ten years, in milliseconds.
pub const TEN_YEARS_MS: u64 = 3_652 * 24 * 3_600 * 1_000;

/// What happens after a failed attempt. Field names follow Temporal's `RetryPolicy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; 1 = no retry. Default 3. Restarts after a crash do not count.
    pub max_attempts: u32,
    /// Delay before the second attempt, in milliseconds; 1..=ten years. Default 1 000.
    pub initial_interval_ms: u64,
    /// Factor from one delay to the next; 1.0 = fixed delay. Default 2.0.
    pub backoff_coefficient: f64,
    /// Longest delay, in milliseconds; at least `initial_interval_ms`. Absent: 100 times the initial one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_interval_ms: Option<u64>,
    /// How chance spreads the delays. Default none.
    pub jitter: Jitter,
    /// No retry starts later than this after the step's first start, in milliseconds; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_elapsed_ms: Option<u64>,
    /// Codes of failures that are never retried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub non_retryable: Vec<String>,
}

/// How chance spreads retry delays. `d` is the delay without jitter.
///
/// # Source
/// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, for full, equal and decorrelated.
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
    /// Uniform in `[initial, 3 * previous delay]`, capped.
    Decorrelated,
    /// Uniform in `[(1 - fraction) * d, d]`; 0.0..=1.0.
    Fraction(f64),
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial_interval_ms: 1_000,
            backoff_coefficient: 2.0,
            maximum_interval_ms: None,
            jitter: Jitter::None,
            max_elapsed_ms: None,
            non_retryable: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// The policy of a step that names none: one attempt.
    #[must_use]
    pub fn once() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }

    /// Longest delay in microseconds.
    #[must_use]
    pub fn cap_us(&self) -> u64 {
        let cap = self.maximum_interval_ms.unwrap_or_else(|| self.initial_interval_ms.saturating_mul(100));
        cap.min(TEN_YEARS_MS).saturating_mul(1_000)
    }

    /// Delay in microseconds after the failure with this number (from 1).
    ///
    /// `previous_us` is the delay before, used by decorrelated jitter alone; `draw` is uniform in `[0, 1)`.
    /// Never above [`RetryPolicy::cap_us`], whatever the numbers; a draw outside its range is clamped.
    #[must_use]
    pub fn delay_us(&self, failures: u32, previous_us: Option<u64>, draw: f64) -> u64 {
        let cap = self.cap_us() as f64;
        let initial = (self.initial_interval_ms as f64 * 1_000.0).min(cap);
        let draw = if draw.is_finite() { draw.clamp(0.0, 1.0) } else { 0.0 };
        let exponent = f64::from(failures.saturating_sub(1));
        let grown = initial * self.backoff_coefficient.powf(exponent);
        // An overflow is infinite and a NaN can only come from an unchecked coefficient: both mean the cap.
        let plain = if grown.is_nan() { cap } else { grown.clamp(0.0, cap) };
        let delay = match self.jitter {
            Jitter::None => plain,
            Jitter::Full => plain * draw,
            Jitter::Equal => plain / 2.0 + plain / 2.0 * draw,
            Jitter::Fraction(fraction) => plain - plain * fraction.clamp(0.0, 1.0) * (1.0 - draw),
            Jitter::Decorrelated => {
                let upper = previous_us.map_or(initial, |us| us as f64).max(initial) * 3.0;
                (initial + (upper - initial) * draw).min(cap)
            }
        };
        // Rounding to microseconds must not lift a delay over the cap; `as` saturates.
        (delay.round() as u64).min(self.cap_us())
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
