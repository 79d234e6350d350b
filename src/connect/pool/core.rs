//! The pool itself: permits in order of arrival, and a stack of idle items.

use std::{
    collections::VecDeque,
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError},
    time::{Instant, timeout},
};

use super::options::{CheckoutError, DrainReport, Manage, PoolOptions, PoolSizeError, PoolStats, checked};

/// A bounded pool. Waiters are served in the order they came. Clones are the same pool.
///
/// At most `size + overflow` items are open: one that is lent, being opened or idle counts. What is lent is closed
/// when dropped, for nobody knows its state then; [`Pooled::give_back`] keeps it open.
pub struct Pool<M: Manage> {
    shared: Arc<Shared<M>>,
}

struct Shared<M: Manage> {
    manage: M,
    permits: Arc<Semaphore>,
    state: Mutex<State<M::Item>>,
    /// Rung when the last lent item has come back.
    quiet: Notify,
}

struct State<T> {
    options: PoolOptions,
    /// The most recently used last.
    idle: VecDeque<Idle<T>>,
    /// Permits that a shrink takes away as they come back.
    debt: u32,
    draining: bool,
    counts: PoolStats,
}

struct Idle<T> {
    item: T,
    opened: Instant,
    since: Instant,
}

impl<M: Manage> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M: Manage> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl<M: Manage> Pool<M> {
    /// Makes a pool; opens nothing.
    ///
    /// # Errors
    /// [`PoolSizeError`]: `size + overflow` is 0 or over 65 536.
    pub fn new(manage: M, options: PoolOptions) -> Result<Self, PoolSizeError> {
        let permits = checked(options.size, options.overflow)?;
        let state =
            State { options, idle: VecDeque::new(), debt: 0, draining: false, counts: PoolStats::default() };
        let permits = Arc::new(Semaphore::new(permits as usize));
        let shared = Shared { manage, permits, state: Mutex::new(state), quiet: Notify::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Lends one item: an idle one, or a new one, or the next that comes free.
    ///
    /// # Errors
    /// - [`CheckoutError::Timeout`], [`CheckoutError::Full`]: all are lent; try again later.
    /// - [`CheckoutError::Draining`]: the pool lends no more.
    /// - [`CheckoutError::Open`]: the manager's error.
    ///
    /// # Cancel safety
    /// Safe: the place in the queue, or the permit, is given up.
    pub async fn checkout(&self) -> Result<Pooled<M>, CheckoutError<M::Error>> {
        match Arc::clone(&self.shared.permits).try_acquire_owned() {
            Ok(permit) => self.lend(permit, None).await,
            Err(TryAcquireError::Closed) => Err(CheckoutError::Draining),
            Err(TryAcquireError::NoPermits) => {
                let (permit, waiter) = self.wait().await?;
                self.lend(permit, Some(waiter)).await
            }
        }
    }

    /// Lends one without waiting for others; `None` when all are lent.
    ///
    /// # Errors
    /// As [`checkout`](Self::checkout).
    ///
    /// # Cancel safety
    /// Safe: the permit is given up.
    pub async fn try_checkout(&self) -> Result<Option<Pooled<M>>, CheckoutError<M::Error>> {
        match Arc::clone(&self.shared.permits).try_acquire_owned() {
            Ok(permit) => self.lend(permit, None).await.map(Some),
            Err(TryAcquireError::Closed) => Err(CheckoutError::Draining),
            Err(TryAcquireError::NoPermits) => Ok(None),
        }
    }

    /// Changes the size. Growth holds at once; a shrink closes idle items at once and lent ones as they come back.
    ///
    /// # Errors
    /// [`PoolSizeError`]: `size + overflow` is 0 or over 65 536.
    pub fn resize(&self, size: u32, overflow: u32) -> Result<(), PoolSizeError> {
        let new = checked(size, overflow)?;
        let mut surplus = Vec::new();
        let mut state = self.shared.lock();
        // Sums of a valid pool do not overflow.
        let old = state.options.size + state.options.overflow;
        (state.options.size, state.options.overflow) = (size, overflow);
        let paid = state.debt.min(new.saturating_sub(old));
        state.debt -= paid;
        self.shared.permits.add_permits((new.saturating_sub(old) - paid) as usize);
        let less = old.saturating_sub(new);
        let taken = self.shared.permits.forget_permits(less as usize);
        state.debt += less.saturating_sub(u32::try_from(taken).unwrap_or(less));
        while state.over() > 0 {
            let Some(idle) = state.idle.pop_front() else { break };
            surplus.push(idle);
        }
        drop(state);
        Ok(())
    }

    /// Closes idle items that are unusable, too old or idle for too long. Returns how many.
    pub fn reap(&self) -> usize {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let options = state.options;
        let all = std::mem::take(&mut state.idle);
        let total = all.len();
        let alive = all.into_iter().filter(|idle| {
            self.shared.manage.usable(&idle.item) && !past(options.max_lifetime, idle.opened, now)
        });
        let mut alive: VecDeque<_> = alive.collect();
        // The longest idle come first.
        while alive.len() > options.min_idle as usize
            && alive.front().is_some_and(|idle| past(options.idle_timeout, idle.since, now))
        {
            alive.pop_front();
        }
        let kept = alive.len();
        state.idle = alive;
        total - kept
    }

    /// Closes all idle items. Returns how many.
    pub fn evict_idle(&self) -> usize {
        let evicted = std::mem::take(&mut self.shared.lock().idle);
        evicted.len()
    }

    /// Stops lending, refuses those that wait, and waits up to `within` for what is lent.
    ///
    /// # Cancel safety
    /// The pool stays closed; call again to wait on.
    pub async fn drain(&self, within: Duration) -> DrainReport {
        let (lent, refused) = {
            let mut state = self.shared.lock();
            state.draining = true;
            (state.counts.in_use, state.counts.waiting)
        };
        self.shared.permits.close();
        self.evict_idle();
        let quiet = async {
            loop {
                let rung = self.shared.quiet.notified();
                tokio::pin!(rung);
                // Enabled before the look, so that a ring in between is not lost.
                rung.as_mut().enable();
                if self.shared.lock().counts.in_use == 0 {
                    return;
                }
                rung.await;
            }
        };
        // Over time: what is lent is counted below.
        let _ = timeout(within, quiet).await;
        let cut = self.shared.lock().counts.in_use;
        DrainReport { finished: lent.saturating_sub(cut), cut, refused }
    }

    /// The numbers at this moment.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let state = self.shared.lock();
        PoolStats {
            size: state.options.size,
            overflow: state.options.overflow,
            idle: u32::try_from(state.idle.len()).unwrap_or(u32::MAX),
            ..state.counts
        }
    }

    async fn wait(&self) -> Result<(OwnedSemaphorePermit, Waiter<'_, M>), CheckoutError<M::Error>> {
        let began = Instant::now();
        let (waiter, within) = {
            let mut state = self.shared.lock();
            if state.counts.waiting >= state.options.max_waiting {
                state.counts.refused += 1;
                return Err(CheckoutError::Full { waiting: state.counts.waiting });
            }
            state.counts.waiting += 1;
            (Waiter(&self.shared), state.options.checkout_timeout)
        };
        match timeout(within, Arc::clone(&self.shared.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok((permit, waiter)),
            Ok(Err(_closed)) => Err(CheckoutError::Draining),
            Err(_elapsed) => {
                self.shared.lock().counts.timeouts += 1;
                Err(CheckoutError::Timeout { waited: began.elapsed() })
            }
        }
    }

    async fn lend(
        &self,
        permit: OwnedSemaphorePermit,
        waiter: Option<Waiter<'_, M>>,
    ) -> Result<Pooled<M>, CheckoutError<M::Error>> {
        // An error, a panic or a cancellation below drops the loan, which gives the permit back.
        let loan = Loan::new(&self.shared, permit);
        let idle = self.shared.take_idle();
        // Waits until here, so that the item kept for it is still there.
        drop(waiter);
        let (item, opened) = match idle {
            Some(idle) => (idle.item, idle.opened),
            None => {
                let item = self.shared.manage.open().await.map_err(CheckoutError::Open)?;
                self.shared.lock().counts.opened += 1;
                (item, Instant::now())
            }
        };
        self.shared.lock().counts.lent += 1;
        Ok(Pooled { item, opened, loan })
    }
}

/// Whether `limit` has passed since `from`.
fn past(limit: Option<Duration>, from: Instant, now: Instant) -> bool {
    limit.is_some_and(|limit| now.saturating_duration_since(from) >= limit)
}

impl<M: Manage> Shared<M> {
    fn lock(&self) -> MutexGuard<'_, State<M::Item>> {
        // A holder that panicked has left whole values: each is assigned in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The idle item used last, if one is usable; closes those in front of it that are not.
    fn take_idle(&self) -> Option<Idle<M::Item>> {
        let now = Instant::now();
        let mut stale = Vec::new();
        let mut state = self.lock();
        let lifetime = state.options.max_lifetime;
        let found = loop {
            let Some(idle) = state.idle.pop_back() else { break None };
            if self.manage.usable(&idle.item) && !past(lifetime, idle.opened, now) {
                break Some(idle);
            }
            stale.push(idle);
        };
        stale.extend(state.trim());
        // Items are closed outside the lock.
        drop(state);
        found
    }

    /// Keeps an item that came back, unless there is a reason to close it.
    fn keep(&self, item: M::Item, opened: Instant) {
        let now = Instant::now();
        let mut state = self.lock();
        // Whoever waits is given this one, overflow or not; unless a shrink takes its permit away.
        let wanted = state.over() == 0 || (state.counts.waiting > 0 && state.debt == 0);
        let open = !state.draining && wanted;
        if open && self.manage.usable(&item) && !past(state.options.max_lifetime, opened, now) {
            state.idle.push_back(Idle { item, opened, since: now });
        }
    }
}

impl<T> State<T> {
    /// Open items beyond the size.
    fn over(&self) -> usize {
        let open = self.counts.in_use as usize + self.idle.len();
        open.saturating_sub(self.options.size as usize)
    }

    /// Idle items beyond the size, the longest idle first; none while somebody waits for them.
    fn trim(&mut self) -> Vec<Idle<T>> {
        let surplus = if self.counts.waiting > 0 { 0 } else { self.over().min(self.idle.len()) };
        self.idle.drain(..surplus).collect()
    }
}

/// A place in the queue.
struct Waiter<'a, M: Manage>(&'a Shared<M>);

impl<M: Manage> Drop for Waiter<'_, M> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.counts.waiting -= 1;
        let surplus = state.trim();
        drop(state);
        drop(surplus);
    }
}

