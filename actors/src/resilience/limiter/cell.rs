//! [`Cell`]: what one key has used.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use stanchion_sync::{Bucket, NotYet};

use super::{
    law::{BucketLaw, Count, WindowLaw},
    ring::{JUMP_US, Ring},
    snapshot::SavedUse,
};
use crate::ids::Timestamp;

/// One key of a limiter: what it has used, and what became of its calls.
#[derive(Debug)]
pub(super) struct Cell {
    used: Used,
    pub(super) allowed: AtomicU64,
    pub(super) denied: AtomicU64,
}

/// What is used, with the law that it is counted by.
#[derive(Debug)]
enum Used {
    Bucket(Bucket, BucketLaw),
    Window(Mutex<Ring>, WindowLaw),
}

/// Why a cell refuses: in how many microseconds it would not, `None` when it always would.
pub(super) type Wait = Option<i64>;

impl Cell {
    /// A key that nobody took from since `spent_at`, when all of it was used up.
    pub(super) fn new(count: Count, spent_at: Option<Timestamp>) -> Self {
        let used = match count {
            Count::Bucket(law) => {
                let arrival = spent_at.map_or(0, |at| law.ticks(at).saturating_add(law.capacity()));
                Used::Bucket(Bucket::at(arrival), law)
            }
            Count::Window(law) => {
                let ring = spent_at.map_or_else(Ring::new, |at| Ring::spent(at.0, law.limit));
                Used::Window(Mutex::new(ring), law)
            }
        };
        Self::of(used)
    }

    fn of(used: Used) -> Self {
        Self { used, allowed: AtomicU64::new(0), denied: AtomicU64::new(0) }
    }

    /// Takes `cost`, and counts the call.
    pub(super) fn take(&self, cost: u32, now: Timestamp) -> Result<(), Wait> {
        let taken = match &self.used {
            Used::Bucket(bucket, law) => take_of_bucket(bucket, law, cost, now),
            Used::Window(ring, law) => lock(ring).take(*law, cost, now.0),
        };
        let counter = if taken.is_ok() { &self.allowed } else { &self.denied };
        counter.fetch_add(1, Ordering::Relaxed);
        taken
    }

    /// Tokens left.
    pub(super) fn remaining(&self, now: Timestamp) -> u64 {
        match &self.used {
            Used::Bucket(bucket, law) => (law.capacity() - filling(bucket, law, now)) / law.interval.max(1),
            Used::Window(ring, law) => law.limit.saturating_sub(lock(ring).used(*law, now.0)).into(),
        }
    }

    /// When it is full, if nobody takes.
    pub(super) fn reset_at(&self, now: Timestamp) -> Timestamp {
        match &self.used {
            Used::Bucket(bucket, law) => Timestamp(now.0.saturating_add(law.us(filling(bucket, law, now)))),
            Used::Window(ring, law) => Timestamp(lock(ring).reset_at(*law, now.0)),
        }
    }

    /// The same key under another law: what it used stays used, up to all of it.
    pub(super) fn recount(&mut self, count: Count, now: Timestamp) {
        let used = match (&self.used, count) {
            (Used::Bucket(bucket, old), Count::Bucket(law)) => {
                let filling = law.converted(filling(bucket, old, now), old);
                bucket_with(law, filling, now)
            }
            (Used::Bucket(bucket, old), Count::Window(law)) => {
                let tokens = old.tokens(filling(bucket, old, now)).min(law.limit.into());
                let ring = Ring::of([(now.0, u32::try_from(tokens).unwrap_or(law.limit))]);
                Used::Window(Mutex::new(ring), law)
            }
            (Used::Window(ring, old), Count::Bucket(law)) => {
                let tokens = u64::from(lock(ring).used(*old, now.0));
                bucket_with(law, tokens.saturating_mul(law.interval).min(law.capacity()), now)
            }
            (Used::Window(ring, _), Count::Window(law)) => Used::Window(Mutex::new(lock(ring).clone()), law),
        };
        self.used = used;
    }

    /// What it used, as it is kept.
    pub(super) fn saved(&self) -> SavedUse {
        match &self.used {
            Used::Bucket(bucket, _) => SavedUse::Bucket { arrival: bucket.arrival() },
            Used::Window(ring, _) => SavedUse::Window {
                taken: lock(ring).taken().map(|(at, count)| (Timestamp(at), count)).collect(),
            },
        }
    }

    /// The cell as it was kept; `None` when it was kept under another strategy than `count`.
    pub(super) fn restored(count: Count, saved: &SavedUse) -> Option<Self> {
        match (count, saved) {
            (Count::Bucket(law), SavedUse::Bucket { arrival }) => {
                Some(Self::of(Used::Bucket(Bucket::at(*arrival), law)))
            }
            (Count::Window(law), SavedUse::Window { taken }) => {
                let ring = Ring::of(taken.iter().map(|(at, count)| (at.0, *count)));
                Some(Self::of(Used::Window(Mutex::new(ring), law)))
            }
            (Count::Bucket(_), SavedUse::Window { .. }) | (Count::Window(_), SavedUse::Bucket { .. }) => None,
        }
    }
}

fn take_of_bucket(bucket: &Bucket, law: &BucketLaw, cost: u32, now: Timestamp) -> Result<(), Wait> {
    let ticks = law.ticks(now);
    let take = || bucket.try_take(ticks, cost.into(), law.interval, law.tolerance);
    let mut taken = take();
    if let Err(NotYet::After(wait)) = taken
        && law.us(wait.saturating_sub(law.capacity())) > JUMP_US
    {
        bucket.cap(ticks, law.capacity());
        taken = take();
    }
    taken.map_err(|refused| match refused {
        NotYet::After(wait) => Some(law.us(wait)),
        NotYet::Never => None,
    })
}

/// Ticks of filling until a bucket is full; at most all of it.
fn filling(bucket: &Bucket, law: &BucketLaw, now: Timestamp) -> u64 {
    bucket.arrival().saturating_sub(law.ticks(now)).min(law.capacity())
}

fn bucket_with(law: BucketLaw, filling: u64, now: Timestamp) -> Used {
    Used::Bucket(Bucket::at(law.ticks(now).saturating_add(filling)), law)
}

fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    // Nothing in a ring panics half-way.
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}
