//! Searches: through an index wherever one applies.

use super::{
    Affinity, Criteria, Discovery, FindError, GoneReason, HealthLevel, IndexedBy, LeaseState, Registration,
    Seen, index::keys_of_criteria, slots::Entry,
};
use crate::{
    balance::{Candidate, InstanceId, Readiness},
    ids::Timestamp,
};

/// An instance that was found, with the freshness of what is known of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Found<'a> {
    /// What it said of itself.
    pub registration: &'a Registration,
    /// Whether it lives, by its lease.
    pub state: LeaseState,
    /// How fresh that is, and through whom.
    pub seen: Seen,
}

impl Found<'_> {
    /// The instance as a balancer takes it.
    #[must_use]
    pub fn candidate(&self) -> Candidate {
        let readiness = match (self.state, self.registration.health) {
            (LeaseState::Suspect | LeaseState::Gone, _) => Readiness::Suspect,
            (LeaseState::Live, HealthLevel::Unhealthy) => Readiness::Unhealthy,
            (LeaseState::Live, _) if self.registration.draining => Readiness::Draining,
            (LeaseState::Live, HealthLevel::Degraded | HealthLevel::Healthy) => Readiness::Ready,
        };
        let (id, weight) = (self.registration.id.clone(), self.registration.weight);
        Candidate { id, weight, readiness, in_flight_max: None }
    }
}

/// How a search goes about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// The index it goes through; `None`: it looks at all instances one by one.
    pub index: Option<IndexedBy>,
    /// How many instances it looks at.
    pub looked_at: usize,
    /// Every index that applies, with the number of instances under it.
    pub considered: Vec<(IndexedBy, usize)>,
}

impl Discovery {
    /// Every instance that is as the criteria say and not gone; those of the preferred node first, else in no
    /// particular order.
    ///
    /// # Errors
    /// [`FindError::NoIndex`] when the criteria require an index and none applies.
    pub fn find(&self, criteria: &Criteria, now: Timestamp) -> Result<Vec<Found<'_>>, FindError> {
        let answers_max = criteria.answers_max.unwrap_or(usize::MAX);
        let found = |entry| found(entry, criteria, now);
        // A preference sees all of them before it takes the first.
        let prefers = matches!(criteria.affinity, Some(Affinity::PreferNode(_)));
        let taken = if prefers { usize::MAX } else { answers_max };
        let mut answers: Vec<Found<'_>> = match self.index.best(criteria) {
            Some(key) => {
                let places = self.index.places(&key).into_iter().flatten();
                places.filter_map(|slot| found(self.slots.get(*slot)?)).take(taken).collect()
            }
            None if criteria.require_index => return Err(FindError::NoIndex { scanned: self.slots.len() }),
            None => self.slots.iter().filter_map(found).take(taken).collect(),
        };
        answers.sort_by_key(|found| !criteria.prefers(&found.registration.node));
        answers.truncate(answers_max);
        Ok(answers)
    }

    /// One instance, unless it is gone.
    #[must_use]
    pub fn instance(&self, id: &InstanceId, now: Timestamp) -> Option<Found<'_>> {
        let entry = self.slots.get(*self.by_id.get(id)?)?;
        found(entry, &Criteria::default(), now)
    }

    /// How [`Self::find`] would go about it.
    #[must_use]
    pub fn explain(&self, criteria: &Criteria) -> Plan {
        let index = self.index.best(criteria);
        let looked_at = index.as_ref().map_or(self.slots.len(), |key| self.index.count(key));
        let considered = keys_of_criteria(criteria).map(|key| {
            let count = self.index.count(&key);
            (key, count)
        });
        Plan { index, looked_at, considered: considered.collect() }
    }
}

fn found<'a>(entry: &'a Entry, criteria: &Criteria, now: Timestamp) -> Option<Found<'a>> {
    let state = entry.state(now);
    if state == LeaseState::Gone {
        let is_recent = criteria.gone_since_max.is_some_and(|age| now.since(entry.beat_at) <= age);
        let took_leave = entry.ended == Some(GoneReason::Deregistered);
        if !is_recent || took_leave {
            return None;
        }
    }
    let registration = &entry.registration;
    criteria.matches(registration).then(|| Found { registration, state, seen: entry.seen(now) })
}
