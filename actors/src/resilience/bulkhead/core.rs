//! [`Bulkhead`]: the places of one dependency.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use stanchion_sync::{Pass, StripedCounter, Turnstile, TurnstileRefusal};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{BulkheadError, BulkheadOptions, window::Window};
use crate::resilience::{
    OptionsError,
    lane::{lane_of_thread, lanes},
};

/// Longest window of [`Bulkhead::back_off`]: a day.
const MAX_BACK_OFF: Duration = Duration::from_secs(86_400);

/// Lets in so many calls to one dependency at once. A clone is the same bulkhead.
#[derive(Clone, Debug)]
pub struct Bulkhead(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: Arc<str>,
    turnstile: Arc<Turnstile>,
    options: Mutex<BulkheadOptions>,
    window: Window,
    admitted: StripedCounter,
    rejected: AtomicU64,
    timed_out: AtomicU64,
}

/// How a bulkhead is at one moment, and what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkheadStatus {
    /// Its name.
    pub bulkhead: Arc<str>,
    /// The options in force.
    pub options: BulkheadOptions,
    /// Calls inside. More than `max_concurrent` only after that was lowered.
    pub in_use: u64,
    /// Their weight.
    pub weight_in_use: u64,
    /// Calls that wait.
    pub waiting: usize,
    /// Calls let in so far.
    pub admitted: u64,
    /// Calls refused so far, those that waited in vain among them.
    pub rejected: u64,
    /// Calls that waited in vain so far.
    pub timed_out: u64,
    /// For how long nobody is let in.
    pub backing_off: Option<Duration>,
}

