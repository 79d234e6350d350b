//! [`Limiter`]: the limits of all callers of one thing.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Denied, DenyAlert, DenyAlertEvent, DenyReason, LimitKey, LimiterOptions, LimiterOptionsError,
    LimiterSnapshot, OnError, Pressure,
    keys::{Keys, Refusal, Rules, Totals},
    law::Law,
    snapshot::SavedKey,
};
use crate::ids::Timestamp;

/// The limits of all callers of one thing: each [`LimitKey`] has the whole limit for itself.
///
/// A check is a look-up and, for a bucket, one compare-and-swap; different keys rarely share a lock. Time is an
/// argument: a clock that goes back admits nothing more, and after a jump back of more than a minute (beyond what the
/// limit takes to fill) the keys it touches begin anew, with their limit used up.
#[derive(Debug)]
pub struct Limiter {
    name: Arc<str>,
    keys: Keys,
    settings: Mutex<Settings>,
    fails_open: AtomicBool,
    /// Calls that ran uncounted.
    unchecked: AtomicU64,
    /// Calls refused because they cannot be counted.
    uncounted: AtomicU64,
    pub(super) waiting: AtomicUsize,
    pub(super) max_waiting: AtomicUsize,
}

/// What is set from outside, and the alert.
#[derive(Debug)]
struct Settings {
    options: LimiterOptions,
    pressure: Pressure,
    spent_at: Option<Timestamp>,
    alert: Option<DenyAlert>,
    /// Totals that the alert has seen.
    seen: (u64, u64),
}

/// What a key has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimiterStatus {
    /// Tokens left; 0 while nothing is admitted under pressure.
    pub remaining: u64,
    /// When the key has its whole limit again, if nobody takes; now, when it has.
    pub reset_at: Timestamp,
    /// The whole limit at the present rate.
    pub limit: u64,
    /// Calls refused since the key is known; a key that had its whole limit may have been forgotten meanwhile.
    pub denied_total: u64,
    /// Calls allowed, likewise.
    pub allowed_total: u64,
}

/// What a limiter did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LimiterStats {
    /// Keys known.
    pub keys: usize,
    /// Calls allowed, uncounted ones too.
    pub allowed_total: u64,
    /// Calls refused.
    pub denied_total: u64,
    /// Allowed calls that were not counted: the limiter fails open.
    pub unchecked_total: u64,
    /// Callers that wait.
    pub waiting: usize,
    /// The present rate.
    pub pressure: Pressure,
    /// Since when too many calls are refused, as far as [`Limiter::poll_alert`] has seen.
    pub alert_since: Option<Timestamp>,
}

impl Limiter {
    /// A limiter that nobody took from.
    ///
    /// # Errors
    /// [`LimiterOptionsError`] when an option is outside its range.
    pub fn new(name: impl Into<Arc<str>>, options: LimiterOptions) -> Result<Self, LimiterOptionsError> {
        options.validate()?;
        Self::of_valid(name.into(), options, Pressure::Normal, None)
    }

    fn of_valid(
        name: Arc<str>,
        options: LimiterOptions,
        pressure: Pressure,
        spent_at: Option<Timestamp>,
    ) -> Result<Self, LimiterOptionsError> {
        let alert = options.alert.clone().map(DenyAlert::new).transpose()?;
        let settings = Settings { options, pressure, spent_at, alert, seen: (0, 0) };
        Ok(Self {
            name,
            keys: Keys::new(settings.rules()),
            fails_open: AtomicBool::new(settings.options.on_error == OnError::FailOpen),
            max_waiting: AtomicUsize::new(settings.options.max_waiting),
            settings: Mutex::new(settings),
            unchecked: AtomicU64::new(0),
            uncounted: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
        })
    }

