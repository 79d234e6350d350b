//! [`Breaker`] and [`BreakerPermit`]: the machine behind its lock.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    BreakerOpen, BreakerOptions, BreakerOptionsError, BreakerSnapshot, BreakerState, BreakerStats, Cause,
    Outcome, Transition,
    machine::{Refused, Report, State, Ticket},
    shared::{Door, Shared},
};
use crate::{ids::Timestamp, resilience::lane::lane_of_thread};

/// A circuit breaker; clones are the same one.
///
/// Calls that succeed while it is closed are counted for each core apart. Whatever needs a decision holds the
/// breaker's own lock for well under a microsecond and never while a call runs. Time comes as an argument; a clock that
/// is set back makes no wait longer.
#[derive(Clone)]
pub struct Breaker(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    first: Arc<Door>,
    others: Box<[Arc<Door>]>,
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("name", self.name()).field("state", &self.state()).finish()
    }
}

impl Breaker {
    /// Makes a closed breaker.
    ///
    /// # Errors
    /// [`BreakerOptionsError`] names the field that is outside its range.
    pub fn new(name: impl Into<Arc<str>>, options: BreakerOptions) -> Result<Self, BreakerOptionsError> {
        options.validate()?;
        let shared = Arc::new(Shared::new(name.into(), options));
        let first = Arc::new(Door::new(&shared, 0));
        let others = (1..shared.lanes()).map(|lane| Arc::new(Door::new(&shared, lane))).collect();
        Ok(Self(Arc::new(Handle { shared, first, others })))
    }

    /// Name it was made with.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.0.shared.name
    }

    /// Lets a call run. The first call after the wait makes an open breaker half-open.
    ///
    /// # Errors
    /// [`BreakerOpen`]: do not run it; ask again after `retry_after`, or later when there is none.
    pub fn acquire(&self, now: Timestamp) -> Result<BreakerPermit, BreakerOpen> {
        let door = self.0.door();
        let admitted = match door.enter() {
            Some(epoch) => Ok(Ticket { epoch, probe: None }),
            None => self.0.shared.act(|machine| machine.admit(now)),
        };
        match admitted {
            Ok(ticket) => Ok(BreakerPermit { door: Arc::clone(door), began: now, ticket: Some(ticket) }),
            Err(Refused { state, until }) => {
                let retry_after = until.map(|until| until.since(now));
                Err(BreakerOpen { breaker: Arc::clone(self.name()), state, until, retry_after })
            }
        }
    }

    /// State at this moment. Reading it changes nothing: an open breaker whose wait is over reads open until a
    /// call comes.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.0.shared.machine().state.shown()
    }

    /// Counts, and the window as it is at this time.
    #[must_use]
    pub fn stats(&self, now: Timestamp) -> BreakerStats {
        self.0.shared.act(|machine| machine.stats(now))
    }

    /// The last changes of state, oldest first; at most `transition_log_size`.
    #[must_use]
    pub fn transitions(&self) -> Vec<Transition> {
        self.0.shared.machine().transitions()
    }

    /// Options in force.
    #[must_use]
    pub fn options(&self) -> BreakerOptions {
        self.0.shared.machine().options.clone()
    }

    /// Takes other options and keeps the state. A window of the same type keeps what still fits, one of the other
    /// type begins empty; a wait and a round of probes end as they began.
    ///
    /// # Errors
    /// [`BreakerOptionsError`]: nothing changed.
    pub fn reconfigure(&self, options: BreakerOptions) -> Result<(), BreakerOptionsError> {
        options.validate()?;
        self.0.shared.act(|machine| machine.reconfigure(options));
        Ok(())
    }

    /// Opens for one wait, as too many failures would.
    pub fn open(&self, now: Timestamp) {
        self.0.shared.act(|machine| machine.open(Cause::Opened, 0, now));
    }

    /// Refuses every call until [`Breaker::reset`].
    pub fn force_open(&self, now: Timestamp) {
        self.0.shared.act(|machine| machine.go(State::ForcedOpen, Cause::ForcedOpen, now));
    }

    /// Lets every call run and judges nothing until [`Breaker::reset`].
    pub fn disable(&self, now: Timestamp) {
        self.0.shared.act(|machine| machine.go(State::Disabled, Cause::Disabled, now));
    }

    /// Closes, with an empty window; outcomes of calls that run are not judged.
    pub fn reset(&self, now: Timestamp) {
        self.0.shared.act(|machine| machine.close(Cause::Reset, now));
    }

    /// Counts from zero; calls that run stay counted. The state is as before.
    pub fn clear_counts(&self) {
        self.0.shared.act(|machine| machine.clear_counts());
    }

    /// Has `observer` called after each change of state from here on, whoever made it, without the breaker's lock:
    /// in the way of the call that changed it, so it has to be quick. The first observer stays; answers whether
    /// this is it.
    pub fn observe(&self, observer: impl Fn() + Send + Sync + 'static) -> bool {
        self.0.shared.observer.set(Box::new(observer)).is_ok()
    }

    /// Differs when the state, or else a count, does.
    pub(crate) fn mark(&self) -> (u64, u64) {
        self.0.shared.act(|machine| machine.mark())
    }

    /// What outlives the process.
    #[must_use]
    pub fn snapshot(&self, now: Timestamp) -> BreakerSnapshot {
        self.0.shared.act(|machine| machine.snapshot(now))
    }

    /// Takes the state of an earlier life: one that died while open stays so until its original time.
    pub fn restore(&self, snapshot: &BreakerSnapshot, now: Timestamp) {
        self.0.shared.act(|machine| machine.restore(snapshot, now));
    }
}

impl Handle {
    /// The way in for this thread.
    fn door(&self) -> &Arc<Door> {
        let lane = lane_of_thread() % self.shared.lanes();
        lane.checked_sub(1).and_then(|at| self.others.get(at)).unwrap_or(&self.first)
    }
}

/// Leave to run one call. Dropped without an outcome it counts as ignored, and a probe's place is free again.
#[must_use = "dropping the permit counts the call as ignored"]
pub struct BreakerPermit {
    door: Arc<Door>,
    began: Timestamp,
    /// Taken when the outcome is told.
    ticket: Option<Ticket>,
}

impl fmt::Debug for BreakerPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerPermit").field("breaker", &self.door.shared.name).finish_non_exhaustive()
    }
}

impl BreakerPermit {
    /// Number of the state that gave the permit; see [`Transition::epoch`].
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.ticket.as_ref().map_or(0, |ticket| ticket.epoch)
    }

    /// Whether the call is a counted probe of a half-open breaker.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.ticket.as_ref().is_some_and(|ticket| ticket.probe.is_some())
    }

    /// Tells what the call came to; it took the time since the permit was given, and a wait that follows is not
    /// shortened by chance.
    pub fn finish(self, outcome: Outcome, now: Timestamp) {
        let took = now.since(self.began);
        self.finish_with(outcome, took, 0, now);
    }

    /// Tells what the call came to and how long it took. `draw` is uniform over all of u64 and shortens a wait
    /// that follows by `wait_jitter`.
    pub fn finish_with(mut self, outcome: Outcome, took: Duration, draw: u64, now: Timestamp) {
        if let Some(ticket) = self.ticket.take() {
            let is_plain = outcome == Outcome::Success && ticket.probe.is_none();
            if !(is_plain && self.door.succeed(ticket.epoch, took, now)) {
                let report = Report { outcome, took, draw, now };
                self.door.shared.act(|machine| machine.record(ticket, report));
            }
        }
    }
}

impl Drop for BreakerPermit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.door.shared.machine().ignore(ticket);
        }
    }
}
