//! [`RetryStats`]: what became of calls, in numbers.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::decide::GiveUpReason;

/// Upper ends of the buckets of attempts; the last bucket holds what is above.
pub const ATTEMPT_BUCKETS: [u32; 7] = [1, 2, 3, 4, 8, 16, 64];
/// Upper ends of the buckets of delays, in milliseconds; the last bucket holds what is above.
pub const DELAY_BUCKETS_MS: [u64; 7] = [1, 10, 100, 1_000, 10_000, 60_000, 600_000];

const REASONS: usize = GiveUpReason::ALL.len();

/// Counts calls that have ended and the waits between their attempts; shared by any number of retriers. Each number
/// is also a metric (docs/TELEMETRY.md).
#[derive(Debug, Default)]
pub struct RetryStats {
    succeeded: AtomicU64,
    attempts: AtomicU64,
    attempts_by: [AtomicU64; 8],
    delays_by: [AtomicU64; 8],
    gave_up: [AtomicU64; REASONS],
}

/// The numbers of a [`RetryStats`] at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryCounts {
    /// Calls that succeeded.
    pub succeeded: u64,
    /// Attempts of all calls that ended.
    pub attempts: u64,
    /// Calls by attempts: [`ATTEMPT_BUCKETS`], then what is above.
    pub attempts_by: [u64; 8],
    /// Waits by length: [`DELAY_BUCKETS_MS`], then what is above.
    pub delays_by: [u64; 8],
    /// Calls given up, in the order of [`GiveUpReason::ALL`].
    pub gave_up: [u64; REASONS],
}

impl RetryStats {
    /// The numbers.
    #[must_use]
    pub fn counts(&self) -> RetryCounts {
        RetryCounts {
            succeeded: self.succeeded.load(Ordering::Relaxed),
            attempts: self.attempts.load(Ordering::Relaxed),
            attempts_by: read(&self.attempts_by),
            delays_by: read(&self.delays_by),
            gave_up: read(&self.gave_up),
        }
    }

    pub(super) fn succeeded(&self, attempts: u32) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        self.ended(attempts);
    }

    pub(super) fn gave_up(&self, attempts: u32, reason: GiveUpReason) {
        metrics::counter!("stanchion_retry_gave_up_total", "reason" => reason.as_str()).increment(1);
        add(&self.gave_up, reason as usize);
        self.ended(attempts);
    }

    pub(super) fn waits(&self, delay: Duration) {
        metrics::histogram!("stanchion_retry_delay_seconds").record(delay.as_secs_f64());
        let over = |ms: &u64| delay > Duration::from_millis(*ms);
        add(&self.delays_by, DELAY_BUCKETS_MS.iter().take_while(|ms| over(ms)).count());
    }

    fn ended(&self, attempts: u32) {
        metrics::histogram!("stanchion_retry_attempts").record(f64::from(attempts));
        self.attempts.fetch_add(u64::from(attempts), Ordering::Relaxed);
        add(&self.attempts_by, ATTEMPT_BUCKETS.iter().take_while(|most| attempts > **most).count());
    }
}

impl RetryCounts {
    /// Calls given up for this reason.
    #[must_use]
    pub fn given_up(&self, reason: GiveUpReason) -> u64 {
        self.gave_up.get(reason as usize).copied().unwrap_or(0)
    }
}

fn add(counters: &[AtomicU64], at: usize) {
    if let Some(counter) = counters.get(at) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn read<const N: usize>(counters: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|at| counters.get(at).map_or(0, |counter| counter.load(Ordering::Relaxed)))
}
