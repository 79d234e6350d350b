//! Timeouts: how long a call may take with all its attempts, and how long each of them.
//!
//! Pure arithmetic over moments given as arguments, and one future that performs it. A call that is cut off may
//! have been applied on the other side.
//!
//! ```
//! use std::time::Duration;
//! use stanchion_actors::resilience::timeout::{Timeouts, TimeoutLayer, TimeoutOptions};
//!
//! let options = TimeoutOptions { total_ms: Some(1_000), attempt_ms: Some(400) };
//! let begun = tokio::time::Instant::now();
//! let timeouts = Timeouts::begin(&options, begun, None)?;
//! let first = timeouts.attempt(begun)?;
//! assert_eq!((first.limit, first.layer), (Some(Duration::from_millis(400)), TimeoutLayer::Attempt));
//! let third = timeouts.attempt(begun + Duration::from_millis(800))?;
//! assert_eq!((third.limit, third.layer), (Some(Duration::from_millis(200)), TimeoutLayer::Total));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{fmt, future::Future, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::OptionsError;
use crate::error::{Coded, Family};

/// Longest limit: a day.
const MAX_MS: u64 = 86_400_000;

/// How long a call may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutOptions {
    /// All attempts and the waits between them: 1..=86 400 000; default no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_ms: Option<u64>,
    /// One attempt: 1..=86 400 000, at most `total_ms`; default no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_ms: Option<u64>,
}

