//! Searches: through an index wherever one applies.

use super::{
    Affinity, Criteria, Discovery, FindError, GoneReason, HealthLevel, IndexedBy, LeaseState, Registration,
    Seen,
    index::keys_of_criteria,
    slots::{Slot, Slots},
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
        let found = |slot| self.slots.found(slot, criteria, now);
        // A preference sees all of them before it takes the first.
        let prefers = matches!(criteria.affinity, Some(Affinity::PreferNode(_)));
        let taken = if prefers { usize::MAX } else { answers_max };
        let mut answers: Vec<Found<'_>> = match self.index.best(criteria) {
            Some(key) => {
                let places = self.index.places(&key).into_iter().flatten();
                places.filter_map(|slot| found(*slot)).take(taken).collect()
            }
            None if criteria.require_index => return Err(FindError::NoIndex { scanned: self.slots.len() }),
            None => self.slots.places().filter_map(found).take(taken).collect(),
        };
        if prefers {
            answers.sort_by_key(|found| !criteria.prefers(&found.registration.node));
        }
        answers.truncate(answers_max);
        Ok(answers)
    }

    /// One instance, unless it is gone.
    #[must_use]
    pub fn instance(&self, id: &InstanceId, now: Timestamp) -> Option<Found<'_>> {
        self.slots.found(*self.by_id.get(id)?, &Criteria::default(), now)
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

impl Slots {
    /// The instance, if it is what is looked for. What most criteria look at lies side by side: the instance itself is
    /// touched only for what it can do, what it is and how it is labelled.
    fn found(&self, slot: Slot, criteria: &Criteria, now: Timestamp) -> Option<Found<'_>> {
        let brief = self.brief(slot)?;
        let state = brief.state(now);
        if state == LeaseState::Gone {
            let is_recent = criteria.gone_since_max.is_some_and(|age| now.since(brief.beat_at) <= age);
            if !is_recent || brief.ended == Some(GoneReason::Deregistered) {
                return None;
            }
        }
        if criteria.health_min.is_some_and(|least| brief.health < least) || !self.has_free(slot, criteria) {
            return None;
        }
        let registration = &self.get(slot)?.registration;
        criteria.matches_rest(registration).then(|| Found { registration, state, seen: brief.seen(now) })
    }
}
