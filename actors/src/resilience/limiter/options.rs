//! [`LimiterOptions`]: how much a limiter admits, under pressure too, and what it does when it cannot tell.

use serde::{Deserialize, Serialize};

use super::{DenyAlertOptions, LimiterOptionsError};
use crate::health::Status;

/// Longest time in which an empty limit becomes full, and longest window: ten years, in milliseconds.
pub const LIMIT_REFILL_MAX_MS: u64 = 10 * 366 * 24 * 3_600 * 1_000;
/// Largest limit of a sliding window.
pub const SLIDING_LIMIT_MAX: u32 = 100_000;
/// Most instants that the sliding windows of one limiter remember: `limit * max_keys`.
pub const SLIDING_INSTANTS_MAX: u64 = 100_000_000;
/// Most keys of one limiter.
pub const LIMITER_KEYS_MAX: usize = 1_000_000;
/// Most callers that wait for one limiter.
pub const LIMITER_WAITING_MAX: usize = 1_000_000;

/// How calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LimitStrategy {
    /// `burst` calls at once, then `rate` in `per_ms`, evenly. Never more than the rate; less by under 1/2048 µs a
    /// call where `rate / (per_ms * 1000)` in lowest terms has a numerator over 2048, exact elsewhere.
    TokenBucket {
        /// Calls at once: at least 1.
        burst: u32,
        /// Calls in `per_ms`: at least 1, at most one in a microsecond.
        rate: u32,
        /// Milliseconds: at least 1.
        per_ms: u64,
    },
    /// One call in `period_us`, up to `tolerance_us` early: the token bucket in the words of networks. A bucket of
    /// `burst` calls has a tolerance of `burst - 1` periods.
    Gcra {
        /// Microseconds between calls: at least 1.
        period_us: u64,
        /// How much too early a call may come, in microseconds; 0: evenly, never two at once.
        tolerance_us: u64,
    },
    /// At most `limit` calls in every window of this length, wherever it begins. Remembers an instant a call: up to
    /// 16 bytes times `limit` a key.
    SlidingWindow {
        /// Calls: 1..=100 000.
        limit: u32,
        /// Milliseconds: at least 1.
        window_ms: u64,
    },
}

/// What happens to a call that the limiter cannot count: its key is new and there is no place for another one, its
/// key is longer than 255 bytes, or the stored state of the limiter cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It runs uncounted; after stored state that cannot be read, every key begins with its whole limit.
    FailOpen,
    /// It is refused; after stored state that cannot be read, every key begins with its limit used up.
    #[default]
    FailClosed,
}

/// Whether the system has less to give than usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pressure {
    /// The configured rate holds.
    #[default]
    Normal,
    /// The rate times [`LimiterOptions::pressure_factor`] holds.
    Degraded,
}

impl From<Status> for Pressure {
    fn from(status: Status) -> Self {
        match status {
            Status::Up | Status::Draining => Self::Normal,
            Status::Degraded | Status::Down => Self::Degraded,
        }
    }
}

/// Settings of a limiter. In a document only `strategy` has no default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimiterOptions {
    /// How calls are counted, for each key alone.
    pub strategy: LimitStrategy,
    /// Part of the rate that is admitted under pressure: 0.0..=1.0, to six places; default 0.7. 0 admits nothing.
    /// A sliding window keeps its length and scales its limit, to no less than 1.
    #[serde(default = "pressure_factor")]
    pub pressure_factor: f64,
    /// What happens to a call that cannot be counted; default fail closed.
    #[serde(default)]
    pub on_error: OnError,
    /// Most keys: 1..=1 000 000; default 10 000. Keys that have their whole limit again make room.
    #[serde(default = "max_keys")]
    pub max_keys: usize,
    /// Most callers that wait until they are allowed: 0..=1 000 000; default 1 000. More are refused at once.
    #[serde(default = "max_waiting")]
    pub max_waiting: usize,
    /// When refusals are worth an alert; default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<DenyAlertOptions>,
}

fn pressure_factor() -> f64 {
    0.7
}

fn max_keys() -> usize {
    10_000
}

fn max_waiting() -> usize {
    1_000
}

impl LimiterOptions {
    /// This strategy and defaults.
    #[must_use]
    pub fn new(strategy: LimitStrategy) -> Self {
        Self {
            strategy,
            pressure_factor: pressure_factor(),
            on_error: OnError::default(),
            max_keys: max_keys(),
            max_waiting: max_waiting(),
            alert: None,
        }
    }

