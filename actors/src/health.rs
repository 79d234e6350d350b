//! How each service is and what it has counted: one shape for all, read without asking the service.
//!
//! A service writes down how it is; whoever wants to know reads that. So the answer is as quick as a look, however
//! busy the service is.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{clock::Clock, ids::Timestamp};

/// How a service is, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Status {
    /// It does what it is there for.
    Up,
    /// It ends what it has begun and takes nothing new from outside.
    Draining,
    /// It runs, and something that it is there for does not succeed at present.
    Degraded,
    /// It does not run; its supervisor starts it anew, or has stopped it.
    Down,
}

/// How a service is, since when, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How it is.
    pub status: Status,
    /// Since when it has this status; never earlier than the one before.
    pub since: Timestamp,
    /// Why it is not up.
    pub cause: Option<String>,
}

impl Health {
    /// The health that follows: `since` moves only with the status, and never back.
    #[must_use]
    pub fn then(self, status: Status, cause: Option<String>, now: Timestamp) -> Self {
        let since = if status == self.status { self.since } else { self.since.max(now) };
        Self { status, since, cause }
    }
}

/// Counters of a service by name, from the opening of the system on, through all lives of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Name to count.
    pub counters: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// The count of this name; 0 for one that is not counted.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }
}

/// One counter of a service. Clones are the same counter.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Sets a number that goes up and down, such as how many run.
    pub fn set(&self, count: usize) {
        self.0.store(count as u64, Ordering::Relaxed);
    }
}

/// What is written down of all services of a system.
pub struct Vitals {
    clock: Arc<dyn Clock>,
    services: Mutex<BTreeMap<String, Arc<Service>>>,
    draining: Mutex<Option<Timestamp>>,
}

#[derive(Debug)]
struct Service {
    told: Mutex<Told>,
    counters: Mutex<BTreeMap<&'static str, Counter>>,
}

#[derive(Debug)]
struct Told {
    /// Which life of the service wrote last.
    life: u64,
    health: Health,
}

