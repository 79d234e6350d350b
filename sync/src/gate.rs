//! [`Gate`]: counts the free places of a mailbox.

use crate::planted::{Bug, planted};
use crate::shim::{AtomicUsize, Mutex, MutexGuard, Ordering, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Somebody waits. While set, every place is taken and the word changes only under the lock.
const WAITING: usize = 1;
/// Nobody is admitted.
const CLOSED: usize = 2;
/// One place, above the two flags.
const PLACE: usize = 4;

/// Counts the free places of a mailbox: a sender takes a [`Permit`], which returns its place when dropped.
///
/// Without waiters, taking and returning a place are one compare-and-swap each. Waiters are served first come,
/// first served; while one waits, [`Gate::try_acquire`] does not overtake it.
///
/// ```
/// use stanchion_sync::{Gate, GateRefusal};
/// # if stanchion_sync::UNDER_LOOM { return Ok(()); }
/// let gate = Gate::new(1);
/// let permit = gate.try_acquire()?;
/// assert_eq!(gate.try_acquire().err(), Some(GateRefusal::Full));
/// drop(permit);
/// assert!(gate.try_acquire().is_ok());
/// # Ok::<(), GateRefusal>(())
/// ```
#[derive(Debug)]
pub struct Gate {
    /// Places there are; never changes.
    capacity: usize,
    /// `in use * PLACE | CLOSED | WAITING`.
    word: AtomicUsize,
    /// Those who wait, touched only when the gate is full.
    queue: Mutex<Queue>,
}

/// Waiters are known by ticket. One that is neither waiting nor granted was turned away by `close`.
#[derive(Debug, Default)]
struct Queue {
    next_ticket: u64,
    waiting: BTreeMap<u64, Waker>,
    /// Given a place (already counted in the word), not yet polled.
    granted: BTreeSet<u64>,
}

/// Why [`Gate::try_acquire`] gave no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateRefusal {
    /// Every place is taken, or others wait: wait in turn, or refuse the message.
    #[error("every place of the gate is taken")]
    Full,
    /// The gate admits nobody: the owner drains or is gone.
    #[error("the gate is closed")]
    Closed,
}

/// The gate was closed while the caller waited, or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gate is closed")]
pub struct Closed;

