//! Messages that were recorded and are not yet settled.

use std::{collections::BTreeMap, sync::PoisonError};

use super::EntityCell;

impl EntityCell {
    /// Number of messages recorded and not yet settled.
    #[must_use]
    pub fn undelivered(&self) -> u64 {
        self.outgoing().len() as u64
    }

    /// Messages were recorded.
    pub(crate) fn sent(&self, numbers: impl Iterator<Item = u64>) {
        self.outgoing().extend(numbers.map(|seq| (seq, false)));
    }

    /// These are all that are pending in the store, of those below `next`.
    pub(crate) fn pending_are(&self, numbers: impl Iterator<Item = u64>, next: u64) {
        let mut outgoing = self.outgoing();
        let later = outgoing.split_off(&next);
        let known = std::mem::replace(&mut *outgoing, later);
        outgoing.extend(numbers.map(|seq| (seq, known.get(&seq).copied().unwrap_or(false))));
    }

    /// A message was consumed, by its receiver or, returned, by its sender.
    pub(crate) fn settled(&self, seq: u64) {
        self.outgoing().remove(&seq);
    }

    /// Marks a message as on its way back; `false` when it is so already, or settled.
    pub(crate) fn start_return(&self, seq: u64) -> bool {
        self.outgoing().get_mut(&seq).is_some_and(|returning| !std::mem::replace(returning, true))
    }

    /// Whether a message is on its way back; `None` when it is settled.
    pub(crate) fn returning(&self, seq: u64) -> Option<bool> {
        self.outgoing().get(&seq).copied()
    }

    fn outgoing(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, bool>> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