/// A permit in use; gives it back when dropped.
struct Loan<M: Manage> {
    shared: Arc<Shared<M>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<M: Manage> Loan<M> {
    fn new(shared: &Arc<Shared<M>>, permit: OwnedSemaphorePermit) -> Self {
        shared.lock().counts.in_use += 1;
        Self { shared: Arc::clone(shared), permit: Some(permit) }
    }
}

impl<M: Manage> Drop for Loan<M> {
    fn drop(&mut self) {
        let permit = self.permit.take();
        let mut state = self.shared.lock();
        state.counts.in_use -= 1;
        if state.counts.in_use == 0 {
            self.shared.quiet.notify_waiters();
        }
        let owed = state.debt > 0;
        state.debt = state.debt.saturating_sub(1);
        drop(state);
        if let Some(permit) = permit
            && owed
        {
            permit.forget();
        }
    }
}

/// One item on loan. Closed when dropped; [`give_back`](Self::give_back) keeps it open.
#[must_use = "a loan that is dropped closes its item"]
pub struct Pooled<M: Manage> {
    // Dropped in this order: the item is closed before another may be opened.
    item: M::Item,
    opened: Instant,
    loan: Loan<M>,
}

impl<M: Manage> Pooled<M> {
    /// Gives the item back for others to use, in a state in which they can.
    pub fn give_back(self) {
        let Self { item, opened, loan } = self;
        loan.shared.keep(item, opened);
        // After the item, so that who gets the permit finds it.
        drop(loan);
    }
}

impl<M: Manage> Deref for Pooled<M> {
    type Target = M::Item;

    fn deref(&self) -> &M::Item {
        &self.item
    }
}

impl<M: Manage> DerefMut for Pooled<M> {
    fn deref_mut(&mut self) -> &mut M::Item {
        &mut self.item
    }
}

impl<M: Manage> fmt::Debug for Pooled<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").field("opened", &self.opened).finish_non_exhaustive()
    }
}
