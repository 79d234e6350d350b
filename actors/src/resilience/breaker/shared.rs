//! [`Shared`]: the machine behind its lock, and the lanes beside it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use stanchion_sync::Lanes;

use super::{BreakerOptions, machine::Machine};
use crate::{ids::Timestamp, resilience::lane};

/// Called after each change of state.
type Observer = Box<dyn Fn() + Send + Sync>;

/// What all permits of a breaker share.
///
/// While a closed breaker can not be opened by a success, calls and their successes are counted in lanes, without the
/// lock. Whatever needs a decision closes the lanes first, so that the machine knows of every call before it.
pub(super) struct Shared {
    pub(super) name: Arc<str>,
    machine: Mutex<Machine>,
    lanes: Lanes,
    plain: Plain,
    /// Set at most once.
    pub(super) observer: OnceLock<Observer>,
}

/// What a success has to be to be counted in a lane; written while the lanes are closed.
struct Plain {
    /// In microseconds since the epoch.
    from: AtomicI64,
    until: AtomicI64,
    slow_ms: AtomicU64,
}

/// A way to the breaker for the threads of one lane, with a count of references of its own.
#[repr(align(128))]
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
    lane: usize,
}

impl Shared {
    pub(super) fn new(name: Arc<str>, options: BreakerOptions) -> Self {
        let plain = Plain { from: AtomicI64::new(0), until: AtomicI64::new(0), slow_ms: AtomicU64::new(0) };
        let lanes = Lanes::new(lane::lanes());
        let machine = Mutex::new(Machine::new(options));
        let shared = Self { name, machine, lanes, plain, observer: OnceLock::new() };
        shared.act(|_| ());
        shared
    }

    /// Number of lanes; at least 1.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.count()
    }

    /// Does something to the machine, which knows of everything that was; when that began another state, tells the
    /// observer once the lock is free.
    pub(super) fn act<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.machine();
        if std::mem::take(&mut machine.lanes_are_open) {
            machine.take_in(self.lanes.close());
        }
        let before = machine.epoch;
        let done = act(&mut machine);
        let changed = machine.epoch != before;
        self.open_lanes(&mut machine);
        drop(machine);
        if let (true, Some(observer)) = (changed, self.observer.get()) {
            observer();
        }
        done
    }

    fn open_lanes(&self, machine: &mut Machine) {
        let Some((from, until)) = machine.decides_nothing() else { return };
        self.plain.from.store(from.0, Ordering::Relaxed);
        self.plain.until.store(until.0, Ordering::Relaxed);
        self.plain.slow_ms.store(machine.options.slow_call_duration_threshold_ms, Ordering::Relaxed);
        machine.lanes_are_open = self.lanes.open(machine.epoch);
    }

    /// The machine, which may not know yet of calls in the lanes.
    ///
    /// No foreign code runs under the lock, so what a panic leaves behind is whole.
    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    pub(super) fn new(shared: &Arc<Shared>, lane: usize) -> Self {
        Self { shared: Arc::clone(shared), lane }
    }

    /// Lets a call run if nothing is to be decided; the number of the state.
    pub(super) fn enter(&self) -> Option<u64> {
        self.shared.lanes.enter(self.lane)
    }

    /// Counts a success of a call that entered in this state, if nothing is to be decided; whether it did.
    pub(super) fn succeed(&self, epoch: u64, took: Duration, now: Timestamp) -> bool {
        self.shared.lanes.done(self.lane, epoch, || self.shared.plain.is(took, now))
    }
}

impl Plain {
    fn is(&self, took: Duration, now: Timestamp) -> bool {
        let slow = Duration::from_millis(self.slow_ms.load(Ordering::Relaxed));
        let (from, until) = (self.from.load(Ordering::Relaxed), self.until.load(Ordering::Relaxed));
        took <= slow && (from..until).contains(&now.0)
    }
}
