//! Limits, numbers and refusals of a pool, and what it asks of who opens its items.

use std::{future::Future, time::Duration};

/// Most items a pool may be allowed to hold.
pub const POOL_MAX: u32 = 65_536;

/// Opens what a pool holds.
pub trait Manage: Send + Sync + 'static {
    /// What it holds.
    type Item: Send + 'static;
    /// Why one does not open.
    type Error: std::error::Error + Send + 'static;

    /// Opens one. The pool does not bound how long this takes: bound it here.
    fn open(&self) -> impl Future<Output = Result<Self::Item, Self::Error>> + Send;

    /// Whether an idle one may still be used; cheap, without I/O.
    fn usable(&self, item: &Self::Item) -> bool;
}

/// Limits of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Items that may stay open while nobody uses them.
    pub size: u32,
    /// Items beyond that, closed when they come back. `size + overflow` is 1..=65 536.
    pub overflow: u32,
    /// Callers that may wait; 0 refuses at once when all are taken.
    pub max_waiting: u32,
    /// How long one waits.
    pub checkout_timeout: Duration,
    /// Idle for this long, an item is closed; `None` keeps it.
    pub idle_timeout: Option<Duration>,
    /// Items that [`idle_timeout`](Self::idle_timeout) leaves open.
    pub min_idle: u32,
    /// Open for this long, an item is closed as soon as nobody uses it; `None` keeps it.
    pub max_lifetime: Option<Duration>,
}

impl PoolOptions {
    /// Limits with defaults for all but the number: no overflow, 1 024 waiters, 5 s, no end of idleness or life.
    #[must_use]
    pub const fn of_size(size: u32) -> Self {
        Self {
            size,
            overflow: 0,
            max_waiting: 1_024,
            checkout_timeout: Duration::from_secs(5),
            idle_timeout: None,
            min_idle: 0,
            max_lifetime: None,
        }
    }
}

/// A pool that could hold nothing, or too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pool of size {size} with overflow {overflow}: use 1..={POOL_MAX} in sum")]
pub struct PoolSizeError {
    /// The size asked for.
    pub size: u32,
    /// The overflow asked for.
    pub overflow: u32,
}

/// Why nothing was lent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckoutError<E: std::error::Error> {
    /// Nothing came free in time; try again later.
    #[error("nothing came free in {waited:?}")]
    Timeout {
        /// How long it waited.
        waited: Duration,
    },
    /// As many wait as may; try again later.
    #[error("{waiting} wait already")]
    Full {
        /// How many wait.
        waiting: u32,
    },
    /// The pool is draining, or drained.
    #[error("the pool is draining")]
    Draining,
    /// A new one does not open.
    #[error("{0}")]
    Open(#[source] E),
}

/// Numbers of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Items that stay open while idle.
    pub size: u32,
    /// Items beyond that.
    pub overflow: u32,
    /// Lent, or being opened.
    pub in_use: u32,
    /// Open, and lent to nobody.
    pub idle: u32,
    /// Callers that wait.
    pub waiting: u32,
    /// Opened, ever.
    pub opened: u64,
    /// Lent, ever.
    pub lent: u64,
    /// Waits that ended without one, ever.
    pub timeouts: u64,
    /// Callers refused because too many waited, ever.
    pub refused: u64,
}

/// What a drain came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Lent at the beginning, given back in time.
    pub finished: u32,
    /// Still lent when the time was over.
    pub cut: u32,
    /// Callers that waited, and were refused.
    pub refused: u32,
}

/// The number of items a pool may hold, if it is one.
pub(super) fn checked(size: u32, overflow: u32) -> Result<u32, PoolSizeError> {
    let sum = size.checked_add(overflow).filter(|sum| (1..=POOL_MAX).contains(sum));
    sum.ok_or(PoolSizeError { size, overflow })
}
