//! [`Turnstile`]: admits callers in turn, by number and by weight, under limits that may change.

use crate::planted::{Bug, planted};
use crate::shim::{Mutex, MutexGuard, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What a turnstile lets in at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnstileLimits {
    /// Callers inside; `0` lets nobody in.
    pub places: u64,
    /// Weight inside; `u64::MAX` for no limit.
    pub weight: u64,
    /// Callers that wait; `0` turns everybody away who would have to.
    pub waiting: usize,
}

/// Why a caller was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnstileRefusal {
    /// No room, or others wait before: wait in turn.
    #[error("the turnstile has no room")]
    Full,
    /// No room, and as many wait as may.
    #[error("too many wait at the turnstile")]
    Crowded,
    /// Heavier than all that may be inside: waiting would never end.
    #[error("the caller is heavier than the turnstile's limit")]
    TooHeavy,
}

/// What is inside and before a turnstile at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnstileLoad {
    /// Callers inside.
    pub inside: u64,
    /// Their weight.
    pub weight: u64,
    /// Callers that wait.
    pub waiting: usize,
}

/// Admits callers by number and weight at once: a caller gets a [`Pass`], which returns both when dropped.
///
/// Who waits is served first come, first served: a heavy caller is not overtaken by light ones, so it does not
/// starve. Limits change while callers are inside: a smaller one takes nothing from them, it lets in nobody new
/// until enough have left.
///
/// ```
/// use stanchion_sync::{Turnstile, TurnstileLimits, TurnstileRefusal};
/// # if stanchion_sync::UNDER_LOOM { return Ok(()); }
/// let turnstile = Turnstile::new(TurnstileLimits { places: 8, weight: 10, waiting: 4 });
/// let pass = turnstile.try_enter(7)?;
/// assert_eq!(turnstile.try_enter(4).err(), Some(TurnstileRefusal::Full));
/// assert_eq!(turnstile.try_enter(11).err(), Some(TurnstileRefusal::TooHeavy));
/// drop(pass);
/// assert!(turnstile.try_enter(4).is_ok());
/// # Ok::<(), TurnstileRefusal>(())
/// ```
#[derive(Debug)]
pub struct Turnstile {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limits: TurnstileLimits,
    inside: u64,
    weight: u64,
    next_ticket: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Let in (already counted inside), not yet polled.
    granted: BTreeSet<u64>,
}

#[derive(Debug)]
struct Waiting {
    weight: u64,
    waker: Waker,
}

impl State {
    fn has_room(&self, weight: u64) -> bool {
        let fits = self.weight.checked_add(weight).is_some_and(|sum| sum <= self.limits.weight);
        fits && self.inside < self.limits.places
    }

    fn count(&mut self, weight: u64) {
        self.inside += 1;
        self.weight += weight;
    }

    /// Lets in, in turn, who has room; the wakers of these.
    fn admit(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            let weight = first.get().weight;
            if !self.has_room(weight) {
                break;
            }
            let Some((ticket, waiting)) = self.waiting.pop_first() else { break };
            self.count(weight);
            self.granted.insert(ticket);
            woken.push(waiting.waker);
        }
        woken
    }
}

