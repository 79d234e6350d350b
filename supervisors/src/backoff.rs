//! How long to wait before a restart.

use std::time::Duration;

/// Exponential delay with jitter: a draw between half and all of `first * 2^(n-1)`, at most `max`.
///
/// # Source
/// "Equal jitter" of Marc Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first delay.
    pub first: Duration,
    /// Upper bound of every delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay before restart number `restart` (from 1) of the current window, for a `draw` in `0.0..=1.0`.
    #[must_use]
    pub fn delay(&self, restart: u32, draw: f64) -> Duration {
        let doublings = restart.saturating_sub(1).min(31);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.max);
        let draw = if draw.is_finite() { draw.clamp(0.0, 1.0) } else { 1.0 };
        ceiling.mul_f64(0.5 + draw / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_never_leave_their_half() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
        let highest: Vec<_> = (1..=6).map(|n| backoff.delay(n, 1.0).as_millis()).collect();
        assert_eq!(highest, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.delay(2, 0.0), Duration::from_millis(100));
        assert_eq!(backoff.delay(u32::MAX, 7.0), Duration::from_secs(1));
        assert_eq!(backoff.delay(1, f64::NAN), Duration::from_millis(100));
    }
}
