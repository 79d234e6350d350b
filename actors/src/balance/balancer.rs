//! [`Balancer`]: chooses by its strategy, learns from what became of the work.

use std::time::Duration;

use super::{
    BalanceOptions, BalanceOptionsError, Candidate, ChooseError, InstanceId, LoadStats, NoSuitableInstance,
    Outcome, Request, Strategy,
    hash::winner,
    load::Loads,
    sticky::Assignments,
    turns::{Turns, WeightedTurns},
};
use crate::ids::Timestamp;

/// Chooses one of several instances for each piece of work.
///
/// Tell it of each piece: [`started`](Self::started) when it is sent, [`finished`](Self::finished) when it has an
/// outcome; and of each instance that is gone: [`forget`](Self::forget). A choice costs O(candidates).
#[derive(Clone, Debug)]
pub struct Balancer {
    chooser: Chooser,
    loads: Loads,
}

/// A strategy with what it remembers.
#[derive(Clone, Debug)]
enum Chooser {
    RoundRobin(Turns),
    Weighted(WeightedTurns),
    LeastRequest(Turns),
    PowerOfTwoChoices,
    ConsistentHash,
    Sticky(Assignments),
}

impl Balancer {
    /// A balancer with the default options.
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        Self::made(strategy, &BalanceOptions::default())
    }

    /// A balancer that knows nothing yet.
    ///
    /// # Errors
    /// [`BalanceOptionsError`] when an option is outside its range.
    pub fn with_options(strategy: Strategy, options: &BalanceOptions) -> Result<Self, BalanceOptionsError> {
        options.validate()?;
        Ok(Self::made(strategy, options))
    }

    fn made(strategy: Strategy, options: &BalanceOptions) -> Self {
        let chooser = match strategy {
            Strategy::RoundRobin => Chooser::RoundRobin(Turns::default()),
            Strategy::Weighted => Chooser::Weighted(WeightedTurns::default()),
            Strategy::LeastRequest => Chooser::LeastRequest(Turns::default()),
            Strategy::PowerOfTwoChoices => Chooser::PowerOfTwoChoices,
            Strategy::ConsistentHash => Chooser::ConsistentHash,
            Strategy::Sticky => Chooser::Sticky(Assignments::new(options.sticky_keys_max)),
        };
        Self { chooser, loads: Loads::new(options) }
    }

    /// How it chooses.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        match self.chooser {
            Chooser::RoundRobin(_) => Strategy::RoundRobin,
            Chooser::Weighted(_) => Strategy::Weighted,
            Chooser::LeastRequest(_) => Strategy::LeastRequest,
            Chooser::PowerOfTwoChoices => Strategy::PowerOfTwoChoices,
            Chooser::ConsistentHash => Strategy::ConsistentHash,
            Chooser::Sticky(_) => Strategy::Sticky,
        }
    }

    /// Chooses among those that take work. `random` is one draw of 64 uniform bits; only
    /// [`Strategy::PowerOfTwoChoices`] and the first choice of [`Strategy::Sticky`] look at it.
    ///
    /// # Errors
    /// [`ChooseError::NoSuitableInstance`] when nobody takes work: ask again later.
    /// [`ChooseError::KeyMissing`] when the strategy goes by a key: give the request one.
    pub fn choose(
        &mut self,
        candidates: &[Candidate],
        request: Request<'_>,
        now: Timestamp,
        random: u64,
    ) -> Result<InstanceId, ChooseError> {
        let key = self.key(request)?;
        let suitable = self.suitable(candidates);
        let loads = &self.loads;
        let chosen = match &mut self.chooser {
            Chooser::RoundRobin(turns) => turns.next(&suitable),
            Chooser::Weighted(turns) => turns.next(&suitable),
            Chooser::LeastRequest(turns) => turns.next(&least_loaded(&suitable, loads)),
            Chooser::PowerOfTwoChoices => cheaper_of_two(&suitable, loads, now, random),
            Chooser::ConsistentHash => winner(&suitable, key),
            Chooser::Sticky(assignments) => {
                stick(assignments, key, &suitable, || cheaper_of_two(&suitable, loads, now, random))
            }
        };
        match chosen {
            Some(candidate) => Ok(candidate.id.clone()),
            None => Err(self.nobody(candidates).into()),
        }
    }

    /// A piece of work was sent to the instance.
    pub fn started(&mut self, id: &InstanceId, now: Timestamp) {
        self.loads.started(id, now);
    }

    /// A piece of work that had started there has its outcome; `latency` since its start.
    pub fn finished(&mut self, id: &InstanceId, latency: Duration, outcome: Outcome, now: Timestamp) {
        self.loads.finished(id, latency, outcome, now);
    }

    /// The instance is gone: its load, its turn and its keys are forgotten. Answers how many pieces of work it had,
    /// which nobody will finish.
    pub fn forget(&mut self, id: &InstanceId) -> u32 {
        match &mut self.chooser {
            Chooser::Weighted(turns) => turns.forget(id),
            Chooser::Sticky(assignments) => assignments.forget(id),
            Chooser::RoundRobin(_)
            | Chooser::LeastRequest(_)
            | Chooser::PowerOfTwoChoices
            | Chooser::ConsistentHash => {}
        }
        self.loads.forget(id)
    }

    /// What is known of an instance; `None` when it never had work.
    #[must_use]
    pub fn stats(&self, id: &InstanceId, now: Timestamp) -> Option<LoadStats> {
        self.loads.stats(id, now)
    }

    /// The key to go by; empty for strategies that need none.
    fn key<'a>(&self, request: Request<'a>) -> Result<&'a str, ChooseError> {
        match (&self.chooser, request.key) {
            (Chooser::ConsistentHash | Chooser::Sticky(_), None) => {
                Err(ChooseError::KeyMissing { strategy: self.strategy().name() })
            }
            (_, key) => Ok(key.unwrap_or_default()),
        }
    }

    fn suitable<'a>(&self, candidates: &'a [Candidate]) -> Vec<&'a Candidate> {
        let fits =
            |candidate: &&Candidate| candidate.unsuitable(self.loads.in_flight(&candidate.id)).is_none();
        candidates.iter().filter(fits).collect()
    }

    fn nobody(&self, candidates: &[Candidate]) -> NoSuitableInstance {
        let why = candidates.iter().filter_map(|candidate| {
            let reason = candidate.unsuitable(self.loads.in_flight(&candidate.id))?;
            Some((candidate.id.clone(), reason))
        });
        NoSuitableInstance { why: why.collect() }
    }
}

