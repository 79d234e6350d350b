//! [`Law`]: a strategy in the numbers that are counted with, at full rate or under pressure.

use super::options::{LimitStrategy, LimiterOptions, Pressure};
use crate::ids::Timestamp;

/// Finest tick of a bucket: so many are a microsecond. The Unix time in ticks fits a word until the year 2255.
const TICKS: u64 = 2_048;
/// Longest filling in ticks, so that no sum of a time and a filling overflows.
const LONGEST: u64 = 1 << 62;
const MILLION: u64 = 1_000_000;

/// What a limiter counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Law {
    pub(super) count: Count,
    /// Nothing is admitted at all.
    pub(super) is_shut: bool,
}

/// How a key is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Bucket(BucketLaw),
    Window(WindowLaw),
}

/// A bucket in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BucketLaw {
    /// Ticks of a microsecond.
    per_us: u64,
    /// Ticks of a token.
    pub(super) interval: u64,
    pub(super) tolerance: u64,
}

/// A window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowLaw {
    pub(super) limit: u32,
    pub(super) window_us: i64,
}

impl Law {
    /// The law of valid options.
    pub(super) fn of(options: &LimiterOptions, pressure: Pressure) -> Self {
        let full = Count::of(options.strategy);
        match pressure {
            Pressure::Normal => Self { count: full, is_shut: false },
            Pressure::Degraded => {
                let millionths = (options.pressure_factor * MILLION as f64).round() as u64;
                Self { count: full.scaled(millionths), is_shut: millionths == 0 }
            }
        }
    }
}

impl Count {
    fn of(strategy: LimitStrategy) -> Self {
        match strategy {
            LimitStrategy::TokenBucket { burst, rate, per_ms } => {
                Self::Bucket(BucketLaw::of_rate(burst.into(), rate.into(), per_ms.saturating_mul(1_000)))
            }
            LimitStrategy::Gcra { period_us, tolerance_us } => Self::Bucket(BucketLaw {
                per_us: TICKS,
                interval: period_us.saturating_mul(TICKS),
                tolerance: tolerance_us.saturating_mul(TICKS),
            }),
            LimitStrategy::SlidingWindow { limit, window_ms } => Self::Window(WindowLaw {
                limit,
                window_us: i64::try_from(window_ms.saturating_mul(1_000)).unwrap_or(i64::MAX),
            }),
        }
    }

    /// So many millionths of the rate; 0 leaves it as it is.
    fn scaled(self, millionths: u64) -> Self {
        if millionths == 0 {
            return self;
        }
        match self {
            Self::Bucket(law) => Self::Bucket(law.scaled(millionths)),
            Self::Window(law) => {
                let limit = u64::from(law.limit) * millionths / MILLION;
                Self::Window(WindowLaw { limit: u32::try_from(limit).unwrap_or(law.limit).max(1), ..law })
            }
        }
    }

    /// Tokens of a key that nobody took from.
    pub(super) fn limit(&self) -> u64 {
        match self {
            Self::Bucket(law) => law.capacity() / law.interval.max(1),
            Self::Window(law) => law.limit.into(),
        }
    }

    /// How long an empty key takes to be full, in microseconds.
    pub(super) fn refill_us(&self) -> i64 {
        match self {
            Self::Bucket(law) => law.us(law.capacity()),
            Self::Window(law) => law.window_us,
        }
    }
}

impl BucketLaw {
    fn of_rate(burst: u64, rate: u64, per_us: u64) -> Self {
        let common = gcd(rate, per_us).max(1);
        let (rate, per) = ((rate / common).max(1), per_us / common);
        // A multiple of the rate makes the interval a whole number of ticks.
        let ticks = if rate <= TICKS { TICKS / rate * rate } else { TICKS };
        let interval = (u128::from(per) * u128::from(ticks)).div_ceil(u128::from(rate));
        let interval = narrow(interval).min(LONGEST / burst.max(1)).max(1);
        Self { per_us: ticks, interval, tolerance: interval.saturating_mul(burst.saturating_sub(1)) }
    }