impl Gate {
    /// Makes an open gate with `capacity` free places. `0` admits nobody; at most `usize::MAX / 4` are counted.
    #[must_use]
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity: capacity.min(usize::MAX / PLACE),
            word: AtomicUsize::new(0),
            queue: Mutex::new(Queue::default()),
        })
    }

    /// Takes a place at once, without overtaking anyone who waits.
    ///
    /// # Errors
    /// [`GateRefusal::Full`]: no place, or others wait. [`GateRefusal::Closed`]: see [`Gate::close`].
    pub fn try_acquire(self: &Arc<Self>) -> Result<Permit, GateRefusal> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word & CLOSED != 0 {
                return Err(GateRefusal::Closed);
            }
            if word & WAITING != 0 || word / PLACE >= self.capacity {
                return Err(GateRefusal::Full);
            }
            if planted(Bug::GateCountsInTwoSteps) {
                self.word.fetch_add(PLACE, Ordering::AcqRel);
                return Ok(self.permit());
            }
            match self.word.compare_exchange_weak(word, word + PLACE, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(self.permit()),
                Err(found) => word = found,
            }
        }
    }

    /// Takes a place, or queues `waiter` and wakes `cx` when its turn has come.
    ///
    /// Poll again with the same `waiter`; dropping it leaves the queue, and a place already given to it goes to
    /// the next. A waiter queued at another gate leaves that one first.
    ///
    /// # Errors
    /// [`Closed`]: the gate is closed, or was while `waiter` queued.
    pub fn poll_acquire(
        self: &Arc<Self>,
        waiter: &mut Waiter,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Permit, Closed>> {
        if let Some(place) = &waiter.place {
            if Arc::ptr_eq(&place.gate, self) {
                return self.poll_queued(waiter, cx);
            }
            *waiter = Waiter::new();
        }
        match self.try_acquire() {
            Ok(permit) => Poll::Ready(Ok(permit)),
            Err(GateRefusal::Closed) => Poll::Ready(Err(Closed)),
            Err(GateRefusal::Full) => self.enqueue(waiter, cx),
        }
    }

    /// Returns a future that takes a place in turn.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue; no place is lost.
    pub fn acquire(self: &Arc<Self>) -> Acquire {
        Acquire { gate: Arc::clone(self), waiter: Waiter::new() }
    }

    /// Admits nobody from here on and turns away all who wait. Permits already given stay good.
    pub fn close(&self) {
        let turned_away = {
            let mut queue = lock(&self.queue);
            self.word.fetch_or(CLOSED, Ordering::AcqRel);
            if planted(Bug::GateCloseWakesNobody) {
                return;
            }
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
            std::mem::take(&mut queue.waiting)
        };
        turned_away.into_values().for_each(Waker::wake);
    }

    /// Admits again after [`Gate::close`]. Those it turned away stay turned away.
    pub fn reopen(&self) {
        let _queue = lock(&self.queue);
        self.word.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    /// Places taken at this moment, `0..=capacity`.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.word.load(Ordering::Acquire) / PLACE
    }

    /// Places there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many wait for a place at this moment.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.queue).waiting.len()
    }

    /// Whether [`Gate::close`] was called last.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    fn permit(self: &Arc<Self>) -> Permit {
        Permit { gate: Arc::clone(self) }
    }

    /// Queues, unless a place came free since `try_acquire` looked.
    fn enqueue(self: &Arc<Self>, waiter: &mut Waiter, cx: &mut Context<'_>) -> Poll<Result<Permit, Closed>> {
        let waker = cx.waker().clone();
        let mut queue = lock(&self.queue);
        // From here on places come back through the lock, so this look cannot be outdated.
        let word = self.word.fetch_or(WAITING, Ordering::AcqRel);
        let first = queue.waiting.is_empty();
        if word & CLOSED != 0 {
            if first {
                self.word.fetch_and(!WAITING, Ordering::AcqRel);
            }
            return Poll::Ready(Err(Closed));
        }
        if first && word / PLACE < self.capacity && !planted(Bug::GateQueuesWithoutLooking) {
            // WAITING is set and nobody else may set or clear it: adds the place and clears the flag at once.
            self.word.fetch_add(PLACE - WAITING, Ordering::AcqRel);
            return Poll::Ready(Ok(self.permit()));
        }
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.insert(ticket, waker);
        waiter.place = Some(Place { gate: Arc::clone(self), ticket });
        Poll::Pending
    }

    fn poll_queued(
        self: &Arc<Self>,
        waiter: &mut Waiter,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Permit, Closed>> {
        let Some(place) = &waiter.place else { return Poll::Ready(Err(Closed)) };
        let fresh = cx.waker().clone();
        let mut queue = lock(&self.queue);
        let given = queue.granted.remove(&place.ticket);
        let stale = queue.waiting.get_mut(&place.ticket).map(|waker| std::mem::replace(waker, fresh));
        drop(queue);
        // `stale` is dropped without the lock: dropping a waker may run foreign code.
        if stale.is_some() {
            return Poll::Pending;
        }
        waiter.place = None;
        if given { Poll::Ready(Ok(self.permit())) } else { Poll::Ready(Err(Closed)) }
    }

    /// Gives one counted place back, or on to the first who waits.
    fn give_back(&self) {
        let mut word = self.word.load(Ordering::Acquire);
        while word & WAITING == 0 || planted(Bug::GateReturnIgnoresWaiters) {
            match self.word.compare_exchange_weak(word, word - PLACE, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
        self.hand_on(lock(&self.queue));
    }

    /// Takes `ticket` out of the queue, wherever it stands.
    fn leave(&self, ticket: u64) {
        let mut queue = lock(&self.queue);
        if queue.granted.remove(&ticket) {
            if !planted(Bug::GateDroppedWaiterKeepsPlace) {
                self.hand_on(queue);
            }
            return;
        }
        let gone = queue.waiting.remove(&ticket);
        if gone.is_some() && queue.waiting.is_empty() {
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
        }
        drop(queue);
        drop(gone);
    }

    /// Passes a counted place to the first who waits, or frees it; wakes without the lock.
    fn hand_on(&self, mut queue: MutexGuard<'_, Queue>) {
        let Some((ticket, waker)) = queue.waiting.pop_first() else {
            if !planted(Bug::GateHandsOnToNobody) {
                self.word.fetch_sub(PLACE, Ordering::AcqRel);
            }
            return;
        };
        queue.granted.insert(ticket);
        if queue.waiting.is_empty() {
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
        }
        drop(queue);
        waker.wake();
    }
}

/// One taken place; returns it when dropped.
#[derive(Debug)]
#[must_use = "dropping the permit returns its place at once"]
pub struct Permit {
    gate: Arc<Gate>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.give_back();
    }
}

/// A caller's turn in the queue of one gate, kept between polls of [`Gate::poll_acquire`].
#[derive(Debug, Default)]
pub struct Waiter {
    /// Where it queues; `None` before the first poll that found the gate full, and after the last.
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    gate: Arc<Gate>,
    ticket: u64,
}

impl Waiter {
    /// Makes a waiter that queues nowhere yet.
    #[must_use]
    pub fn new() -> Self {
        Self { place: None }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.gate.leave(place.ticket);
        }
    }
}

/// The future of [`Gate::acquire`].
#[derive(Debug)]
#[must_use = "a future does nothing until polled"]
pub struct Acquire {
    gate: Arc<Gate>,
    waiter: Waiter,
}