impl std::fmt::Debug for Vitals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vitals").field("services", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Vitals {
    /// Nothing is written down yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, services: Mutex::default(), draining: Mutex::default() }
    }

    /// A life of a service begins: down until it says otherwise, and down again when what is given here is dropped.
    #[must_use]
    pub fn begin(&self, name: &str) -> Vital {
        let now = self.clock.now();
        let fresh = || {
            let health = Health { status: Status::Down, since: now, cause: Some("it starts".to_owned()) };
            let told = Mutex::new(Told { life: 0, health });
            Arc::new(Service { told, counters: Mutex::default() })
        };
        let service = Arc::clone(self.lock().entry(name.to_owned()).or_insert_with(fresh));
        let life = {
            let mut told = service.lock();
            told.life += 1;
            told.life
        };
        Vital { service, life, clock: Arc::clone(&self.clock) }
    }

    /// New commands are refused from here on.
    pub fn drain(&self) {
        let now = self.clock.now();
        self.draining.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
    }

    /// Somebody else sees that a service which says it is up is not well.
    pub fn doubt(&self, name: &str, why: &str) {
        let Some(service) = self.lock().get(name).cloned() else { return };
        let mut told = service.lock();
        if told.health.status == Status::Up {
            told.tell(Status::Degraded, Some(why.to_owned()), self.clock.now());
        }
    }

    /// How each service is, by name. What is up while the system drains, drains.
    #[must_use]
    pub fn health(&self) -> Vec<(String, Health)> {
        let draining = *self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |service: &Service| {
            let health = service.lock().health.clone();
            match draining {
                Some(since) if health.status == Status::Up => health.then(Status::Draining, None, since),
                _ => health,
            }
        };
        self.lock().iter().map(|(name, service)| (name.clone(), of(service))).collect()
    }

    /// What each service has counted, by name.
    #[must_use]
    pub fn stats(&self) -> Vec<(String, Stats)> {
        let of = |service: &Service| {
            let counters = service.counters.lock().unwrap_or_else(PoisonError::into_inner);
            let counters = counters.iter().map(|(name, count)| (*name, count.0.load(Ordering::Relaxed)));
            Stats { counters: counters.collect() }
        };
        self.lock().iter().map(|(name, service)| (name.clone(), of(service))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Service>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn tell(&mut self, status: Status, cause: Option<String>, now: Timestamp) {
        self.health = self.health.clone().then(status, cause, now);
    }
}

/// One life of a service writes down how it is. A life that has a successor writes nothing any more.
pub struct Vital {
    service: Arc<Service>,
    life: u64,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Vital {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vital").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Vital {
    /// It does what it is there for.
    pub fn up(&self) {
        self.tell(Status::Up, None);
    }

    /// It runs, and something does not succeed.
    pub fn degraded(&self, why: impl Into<String>) {
        self.tell(Status::Degraded, Some(why.into()));
    }

    /// Up when nothing is wrong, else degraded because of it.
    pub fn tell_wrong(&self, wrong: Option<String>) {
        match wrong {
            None => self.up(),
            Some(why) => self.degraded(why),
        }
    }

    /// The service's counter of this name, made if needed.
    #[must_use]
    pub fn counter(&self, name: &'static str) -> Counter {
        self.service.counters.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().clone()
    }

    fn tell(&self, status: Status, cause: Option<String>) {
        let mut told = self.service.lock();
        if told.life == self.life {
            told.tell(status, cause, self.clock.now());
        }
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        let mut told = self.service.lock();
        if told.life == self.life {
            let before = told.health.cause.take();
            let cause =
                before.map_or_else(|| "it has ended".to_owned(), |why| format!("it has ended: {why}"));
            told.tell(Status::Down, Some(cause), self.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn vitals() -> (Arc<ManualClock>, Vitals) {
        let clock = Arc::new(ManualClock::at(Timestamp(1_000)));
        (Arc::clone(&clock), Vitals::new(clock))
    }

    fn only(vitals: &Vitals) -> Health {
        vitals.health().remove(0).1
    }

    #[test]
    fn since_moves_with_the_status_alone_and_never_back() {
        let first = Health { status: Status::Up, since: Timestamp(5), cause: None };
        let same = first.clone().then(Status::Up, None, Timestamp(9));
        assert_eq!(same, first);
        let worse = same.then(Status::Degraded, Some("a".into()), Timestamp(7));
        assert_eq!((worse.status, worse.since), (Status::Degraded, Timestamp(7)));
        let why = worse.then(Status::Degraded, Some("b".into()), Timestamp(8));
        assert_eq!((why.since, why.cause.as_deref()), (Timestamp(7), Some("b")));
        assert_eq!(why.then(Status::Up, None, Timestamp(3)).since, Timestamp(7), "the clock went back");
    }

    #[test]
    fn a_life_that_has_a_successor_says_nothing_any_more() {
        let (_, vitals) = vitals();
        let first = vitals.begin("timers");
        assert_eq!(only(&vitals).status, Status::Down, "it starts");
        first.up();
        first.counter("fired").add(2);
        let second = vitals.begin("timers");
        second.degraded("why");
        first.up();
        drop(first);
        assert_eq!(only(&vitals).status, Status::Degraded);
        second.counter("fired").add(1);
        assert_eq!(vitals.stats().remove(0).1.count("fired"), 3, "counted through all lives");
        drop(second);
        let ended = only(&vitals);
        assert_eq!((ended.status, ended.cause.as_deref()), (Status::Down, Some("it has ended: why")));
    }

    #[test]
    fn what_is_up_drains_with_the_system_and_what_is_not_says_so() {
        let (clock, vitals) = vitals();
        let (up, ill) = (vitals.begin("a"), vitals.begin("b"));
        up.up();
        ill.degraded("why");
        clock.advance(std::time::Duration::from_secs(1));
        vitals.drain();
        let status: Vec<_> = vitals.health().into_iter().map(|(_, health)| health.status).collect();
        assert_eq!(status, [Status::Draining, Status::Degraded]);
        vitals.doubt("a", "the store is poisoned");
        assert_eq!(only(&vitals).cause.as_deref(), Some("the store is poisoned"));
    }
}
