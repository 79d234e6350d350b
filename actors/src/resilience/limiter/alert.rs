//! [`DenyAlert`]: tells once that too many calls are refused, and once that they are not any more.

use serde::{Deserialize, Serialize};

use super::{
    LimiterOptionsError,
    options::{time_ms, wrong},
};
use crate::ids::Timestamp;

/// Parts of the window: what was counted leaves between nine tenths of the window and its end.
const PARTS: usize = 10;

/// When refusals are worth an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenyAlertOptions {
    /// It is raised while more than this part of the calls is refused: 0.0 or more, below 1.0.
    pub ratio: f64,
    /// The window that calls are counted in, in milliseconds: at least 10.
    pub window_ms: u64,
    /// Fewer calls in the window raise nothing; default 1.
    #[serde(default = "one")]
    pub min_calls: u64,
}

fn one() -> u64 {
    1
}

impl DenyAlertOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`LimiterOptionsError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), LimiterOptionsError> {
        if !(0.0..1.0).contains(&self.ratio) {
            return Err(wrong("alert.ratio", self.ratio, "use 0.0 or more, below 1.0"));
        }
        if self.min_calls == 0 {
            return Err(wrong("alert.min_calls", self.min_calls, "use 1 or more"));
        }
        if self.window_ms < PARTS as u64 {
            return Err(wrong("alert.window_ms", self.window_ms, "use 10 or more"));
        }
        time_ms("alert.window_ms", self.window_ms)
    }
}

/// What an alert tells, once each.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum DenyAlertEvent {
    /// More calls are refused than may be.
    Raised {
        /// Refused calls of the window.
        denied: u64,
        /// All calls of the window.
        calls: u64,
    },
    /// No more than may be are refused.
    Resolved {
        /// Since when it was raised.
        since: Timestamp,
    },
}

/// Compares the refused part of the calls of a window with what may be refused.
#[derive(Clone, Debug, PartialEq)]
pub struct DenyAlert {
    options: DenyAlertOptions,
    /// Number of the newest part since the epoch.
    newest: i64,
    /// Refused and all calls of the parts, the newest first.
    parts: [(u64, u64); PARTS],
    raised_at: Option<Timestamp>,
}

impl DenyAlert {
    /// An alert that saw no call.
    ///
    /// # Errors
    /// [`LimiterOptionsError`] when an option is outside its range.
    pub fn new(options: DenyAlertOptions) -> Result<Self, LimiterOptionsError> {
        options.validate()?;
        Ok(Self { options, newest: i64::MIN, parts: [(0, 0); PARTS], raised_at: None })
    }

    /// So many calls were refused, so many allowed, since the last time this was said; none of either lets time go on.
    pub fn observe(&mut self, denied: u64, allowed: u64, now: Timestamp) -> Option<DenyAlertEvent> {
        self.advance(now);
        if let Some((refused, calls)) = self.parts.first_mut() {
            *refused = refused.saturating_add(denied);
            *calls = calls.saturating_add(denied).saturating_add(allowed);
        }
        let (denied, calls) = self.parts.iter().fold((0, 0), |(denied, calls): (u64, u64), part| {
            (denied.saturating_add(part.0), calls.saturating_add(part.1))
        });
        let is_over = calls >= self.options.min_calls && denied as f64 > self.options.ratio * calls as f64;
        match (is_over, self.raised_at) {
            (true, None) => {
                self.raised_at = Some(now);
                Some(DenyAlertEvent::Raised { denied, calls })
            }
            (false, Some(since)) => {
                self.raised_at = None;
                Some(DenyAlertEvent::Resolved { since })
            }
            (true, Some(_)) | (false, None) => None,
        }
    }

    /// Since when it is raised; `None` while it is not.
    #[must_use]
    pub fn raised_at(&self) -> Option<Timestamp> {
        self.raised_at
    }

    fn advance(&mut self, now: Timestamp) {
        // Validated: at least 1 ms.
        let part_us =
            i64::try_from(self.options.window_ms.saturating_mul(1_000)).unwrap_or(i64::MAX) / PARTS as i64;
        let part = now.0.div_euclid(part_us.max(1));
        let gone = part.saturating_sub(self.newest);
        // Back by more than the window: nothing in it can be said to be young or old.
        let gone = if gone < -(PARTS as i64) { i64::MAX } else { gone };
        if gone <= 0 {
            return;
        }
        let gone = usize::try_from(gone).unwrap_or(PARTS).min(PARTS);
        self.parts.rotate_right(gone);
        self.parts.iter_mut().take(gone).for_each(|part| *part = (0, 0));
        self.newest = part;
    }
}