    /// A limiter as it was, under these options from `now` on. A snapshot that does not agree with itself counts as
    /// one that [cannot be read](Self::restore_unreadable).
    ///
    /// # Errors
    /// [`LimiterOptionsError`] when an option is outside its range.
    pub fn restore(
        name: impl Into<Arc<str>>,
        options: LimiterOptions,
        snapshot: &LimiterSnapshot,
        now: Timestamp,
    ) -> Result<Self, LimiterOptionsError> {
        options.validate()?;
        let name = name.into();
        let Some((_, cells)) = snapshot.cells() else {
            return Self::restore_unreadable(name, options, now);
        };
        let limiter = Self::of_valid(name, snapshot.options.clone(), snapshot.pressure, snapshot.spent_at)?;
        for (key, cell) in cells {
            limiter.keys.put(LimitKey::new(&key.agent, &key.operation), cell);
        }
        limiter.reconfigure(options, now)?;
        // The calls of former lives have been looked at.
        let calls = limiter.calls(limiter.keys.totals());
        limiter.lock().seen = calls;
        Ok(limiter)
    }

    /// A limiter whose stored state cannot be read. It fails closed: every key begins with its limit used up, so
    /// that no more is admitted than if the worst was in that state. Or open: every key has its whole limit.
    ///
    /// # Errors
    /// [`LimiterOptionsError`] when an option is outside its range.
    pub fn restore_unreadable(
        name: impl Into<Arc<str>>,
        options: LimiterOptions,
        now: Timestamp,
    ) -> Result<Self, LimiterOptionsError> {
        options.validate()?;
        let spent_at = (options.on_error == OnError::FailClosed).then_some(now);
        Self::of_valid(name.into(), options, Pressure::Normal, spent_at)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Lets a call run that costs `cost` tokens, or refuses it and changes nothing. A cost of 0 asks and takes
    /// nothing.
    ///
    /// # Errors
    /// [`Denied`]: do not run the call; `retry_after` says when to ask again.
    pub fn acquire(&self, key: LimitKey<'_>, cost: u32, now: Timestamp) -> Result<(), Denied> {
        self.keys.take(key, cost, now).or_else(|refusal| self.refused(refusal))
    }

    fn refused(&self, refusal: Refusal) -> Result<(), Denied> {
        let (reason, wait_us, remaining) = match refusal {
            Refusal::Used { wait_us, remaining } => (DenyReason::Limit, Some(wait_us), remaining),
            Refusal::Cost { remaining } => (DenyReason::Cost, None, remaining),
            Refusal::Shut => (DenyReason::Pressure, None, 0),
            Refusal::NoPlace if self.fails_open.load(Ordering::Relaxed) => {
                self.unchecked.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Refusal::NoPlace => {
                self.uncounted.fetch_add(1, Ordering::Relaxed);
                (DenyReason::Uncounted, None, 0)
            }
        };
        let retry_after = wait_us.map(|us| Duration::from_micros(u64::try_from(us).unwrap_or(0)));
        Err(Denied { limiter: Arc::clone(&self.name), retry_after, remaining, reason })
    }

    /// What a key has left.
    #[must_use]
    pub fn status(&self, key: LimitKey<'_>, now: Timestamp) -> LimiterStatus {
        self.keys.look(key, |cell, law| LimiterStatus {
            remaining: if law.is_shut { 0 } else { cell.remaining(now) },
            reset_at: cell.reset_at(now),
            limit: law.count.limit(),
            denied_total: cell.denied.load(Ordering::Relaxed),
            allowed_total: cell.allowed.load(Ordering::Relaxed),
        })
    }

    /// What it did, with the calls that its restored keys had in former lives.
    #[must_use]
    pub fn stats(&self) -> LimiterStats {
        let (totals, unchecked) = (self.keys.totals(), self.unchecked.load(Ordering::Relaxed));
        let settings = self.lock();
        let (denied_total, allowed_total) = self.calls(totals);
        LimiterStats {
            keys: totals.keys,
            allowed_total,
            denied_total,
            unchecked_total: unchecked,
            waiting: self.waiting.load(Ordering::Relaxed),
            pressure: settings.pressure,
            alert_since: settings.alert.as_ref().and_then(DenyAlert::raised_at),
        }
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> LimiterOptions {
        self.lock().options.clone()
    }

    /// Sets the options for every check from now on. What a key has used stays used, up to its whole limit; a longer
    /// window knows only the calls that the shorter one remembered. Takes time in proportion to the keys.
    ///
    /// # Errors
    /// [`LimiterOptionsError`] when an option is outside its range: nothing changed.
    pub fn reconfigure(&self, options: LimiterOptions, now: Timestamp) -> Result<(), LimiterOptionsError> {
        options.validate()?;
        let alert = options.alert.clone().map(DenyAlert::new).transpose()?;
        let mut settings = self.lock();
        if settings.options.alert != options.alert {
            settings.alert = alert;
        }
        settings.options = options;
        self.apply(&settings, now);
        Ok(())
    }

    /// The present rate.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        self.lock().pressure
    }

    /// Scales the rate by [`LimiterOptions::pressure_factor`], or no more. Takes time in proportion to the keys.
    pub fn set_pressure(&self, pressure: Pressure, now: Timestamp) {
        let mut settings = self.lock();
        settings.pressure = pressure;
        self.apply(&settings, now);
    }

    /// Looks at the calls since it was asked last: adds them to the metrics (docs/TELEMETRY.md), and tells whether an
    /// alert is raised or resolved. To be asked a few times in a window; each event comes once.
    pub fn poll_alert(&self, now: Timestamp) -> Option<DenyAlertEvent> {
        let mut settings = self.lock();
        let (denied, allowed) = self.calls(self.keys.totals());
        let (seen_denied, seen_allowed) = std::mem::replace(&mut settings.seen, (denied, allowed));
        let (denied, allowed) = (denied.saturating_sub(seen_denied), allowed.saturating_sub(seen_allowed));
        self.tell_metrics(denied, allowed);
        settings.alert.as_mut()?.observe(denied, allowed, now)
    }

    fn tell_metrics(&self, denied: u64, allowed: u64) {
        for (outcome, calls) in [("denied", denied), ("allowed", allowed)] {
            let limiter = Arc::clone(&self.name);
            metrics::counter!("stanchion_limiter_calls_total", "limiter" => limiter, "outcome" => outcome)
                .increment(calls);
        }
    }

    /// What of it outlives the process: the keys that do not have their whole limit.
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> LimiterSnapshot {
        // Held throughout, so that all keys are of one law.
        let settings = self.lock();
        let mut keys = Vec::new();
        self.keys.each(|key, cell| {
            if cell.reset_at(now) > now {
                keys.push(SavedKey {
                    agent: key.agent.into(),
                    operation: key.operation.into(),
                    used: cell.saved(),
                    allowed: cell.allowed.load(Ordering::Relaxed),
                    denied: cell.denied.load(Ordering::Relaxed),
                });
            }
        });
        LimiterSnapshot {
            options: settings.options.clone(),
            pressure: settings.pressure,
            spent_at: settings.spent_at,
            keys,
        }
    }

    /// Refused and allowed calls.
    fn calls(&self, totals: Totals) -> (u64, u64) {
        let denied = totals.denied.saturating_add(self.uncounted.load(Ordering::Relaxed));
        (denied, totals.allowed.saturating_add(self.unchecked.load(Ordering::Relaxed)))
    }

    fn apply(&self, settings: &Settings, now: Timestamp) {
        self.fails_open.store(settings.options.on_error == OnError::FailOpen, Ordering::Relaxed);
        self.max_waiting.store(settings.options.max_waiting, Ordering::Relaxed);
        self.keys.set_rules(settings.rules(), now);
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        // Nothing in here panics half-way.
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Settings {
    fn rules(&self) -> Rules {
        Rules {
            law: Law::of(&self.options, self.pressure),
            max_keys: self.options.max_keys,
            spent_at: self.spent_at,
        }
    }
}
