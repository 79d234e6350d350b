//! [`SingleFlight`]: one of several callers works on a key, the others get its result.

use crate::planted::{Bug, planted};
use crate::shim::{Mutex, lock};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Lets one caller work on a key while the others wait for its result.
///
/// The first to [join](SingleFlight::join) leads; it [lands](Lead::land) a result, which everybody on board gets.
/// A leader that is dropped instead, cancelled or by a panic, hands the lead to the one who waits longest. The
/// flight ends with its landing: who joins after it begins another.
///
/// ```
/// use stanchion_sync::{Seat, SingleFlight};
/// # if stanchion_sync::UNDER_LOOM { return; }
/// let flights: std::sync::Arc<SingleFlight<&str, u32>> = SingleFlight::new();
/// let Seat::Lead(lead) = flights.join("key") else { unreachable!() };
/// let Seat::Ride(_ride) = flights.join("key") else { unreachable!() };
/// assert_eq!(*lead.land(7), 7);
/// assert!(matches!(flights.join("key"), Seat::Lead(_)));
/// ```
pub struct SingleFlight<K, T> {
    state: Mutex<State<K, T>>,
}

struct State<K, T> {
    /// The flight of each key that somebody works on.
    by_key: HashMap<K, u64>,
    /// Flights under way, and landed ones whose riders have not all looked.
    flights: HashMap<u64, Flight<K, T>>,
    /// Next number of a flight or of a rider.
    next: u64,
}

struct Flight<K, T> {
    key: K,
    stage: Stage<T>,
    /// By ticket, in order of arrival; the waker is there after the first poll.
    riders: BTreeMap<u64, Option<Waker>>,
}

enum Stage<T> {
    /// Somebody leads.
    Flying,
    /// This rider is to lead, once it looks.
    Appointed(u64),
    /// The result is there.
    Landed(Arc<T>),
}

impl<K: Clone + Eq + Hash, T> State<K, T> {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn begin(&mut self, key: K) -> u64 {
        let id = self.number();
        self.by_key.insert(key.clone(), id);
        self.flights.insert(id, Flight { key, stage: Stage::Flying, riders: BTreeMap::new() });
        id
    }

    /// Gives the lead to who waits longest; ends a flight that nobody is left on.
    fn hand_over(&mut self, id: u64) -> Change<K, T> {
        let Some(flight) = self.flights.get_mut(&id) else { return Change::default() };
        if let Some((ticket, waker)) = flight.riders.iter_mut().next() {
            flight.stage = Stage::Appointed(*ticket);
            return Change { woken: waker.take().into_iter().collect(), gone: None };
        }
        let gone = self.flights.remove(&id);
        if let Some(flight) = &gone {
            self.forget(&flight.key, id);
        }
        Change { woken: Vec::new(), gone }
    }

    /// Lets nobody join this flight any more.
    fn forget(&mut self, key: &K, id: u64) {
        if self.by_key.get(key) == Some(&id) {
            self.by_key.remove(key);
        }
    }
}

/// What is to be done without the lock: waking and dropping run foreign code.
struct Change<K, T> {
    woken: Vec<Waker>,
    gone: Option<Flight<K, T>>,
}

impl<K, T> Default for Change<K, T> {
    fn default() -> Self {
        Self { woken: Vec::new(), gone: None }
    }
}

impl<K, T> Change<K, T> {
    fn perform(self) {
        self.woken.into_iter().for_each(Waker::wake);
        drop(self.gone);
    }
}

impl<K: Clone + Eq + Hash, T> SingleFlight<K, T> {
    /// Makes one without flights.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let state = State { by_key: HashMap::new(), flights: HashMap::new(), next: 0 };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Joins the flight of `key`, or begins one and leads it.
    pub fn join(self: &Arc<Self>, key: K) -> Seat<K, T> {
        let mut state = lock(&self.state);
        let found = state.by_key.get(&key).copied();
        if planted(Bug::SingleFlightBeginsInTwoSteps) {
            drop(state);
            state = lock(&self.state);
        }
        let ticket = state.number();
        if let Some((id, flight)) = found.and_then(|id| Some((id, state.flights.get_mut(&id)?))) {
            flight.riders.insert(ticket, None);
            return Seat::Ride(Ride { flights: Arc::clone(self), id, ticket, on_board: true });
        }
        let id = state.begin(key);
        drop(state);
        Seat::Lead(self.lead(id))
    }

    /// Lets nobody join the flight of `key` any more: who joins from here on begins another. Those on board stay.
    pub fn detach(&self, key: &K) {
        lock(&self.state).by_key.remove(key);
    }

