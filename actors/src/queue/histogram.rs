//! Times in buckets that grow with them: a quantile is at most a quarter too high.

use std::time::Duration;

/// Four buckets for each doubling, up to 2^40 microseconds, twelve days.
const BUCKETS: usize = 160;

/// How often times were seen, by size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeHistogram {
    counts: Box<[u64; BUCKETS]>,
    count: u64,
    max_us: u64,
}

impl Default for TimeHistogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), count: 0, max_us: 0 }
    }
}

/// The bucket of a time.
fn bucket(us: u64) -> usize {
    let doubling = us.max(1).ilog2();
    let quarter = if doubling < 2 { us } else { 4 * u64::from(doubling - 1) + ((us >> (doubling - 2)) & 3) };
    usize::try_from(quarter).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The largest time in a bucket.
fn upper_us(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 4 {
        return bucket;
    }
    let width = 1 << (bucket / 4 - 1);
    (4 + bucket % 4 + 1) * width - 1
}

impl TimeHistogram {
    /// A time was seen.
    pub fn record(&mut self, us: u64) {
        if let Some(count) = self.counts.get_mut(bucket(us)) {
            *count += 1;
        }
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Times seen.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest time seen.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_us)
    }

    /// The time that this part of all did not exceed, at most a quarter too high; zero when none was seen. `part`:
    /// 0 to 1.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        let rank = ((self.count as f64 * part).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper_us(bucket).min(self.max_us));
            }
        }
        self.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_time_itself_or_at_most_a_quarter_more() {
        for n in [1_u64, 2, 3, 4, 7, 10, 1_000, 50_000] {
            let mut times = TimeHistogram::default();
            (1..=n).for_each(|us| times.record(us * 37));
            for part in [0.0, 0.5, 0.99, 1.0] {
                let exact = ((n as f64 * part).ceil() as u64).clamp(1, n) * 37;
                let told = times.quantile(part).as_micros() as u64;
                assert!(told >= exact && told * 4 <= exact * 5 + 4, "{n} {part}: {exact} {told}");
            }
            assert_eq!((times.count(), times.max()), (n, Duration::from_micros(n * 37)));
        }
    }

    #[test]
    fn every_time_has_a_bucket_that_holds_it() {
        for us in (0..4_096).chain((12..64).flat_map(|shift| [(1_u64 << shift) - 1, 1 << shift])) {
            let bucket = bucket(us);
            assert!(bucket == BUCKETS - 1 || upper_us(bucket) >= us, "{us}");
            assert!(bucket == 0 || upper_us(bucket - 1) < us, "{us}");
        }
        assert_eq!(TimeHistogram::default().quantile(0.99), Duration::ZERO);
    }
}
