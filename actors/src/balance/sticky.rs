//! Which key went where.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::InstanceId;

/// Assignments of keys, at most so many; the one unused for longest goes first.
#[derive(Clone, Debug)]
pub(super) struct Assignments {
    keys_max: usize,
    uses: u64,
    of: HashMap<Arc<str>, (InstanceId, u64)>,
    /// Keys by their last use, oldest first.
    by_use: BTreeMap<u64, Arc<str>>,
}

impl Assignments {
    pub(super) fn new(keys_max: usize) -> Self {
        Self { keys_max, uses: 0, of: HashMap::new(), by_use: BTreeMap::new() }
    }

    /// Where the key went, which counts as a use.
    pub(super) fn use_of(&mut self, key: &str) -> Option<InstanceId> {
        let (key, _) = self.of.get_key_value(key)?;
        let key = Arc::clone(key);
        let (id, used) = self.of.get_mut(&key)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(id.clone())
    }

    pub(super) fn assign(&mut self, key: &str, id: &InstanceId) {
        let key: Arc<str> = Arc::from(key);
        if let Some((_, used)) = self.of.remove(&key) {
            self.by_use.remove(&used);
        }
        while self.of.len() >= self.keys_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.of.remove(&oldest);
        }
        self.uses += 1;
        self.by_use.insert(self.uses, Arc::clone(&key));
        self.of.insert(key, (id.clone(), self.uses));
    }

    pub(super) fn forget(&mut self, instance: &InstanceId) {
        let by_use = &mut self.by_use;
        self.of.retain(|_, (id, used)| {
            let stays = id != instance;
            if !stays {
                by_use.remove(used);
            }
            stays
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.of.len(), self.by_use.len());
        self.of.len()
    }
}
