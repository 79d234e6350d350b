//! Who waits for an instance to appear.

use super::{Criteria, Discovery, DiscoveryEvent, FindError};
use crate::{balance::Readiness, ids::Timestamp};

/// Pieces of work that wait for an instance that can do them: `T` names the work.
#[derive(Clone, Debug)]
pub struct Waiting<T> {
    waiting: Vec<(Criteria, T)>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { waiting: Vec::new() }
    }
}

impl<T> Waiting<T> {
    /// Waits, unless an instance is there that takes work: then the work is given back at once.
    ///
    /// # Errors
    /// [`FindError`] as of a search, with the work.
    pub fn wait(
        &mut self,
        discovery: &Discovery,
        criteria: Criteria,
        work: T,
        now: Timestamp,
    ) -> Result<Option<T>, (FindError, T)> {
        match is_met(discovery, &criteria, now) {
            Ok(true) => Ok(Some(work)),
            Ok(false) => {
                self.waiting.push((criteria, work));
                Ok(None)
            }
            Err(error) => Err((error, work)),
        }
    }

    /// The work that need not wait any longer, in the order it came. Give it every event of the discovery.
    pub fn unblocked(&mut self, discovery: &Discovery, events: &[DiscoveryEvent], now: Timestamp) -> Vec<T> {
        let appeared: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                DiscoveryEvent::Added { id, .. } | DiscoveryEvent::Changed { id } => {
                    discovery.instance(id, now)
                }
                DiscoveryEvent::Suspect { .. } | DiscoveryEvent::Gone { .. } => None,
            })
            .filter(|found| found.candidate().readiness == Readiness::Ready)
            .collect();
        let is_met =
            |waiting: &mut (Criteria, T)| appeared.iter().any(|found| waiting.0.matches(found.registration));
        self.waiting.extract_if(.., is_met).map(|(_, work)| work).collect()
    }

    /// How much work waits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn is_met(discovery: &Discovery, criteria: &Criteria, now: Timestamp) -> Result<bool, FindError> {
    let found = discovery.find(criteria, now)?;
    Ok(found.iter().any(|found| found.candidate().readiness == Readiness::Ready))
}
