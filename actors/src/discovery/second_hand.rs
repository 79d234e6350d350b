//! What nodes tell each other of their instances.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Discovery, DiscoveryEvent, GoneReason, LearnError, LeaseTerms, NodeId, RegisterError, Registration,
    slots::{Entry, Slot},
};
use crate::{balance::InstanceId, ids::Timestamp};

/// Which word of a node it is: later lives and later words count more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// Which life of the node.
    pub incarnation: u64,
    /// Which word in that life.
    pub revision: u64,
}

/// What a node says of one instance, at first hand or passed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Node of the instance.
    pub node: NodeId,
    /// Which word of that node.
    pub stamp: Stamp,
    /// How long ago its last heartbeat was when this was sent; the time on the way is not in it.
    pub age: Duration,
    /// What is said.
    pub body: ReportBody,
}

/// What is said of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReportBody {
    /// All of it.
    Registered {
        /// The instance.
        registration: Box<Registration>,
        /// Its lease.
        terms: LeaseTerms,
    },
    /// It lives, and is as it was said to be.
    Beat {
        /// The instance.
        id: InstanceId,
    },
    /// It took its leave.
    Withdrawn {
        /// The instance.
        id: InstanceId,
    },
}

impl ReportBody {
    /// The instance.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        match self {
            Self::Registered { registration, .. } => &registration.id,
            Self::Beat { id } | Self::Withdrawn { id } => id,
        }
    }
}

impl Discovery {
    /// What another node should know of an instance; `None`: it is not known, or took its leave.
    #[must_use]
    pub fn report(&self, id: &InstanceId, now: Timestamp) -> Option<Report> {
        report(self.slots.get(*self.by_id.get(id)?)?, now)
    }

    /// What a node that knows nothing should know: every instance, own and others'.
    pub fn reports(&self, now: Timestamp) -> impl Iterator<Item = Report> {
        self.slots.iter().filter_map(move |entry| report(entry, now))
    }

    /// Learns what node `via` says of an instance. Older words than the known one change nothing, and so does what
    /// others say of instances registered here.
    ///
    /// # Errors
    /// [`LearnError`]: the instance is not known and this is not its registration; or its id is taken by another
    /// node's living instance, its node is down, there are too many.
    pub fn learn(
        &mut self,
        report: Report,
        via: &NodeId,
        now: Timestamp,
    ) -> Result<Vec<DiscoveryEvent>, LearnError> {
        let known = self.by_id.get(report.body.id()).copied();
        let known = known.and_then(|slot| Some((slot, self.slots.get(slot)?)));
        if let Some((slot, entry)) = known.filter(|(_, entry)| entry.registration.node == report.node) {
            if entry.via.is_none() || report.stamp <= entry.stamp {
                return Ok(Vec::new());
            }
            if report.stamp.incarnation == entry.stamp.incarnation {
                return Ok(self.hear_again(slot, report, via, now)?);
            }
        }
        let unknown = |id: InstanceId| LearnError::Unknown { id, via: via.clone() };
        match report.body {
            ReportBody::Registered { registration, terms } => {
                self.admit(&registration, now)?;
                // Over before it came: nothing to add.
                if report.age >= terms.ttl() {
                    return Ok(Vec::new());
                }
                let mut events = self.put(
                    *registration,
                    terms,
                    report.stamp,
                    heard_at(report.age, now),
                    Some(via.clone()),
                );
                // It may have come as a suspect.
                events.extend(self.expire(now));
                Ok(events)
            }
            ReportBody::Beat { id } | ReportBody::Withdrawn { id } => Err(unknown(id)),
        }
    }

    /// A later word of the same life.
    fn hear_again(
        &mut self,
        slot: Slot,
        report: Report,
        via: &NodeId,
        now: Timestamp,
    ) -> Result<Vec<DiscoveryEvent>, RegisterError> {
        if self.down.get(&report.node).is_some_and(|(life, _)| report.stamp.incarnation <= *life) {
            return Err(RegisterError::NotAlive { id: report.body.id().clone(), node: report.node });
        }
        let Some(mut entry) = self.slots.get_mut(slot) else { return Ok(Vec::new()) };
        entry.stamp = report.stamp;
        entry.via = Some(via.clone());
        entry.beat_at = heard_at(report.age, now);
        entry.ended = None;
        let mut is_changed = false;
        match report.body {
            ReportBody::Registered { registration, terms } => {
                is_changed = entry.registration != *registration;
                entry.terms = terms;
                self.index.remove(slot, &entry.registration);
                entry.registration = *registration;
                self.index.insert(slot, &entry.registration);
                // Other terms may end the lease sooner than the queue looks.
                self.wakes.remove(&(entry.wakes_at, slot));
                entry.wakes_at = now;
                self.wakes.insert((now, slot));
            }
            ReportBody::Beat { .. } => {}
            ReportBody::Withdrawn { .. } => entry.ended = Some(GoneReason::Deregistered),
        }
        drop(entry);
        Ok(self.tell(slot, is_changed, now))
    }
}

fn heard_at(age: Duration, now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)))
}

fn report(entry: &Entry, now: Timestamp) -> Option<Report> {
    let id = entry.registration.id.clone();
    let body = match entry.ended {
        Some(GoneReason::Deregistered) => ReportBody::Withdrawn { id },
        Some(_) => return None,
        None => {
            ReportBody::Registered { registration: Box::new(entry.registration.clone()), terms: entry.terms }
        }
    };
    let node = entry.registration.node.clone();
    Some(Report { node, stamp: entry.stamp, age: now.since(entry.beat_at), body })
}