impl TimeoutOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`OptionsError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), OptionsError> {
        let check = |field, given: Option<u64>, most| {
            OptionsError::check("timeout", field, given.unwrap_or(1), 1..=most)
        };
        check("total_ms", self.total_ms, MAX_MS)?;
        check("attempt_ms", self.attempt_ms, self.total_ms.unwrap_or(MAX_MS))
    }
}

/// Which limit ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutLayer {
    /// `attempt_ms`: another attempt may follow.
    Attempt,
    /// `total_ms`: the call is over.
    Total,
    /// The caller's own deadline: the call is over.
    Deadline,
}

impl fmt::Display for TimeoutLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempt => "attempt",
            Self::Total => "call",
            Self::Deadline => "call, by its caller's deadline,",
        })
    }
}

/// The time of a call or of an attempt is over. It may have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {layer} ended after {} ms", .after.as_millis())]
#[non_exhaustive]
pub struct TimedOut {
    /// The limit that ended it.
    pub layer: TimeoutLayer,
    /// How long the attempt ran, for [`TimeoutLayer::Attempt`]; else the whole call.
    pub after: Duration,
}

impl Coded for TimedOut {
    fn code(&self) -> &'static str {
        match self.layer {
            TimeoutLayer::Attempt => "timeout.attempt",
            TimeoutLayer::Total => "timeout.total",
            TimeoutLayer::Deadline => "timeout.deadline",
        }
    }
    fn family(&self) -> Family {
        Family::Unknown
    }
}

/// The time of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    begun: Instant,
    /// The earlier one of total and deadline.
    end: Option<(Instant, TimeoutLayer)>,
    attempt: Option<Duration>,
}

/// The time of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptTime {
    /// How long it may run; `None` without a limit.
    pub limit: Option<Duration>,
    /// What ends it then.
    pub layer: TimeoutLayer,
    call_begun: Instant,
    attempt_begun: Instant,
}

impl Timeouts {
    /// The time of a call that begins at `now` and has to end by `deadline`.
    ///
    /// # Errors
    /// [`OptionsError`] when an option is outside its range.
    pub fn begin(
        options: &TimeoutOptions,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<Self, OptionsError> {
        options.validate()?;
        Ok(Self::of_valid(options, now, deadline))
    }

    /// The same, of options that were checked.
    pub(crate) fn of_valid(options: &TimeoutOptions, now: Instant, deadline: Option<Instant>) -> Self {
        let total = options.total_ms.map(|ms| (now + Duration::from_millis(ms), TimeoutLayer::Total));
        let deadline = deadline.map(|deadline| (deadline, TimeoutLayer::Deadline));
        // The first of equals is taken: the call's own limit.
        let end = total.into_iter().chain(deadline).min_by_key(|(at, _)| *at);
        Self { begun: now, end, attempt: options.attempt_ms.map(Duration::from_millis) }
    }

    /// The time of an attempt that begins at `now`.
    ///
    /// # Errors
    /// [`TimedOut`]: the call is over, do not begin.
    pub fn attempt(&self, now: Instant) -> Result<AttemptTime, TimedOut> {
        let time = |limit, layer| AttemptTime { limit, layer, call_begun: self.begun, attempt_begun: now };
        let Some((end, layer)) = self.end else { return Ok(time(self.attempt, TimeoutLayer::Attempt)) };
        let left = end.saturating_duration_since(now);
        if left.is_zero() {
            return Err(TimedOut { layer, after: now.saturating_duration_since(self.begun) });
        }
        Ok(match self.attempt {
            Some(attempt) if attempt < left => time(Some(attempt), TimeoutLayer::Attempt),
            _ => time(Some(left), layer),
        })
    }

    /// When the call is over; `None` without a limit.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        self.end.map(|(at, _)| at)
    }
}

impl AttemptTime {
    /// Runs `attempt` within its time, and drops it when that is over.
    ///
    /// # Errors
    /// [`TimedOut`]: it may have been applied.
    ///
    /// # Cancel safety
    /// Dropping the future drops the attempt.
    pub async fn run<T>(&self, attempt: impl Future<Output = T>) -> Result<T, TimedOut> {
        let Some(limit) = self.limit else { return Ok(attempt.await) };
        tokio::time::timeout_at(self.attempt_begun + limit, attempt).await.map_err(|_| self.over())
    }

    fn over(&self) -> TimedOut {
        let since = match self.layer {
            TimeoutLayer::Attempt => self.attempt_begun,
            TimeoutLayer::Total | TimeoutLayer::Deadline => self.call_begun,
        };
        TimedOut { layer: self.layer, after: since.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(total_ms: Option<u64>, attempt_ms: Option<u64>) -> TimeoutOptions {
        TimeoutOptions { total_ms, attempt_ms }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_attempt_gets_what_the_nearest_limit_leaves() {
        let begun = Instant::now();
        let rows = [
            (None, None, None, 0, Ok((None, TimeoutLayer::Attempt))),
            (None, Some(40), None, 90, Ok((Some(40), TimeoutLayer::Attempt))),
            (Some(100), None, None, 30, Ok((Some(70), TimeoutLayer::Total))),
            (Some(100), Some(40), None, 59, Ok((Some(40), TimeoutLayer::Attempt))),
            (Some(100), Some(40), None, 60, Ok((Some(40), TimeoutLayer::Total))),
            (Some(100), Some(40), None, 99, Ok((Some(1), TimeoutLayer::Total))),
            (Some(100), Some(40), None, 100, Err((TimeoutLayer::Total, 100))),
            (Some(100), None, Some(50), 20, Ok((Some(30), TimeoutLayer::Deadline))),
            (Some(100), None, Some(100), 20, Ok((Some(80), TimeoutLayer::Total))),
            (None, None, Some(50), 70, Err((TimeoutLayer::Deadline, 70))),
        ];
        for (total, attempt, deadline, at, expected) in rows {
            let deadline = deadline.map(|at| begun + ms(at));
            let timeouts = Timeouts::begin(&options(total, attempt), begun, deadline).unwrap();
            let got = timeouts.attempt(begun + ms(at));
            let got = got.map(|time| (time.limit, time.layer)).map_err(|error| (error.layer, error.after));
            let expected = expected
                .map(|(limit, layer)| (limit.map(ms), layer))
                .map_err(|(layer, after)| (layer, ms(after)));
            assert_eq!(got, expected, "{total:?} {attempt:?} {deadline:?} at {at}");
        }
    }

    #[test]
    fn options_outside_their_range_are_refused_by_name() {
        for (options, field) in [
            (options(Some(0), None), "total_ms"),
            (options(Some(MAX_MS + 1), None), "total_ms"),
            (options(None, Some(0)), "attempt_ms"),
            (options(Some(10), Some(11)), "attempt_ms"),
        ] {
            assert_eq!(options.validate().unwrap_err().field, field);
        }
        let read = |text| serde_json::from_str::<TimeoutOptions>(text).map_err(|error| error.to_string());
        assert_eq!(read("{}"), Ok(TimeoutOptions::default()));
        assert!(read(r#"{"totl_ms": 1}"#).is_err_and(|error| error.contains("totl_ms")));
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_dropped_when_its_time_is_over_and_says_which_limit_it_was() {
        let timeouts = Timeouts::begin(&options(Some(100), Some(60)), Instant::now(), None).unwrap();
        let first = timeouts.attempt(Instant::now()).unwrap();
        let error = first.run(std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(
            (error.layer, error.after, error.code()),
            (TimeoutLayer::Attempt, ms(60), "timeout.attempt")
        );
        let second = timeouts.attempt(Instant::now()).unwrap();
        let error = second.run(std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(
            (error.layer, error.after, error.family()),
            (TimeoutLayer::Total, ms(100), Family::Unknown)
        );
        assert_eq!(error.to_string(), "the call ended after 100 ms");
        assert!(timeouts.attempt(Instant::now()).is_err());
        let free = Timeouts::begin(&options(None, None), Instant::now(), None).unwrap();
        assert_eq!(free.attempt(Instant::now()).unwrap().run(async { 7 }).await, Ok(7));
    }
}
