//! [`StripedCounter`]: a count that many threads add to.

use crate::padded::{Padded, of, padded};
use crate::shim::{AtomicU64, Ordering};

/// A sum whose parts lie on cache lines of their own. It wraps; parts may be added to and subtracted from at
/// different stripes.
///
/// ```
/// use stanchion_sync::StripedCounter;
/// # if stanchion_sync::UNDER_LOOM { return; }
/// let counter = StripedCounter::new(2);
/// counter.add(0, 3);
/// counter.subtract(1, 1);
/// assert_eq!(counter.sum(), 2);
/// ```
#[derive(Debug)]
pub struct StripedCounter {
    stripes: Box<[Padded<AtomicU64>]>,
}

impl StripedCounter {
    /// Makes a counter of 0 with so many stripes, at least one.
    #[must_use]
    pub fn new(stripes: usize) -> Self {
        Self { stripes: padded(stripes, || AtomicU64::new(0)) }
    }

    /// Adds at a stripe.
    pub fn add(&self, stripe: usize, count: u64) {
        if let Some(part) = of(&self.stripes, stripe) {
            part.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Subtracts at a stripe.
    pub fn subtract(&self, stripe: usize, count: u64) {
        if let Some(part) = of(&self.stripes, stripe) {
            part.fetch_sub(count, Ordering::Relaxed);
        }
    }

    /// The sum. While others add, each part is as it was at some moment of the look.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.stripes.iter().fold(0, |sum, part| sum.wrapping_add(part.0.load(Ordering::Relaxed)))
    }
}