    fn scaled(self, millionths: u64) -> Self {
        let longest = u128::from(self.interval) * u128::from(LONGEST) / u128::from(self.capacity().max(1));
        let wide = (u128::from(self.interval) * u128::from(MILLION)).div_ceil(u128::from(millionths));
        let interval = narrow(wide.min(longest)).max(self.interval);
        let tolerance = u128::from(self.tolerance) * u128::from(interval) / u128::from(self.interval.max(1));
        Self { interval, tolerance: narrow(tolerance), ..self }
    }

    /// Ticks of filling of an empty bucket.
    pub(super) fn capacity(&self) -> u64 {
        self.tolerance.saturating_add(self.interval)
    }

    /// A time in ticks; before 1970 time stands still.
    pub(super) fn ticks(&self, now: Timestamp) -> u64 {
        u64::try_from(now.0).unwrap_or(0).saturating_mul(self.per_us)
    }

    /// Ticks in microseconds, rounded up.
    pub(super) fn us(&self, ticks: u64) -> i64 {
        i64::try_from(ticks.div_ceil(self.per_us.max(1))).unwrap_or(i64::MAX)
    }

    /// Tokens that so many ticks of filling stand for, rounded up.
    pub(super) fn tokens(&self, ticks: u64) -> u64 {
        ticks.div_ceil(self.interval.max(1))
    }

    /// The filling of this bucket that stands for as many tokens as `ticks` of `other`, rounded up; at most all.
    pub(super) fn converted(&self, ticks: u64, other: &Self) -> u64 {
        let wide = u128::from(ticks) * u128::from(self.interval);
        narrow(wide.div_ceil(u128::from(other.interval.max(1)))).min(self.capacity())
    }
}

fn narrow(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(strategy: LimitStrategy, factor: f64) -> BucketLaw {
        let options = LimiterOptions { pressure_factor: factor, ..LimiterOptions::new(strategy) };
        match Law::of(&options, Pressure::Degraded).count {
            Count::Bucket(law) => law,
            Count::Window(law) => panic!("{law:?}"),
        }
    }

    #[test]
    fn a_token_bucket_and_gcra_are_the_same_law_where_their_numbers_agree() {
        let of_tokens = bucket(LimitStrategy::TokenBucket { burst: 4, rate: 10, per_ms: 1_000 }, 1.0);
        let of_cells = bucket(LimitStrategy::Gcra { period_us: 100_000, tolerance_us: 300_000 }, 1.0);
        assert_eq!(of_tokens, of_cells);
    }

    #[test]
    fn an_interval_is_exact_where_a_tick_divides_it_and_longer_elsewhere() {
        for (rate, per_ms, exact) in [(7, 1_000, true), (1_999, 1_000, true), (100_003, 60_000, false)] {
            let law = bucket(LimitStrategy::TokenBucket { burst: 1, rate, per_ms }, 1.0);
            let (ours, true_length) = (
                u128::from(law.interval) * u128::from(rate),
                u128::from(per_ms) * 1_000 * u128::from(law.per_us),
            );
            assert_eq!(ours == true_length, exact, "{rate}");
            assert!(ours >= true_length && ours < true_length + u128::from(rate), "{rate}");
        }
    }

    #[test]
    fn the_fastest_rate_under_pressure_is_close_to_its_factor() {
        let law = bucket(LimitStrategy::TokenBucket { burst: 1, rate: 1_000_000, per_ms: 1_000 }, 0.7);
        assert_eq!((law.per_us, law.interval), (2_048, 2_926));
    }

    #[test]
    fn the_smallest_factor_of_the_slowest_rate_stays_within_a_word() {
        let slow =
            LimitStrategy::TokenBucket { burst: 1, rate: 1, per_ms: super::super::LIMIT_REFILL_MAX_MS };
        let law = bucket(slow, 0.000_001);
        assert!(law.capacity() <= LONGEST && law.capacity() > LONGEST / 2);
    }
}