impl Turnstile {
    /// Makes an empty turnstile.
    #[must_use]
    pub fn new(limits: TurnstileLimits) -> Arc<Self> {
        let state = State {
            limits,
            inside: 0,
            weight: 0,
            next_ticket: 0,
            waiting: BTreeMap::new(),
            granted: BTreeSet::new(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Enters at once, without overtaking anyone who waits.
    ///
    /// # Errors
    /// [`TurnstileRefusal::Full`] or [`TurnstileRefusal::TooHeavy`].
    pub fn try_enter(self: &Arc<Self>, weight: u64) -> Result<Pass, TurnstileRefusal> {
        let mut state = lock(&self.state);
        if weight > state.limits.weight {
            return Err(TurnstileRefusal::TooHeavy);
        }
        if !state.waiting.is_empty() || !state.has_room(weight) {
            return Err(TurnstileRefusal::Full);
        }
        if planted(Bug::TurnstileCountsInTwoSteps) {
            drop(state);
            state = lock(&self.state);
        }
        state.count(weight);
        Ok(self.pass(weight))
    }

    /// Returns a future that enters in turn.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue; what it was given goes to the next.
    pub fn enter(self: &Arc<Self>, weight: u64) -> Enter {
        Enter { turnstile: Arc::clone(self), weight, ticket: None }
    }

    /// Changes the limits. Who waits and is heavier than ever may be inside is turned away; nobody else is.
    pub fn resize(&self, limits: TurnstileLimits) {
        let mut state = lock(&self.state);
        state.limits = limits;
        let heavy: Vec<u64> =
            state.waiting.iter().filter(|(_, one)| one.weight > limits.weight).map(|(t, _)| *t).collect();
        let mut woken: Vec<Waker> =
            heavy.iter().filter_map(|ticket| state.waiting.remove(ticket)).map(|one| one.waker).collect();
        woken.extend(state.admit());
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> TurnstileLimits {
        lock(&self.state).limits
    }

    /// What is inside and waits at this moment.
    #[must_use]
    pub fn load(&self) -> TurnstileLoad {
        let state = lock(&self.state);
        TurnstileLoad { inside: state.inside, weight: state.weight, waiting: state.waiting.len() }
    }

    fn pass(self: &Arc<Self>, weight: u64) -> Pass {
        Pass { turnstile: Arc::clone(self), weight }
    }

    /// Enters, or queues; a ticket when it queues.
    fn arrive(self: &Arc<Self>, weight: u64, waker: Waker) -> Result<Result<Pass, u64>, TurnstileRefusal> {
        let mut state = lock(&self.state);
        if weight > state.limits.weight {
            return Err(TurnstileRefusal::TooHeavy);
        }
        if state.waiting.is_empty() && state.has_room(weight) {
            state.count(weight);
            return Ok(Ok(self.pass(weight)));
        }
        if state.waiting.len() >= state.limits.waiting {
            return Err(TurnstileRefusal::Crowded);
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.insert(ticket, Waiting { weight, waker });
        Ok(Err(ticket))
    }

    /// Whether `ticket` was let in; `None` while it waits.
    fn look(&self, ticket: u64, waker: Waker) -> Option<bool> {
        let mut state = lock(&self.state);
        let stale = state.waiting.get_mut(&ticket).map(|one| std::mem::replace(&mut one.waker, waker));
        let answer = if stale.is_some() { None } else { Some(state.granted.remove(&ticket)) };
        drop(state);
        // Dropped without the lock: dropping a waker may run foreign code.
        drop(stale);
        answer
    }

    fn give_back(&self, weight: u64) {
        let mut state = lock(&self.state);
        if planted(Bug::TurnstileReturnsNoWeight) {
            state.inside -= 1;
        } else {
            state.inside -= 1;
            state.weight -= weight;
        }
        self.admit_and_wake(state);
    }

    /// Takes `ticket` out, wherever it stands.
    fn leave(&self, ticket: u64, weight: u64) {
        let mut state = lock(&self.state);
        if state.granted.remove(&ticket) {
            if planted(Bug::TurnstileCancelledKeepsPlace) {
                return;
            }
            state.inside -= 1;
            state.weight -= weight;
            self.admit_and_wake(state);
            return;
        }
        let gone = state.waiting.remove(&ticket);
        if planted(Bug::TurnstileCancelledBlocksTheNext) {
            return;
        }
        // A heavy caller that gives up may have been all that kept lighter ones waiting.
        self.admit_and_wake(state);
        drop(gone);
    }

    fn admit_and_wake(&self, mut state: MutexGuard<'_, State>) {
        let woken = state.admit();
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// One caller inside, with its weight; leaves when dropped.
#[derive(Debug)]
#[must_use = "dropping the pass leaves at once"]
pub struct Pass {
    turnstile: Arc<Turnstile>,
    weight: u64,
}

impl Pass {
    /// What it weighs.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.weight
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.turnstile.give_back(self.weight);
    }
}

/// The future of [`Turnstile::enter`].
#[derive(Debug)]
#[must_use = "a future does nothing until polled"]
pub struct Enter {
    turnstile: Arc<Turnstile>,
    weight: u64,
    /// Its place in the queue, between the first poll that found no room and the last.
    ticket: Option<u64>,
}

impl Future for Enter {
    type Output = Result<Pass, TurnstileRefusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let waker = cx.waker().clone();
        let Some(ticket) = this.ticket else {
            return match this.turnstile.arrive(this.weight, waker) {
                Ok(Ok(pass)) => Poll::Ready(Ok(pass)),
                Ok(Err(ticket)) => {
                    this.ticket = Some(ticket);
                    Poll::Pending
                }
                Err(refusal) => Poll::Ready(Err(refusal)),
            };
        };
        let Some(let_in) = this.turnstile.look(ticket, waker) else { return Poll::Pending };
        this.ticket = None;
        Poll::Ready(if let_in {
            Ok(this.turnstile.pass(this.weight))
        } else {
            Err(TurnstileRefusal::TooHeavy)
        })
    }
}

impl Drop for Enter {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.turnstile.leave(ticket, self.weight);
        }
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    fn turnstile(places: u64, weight: u64, waiting: usize) -> Arc<Turnstile> {
        Turnstile::new(TurnstileLimits { places, weight, waiting })
    }

    fn poll(future: &mut Enter) -> Poll<Result<Pass, TurnstileRefusal>> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn queued(turnstile: &Arc<Turnstile>, weight: u64) -> Enter {
        let mut future = turnstile.enter(weight);
        assert!(poll(&mut future).is_pending());
        future
    }

    fn load(turnstile: &Turnstile) -> (u64, u64, usize) {
        let load = turnstile.load();
        (load.inside, load.weight, load.waiting)
    }

    #[test]
    fn places_and_weight_are_taken_and_returned_together() {
        let turnstile = turnstile(2, 10, 0);
        let (one, two) = (turnstile.try_enter(1).unwrap(), turnstile.try_enter(9).unwrap());
        assert_eq!((load(&turnstile), two.weight()), ((2, 10, 0), 9));
        assert_eq!(turnstile.try_enter(0).err(), Some(TurnstileRefusal::Full), "no place");
        drop(one);
        assert_eq!(turnstile.try_enter(2).err(), Some(TurnstileRefusal::Full), "no weight");
        drop(two);
        assert_eq!(load(&turnstile), (0, 0, 0));
    }

    #[test]
    fn weights_without_a_limit_never_overflow() {
        let turnstile = turnstile(9, u64::MAX, 9);
        let _inside = turnstile.try_enter(u64::MAX).unwrap();
        assert_eq!(turnstile.try_enter(1).err(), Some(TurnstileRefusal::Full));
        assert!(turnstile.try_enter(0).is_ok());
    }

    #[test]
    fn a_heavy_caller_is_not_overtaken_and_lets_the_light_ones_in_when_it_gives_up() {
        let turnstile = turnstile(9, 10, 9);
        let inside = turnstile.try_enter(6).unwrap();
        let heavy = queued(&turnstile, 5);
        let mut light = queued(&turnstile, 1);
        assert_eq!(turnstile.try_enter(1).err(), Some(TurnstileRefusal::Full));
        assert!(poll(&mut light).is_pending());
        drop(heavy);
        let Poll::Ready(Ok(light)) = poll(&mut light) else { panic!("there is room") };
        drop((inside, light));
        assert_eq!(load(&turnstile), (0, 0, 0));
    }

    #[test]
    fn a_cancelled_caller_gives_on_what_it_was_given() {
        let turnstile = turnstile(1, 10, 2);
        let inside = turnstile.try_enter(1).unwrap();
        let first = queued(&turnstile, 1);
        let mut second = queued(&turnstile, 1);
        drop(inside);
        assert!(poll(&mut second).is_pending());
        drop(first);
        assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
        assert_eq!(load(&turnstile), (0, 0, 0));
    }

    #[test]
    fn who_would_wait_for_ever_or_in_a_crowd_is_refused() {
        let turnstile = turnstile(1, 10, 1);
        let _inside = turnstile.try_enter(1).unwrap();
        assert!(matches!(poll(&mut turnstile.enter(11)), Poll::Ready(Err(TurnstileRefusal::TooHeavy))));
        let _first = queued(&turnstile, 1);
        assert!(matches!(poll(&mut turnstile.enter(1)), Poll::Ready(Err(TurnstileRefusal::Crowded))));
    }

    #[test]
    fn a_smaller_turnstile_takes_nothing_back_and_a_larger_one_lets_in() {
        let turnstile = turnstile(3, 30, 9);
        let inside: Vec<_> = (0..3).map(|_| turnstile.try_enter(10).unwrap()).collect();
        let (mut heavy, mut light) = (queued(&turnstile, 20), queued(&turnstile, 5));
        turnstile.resize(TurnstileLimits { places: 1, weight: 10, waiting: 9 });
        assert_eq!(load(&turnstile), (3, 30, 1), "nobody inside is put out");
        assert!(matches!(poll(&mut heavy), Poll::Ready(Err(TurnstileRefusal::TooHeavy))));
        let mut inside = inside.into_iter();
        drop((inside.next(), inside.next()));
        assert!(poll(&mut light).is_pending());
        turnstile.resize(TurnstileLimits { places: 2, weight: 15, waiting: 9 });
        assert!(matches!(poll(&mut light), Poll::Ready(Ok(_))));
        drop(inside);
        assert_eq!(load(&turnstile), (0, 0, 0));
    }
}
