//! Settings of a queue and their limits.

use serde::{Deserialize, Serialize};

use super::refusal::QueueRefusal;
use crate::resilience::retry::{RetryPolicy, TEN_YEARS_MS};

/// Most partitions of a queue.
pub const QUEUE_PARTITIONS_MAX: u16 = 64;
/// Most jobs one partition may be set to hold.
pub const QUEUE_JOBS_MAX: u64 = 1_000_000;
/// Most items of one command.
pub const QUEUE_BATCH_MAX: usize = 256;

/// At most `permits` starts within `per_ms`; permits come back evenly, so an unused limit allows a burst of all of them.
///
/// # Source
/// Generic cell rate algorithm, ITU-T I.371.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Starts: at least 1.
    #[serde(rename = "n")]
    pub permits: u32,
    /// Milliseconds: at least 1.
    #[serde(rename = "ms")]
    pub per_ms: u64,
}

impl Rate {
    fn per_us(self) -> i64 {
        i64::try_from(self.per_ms.saturating_mul(1_000)).unwrap_or(i64::MAX).max(1)
    }

    fn interval_us(self) -> i64 {
        (self.per_us() / i64::from(self.permits.max(1))).max(1)
    }

    /// When the next start is allowed, given the theoretical arrival time so far.
    pub(super) fn allowed_at(self, arrival: i64) -> i64 {
        arrival.saturating_sub(self.per_us() - self.interval_us())
    }

    /// The theoretical arrival time after a start at `now`.
    pub(super) fn started(self, arrival: i64, now: i64) -> i64 {
        arrival.max(now).saturating_add(self.interval_us())
    }

    fn is_valid(self) -> bool {
        self.permits > 0 && self.per_ms > 0 && self.per_ms <= TEN_YEARS_MS
    }
}

/// Settings of a queue. Bounds, limits and rates hold for each of its partitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueConfig {
    /// Partitions: 1..=64; default 1. Changed only while the queue holds no live job.
    #[serde(rename = "p")]
    pub partitions: u16,
    /// Most pending, delayed and leased jobs: 1..=1 000 000; default 1 000.
    #[serde(rename = "m")]
    pub max: u64,
    /// Bands of priority, 0 the lowest: 1..=255; default 10.
    #[serde(rename = "pr")]
    pub priorities: u8,
    /// A job that waited this long goes before every priority; 0: never. Default 5 min.
    #[serde(rename = "ag")]
    pub ageing_ms: u64,
    /// Most leased jobs; 0: no limit. Default 0.
    #[serde(rename = "co")]
    pub concurrency: u32,
    /// Most leased jobs of one key; 0: no limit. With 1, the jobs of a key and priority run strictly in order: one
    /// that waits for its retry holds the later ones back. Default 1.
    #[serde(rename = "kl")]
    pub per_key_limit: u32,
    /// Most starts in a time; default none.
    #[serde(rename = "ra", skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Most starts of one key in a time; default none.
    #[serde(rename = "kr", skip_serializing_if = "Option::is_none")]
    pub key_rate: Option<Rate>,
    /// What happens after a failure, for jobs that say nothing else.
    #[serde(rename = "re")]
    pub retry: RetryPolicy,
    /// Leases a job may lose (expired, or of a worker's earlier life) before it is a dead letter; default 10.
    #[serde(rename = "ml")]
    pub max_lost: u32,
    /// Furthest time a job may be delayed to; default one year.
    #[serde(rename = "ho")]
    pub horizon_ms: u64,
    /// Ended jobs kept for looking at; default 1 000.
    #[serde(rename = "ke")]
    pub keep_ended: u32,
    /// Ended jobs are kept at most this long; default one day.
    #[serde(rename = "ka")]
    pub keep_ended_ms: u64,
    /// Most dead letters; the oldest makes room. Default 10 000.
    #[serde(rename = "dm")]
    pub dead_max: u32,
    /// Dead letters are kept at most this long; default 30 days.
    #[serde(rename = "da")]
    pub dead_ms: u64,
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            max: 1_000,
            priorities: 10,
            ageing_ms: 300_000,
            concurrency: 0,
            per_key_limit: 1,
            rate: None,
            key_rate: None,
            retry: RetryPolicy::default(),
            max_lost: 10,
            horizon_ms: 365 * DAY_MS,
            keep_ended: 1_000,
            keep_ended_ms: DAY_MS,
            dead_max: 10_000,
            dead_ms: 30 * DAY_MS,
        }
    }
}

impl QueueConfig {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`QueueRefusal::BadConfig`] naming the first fault.
    pub fn validate(&self) -> Result<(), QueueRefusal> {
        let bad = |what: &str| Err(QueueRefusal::BadConfig(what.to_owned()));
        if !(1..=QUEUE_PARTITIONS_MAX).contains(&self.partitions) {
            return bad("partitions are 1..=64");
        }
        if !(1..=QUEUE_JOBS_MAX).contains(&self.max) {
            return bad("max is 1..=1000000");
        }
        if self.priorities == 0 {
            return bad("priorities are 1..=255");
        }
        if !self.rate.is_none_or(Rate::is_valid) || !self.key_rate.is_none_or(Rate::is_valid) {
            return bad("a rate has at least 1 permit in 1 ms to ten years");
        }
        if self.dead_max == 0 || u64::from(self.dead_max) > QUEUE_JOBS_MAX {
            return bad("dead_max is 1..=1000000");
        }
        if u64::from(self.keep_ended) > QUEUE_JOBS_MAX {
            return bad("keep_ended is at most 1000000");
        }
        let times = [self.ageing_ms, self.horizon_ms, self.keep_ended_ms, self.dead_ms];
        if times.iter().any(|ms| *ms > TEN_YEARS_MS) {
            return bad("times are at most ten years");
        }
        check_retry(&self.retry)
    }
}

/// Checks a retry policy that comes from outside.
pub(super) fn check_retry(retry: &RetryPolicy) -> Result<(), QueueRefusal> {
    retry.validate().map_err(|error| QueueRefusal::BadConfig(error.to_string()))?;
    if retry.non_retryable.len() > 16 || retry.non_retryable.iter().any(|code| code.len() > 64) {
        let what = "non_retryable has at most 16 codes of 64 bytes";
        return Err(QueueRefusal::BadConfig(what.to_owned()));
    }
    Ok(())
}
