//! [`Turnstile`]: admits callers in turn, by number and by weight, under limits that may change.

mod lane;
mod state;

use crate::padded::{Padded, of, padded};
use crate::planted::{Bug, planted};
use crate::shim::{Mutex, MutexGuard, lock};
use lane::Lane;
use state::{State, Waiting};
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
///
/// # Lanes
/// With [lanes](Turnstile::with_lanes), free places are lent to lanes, one for each thread or so, where callers take
/// and return them without the lock. Before anybody is refused or queued, all lanes are closed and their free places
/// counted, so that a place is refused only when none is free anywhere; while somebody waits, and while more than half
/// of the places are taken, the lanes are closed and everybody goes through the lock. Under a limit of weight they
/// stay closed.
#[derive(Debug)]
pub struct Turnstile {
    hall: Arc<Hall>,
    /// One for each lane, so that passes of different lanes count their references apart.
    doors: Box<[Arc<Door>]>,
    /// The first of them.
    first: Arc<Door>,
}

/// A way in.
#[derive(Debug)]
#[repr(align(128))]
struct Door {
    hall: Arc<Hall>,
    lane: usize,
}

#[derive(Debug)]
struct Hall {
    state: Mutex<State>,
    lanes: Box<[Padded<Lane>]>,
}

impl Turnstile {
    /// Makes an empty turnstile with one lane, which lends nothing: everybody goes through the lock.
    #[must_use]
    pub fn new(limits: TurnstileLimits) -> Arc<Self> {
        Self::with_lanes(limits, 1)
    }

    /// Makes an empty turnstile with so many lanes.
    #[must_use]
    pub fn with_lanes(limits: TurnstileLimits, lanes: usize) -> Arc<Self> {
        let hall = Hall { state: Mutex::new(State::new(limits)), lanes: padded(lanes, Lane::new) };
        lock(&hall.state).open_if_calm(&hall.lanes);
        let count = hall.lanes.len();
        let hall = Arc::new(hall);
        let door = |lane| Arc::new(Door { hall: Arc::clone(&hall), lane });
        let first = door(0);
        let doors = std::iter::once(Arc::clone(&first)).chain((1..count).map(door)).collect();
        Arc::new(Self { hall, doors, first })
    }

    /// Enters at once, without overtaking anyone who waits.
    ///
    /// # Errors
    /// [`TurnstileRefusal::Full`] or [`TurnstileRefusal::TooHeavy`].
    pub fn try_enter(&self, weight: u64) -> Result<Pass, TurnstileRefusal> {
        self.try_enter_by(0, weight)
    }

    /// Enters at once by this lane, without overtaking anyone who waits.
    ///
    /// # Errors
    /// [`TurnstileRefusal::Full`] or [`TurnstileRefusal::TooHeavy`].
    pub fn try_enter_by(&self, lane: usize, weight: u64) -> Result<Pass, TurnstileRefusal> {
        let door = self.door(lane);
        door.try_enter(weight).map(|by_lane| Pass { door: Arc::clone(door), weight, by_lane })
    }

    /// Returns a future that enters in turn.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue; what it was given goes to the next.
    pub fn enter(&self, weight: u64) -> Enter {
        self.enter_by(0, weight)
    }

    /// Returns a future that enters by this lane, in turn.
    ///
    /// # Cancel safety
    /// As [`Turnstile::enter`].
    pub fn enter_by(&self, lane: usize, weight: u64) -> Enter {
        Enter { door: Arc::clone(self.door(lane)), weight, ticket: None }
    }

    /// Changes the limits. Who waits and is heavier than ever may be inside is turned away; nobody else is.
    pub fn resize(&self, limits: TurnstileLimits) {
        let mut state = lock(&self.hall.state);
        state.close(&self.hall.lanes);
        state.limits = limits;
        let mut woken = state.turn_away(limits.weight);
        woken.extend(state.admit(&self.hall.lanes));
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> TurnstileLimits {
        lock(&self.hall.state).limits
    }

    /// What is inside and waits at this moment.
    #[must_use]
    pub fn load(&self) -> TurnstileLoad {
        lock(&self.hall.state).load(&self.hall.lanes)
    }

    fn door(&self, lane: usize) -> &Arc<Door> {
        self.doors.get(lane % self.doors.len().max(1)).unwrap_or(&self.first)
    }
}

impl Door {
    /// Enters without waiting; whether by the lane.
    fn try_enter(&self, weight: u64) -> Result<bool, TurnstileRefusal> {
        if self.lane().is_some_and(|lane| lane.take(weight)) {
            return Ok(true);
        }
        let mut state = lock(&self.hall.state);
        if weight > state.limits.weight {
            return Err(TurnstileRefusal::TooHeavy);
        }
        if !state.waiting.is_empty() || !state.makes_room(weight, &self.hall.lanes) {
            return Err(TurnstileRefusal::Full);
        }
        if planted(Bug::TurnstileCountsInTwoSteps) {
            drop(state);
            state = lock(&self.hall.state);
        }
        state.count(weight);
        state.lend(self.lane(), self.hall.lanes.len());
        Ok(false)
    }