    /// [Detaches](SingleFlight::detach) every flight.
    pub fn detach_all(&self) {
        lock(&self.state).by_key.clear();
    }

    /// Keys that somebody works on; detached flights are not counted.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        lock(&self.state).by_key.len()
    }

    fn lead(self: &Arc<Self>, id: u64) -> Lead<K, T> {
        Lead { flights: Arc::clone(self), id, flying: true }
    }

    fn land(&self, id: u64, value: &Arc<T>) {
        let mut state = lock(&self.state);
        let mut change = Change::default();
        if let Some(flight) = state.flights.get_mut(&id) {
            flight.stage = Stage::Landed(Arc::clone(value));
            change.woken = flight.riders.values_mut().filter_map(Option::take).collect();
            let (key, empty) = (flight.key.clone(), flight.riders.is_empty());
            state.forget(&key, id);
            if empty {
                change.gone = state.flights.remove(&id);
            }
        }
        drop(state);
        if planted(Bug::SingleFlightLandsSilently) {
            change.woken.clear();
        }
        change.perform();
    }

    /// The leader is gone without a result.
    fn strand(&self, id: u64) {
        if planted(Bug::SingleFlightDroppedLeadStrands) {
            return;
        }
        let change = lock(&self.state).hand_over(id);
        change.perform();
    }

    /// A rider is gone without having looked at the end.
    fn leave(&self, id: u64, ticket: u64) {
        let mut state = lock(&self.state);
        let Some(flight) = state.flights.get_mut(&id) else { return };
        let waker = flight.riders.remove(&ticket);
        let change = match flight.stage {
            Stage::Appointed(one) if one == ticket && !planted(Bug::SingleFlightAppointedLeavesSilently) => {
                state.hand_over(id)
            }
            Stage::Landed(_) if flight.riders.is_empty() => {
                Change { woken: Vec::new(), gone: state.flights.remove(&id) }
            }
            Stage::Flying | Stage::Appointed(_) | Stage::Landed(_) => Change::default(),
        };
        drop(state);
        drop(waker);
        change.perform();
    }

    /// What there is for a rider: the landed value, or the lead.
    fn look(&self, id: u64, ticket: u64, waker: Waker) -> Poll<Option<Arc<T>>> {
        let mut state = lock(&self.state);
        // A flight stays until its last rider has left; without one, working is better than waiting for nobody.
        let Some(flight) = state.flights.get_mut(&id) else { return Poll::Ready(None) };
        let (answer, stale, mut gone) = match &flight.stage {
            Stage::Landed(value) => {
                let value = Arc::clone(value);
                (Poll::Ready(Some(value)), flight.riders.remove(&ticket).flatten(), None)
            }
            Stage::Appointed(one) if *one == ticket => {
                flight.stage = Stage::Flying;
                (Poll::Ready(None), flight.riders.remove(&ticket).flatten(), None)
            }
            Stage::Flying | Stage::Appointed(_) => {
                (Poll::Pending, flight.riders.insert(ticket, Some(waker)).flatten(), None)
            }
        };
        if matches!(flight.stage, Stage::Landed(_)) && flight.riders.is_empty() {
            gone = state.flights.remove(&id);
        }
        drop(state);
        drop((stale, gone));
        answer
    }
}

impl<K, T> fmt::Debug for SingleFlight<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SingleFlight")
    }
}

/// How a caller takes part.
#[derive(Debug)]
#[must_use = "dropping the seat leaves the flight"]
pub enum Seat<K: Clone + Eq + Hash, T> {
    /// It works.
    Lead(Lead<K, T>),
    /// It waits for who works.
    Ride(Ride<K, T>),
}

/// The one who works on a key. Hands over when dropped without a landing.
#[must_use = "dropping the lead hands it over"]
pub struct Lead<K: Clone + Eq + Hash, T> {
    flights: Arc<SingleFlight<K, T>>,
    id: u64,
    flying: bool,
}

impl<K: Clone + Eq + Hash, T> Lead<K, T> {
    /// Gives the result to everybody on board, and ends the flight.
    pub fn land(mut self, value: T) -> Arc<T> {
        let value = Arc::new(value);
        self.flying = false;
        self.flights.land(self.id, &value);
        value
    }
}

impl<K: Clone + Eq + Hash, T> Drop for Lead<K, T> {
    fn drop(&mut self) {
        if self.flying {
            self.flights.strand(self.id);
        }
    }
}