    /// `burst` calls at once, then `per_second` a second.
    #[must_use]
    pub fn per_second(burst: u32, per_second: u32) -> Self {
        Self::new(LimitStrategy::TokenBucket { burst, rate: per_second, per_ms: 1_000 })
    }

    /// At most `limit` calls in every window of `window_ms`.
    #[must_use]
    pub fn sliding(limit: u32, window_ms: u64) -> Self {
        Self::new(LimitStrategy::SlidingWindow { limit, window_ms })
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`LimiterOptionsError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), LimiterOptionsError> {
        self.strategy.validate()?;
        if !(0.0..=1.0).contains(&self.pressure_factor) {
            return Err(wrong("pressure_factor", self.pressure_factor, "use 0.0..=1.0"));
        }
        if !(1..=LIMITER_KEYS_MAX).contains(&self.max_keys) {
            return Err(wrong("max_keys", self.max_keys, format!("use 1..={LIMITER_KEYS_MAX}")));
        }
        if self.max_waiting > LIMITER_WAITING_MAX {
            return Err(wrong("max_waiting", self.max_waiting, format!("use 0..={LIMITER_WAITING_MAX}")));
        }
        self.instants()?;
        self.alert.as_ref().map_or(Ok(()), DenyAlertOptions::validate)
    }

    fn instants(&self) -> Result<(), LimiterOptionsError> {
        let LimitStrategy::SlidingWindow { limit, .. } = self.strategy else { return Ok(()) };
        let most = SLIDING_INSTANTS_MAX / u64::from(limit.max(1));
        if self.max_keys as u64 > most {
            return Err(wrong(
                "max_keys",
                self.max_keys,
                format!("use at most {most} with a limit of {limit}"),
            ));
        }
        Ok(())
    }
}

impl LimitStrategy {
    fn validate(self) -> Result<(), LimiterOptionsError> {
        match self {
            Self::TokenBucket { burst, rate, per_ms } => {
                at_least_1("strategy.token_bucket.burst", burst.into())?;
                at_least_1("strategy.token_bucket.rate", rate.into())?;
                time_ms("strategy.token_bucket.per_ms", per_ms)?;
                if u64::from(rate) > per_ms * 1_000 {
                    let hint = format!("use at most {} in {per_ms} ms: one in a microsecond", per_ms * 1_000);
                    return Err(wrong("strategy.token_bucket.rate", rate, hint));
                }
                if u128::from(burst) * u128::from(per_ms) > u128::from(rate) * u128::from(LIMIT_REFILL_MAX_MS)
                {
                    let hint = "use what comes back within ten years at this rate";
                    return Err(wrong("strategy.token_bucket.burst", burst, hint));
                }
                Ok(())
            }
            Self::Gcra { period_us, tolerance_us } => {
                at_least_1("strategy.gcra.period_us", period_us)?;
                time_us("strategy.gcra.period_us", period_us)?;
                time_us("strategy.gcra.tolerance_us", tolerance_us)
            }
            Self::SlidingWindow { limit, window_ms } => {
                if !(1..=SLIDING_LIMIT_MAX).contains(&limit) {
                    let hint = format!("use 1..={SLIDING_LIMIT_MAX}, or a token bucket for more");
                    return Err(wrong("strategy.sliding_window.limit", limit, hint));
                }
                time_ms("strategy.sliding_window.window_ms", window_ms)
            }
        }
    }
}

pub(super) fn wrong(
    field: &'static str,
    given: impl ToString,
    hint: impl Into<String>,
) -> LimiterOptionsError {
    LimiterOptionsError { field, given: given.to_string(), hint: hint.into() }
}

fn at_least_1(field: &'static str, given: u64) -> Result<(), LimiterOptionsError> {
    if given == 0 { Err(wrong(field, given, "use 1 or more")) } else { Ok(()) }
}

pub(super) fn time_ms(field: &'static str, ms: u64) -> Result<(), LimiterOptionsError> {
    if !(1..=LIMIT_REFILL_MAX_MS).contains(&ms) {
        return Err(wrong(field, ms, format!("use 1..={LIMIT_REFILL_MAX_MS} ms")));
    }
    Ok(())
}

fn time_us(field: &'static str, us: u64) -> Result<(), LimiterOptionsError> {
    let most = LIMIT_REFILL_MAX_MS * 1_000;
    if us > most { Err(wrong(field, us, format!("use at most {most} us"))) } else { Ok(()) }
}
