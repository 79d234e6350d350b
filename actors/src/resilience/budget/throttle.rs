//! [`RetryThrottle`]: no retries while failures outweigh successes.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{BudgetStats, RetryBudgetError, RetryBudgetExhausted};

/// A token, in thousandths.
const TOKEN: u64 = 1_000;

/// How fast failures stop retries. gRPC's `retryThrottling`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryThrottleOptions {
    /// Tokens at first and at most: 1..=1000; default 10. Retries stop at half of them.
    pub max_tokens: u32,
    /// Tokens that a success gives back: 0.001..=1000.0, taken to three places; default 0.1. A failure takes one.
    pub token_ratio: f64,
}

impl Default for RetryThrottleOptions {
    fn default() -> Self {
        Self { max_tokens: 10, token_ratio: 0.1 }
    }
}

impl RetryThrottleOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`RetryBudgetError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), RetryBudgetError> {
        if !(1..=1_000).contains(&self.max_tokens) {
            return Err(RetryBudgetError::new("max_tokens", self.max_tokens, "1..=1000"));
        }
        if !(0.001..=1_000.0).contains(&self.token_ratio) {
            return Err(RetryBudgetError::new("token_ratio", self.token_ratio, "0.001..=1000.0"));
        }
        Ok(())
    }
}

/// What of a throttle outlives its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThrottleSnapshot {
    /// Tokens, in thousandths.
    milli_tokens: u64,
}

/// Stops retries while failures outweigh successes. Every attempt is told, first ones and retries alike; there is no
/// time in it. One throttle for one dependency.
#[derive(Debug)]
pub struct RetryThrottle {
    max: u64,
    earned: u64,
    tokens: Mutex<Tokens>,
}

#[derive(Debug)]
struct Tokens {
    milli: u64,
    stats: BudgetStats,
}

impl RetryThrottle {
    /// A full throttle: retries are on.
    ///
    /// # Errors
    /// [`RetryBudgetError`] when an option is outside its range.
    pub fn new(options: RetryThrottleOptions) -> Result<Self, RetryBudgetError> {
        options.validate()?;
        let max = u64::from(options.max_tokens) * TOKEN;
        // 0.57 of a thousand is 569.99...: what is that near is meant whole.
        let earned = (options.token_ratio * TOKEN as f64 + 1e-6) as u64;
        let tokens = Tokens { milli: max, stats: BudgetStats::default() };
        Ok(Self { max, earned, tokens: Mutex::new(tokens) })
    }

    /// A throttle as it was; at most `max_tokens`.
    ///
    /// # Errors
    /// [`RetryBudgetError`] when an option is outside its range.
    pub fn restore(
        options: RetryThrottleOptions,
        snapshot: ThrottleSnapshot,
    ) -> Result<Self, RetryBudgetError> {
        let throttle = Self::new(options)?;
        throttle.lock().milli = snapshot.milli_tokens.min(throttle.max);
        Ok(throttle)
    }

    /// An attempt succeeded.
    pub fn succeeded(&self) {
        let mut tokens = self.lock();
        tokens.milli = tokens.milli.saturating_add(self.earned).min(self.max);
        tokens.stats.deposits += 1;
    }

    /// An attempt failed.
    pub fn failed(&self) {
        let mut tokens = self.lock();
        tokens.milli = tokens.milli.saturating_sub(TOKEN);
    }

    /// Asks whether to retry. Takes nothing: the failure of the retry does.
    ///
    /// # Errors
    /// [`RetryBudgetExhausted`] unless more than half of the tokens are there.
    pub fn try_withdraw(&self) -> Result<(), RetryBudgetExhausted> {
        let mut tokens = self.lock();
        if self.is_on(&tokens) {
            tokens.stats.withdrawals += 1;
            Ok(())
        } else {
            tokens.stats.denied += 1;
            Err(RetryBudgetExhausted)
        }
    }

    /// Tokens, in thousandths.
    #[must_use]
    pub fn milli_tokens(&self) -> u64 {
        self.lock().milli
    }

    /// What it did; `available` is how many failures in a row it takes until retries are off.
    #[must_use]
    pub fn stats(&self) -> BudgetStats {
        let tokens = self.lock();
        let available = tokens.milli.saturating_sub(self.max / 2).div_ceil(TOKEN);
        BudgetStats { available, ..tokens.stats }
    }

    /// What of it outlives the process.
    #[must_use]
    pub fn snapshot(&self) -> ThrottleSnapshot {
        ThrottleSnapshot { milli_tokens: self.milli_tokens() }
    }

    fn is_on(&self, tokens: &Tokens) -> bool {
        tokens.milli > self.max / 2
    }

    fn lock(&self) -> MutexGuard<'_, Tokens> {
        // Nothing in here panics half-way.
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
