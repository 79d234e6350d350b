//! Leases: how long an instance counts as alive without a word of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LeaseTermsError, NodeId};
use crate::{balance::InstanceId, ids::Timestamp};

/// Longest time of a lease.
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a lease is renewed, and when it is over. Default: every second, suspect after 2 s, over after 3 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct LeaseTerms {
    interval: Duration,
    ttl: Duration,
    suspect_after: u32,
}

/// Terms as they are written.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    interval_ms: u64,
    ttl_ms: u64,
    suspect_after: u32,
}

impl LeaseTerms {
    /// A heartbeat each `interval`, over after `ttl` without one; suspect after two missed heartbeats.
    ///
    /// # Errors
    /// [`LeaseTermsError`] when `interval` is zero, `ttl` under twice the interval or over a day: one heartbeat that
    /// is late must not end a lease.
    pub fn new(interval: Duration, ttl: Duration) -> Result<Self, LeaseTermsError> {
        Self::with_suspect_after(interval, ttl, 2)
    }

    /// As [`Self::new`], suspect after so many missed heartbeats.
    ///
    /// # Errors
    /// [`LeaseTermsError`] as there, and when `suspect_after` is zero or the lease is over before.
    pub fn with_suspect_after(
        interval: Duration,
        ttl: Duration,
        suspect_after: u32,
    ) -> Result<Self, LeaseTermsError> {
        let error = |field, given: String, allowed: String| Err(LeaseTermsError { field, given, allowed });
        if interval < Duration::from_millis(1) {
            return error("interval", format!("{interval:?}"), "1 ms at least".to_owned());
        }
        let least = interval.saturating_mul(2);
        if ttl < least || ttl > TTL_MAX {
            let allowed = format!("twice the interval ({least:?}) at least, a day at most");
            return error("ttl", format!("{ttl:?}"), allowed);
        }
        if suspect_after == 0 || interval.saturating_mul(suspect_after) > ttl {
            let allowed = format!("1 at least, and at most {ttl:?} of heartbeats");
            return error("suspect_after", suspect_after.to_string(), allowed);
        }
        Ok(Self { interval, ttl, suspect_after })
    }

    /// Time between two heartbeats.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Time without a heartbeat after which the lease is over.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The state of a lease that was renewed so long ago.
    pub(super) fn state(&self, age: Duration) -> LeaseState {
        if age >= self.ttl {
            LeaseState::Gone
        } else if age >= self.interval.saturating_mul(self.suspect_after) {
            LeaseState::Suspect
        } else {
            LeaseState::Live
        }
    }

    /// Age at which a lease in this state changes next; `None`: never by itself.
    pub(super) fn next_change(&self, state: LeaseState) -> Option<Duration> {
        match state {
            LeaseState::Live => Some(self.interval.saturating_mul(self.suspect_after)),
            LeaseState::Suspect => Some(self.ttl),
            LeaseState::Gone => None,
        }
    }
}

impl Default for LeaseTerms {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), ttl: Duration::from_secs(3), suspect_after: 2 }
    }
}

impl TryFrom<Raw> for LeaseTerms {
    type Error = LeaseTermsError;
    fn try_from(raw: Raw) -> Result<Self, LeaseTermsError> {
        let (interval, ttl) = (Duration::from_millis(raw.interval_ms), Duration::from_millis(raw.ttl_ms));
        Self::with_suspect_after(interval, ttl, raw.suspect_after)
    }
}

impl From<LeaseTerms> for Raw {
    fn from(terms: LeaseTerms) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { interval_ms: ms(terms.interval), ttl_ms: ms(terms.ttl), suspect_after: terms.suspect_after }
    }
}

/// The right to renew a registration: whoever was replaced has it no more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "without heartbeats the lease is over after its ttl"]
pub struct Lease {
    /// The instance.
    pub id: InstanceId,
    /// Number of the registration in this registry, never given twice.
    pub(super) number: u64,
}

/// Whether an instance lives, as far as its lease says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Its heartbeats come.
    Live,
    /// It missed some: it is found, and gets no new work.
    Suspect,
    /// Its lease is over: it is not found. A heartbeat brings it back.
    Gone,
}

/// How fresh the knowledge of an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// When the last heartbeat was, by the clock of this node.
    pub at: Timestamp,
    /// How long ago that is.
    pub age: Duration,
    /// Through which node it was heard of; `None`: at first hand.
    pub via: Option<NodeId>,
}