impl Future for Acquire {
    type Output = Result<Permit, Closed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { gate, waiter } = self.get_mut();
        gate.poll_acquire(waiter, cx)
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize as Counter;
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(Counter);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn poll(future: &mut Acquire, wakes: &Arc<Wakes>) -> Poll<Result<Permit, Closed>> {
        Pin::new(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(wakes))))
    }

    fn pending(gate: &Arc<Gate>) -> (Acquire, Arc<Wakes>) {
        let (mut future, wakes) = (gate.acquire(), Arc::new(Wakes::default()));
        assert!(poll(&mut future, &wakes).is_pending());
        (future, wakes)
    }

    fn woken(wakes: &Wakes) -> usize {
        wakes.0.load(Ordering::SeqCst)
    }

    #[test]
    fn a_dropped_permit_returns_its_place() {
        let gate = Gate::new(2);
        let (one, two) = (gate.try_acquire().unwrap(), gate.try_acquire().unwrap());
        assert_eq!(gate.try_acquire().err(), Some(GateRefusal::Full));
        assert_eq!((gate.in_use(), gate.capacity()), (2, 2));
        drop(one);
        assert!(gate.try_acquire().is_ok());
        drop(two);
        assert_eq!(gate.in_use(), 0);
    }

    #[test]
    fn waiters_are_served_in_turn_and_not_overtaken() {
        let gate = Gate::new(1);
        let permit = gate.try_acquire().unwrap();
        let (mut first, first_wakes) = pending(&gate);
        let (mut second, second_wakes) = pending(&gate);
        assert_eq!(gate.waiting(), 2);
        drop(permit);
        assert_eq!((woken(&first_wakes), woken(&second_wakes)), (1, 0));
        assert_eq!(gate.try_acquire().err(), Some(GateRefusal::Full));
        assert!(poll(&mut second, &second_wakes).is_pending());
        let Poll::Ready(Ok(permit)) = poll(&mut first, &first_wakes) else { panic!("its turn") };
        drop(permit);
        assert_eq!(woken(&second_wakes), 1);
        assert!(poll(&mut second, &second_wakes).is_ready());
        assert_eq!((gate.in_use(), gate.waiting()), (0, 0));
    }

    #[test]
    fn a_cancelled_waiter_hands_its_place_on() {
        let gate = Gate::new(1);
        let permit = gate.try_acquire().unwrap();
        let (first, _) = pending(&gate);
        let (second, second_wakes) = pending(&gate);
        let (mut third, third_wakes) = pending(&gate);
        drop(second);
        drop(permit);
        assert_eq!(woken(&third_wakes), 0);
        drop(first);
        assert_eq!((woken(&second_wakes), woken(&third_wakes)), (0, 1));
        assert!(matches!(poll(&mut third, &third_wakes), Poll::Ready(Ok(_))));
        assert_eq!(gate.in_use(), 0);
    }

    #[test]
    fn the_last_waker_given_is_the_one_woken() {
        let gate = Gate::new(1);
        let permit = gate.try_acquire().unwrap();
        let (mut future, earlier) = pending(&gate);
        let later = Arc::new(Wakes::default());
        assert!(poll(&mut future, &later).is_pending());
        drop(permit);
        assert_eq!((woken(&earlier), woken(&later)), (0, 1));
    }

    #[test]
    fn close_turns_waiters_away_and_reopen_does_not_call_them_back() {
        let gate = Gate::new(1);
        let permit = gate.try_acquire().unwrap();
        let (mut future, wakes) = pending(&gate);
        gate.close();
        assert!(gate.is_closed());
        assert_eq!((woken(&wakes), gate.waiting()), (1, 0));
        assert_eq!(gate.try_acquire().err(), Some(GateRefusal::Closed));
        gate.reopen();
        assert!(matches!(poll(&mut future, &wakes), Poll::Ready(Err(Closed))));
        assert_eq!(gate.try_acquire().err(), Some(GateRefusal::Full));
        drop(permit);
        assert!(gate.try_acquire().is_ok());
    }

    #[test]
    fn a_place_given_before_close_stays_good() {
        let gate = Gate::new(1);
        let permit = gate.try_acquire().unwrap();
        let (mut future, wakes) = pending(&gate);
        drop(permit);
        gate.close();
        assert!(matches!(poll(&mut future, &wakes), Poll::Ready(Ok(_))));
        assert_eq!(gate.in_use(), 0);
    }

    #[test]
    fn a_waiter_moved_to_another_gate_leaves_the_first() {
        let (one, two) = (Gate::new(1), Gate::new(1));
        let _permit = one.try_acquire().unwrap();
        let mut waiter = Waiter::new();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(one.poll_acquire(&mut waiter, &mut cx).is_pending());
        assert!(matches!(two.poll_acquire(&mut waiter, &mut cx), Poll::Ready(Ok(_))));
        assert_eq!(one.waiting(), 0);
    }

    #[test]
    fn a_gate_without_places_admits_nobody() {
        let gate = Gate::new(0);
        assert_eq!(gate.try_acquire().err(), Some(GateRefusal::Full));
        let (future, _) = pending(&gate);
        drop(future);
        assert_eq!(gate.waiting(), 0);
    }
}
