//! [`RetryBudget`]: retries earned by calls, over a window.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{BudgetStats, RetryBudgetError, RetryBudgetExhausted};
use crate::ids::Timestamp;

/// Parts of the window: what was paid in or taken out leaves between nine tenths of the window and its end.
const PARTS: usize = 10;
/// A retry costs this many tokens, so that a ratio is exact to six places.
const RETRY: i64 = 1_000_000;
const MAX_PER_SECOND: u32 = 1_000_000;

/// How many retries calls earn. Defaults are Finagle's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryBudgetOptions {
    /// The window, in milliseconds: 1 000..=60 000; default 10 000. What is older counts no more.
    pub ttl_ms: u64,
    /// Retries a second that need no calls; the sum over the window may be spent at once. At most 1 000 000,
    /// default 10.
    pub min_retries_per_second: u32,
    /// Retries that one call earns: 0.0..=1000.0; default 0.2.
    pub ratio: f64,
}

impl Default for RetryBudgetOptions {
    fn default() -> Self {
        Self { ttl_ms: 10_000, min_retries_per_second: 10, ratio: 0.2 }
    }
}

impl RetryBudgetOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`RetryBudgetError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), RetryBudgetError> {
        if !(1_000..=60_000).contains(&self.ttl_ms) {
            return Err(RetryBudgetError::new("ttl_ms", self.ttl_ms, "1000..=60000"));
        }
        if self.min_retries_per_second > MAX_PER_SECOND {
            let given = self.min_retries_per_second;
            return Err(RetryBudgetError::new("min_retries_per_second", given, "0..=1000000"));
        }
        if !(0.0..=1_000.0).contains(&self.ratio) {
            return Err(RetryBudgetError::new("ratio", self.ratio, "0.0..=1000.0"));
        }
        Ok(())
    }

    fn law(&self) -> Law {
        Law { part_us: self.part_us(), reserve: self.reserve(), earned: self.earned() }
    }

    fn part_us(&self) -> i64 {
        // Validated: 100 000..=6 000 000.
        i64::try_from(self.ttl_ms).unwrap_or(i64::MAX).saturating_mul(1_000) / PARTS as i64
    }

    /// Tokens that are there without any call.
    fn reserve(&self) -> i64 {
        let ttl_ms = i64::try_from(self.ttl_ms).unwrap_or(i64::MAX);
        i64::from(self.min_retries_per_second).saturating_mul(ttl_ms).saturating_mul(RETRY / 1_000)
    }

    fn earned(&self) -> i64 {
        (self.ratio * RETRY as f64).round() as i64
    }
}

/// What of a budget outlives its process; counts are of one life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSnapshot {
    /// Length of a part in microseconds: one of another length is not taken over.
    part_us: i64,
    /// Number of the newest part since the epoch.
    newest: i64,
    /// Tokens of the parts, the newest first.
    parts: [i64; PARTS],
}

/// Retries earned by calls: each call pays in a part of a retry, each retry takes one out; what is older than the
/// window counts no more, on both sides. Share it among all callers of one dependency.
///
/// A clock that jumps back stands still here; by more than the window, either way, and the window starts anew.
#[derive(Debug)]
pub struct RetryBudget(Mutex<Window>);

/// What the options come to.
#[derive(Clone, Copy, Debug)]
struct Law {
    part_us: i64,
    reserve: i64,
    earned: i64,
}

#[derive(Debug)]
struct Window {
    law: Law,
    newest: i64,
    parts: [i64; PARTS],
    stats: BudgetStats,
}

impl RetryBudget {
    /// A budget with nothing paid in.
    ///
    /// # Errors
    /// [`RetryBudgetError`] when an option is outside its range.
    pub fn new(options: RetryBudgetOptions) -> Result<Self, RetryBudgetError> {
        options.validate()?;
        let (law, stats) = (options.law(), BudgetStats::default());
        Ok(Self(Mutex::new(Window { law, newest: i64::MIN, parts: [0; PARTS], stats })))
    }

    /// Takes other options and keeps what was paid in and taken out, as far as `ttl_ms` is the same: with another one
    /// the window starts anew.
    ///
    /// # Errors
    /// [`RetryBudgetError`]: nothing changed.
    pub fn reconfigure(&self, options: &RetryBudgetOptions) -> Result<(), RetryBudgetError> {
        options.validate()?;
        let (mut window, law) = (self.lock(), options.law());
        if law.part_us != window.law.part_us {
            (window.newest, window.parts) = (i64::MIN, [0; PARTS]);
        }
        window.law = law;
        Ok(())
    }

    /// A budget as it was. Options of another `ttl_ms` start with nothing paid in.
    ///
    /// # Errors
    /// [`RetryBudgetError`] when an option is outside its range.
    pub fn restore(options: RetryBudgetOptions, snapshot: &BudgetSnapshot) -> Result<Self, RetryBudgetError> {
        let budget = Self::new(options)?;
        let mut window = budget.lock();
        if snapshot.part_us == window.law.part_us {
            (window.newest, window.parts) = (snapshot.newest, snapshot.parts);
        }
        drop(window);
        Ok(budget)
    }

    /// A call was made: its first attempt, not a retry.
    pub fn deposit(&self, now: Timestamp) {
        let mut window = self.at(now);
        let earned = window.law.earned;
        window.pay(earned);
        window.stats.deposits += 1;
    }

    /// Takes one retry out.
    ///
    /// # Errors
    /// [`RetryBudgetExhausted`] when there is none: do not retry.
    pub fn try_withdraw(&self, now: Timestamp) -> Result<(), RetryBudgetExhausted> {
        let mut window = self.at(now);
        if window.balance() < RETRY {
            window.stats.denied += 1;
            return Err(RetryBudgetExhausted);
        }
        window.pay(-RETRY);
        window.stats.withdrawals += 1;
        Ok(())
    }

    /// What it did, and what is there.
    #[must_use]
    pub fn stats(&self, now: Timestamp) -> BudgetStats {
        let window = self.at(now);
        let available = u64::try_from(window.balance() / RETRY).unwrap_or(0);
        BudgetStats { available, ..window.stats }
    }

    /// What of it outlives the process.
    #[must_use]
    pub fn snapshot(&self) -> BudgetSnapshot {
        let window = self.lock();
        BudgetSnapshot { part_us: window.law.part_us, newest: window.newest, parts: window.parts }
    }

    fn at(&self, now: Timestamp) -> MutexGuard<'_, Window> {
        let mut window = self.lock();
        let part = now.0.div_euclid(window.law.part_us);
        window.advance(part);
        window
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        // Nothing in here panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn balance(&self) -> i64 {
        self.parts.iter().fold(self.law.reserve, |sum, tokens| sum.saturating_add(*tokens))
    }

    fn advance(&mut self, part: i64) {
        let gone = part.saturating_sub(self.newest);
        // Back by more than the window: nothing in it can be said to be young or old.
        let gone = if gone < -(PARTS as i64) { i64::MAX } else { gone };
        if gone <= 0 {
            return;
        }
        let gone = usize::try_from(gone).unwrap_or(PARTS).min(PARTS);
        self.parts.rotate_right(gone);
        self.parts.iter_mut().take(gone).for_each(|tokens| *tokens = 0);
        self.newest = part;
    }

    fn pay(&mut self, tokens: i64) {
        if let Some(newest) = self.parts.first_mut() {
            *newest = newest.saturating_add(tokens);
        }
    }
}
