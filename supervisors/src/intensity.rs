//! How many restarts in how long a time are bearable.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::SpecError;

/// Restarts allowed within a sliding time; one more, and the supervisor gives up.
///
/// The default is 3 within 5 s, for tests and production alike.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use stanchion_supervisors::Intensity;
///
/// assert_eq!(Intensity::default(), Intensity::new(3, Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    max_restarts: u32,
    within: Duration,
    explicit_never: bool,
}

impl Default for Intensity {
    fn default() -> Self {
        Self::new(3, Duration::from_secs(5))
    }
}

impl Intensity {
    /// Allows `max_restarts` within any span of `within`. Both at least 1, or the spec is refused.
    #[must_use]
    pub const fn new(max_restarts: u32, within: Duration) -> Self {
        Self { max_restarts, within, explicit_never: false }
    }

    /// Allows no restart at all: the first exit that asks for one makes the supervisor give up.
    #[must_use]
    pub const fn never() -> Self {
        Self { max_restarts: 0, within: Duration::ZERO, explicit_never: true }
    }

    /// Restarts allowed within [`within`](Self::within); 0 only for [`never`](Self::never).
    #[must_use]
    pub const fn max_restarts(&self) -> u32 {
        self.max_restarts
    }

    /// The sliding time.
    #[must_use]
    pub const fn within(&self) -> Duration {
        self.within
    }

    pub(crate) fn validate(&self) -> Result<(), SpecError> {
        if self.explicit_never {
            return Ok(());
        }
        if self.max_restarts == 0 {
            return Err(SpecError::InvalidIntensity);
        }
        if self.within.is_zero() {
            return Err(SpecError::InvalidPeriod);
        }
        Ok(())
    }
}

/// The restarts of one supervisor, or of one dynamic child, that still count.
///
/// Holds at most `max_restarts + 1` instants; allocates on the first restart.
#[derive(Clone, Debug)]
pub struct RestartWindow {
    intensity: Intensity,
    restarts: VecDeque<Instant>,
}

impl RestartWindow {
    /// An empty window.
    #[must_use]
    pub const fn new(intensity: Intensity) -> Self {
        Self { intensity, restarts: VecDeque::new() }
    }

    /// Counts a restart at `now`; says whether it is bearable.
    pub fn record(&mut self, now: Instant) -> Verdict {
        self.sweep(now);
        if self.restarts.len() >= self.intensity.max_restarts as usize {
            return Verdict::GiveUp;
        }
        self.restarts.push_back(now);
        Verdict::Restart
    }

    /// Counts the restarts that still lie within the sliding time.
    #[must_use]
    pub fn recent(&self) -> u32 {
        u32::try_from(self.restarts.len()).unwrap_or(u32::MAX)
    }

    /// A restart exactly `within` ago still counts, as in OTP.
    fn sweep(&mut self, now: Instant) {
        while let Some(oldest) = self.restarts.front() {
            if now.duration_since(*oldest) <= self.intensity.within {
                return;
            }
            self.restarts.pop_front();
        }
    }
}

/// What follows from one more restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Bearable: restart.
    Restart,
    /// Too many: give up.
    GiveUp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourth_restart_within_five_seconds_is_too_many() {
        let (start, mut window) = (Instant::now(), RestartWindow::new(Intensity::default()));
        let at = |ms| start + Duration::from_millis(ms);
        for ms in [0, 1_000, 4_000] {
            assert_eq!(window.record(at(ms)), Verdict::Restart);
        }
        assert_eq!(window.record(at(5_000)), Verdict::GiveUp, "the first still counts at exactly 5 s");
        assert_eq!(window.record(at(5_001)), Verdict::Restart, "the first has left the window");
        assert_eq!(window.recent(), 3);
    }

    #[test]
    fn restarts_two_seconds_apart_never_give_up() {
        let (start, mut window) = (Instant::now(), RestartWindow::new(Intensity::default()));
        for n in 0..1_000 {
            assert_eq!(window.record(start + Duration::from_secs(2 * n)), Verdict::Restart);
        }
    }
}
