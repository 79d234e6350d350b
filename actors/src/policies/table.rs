//! [`PolicyTable`]: the policies of a system in use, and the bell of their keeper.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    POLICIES_MAX, PolicyError,
    keeper::PolicyKeeperMsg,
    live::{Live, Mark},
    record::PolicyName,
};
use crate::{env::Place, ids::Timestamp};

/// The policies of a system in use.
#[derive(Debug, Default)]
pub struct PolicyTable {
    entries: Mutex<BTreeMap<PolicyName, Arc<Entry>>>,
    /// A wake-up of the keeper is on its way.
    rung: AtomicBool,
    /// One registration at a time, so that nobody uses a policy before it is restored.
    pub(super) registering: tokio::sync::Mutex<()>,
}

/// A policy in use, and what is stored of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: PolicyName,
    pub(super) live: Live,
    /// Where it stood when it was stored; `None`: not yet in this life.
    stored: Mutex<Option<Mark>>,
    /// Number of the state up to which somebody looked whether it was closed by hand.
    looked: AtomicU64,
}

impl Entry {
    /// Where it stands, if that is to be stored: any difference, or one of state alone.
    pub(super) fn is_due(&self, counts_too: bool, now: Timestamp) -> Option<Mark> {
        let mark = self.live.mark(now);
        let due = match *self.stored.lock().unwrap_or_else(PoisonError::into_inner) {
            None => true,
            Some(stored) if counts_too => stored != mark,
            Some(stored) => stored.state != mark.state,
        };
        due.then_some(mark)
    }

    /// Whether it is a breaker that was closed or disabled by hand since this was asked last.
    pub(super) fn was_closed_by_hand(&self) -> bool {
        let seen = self.looked.swap(self.live.epoch(), Ordering::AcqRel);
        self.live.was_closed_by_hand(seen)
    }

    pub(super) fn is_stored(&self, at: Mark) {
        *self.stored.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

impl PolicyTable {
    pub(super) fn find(&self, name: &PolicyName) -> Option<Live> {
        self.lock().get(name).map(|entry| entry.live.clone())
    }

    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        self.lock().values().cloned().collect()
    }

    /// Whether there is place for so many more.
    pub(super) fn has_places(&self, more: usize) -> Result<(), PolicyError> {
        if self.lock().len() + more <= POLICIES_MAX {
            Ok(())
        } else {
            Err(PolicyError::TooMany { max: POLICIES_MAX })
        }
    }

    pub(super) fn enter(&self, name: PolicyName, live: Live) {
        let looked = AtomicU64::new(live.epoch());
        let entry = Entry { name: name.clone(), live, stored: Mutex::default(), looked };
        self.lock().insert(name, Arc::new(entry));
    }

    /// Wakes the keeper, once for any number of rings until it has heard them.
    pub(super) fn ring(&self, keeper: &Place<PolicyKeeperMsg>) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            keeper.cast(PolicyKeeperMsg::Rung);
        }
    }

    /// The keeper looks: what rings from here on wakes it again. A keeper that starts hears what the one before it
    /// did not.
    pub(super) fn hear(&self) {
        self.rung.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PolicyName, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