    /// Enters, or queues: a ticket when it queues, else whether it came in by the lane.
    fn arrive(&self, weight: u64, waker: Waker) -> Result<Result<bool, u64>, TurnstileRefusal> {
        match self.try_enter(weight) {
            Ok(by_lane) => return Ok(Ok(by_lane)),
            Err(TurnstileRefusal::Full) => {}
            Err(refusal) => return Err(refusal),
        }
        let mut state = lock(&self.hall.state);
        // Places may have been returned since.
        if state.waiting.is_empty() && state.makes_room(weight, &self.hall.lanes) {
            state.count(weight);
            return Ok(Ok(false));
        }
        if weight > state.limits.weight {
            return Err(TurnstileRefusal::TooHeavy);
        }
        if state.waiting.len() >= state.limits.waiting {
            return Err(TurnstileRefusal::Crowded);
        }
        Ok(Err(state.queue(weight, waker)))
    }

    /// Whether `ticket` was let in; `None` while it waits.
    fn look(&self, ticket: u64, waker: Waker) -> Option<bool> {
        let mut state = lock(&self.hall.state);
        let stale = state.waiting.get_mut(&ticket).map(|one| std::mem::replace(&mut one.waker, waker));
        let answer = if stale.is_some() { None } else { Some(state.granted.remove(&ticket)) };
        drop(state);
        // Dropped without the lock: dropping a waker may run foreign code.
        drop(stale);
        answer
    }

    fn give_back(&self, weight: u64, by_lane: bool) {
        if by_lane && self.lane().is_some_and(|lane| lane.give(weight)) {
            return;
        }
        let mut state = lock(&self.hall.state);
        if by_lane {
            state.lent -= 1;
        } else if planted(Bug::TurnstileReturnsNoWeight) {
            state.inside -= 1;
        } else {
            state.discount(weight);
        }
        self.admit_and_wake(state);
    }

    /// Takes `ticket` out, wherever it stands.
    fn leave(&self, ticket: u64, weight: u64) {
        let mut state = lock(&self.hall.state);
        if state.granted.remove(&ticket) {
            if planted(Bug::TurnstileCancelledKeepsPlace) {
                return;
            }
            state.discount(weight);
            self.admit_and_wake(state);
            return;
        }
        let gone: Option<Waiting> = state.waiting.remove(&ticket);
        if planted(Bug::TurnstileCancelledBlocksTheNext) {
            return;
        }
        // A heavy caller that gives up may have been all that kept lighter ones waiting.
        self.admit_and_wake(state);
        drop(gone);
    }

    fn admit_and_wake(&self, mut state: MutexGuard<'_, State>) {
        let woken = state.admit(&self.hall.lanes);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    fn lane(&self) -> Option<&Lane> {
        of(&self.hall.lanes, self.lane)
    }
}

/// One caller inside, with its weight; leaves when dropped.
#[derive(Debug)]
#[must_use = "dropping the pass leaves at once"]
pub struct Pass {
    door: Arc<Door>,
    weight: u64,
    by_lane: bool,
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
        self.door.give_back(self.weight, self.by_lane);
    }
}

/// The future of [`Turnstile::enter`].
#[derive(Debug)]
#[must_use = "a future does nothing until polled"]
pub struct Enter {
    door: Arc<Door>,
    weight: u64,
    /// Its place in the queue, between the first poll that found no room and the last.
    ticket: Option<u64>,
}

impl Enter {
    fn pass(&self, by_lane: bool) -> Pass {
        Pass { door: Arc::clone(&self.door), weight: self.weight, by_lane }
    }
}

impl Future for Enter {
    type Output = Result<Pass, TurnstileRefusal>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let waker = cx.waker().clone();
        let Some(ticket) = this.ticket else {
            return match this.door.arrive(this.weight, waker) {
                Ok(Ok(by_lane)) => Poll::Ready(Ok(this.pass(by_lane))),
                Ok(Err(ticket)) => {
                    this.ticket = Some(ticket);
                    Poll::Pending
                }
                Err(refusal) => Poll::Ready(Err(refusal)),
            };
        };
        let Some(let_in) = this.door.look(ticket, waker) else { return Poll::Pending };
        this.ticket = None;
        Poll::Ready(if let_in { Ok(this.pass(false)) } else { Err(TurnstileRefusal::TooHeavy) })
    }
}

impl Drop for Enter {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.door.leave(ticket, self.weight);
        }
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests;