/// Those that nobody is less loaded than.
fn least_loaded<'a>(candidates: &[&'a Candidate], loads: &Loads) -> Vec<&'a Candidate> {
    let load = |candidate: &&Candidate| loads.in_flight_share(candidate);
    let least = candidates.iter().map(load).fold(f64::INFINITY, f64::min);
    candidates.iter().filter(|candidate| load(candidate) <= least).copied().collect()
}

/// The cheaper of two different ones; the one, if there is one only.
///
/// # Source
/// Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001).
fn cheaper_of_two<'a>(
    candidates: &[&'a Candidate],
    loads: &Loads,
    now: Timestamp,
    random: u64,
) -> Option<&'a Candidate> {
    let count = candidates.len();
    let one = below(count, random >> 32);
    // Drawn from one fewer, then moved past the first: two different ones, all pairs alike.
    let other = below(count.saturating_sub(1), random & u64::from(u32::MAX));
    let other = if other >= one { other + 1 } else { other };
    let one = *candidates.get(one)?;
    let Some(other) = candidates.get(other) else { return Some(one) };
    let is_cheaper = loads.cost(other, now) < loads.cost(one, now);
    Some(if is_cheaper { *other } else { one })
}

/// A number below `count` from 32 uniform bits; 0 for 0.
fn below(count: usize, bits: u64) -> usize {
    ((u128::from(bits) * count as u128) >> 32) as usize
}

fn stick<'a>(
    assignments: &mut Assignments,
    key: &str,
    candidates: &[&'a Candidate],
    first: impl FnOnce() -> Option<&'a Candidate>,
) -> Option<&'a Candidate> {
    let kept = assignments.use_of(key);
    let kept = kept.and_then(|id| candidates.iter().find(|candidate| candidate.id == id).copied());
    if kept.is_some() {
        return kept;
    }
    let chosen = first()?;
    assignments.assign(key, &chosen.id);
    Some(chosen)
}
