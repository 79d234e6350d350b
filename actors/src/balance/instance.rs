//! What can be chosen: instances, their weight and whether they take work.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Unsuitable, WeightError};

/// Largest weight.
const WEIGHT_MAX: f64 = 1_000_000.0;

/// Who an instance of a service is: the same for its whole life, of no other instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// An id; what refuses ids is the registry ([`crate::discovery`]).
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for InstanceId {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

impl From<String> for InstanceId {
    fn from(id: String) -> Self {
        Self::new(id)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much of the work an instance gets, against the others: above 0, at most 1 000 000; 1 by default.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Weight(f64);

impl Weight {
    /// Checks and makes a weight.
    ///
    /// # Errors
    /// [`WeightError`] for zero, what is negative, no number, or above 1 000 000: take the instance out instead
    /// of weighing it zero.
    pub fn new(weight: f64) -> Result<Self, WeightError> {
        if weight > 0.0 && weight <= WEIGHT_MAX {
            Ok(Self(weight))
        } else {
            Err(WeightError { given: weight.to_string() })
        }
    }

    /// The number.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1.0)
    }
}

impl TryFrom<f64> for Weight {
    type Error = WeightError;
    fn try_from(weight: f64) -> Result<Self, WeightError> {
        Self::new(weight)
    }
}

impl From<Weight> for f64 {
    fn from(weight: Weight) -> f64 {
        weight.0
    }
}

/// Whether an instance takes work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// It does.
    #[default]
    Ready,
    /// It reports that it is not well.
    Unhealthy,
    /// It missed heartbeats.
    Suspect,
    /// It finishes what it has.
    Draining,
    /// Its circuit breaker is open.
    BreakerOpen,
}

/// One instance that may be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Who it is; of two with one id the first counts.
    pub id: InstanceId,
    /// Its share of the work.
    pub weight: Weight,
    /// Whether it takes work.
    pub readiness: Readiness,
    /// Most pieces of work at a time; `None`: no limit.
    pub in_flight_max: Option<u32>,
}

impl Candidate {
    /// An instance that takes work, of weight 1, without a limit.
    #[must_use]
    pub fn ready(id: impl Into<InstanceId>) -> Self {
        Self { id: id.into(), weight: Weight::default(), readiness: Readiness::Ready, in_flight_max: None }
    }

    /// Why it gets nothing while it has `in_flight` pieces of work; `None`: it may be chosen.
    pub(super) fn unsuitable(&self, in_flight: u32) -> Option<Unsuitable> {
        let limit = self.in_flight_max.unwrap_or(u32::MAX);
        match self.readiness {
            Readiness::Ready if in_flight < limit => None,
            Readiness::Ready => Some(Unsuitable::Full { in_flight, limit }),
            Readiness::Unhealthy => Some(Unsuitable::Unhealthy),
            Readiness::Suspect => Some(Unsuitable::Suspect),
            Readiness::Draining => Some(Unsuitable::Draining),
            Readiness::BreakerOpen => Some(Unsuitable::BreakerOpen),
        }
    }
}
