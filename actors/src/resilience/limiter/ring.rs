//! [`Ring`]: an exact sliding window.

use std::collections::VecDeque;

use super::law::WindowLaw;

/// A clock that goes back by less stands still, one that goes back by more has jumped.
pub(super) const JUMP_US: i64 = 60_000_000;

/// Instants at which calls were admitted: in every window, wherever it begins, they cost at most the limit.
///
/// A window is half-open: of two calls exactly its length apart, one is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ring {
    /// Instants and what was admitted at them, oldest first, no instant twice.
    taken: VecDeque<(i64, u32)>,
    /// Sum of what was admitted.
    total: u32,
    /// The latest time seen: earlier ones count as this one.
    latest: i64,
}

/// Why a ring admits nothing: `None` when it never would.
pub(super) type Wait = Option<i64>;

impl Ring {
    pub(super) fn new() -> Self {
        Self { taken: VecDeque::new(), total: 0, latest: i64::MIN }
    }

    /// A ring that admitted so much at one instant.
    pub(super) fn spent(at: i64, count: u32) -> Self {
        Self::of([(at, count)])
    }

    /// A ring that admitted these, oldest first; what is not in order counts as late as what stands before it.
    pub(super) fn of(taken: impl IntoIterator<Item = (i64, u32)>) -> Self {
        let mut ring = Self::new();
        for (at, count) in taken {
            ring.latest = ring.latest.max(at);
            ring.push(count);
        }
        ring
    }

    pub(super) fn taken(&self) -> impl Iterator<Item = (i64, u32)> + '_ {
        self.taken.iter().copied()
    }

    /// Admits `cost` at `now`, or says in how many microseconds it would.
    pub(super) fn take(&mut self, law: WindowLaw, cost: u32, now: i64) -> Result<(), Wait> {
        if cost > law.limit {
            return Err(None);
        }
        self.advance(law, now);
        if self.total.saturating_add(cost) > law.limit {
            return Err(Some(self.free_at(law, cost).saturating_sub(now)));
        }
        self.push(cost);
        Ok(())
    }

    /// What was admitted in the window that ends at `now`.
    pub(super) fn used(&self, law: WindowLaw, now: i64) -> u32 {
        if self.has_jumped(law, now) {
            return self.total;
        }
        let now = now.max(self.latest);
        self.taken
            .iter()
            .take_while(|(at, _)| is_over(law, *at, now))
            .fold(self.total, |used, (_, count)| used.saturating_sub(*count))
    }

    /// When nothing is left in the window.
    pub(super) fn reset_at(&self, law: WindowLaw, now: i64) -> i64 {
        let last = if self.has_jumped(law, now) { Some(now) } else { self.taken.back().map(|(at, _)| *at) };
        last.map_or(now, |last| last.saturating_add(law.window_us).max(now))
    }

    fn advance(&mut self, law: WindowLaw, now: i64) {
        if self.has_jumped(law, now) {
            // Nobody can say what is young: all of it is.
            *self = if self.total > 0 { Self::spent(now, self.total) } else { Self::new() };
        }
        self.latest = self.latest.max(now);
        while let Some((at, count)) = self.taken.front().copied()
            && is_over(law, at, self.latest)
        {
            self.taken.pop_front();
            self.total = self.total.saturating_sub(count);
        }
    }

    fn has_jumped(&self, law: WindowLaw, now: i64) -> bool {
        self.latest > now.saturating_add(law.window_us).saturating_add(JUMP_US)
    }

    fn push(&mut self, count: u32) {
        if count == 0 {
            return;
        }
        self.total = self.total.saturating_add(count);
        match self.taken.back_mut() {
            Some((at, here)) if *at == self.latest => *here = here.saturating_add(count),
            Some(_) | None => self.taken.push_back((self.latest, count)),
        }
    }

    /// When enough has left for `cost`.
    fn free_at(&self, law: WindowLaw, cost: u32) -> i64 {
        let mut left = self.total;
        for (at, count) in &self.taken {
            left = left.saturating_sub(*count);
            if left.saturating_add(cost) <= law.limit {
                return at.saturating_add(law.window_us);
            }
        }
        self.latest
    }
}

fn is_over(law: WindowLaw, at: i64, now: i64) -> bool {
    at.saturating_add(law.window_us) <= now
}
