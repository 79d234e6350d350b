//! [`BackoffWindow`]: no calls until then, for everybody.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    BackedOff, LIMIT_KEY_MAX_BYTES, LIMITER_KEYS_MAX, LimiterOptionsError, OnError,
    options::{time_ms, wrong},
    ring::JUMP_US,
};
use crate::ids::Timestamp;

/// Settings of a back-off window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackoffWindowOptions {
    /// Most keys that are held at once: 1..=1 000 000; default 10 000.
    pub max_keys: usize,
    /// Longest hold, in milliseconds; default one hour. Who asks for more gets this.
    pub max_wait_ms: u64,
    /// What becomes of a hold for which there is no place, or whose key is longer than 255 bytes. Closed, the default:
    /// every key that is not held by itself is held as long. Open: the hold is forgotten.
    pub on_error: OnError,
}

impl Default for BackoffWindowOptions {
    fn default() -> Self {
        Self { max_keys: 10_000, max_wait_ms: 3_600_000, on_error: OnError::FailClosed }
    }
}

impl BackoffWindowOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`LimiterOptionsError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), LimiterOptionsError> {
        if !(1..=LIMITER_KEYS_MAX).contains(&self.max_keys) {
            return Err(wrong("max_keys", self.max_keys, format!("use 1..={LIMITER_KEYS_MAX}")));
        }
        time_ms("max_wait_ms", self.max_wait_ms)
    }
}

/// What of a back-off window outlives its process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackoffSnapshot {
    keys: Vec<(Arc<str>, Timestamp)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    others: Option<Timestamp>,
}

/// No calls until then, for every caller of a key: what `Retry-After` of one answer says holds for all. Of several
/// holds of a key the longest wins.
///
/// A check while nothing is held is one load. A clock that jumped back prolongs no hold beyond the longest one and a
/// minute.
#[derive(Debug)]
pub struct BackoffWindow {
    options: BackoffWindowOptions,
    holds: RwLock<Holds>,
    /// No hold ends later, in microseconds.
    latest: AtomicI64,
}

#[derive(Debug, Default)]
struct Holds {
    keys: HashMap<Arc<str>, Timestamp>,
    /// Holds every key that is not in the map.
    others: Option<Timestamp>,
}

impl BackoffWindow {
    /// A window that holds nothing.
    ///
    /// # Errors
    /// [`LimiterOptionsError`] when an option is outside its range.
    pub fn new(options: BackoffWindowOptions) -> Result<Self, LimiterOptionsError> {
        options.validate()?;
        Ok(Self { options, holds: RwLock::new(Holds::default()), latest: AtomicI64::new(i64::MIN) })
    }

    /// A window as it was; holds that are over are gone.
    ///
    /// # Errors
    /// [`LimiterOptionsError`] when an option is outside its range.
    pub fn restore(
        options: BackoffWindowOptions,
        snapshot: &BackoffSnapshot,
        now: Timestamp,
    ) -> Result<Self, LimiterOptionsError> {
        let window = Self::new(options)?;
        window.take_in(snapshot, now);
        Ok(window)
    }

    /// Holds what was held, as far as that is not over.
    pub(crate) fn take_in(&self, snapshot: &BackoffSnapshot, now: Timestamp) {
        for (key, until) in &snapshot.keys {
            self.hold(key, until.since(now), now);
        }
        if let Some(until) = snapshot.others {
            self.hold_others(&mut self.write(), until.min(self.furthest(now)));
        }
    }

    /// Differs when something is held for longer than anything before.
    pub(crate) fn latest(&self) -> u64 {
        self.latest.load(Ordering::Acquire).cast_unsigned()
    }

    /// Holds a key for `retry_after` from `now` on; says until when it is held.
    ///
    /// [`retry_after`](crate::resilience::retry::retry_after) reads the header.
    pub fn hold(&self, key: &str, retry_after: Duration, now: Timestamp) -> Timestamp {
        let until = now.after(retry_after).min(self.furthest(now));
        let mut holds = self.write();
        if until <= now {
            return holds.until(key).unwrap_or(now).max(now);
        }
        if let Some(held) = holds.keys.get_mut(key) {
            *held = until.max(*held);
            let until = *held;
            self.latest.fetch_max(until.0, Ordering::AcqRel);
            return until;
        }
        if holds.keys.len() >= self.options.max_keys {
            holds.keys.retain(|_, until| *until > now);
        }
        if holds.keys.len() < self.options.max_keys && key.len() <= LIMIT_KEY_MAX_BYTES {
            let until_all = holds.others.map_or(until, |others| others.max(until));
            holds.keys.insert(key.into(), until_all);
            self.latest.fetch_max(until.0, Ordering::AcqRel);
        } else if self.options.on_error == OnError::FailClosed {
            self.hold_others(&mut holds, until);
        }
        holds.until(key).unwrap_or(now)
    }

    /// Whether a key may be called.
    ///
    /// # Errors
    /// [`BackedOff`]: do not call it.
    pub fn check(&self, key: &str, now: Timestamp) -> Result<(), BackedOff> {
        if now.0 >= self.latest.load(Ordering::Acquire) {
            return Ok(());
        }
        let until = self.read().until(key).filter(|until| *until > now);
        let Some(until) = until.map(|until| self.shortened(key, until, now)) else { return Ok(()) };
        Err(BackedOff { until, retry_after: until.since(now) })
    }

    /// What of it outlives the process.
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> BackoffSnapshot {
        let holds = self.read();
        let held = holds.keys.iter().filter(|(_, until)| **until > now);
        let keys = held.map(|(key, until)| (Arc::clone(key), *until)).collect();
        BackoffSnapshot { keys, others: holds.others.filter(|until| *until > now) }
    }

    /// The latest end of a hold that begins now.
    fn furthest(&self, now: Timestamp) -> Timestamp {
        now.after(Duration::from_millis(self.options.max_wait_ms))
    }

    fn hold_others(&self, holds: &mut Holds, until: Timestamp) {
        holds.others = holds.others.max(Some(until));
        self.latest.fetch_max(until.0, Ordering::AcqRel);
    }

    /// A hold that no clock could have said before a jump back lasts as long as one that begins now.
    fn shortened(&self, key: &str, until: Timestamp, now: Timestamp) -> Timestamp {
        let furthest = self.furthest(now);
        if until.0 <= furthest.0.saturating_add(JUMP_US) {
            return until;
        }
        let mut holds = self.write();
        let held = match holds.keys.get_mut(key) {
            Some(held) => Some(held),
            None => holds.others.as_mut(),
        };
        if let Some(held) = held {
            *held = furthest.min(*held);
        }
        furthest
    }

    // Nothing in here panics half-way.
    fn read(&self) -> RwLockReadGuard<'_, Holds> {
        self.holds.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Holds> {
        self.holds.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holds {
    fn until(&self, key: &str) -> Option<Timestamp> {
        self.keys.get(key).copied().or(self.others)
    }
}