impl<K: Clone + Eq + Hash, T> fmt::Debug for Lead<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lead({})", self.id)
    }
}

/// How a flight ended for a rider.
#[derive(Debug)]
pub enum Arrival<K: Clone + Eq + Hash, T> {
    /// With the leader's result.
    Landed(Arc<T>),
    /// The leader is gone: work, and land.
    Lead(Lead<K, T>),
}

/// One who waits: a future of the [`Arrival`]. Leaves the flight when dropped.
#[must_use = "a future does nothing until polled"]
pub struct Ride<K: Clone + Eq + Hash, T> {
    flights: Arc<SingleFlight<K, T>>,
    id: u64,
    ticket: u64,
    on_board: bool,
}

impl<K: Clone + Eq + Hash, T> Future for Ride<K, T> {
    type Output = Arrival<K, T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self.flights.look(self.id, self.ticket, cx.waker().clone());
        answer.map(|landed| {
            self.on_board = false;
            match landed {
                Some(value) => Arrival::Landed(value),
                None => Arrival::Lead(self.flights.lead(self.id)),
            }
        })
    }
}

impl<K: Clone + Eq + Hash, T> Drop for Ride<K, T> {
    fn drop(&mut self) {
        if self.on_board {
            self.flights.leave(self.id, self.ticket);
        }
    }
}

impl<K: Clone + Eq + Hash, T> fmt::Debug for Ride<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ride({}, {})", self.id, self.ticket)
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    type Flights = Arc<SingleFlight<&'static str, u32>>;

    fn lead(flights: &Flights) -> Lead<&'static str, u32> {
        let Seat::Lead(lead) = flights.join("k") else { unreachable!("nobody works on it") };
        lead
    }

    fn ride(flights: &Flights) -> Ride<&'static str, u32> {
        let Seat::Ride(mut ride) = flights.join("k") else { unreachable!("somebody works on it") };
        assert!(poll(&mut ride).is_pending());
        ride
    }

    fn poll(ride: &mut Ride<&'static str, u32>) -> Poll<Arrival<&'static str, u32>> {
        Pin::new(ride).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn everybody_on_board_gets_the_result_and_nothing_is_kept() {
        let flights = SingleFlight::new();
        let lead = lead(&flights);
        let mut riders = [ride(&flights), ride(&flights)];
        assert_eq!(*lead.land(7), 7);
        assert_eq!(flights.in_flight(), 0);
        for rider in &mut riders {
            assert!(matches!(poll(rider), Poll::Ready(Arrival::Landed(value)) if *value == 7));
        }
        assert!(lock(&flights.state).flights.is_empty());
    }

    #[test]
    fn a_dropped_leader_hands_over_in_order_of_arrival() {
        let flights = SingleFlight::new();
        let lead = lead(&flights);
        let (first, mut second) = (ride(&flights), ride(&flights));
        drop(lead);
        assert!(poll(&mut second).is_pending());
        drop(first);
        let Poll::Ready(Arrival::Lead(lead)) = poll(&mut second) else { panic!("its turn") };
        let mut third = ride(&flights);
        lead.land(9);
        assert!(matches!(poll(&mut third), Poll::Ready(Arrival::Landed(value)) if *value == 9));
        assert!(lock(&flights.state).flights.is_empty());
    }

    #[test]
    fn a_flight_that_everybody_left_is_forgotten() {
        let flights = SingleFlight::new();
        let lead = lead(&flights);
        let rider = ride(&flights);
        drop((lead, rider));
        assert_eq!(flights.in_flight(), 0);
        let lead = self::lead(&flights);
        let rider = ride(&flights);
        lead.land(1);
        drop(rider);
        assert!(lock(&flights.state).flights.is_empty());
    }

    #[test]
    fn who_joins_after_a_detach_begins_another_flight() {
        let flights = SingleFlight::new();
        let old = lead(&flights);
        let mut with_old = ride(&flights);
        flights.detach(&"k");
        let new = lead(&flights);
        let mut with_new = ride(&flights);
        old.land(1);
        assert!(matches!(poll(&mut with_old), Poll::Ready(Arrival::Landed(value)) if *value == 1));
        assert_eq!(flights.in_flight(), 1, "the old landing leaves the new flight alone");
        assert!(poll(&mut with_new).is_pending());
        flights.detach_all();
        drop(new);
        assert!(matches!(poll(&mut with_new), Poll::Ready(Arrival::Lead(_))));
        assert_eq!(flights.in_flight(), 0);
        drop(with_new);
        assert!(lock(&flights.state).flights.is_empty());
    }
}