impl Bulkhead {
    /// Makes an empty bulkhead.
    ///
    /// # Errors
    /// [`OptionsError`] when an option is outside its range.
    pub fn new(name: impl Into<Arc<str>>, options: BulkheadOptions) -> Result<Self, OptionsError> {
        options.validate()?;
        Ok(Self(Arc::new(Shared {
            name: name.into(),
            turnstile: Turnstile::with_lanes(options.limits(), lanes()),
            options: Mutex::new(options),
            window: Window::new(),
            admitted: StripedCounter::new(lanes()),
            rejected: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
        })))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Lets a call of `weight` in at once, without overtaking those who wait. A weight of `0` needs a place only.
    ///
    /// # Errors
    /// [`BulkheadError::Full`], [`BulkheadError::TooHeavy`], [`BulkheadError::BackingOff`]: do not run the call.
    pub fn try_acquire(&self, weight: u64) -> Result<BulkheadPermit, BulkheadError> {
        let lane = lane_of_thread();
        let entered = self.0.window.check_now(self.name()).and_then(|()| self.enter(lane, weight));
        self.count(lane, entered)
    }

    /// Lets a call of `weight` in when its turn has come: by `deadline`, and within `max_wait_ms`. In the window of
    /// [`Bulkhead::back_off`] it waits with its place taken, if the window ends in time.
    ///
    /// # Errors
    /// [`BulkheadError`]: do not run the call.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue; a place already given goes to the next.
    pub async fn acquire(
        &self,
        weight: u64,
        deadline: Option<Instant>,
    ) -> Result<BulkheadPermit, BulkheadError> {
        let lane = lane_of_thread();
        if self.0.window.check_now(self.name()).is_ok()
            && let Ok(pass) = self.0.turnstile.try_enter_by(lane, weight)
        {
            return self.count(lane, Ok(pass));
        }
        let entered = self.wait(lane, weight, deadline).await;
        self.count(lane, entered)
    }

    async fn wait(&self, lane: usize, weight: u64, deadline: Option<Instant>) -> Result<Pass, BulkheadError> {
        let begun = Instant::now();
        let longest = begun + self.options().max_wait();
        let until = deadline.map_or(longest, |deadline| deadline.min(longest));
        let (window, name) = (&self.0.window, self.name());
        window.check(begun, until, name)?;
        if until <= begun {
            return self.enter(lane, weight);
        }
        let pass = match timeout_at(until, self.0.turnstile.enter_by(lane, weight)).await {
            Ok(entered) => entered.map_err(|refusal| self.refused(refusal, weight))?,
            Err(_) => return Err(self.late(begun)),
        };
        while let Some(open) = window.check(Instant::now(), until, name)? {
            sleep_until(open).await;
        }
        Ok(pass)
    }

    /// Lets nobody in for `wait`, at most a day: the dependency asked for it, by `Retry-After` say. A window that
    /// ends later stays. Calls inside go on.
    pub fn back_off(&self, wait: Duration) {
        self.0.window.begin(wait.min(MAX_BACK_OFF));
    }

    /// Ends the window of [`Bulkhead::back_off`] for calls to come; who waits in it waits to the end.
    pub fn end_back_off(&self) {
        self.0.window.end();
    }

    /// Puts other options in force. Fewer places take none from calls inside: nobody new is let in until enough
    /// have left. A waiting call that is heavier than the new limit is refused, every other one keeps its turn.
    ///
    /// # Errors
    /// [`OptionsError`]: nothing changed.
    pub fn reconfigure(&self, options: BulkheadOptions) -> Result<(), OptionsError> {
        options.validate()?;
        let mut present = self.options();
        self.0.turnstile.resize(options.limits());
        *present = options;
        Ok(())
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> BulkheadStatus {
        let options = self.options().clone();
        let load = self.0.turnstile.load();
        BulkheadStatus {
            bulkhead: Arc::clone(&self.0.name),
            options,
            in_use: load.inside,
            weight_in_use: load.weight,
            waiting: load.waiting,
            admitted: self.0.admitted.sum(),
            rejected: self.0.rejected.load(Ordering::Relaxed),
            timed_out: self.0.timed_out.load(Ordering::Relaxed),
            backing_off: self.0.window.left(),
        }
    }

    /// Enters without waiting.
    fn enter(&self, lane: usize, weight: u64) -> Result<Pass, BulkheadError> {
        self.0.turnstile.try_enter_by(lane, weight).map_err(|refusal| self.refused(refusal, weight))
    }

    fn refused(&self, refusal: TurnstileRefusal, weight: u64) -> BulkheadError {
        let bulkhead = Arc::clone(&self.0.name);
        match refusal {
            TurnstileRefusal::Full | TurnstileRefusal::Crowded => {
                let load = self.0.turnstile.load();
                let (in_use, weight_in_use, waiting) = (load.inside, load.weight, load.waiting);
                BulkheadError::Full { bulkhead, in_use, weight_in_use, waiting }
            }
            TurnstileRefusal::TooHeavy => {
                BulkheadError::TooHeavy { bulkhead, weight, max_weight: self.0.turnstile.limits().weight }
            }
        }
    }

    fn late(&self, begun: Instant) -> BulkheadError {
        BulkheadError::TimedOut { bulkhead: Arc::clone(&self.0.name), waited: begun.elapsed() }
    }

    fn count(
        &self,
        lane: usize,
        entered: Result<Pass, BulkheadError>,
    ) -> Result<BulkheadPermit, BulkheadError> {
        match entered {
            Ok(pass) => {
                self.0.admitted.add(lane, 1);
                Ok(BulkheadPermit { pass })
            }
            Err(error) => {
                self.0.rejected.fetch_add(1, Ordering::Relaxed);
                if let BulkheadError::TimedOut { .. } = error {
                    self.0.timed_out.fetch_add(1, Ordering::Relaxed);
                }
                let name = Arc::clone(&self.0.name);
                metrics::counter!("stanchion_bulkhead_rejected_total", "bulkhead" => name, "reason" => error.reason())
                    .increment(1);
                Err(error)
            }
        }
    }

    fn options(&self) -> MutexGuard<'_, BulkheadOptions> {
        // Nothing in here panics half-way.
        self.0.options.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call inside; leaves when dropped, whatever ended its holder. It cannot leave twice.
///
/// ```compile_fail,E0382
/// # use stanchion_actors::resilience::bulkhead::BulkheadPermit;
/// fn leave_twice(permit: BulkheadPermit) {
///     drop(permit);
///     drop(permit);
/// }
/// ```
#[derive(Debug)]
#[must_use = "dropping the permit gives its place back at once"]
pub struct BulkheadPermit {
    pass: Pass,
}

impl BulkheadPermit {
    /// What the call weighs.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.pass.weight()
    }
}
