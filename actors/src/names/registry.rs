//! [`Names`]: every name of a cell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    AfterEnd, Exit, Metadata, NameKey, NameRecord, NameRef, NameSpec, NameState, NamesError, Namespace,
    space::Space,
};
use crate::{balance::InstanceId, ids::Timestamp};

/// Every name of a cell, by namespace.
///
/// A name that is given free is forgotten at once; the highest epoch forgotten is remembered, so that epochs never
/// repeat and a reference of before is refused whoever has the name then.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "NamesSnapshot", into = "NamesSnapshot")]
pub struct Names {
    spaces: BTreeMap<Namespace, Space>,
    /// No name that is forgotten had a higher epoch.
    epoch_floor: u64,
}

/// What names hold, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesSnapshot {
    /// Highest epoch of names that were forgotten.
    pub epoch_floor: u64,
    /// Every name, by key.
    pub records: Vec<(NameKey, NameRecord)>,
}

/// An owner that has lost its name and is to be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stopped {
    /// Its reference, refused by now.
    pub reference: NameRef,
    /// Who; `None`: it was not running, and is not to be started anew.
    pub owner: Option<InstanceId>,
}

/// How many names there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamesStats {
    /// With an owner.
    pub live: usize,
    /// Whose owner is to be started anew.
    pub recovering: usize,
    /// Namespaces that have names.
    pub namespaces: usize,
}

impl Names {
    /// No names.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a name to an owner.
    ///
    /// # Errors
    /// [`NamesError`] as [`NameRecord::register`].
    pub fn register(
        &mut self,
        key: NameKey,
        spec: NameSpec,
        owner: InstanceId,
        now: Timestamp,
    ) -> Result<NameRef, NamesError> {
        let epoch = self.change(&key, |record| record.register(&key, spec, owner, now))?;
        Ok(NameRef { key, epoch })
    }

    /// The present reference of a name and its owner; `None`: nobody has it now.
    #[must_use]
    pub fn whereis(&self, namespace: &Namespace, name: &str) -> Option<(NameRef, &InstanceId)> {
        let space = self.space(namespace)?;
        let (name, record) = space.named(name)?;
        let NameState::Live { owner, .. } = record.state() else { return None };
        let key = NameKey::of(space.namespace(), name);
        Some((NameRef { key, epoch: record.epoch() }, owner))
    }

    /// The owner of a name; `None`: nobody has it now. The quickest way to it.
    #[must_use]
    pub fn owner(&self, namespace: &Namespace, name: &str) -> Option<&InstanceId> {
        match self.space(namespace)?.record(name)?.state() {
            NameState::Live { owner, .. } => Some(owner),
            NameState::Recovering { .. } | NameState::Gone => None,
        }
    }

    /// The owner that a reference names, asked from within a namespace.
    ///
    /// # Errors
    /// [`NamesError`]: the reference is of another namespace, its owner has ended, or nobody has the name.
    pub fn resolve(&self, namespace: &Namespace, reference: &NameRef) -> Result<&InstanceId, NamesError> {
        reference.check_within(namespace)?;
        let record = self.space(namespace).and_then(|space| space.record(reference.key.name()));
        record.ok_or_else(|| self.forgotten(reference))?.owner(reference)
    }

    /// An owner has ended.
    ///
    /// # Errors
    /// [`NamesError`] as [`Self::resolve`]: that was said before.
    pub fn ended(
        &mut self,
        namespace: &Namespace,
        reference: &NameRef,
        exit: Exit,
        now: Timestamp,
    ) -> Result<AfterEnd, NamesError> {
        self.change_held(namespace, reference, |record| record.ended(reference, exit, now))
    }

    /// An owner was started anew, as [`AfterEnd::Respawn`] asked.
    ///
    /// # Errors
    /// [`NamesError`] as [`NameRecord::respawned`]: stop the owner again.
    pub fn respawned(
        &mut self,
        namespace: &Namespace,
        reference: &NameRef,
        owner: InstanceId,
        now: Timestamp,
    ) -> Result<(), NamesError> {
        self.change_held(namespace, reference, |record| record.respawned(reference, owner, now))
    }

    /// Gives a name free, whether its owner lives or is awaited.
    ///
    /// # Errors
    /// [`NamesError`] as [`NameRecord::unregister`]: nothing is left to do.
    pub fn unregister(&mut self, namespace: &Namespace, reference: &NameRef) -> Result<(), NamesError> {
        self.change_held(namespace, reference, |record| record.unregister(reference))
    }

    /// Sets the metadata of a name whose owner lives.
    ///
    /// # Errors
    /// [`NamesError`] as [`Self::resolve`].
    pub fn set_metadata(
        &mut self,
        namespace: &Namespace,
        reference: &NameRef,
        metadata: Metadata,
    ) -> Result<(), NamesError> {
        self.change_held(namespace, reference, |record| record.set_metadata(reference, metadata))
    }

    /// The process has died and with it every owner: call it once after a start, before anything else. Answers what
    /// is to be started anew, by key; what was awaited before is still.
    pub fn recover(&mut self, now: Timestamp) -> Vec<(NameRef, NameSpec)> {
        let mut awaited = Vec::new();
        for (key, record) in self.snapshot().records {
            let reference = NameRef { key, epoch: record.epoch() };
            let next = match record.state() {
                NameState::Recovering { .. } => Some(reference),
                NameState::Live { .. } => {
                    match self.ended(&reference.key.namespace().clone(), &reference, Exit::Crashed, now) {
                        Ok(AfterEnd::Respawn(next)) => Some(next),
                        Ok(AfterEnd::Free) | Err(_) => None,
                    }
                }
                NameState::Gone => None,
            };
            awaited.extend(next.map(|next| (next, record.spec().clone())));
        }
        awaited
    }

    /// Drops every name of a namespace; answers whom to stop, by name.
    pub fn drop_namespace(&mut self, namespace: &Namespace) -> Vec<Stopped> {
        let Some(space) = self.spaces.remove(namespace) else { return Vec::new() };
        let mut stopped = Vec::new();
        for (name, record) in space.records() {
            self.epoch_floor = self.epoch_floor.max(record.epoch());
            let owner = match record.state() {
                NameState::Live { owner, .. } => Some(owner.clone()),
                NameState::Recovering { .. } | NameState::Gone => None,
            };
            let reference = NameRef { key: NameKey::of(namespace, name), epoch: record.epoch() };
            stopped.push(Stopped { reference, owner });
        }
        stopped.sort_by(|a, b| a.reference.cmp(&b.reference));
        stopped
    }

    /// How many names there are.
    #[must_use]
    pub fn stats(&self) -> NamesStats {
        let mut stats = NamesStats { namespaces: self.spaces.len(), ..NamesStats::default() };
        for (_, record) in self.spaces.values().flat_map(Space::records) {
            match record.state() {
                NameState::Live { .. } => stats.live += 1,
                NameState::Recovering { .. } => stats.recovering += 1,
                NameState::Gone => {}
            }
        }
        stats
    }

    /// What is held, as it is stored.
    #[must_use]
    pub fn snapshot(&self) -> NamesSnapshot {
        let mut records = Vec::new();
        for (namespace, space) in &self.spaces {
            for (name, record) in space.records() {
                records.push((NameKey::of(namespace, name), record.clone()));
            }
        }
        records.sort_by(|(a, _), (b, _)| a.cmp(b));
        NamesSnapshot { epoch_floor: self.epoch_floor, records }
    }

    pub(super) fn space(&self, namespace: &Namespace) -> Option<&Space> {
        self.spaces.get(namespace)
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.spaces.keys()
    }

    pub(super) fn epoch_floor(&self) -> u64 {
        self.epoch_floor
    }

    pub(super) fn raise_epoch_floor(&mut self, to: u64) {
        self.epoch_floor = self.epoch_floor.max(to);
    }

    /// Takes a record in as it is; one that is gone leaves its epoch only.
    pub(super) fn put(&mut self, key: &NameKey, record: NameRecord) {
        if record.is_gone() {
            self.raise_epoch_floor(record.epoch());
        } else {
            let space = || Space::new(key.namespace());
            self.spaces
                .entry(key.namespace().clone())
                .or_insert_with(space)
                .insert(key.shared_name(), record);
        }
    }

    /// Changes the record of a reference that may be used here.
    fn change_held<T>(
        &mut self,
        namespace: &Namespace,
        reference: &NameRef,
        change: impl FnOnce(&mut NameRecord) -> Result<T, NamesError>,
    ) -> Result<T, NamesError> {
        reference.check_within(namespace)?;
        if self.space(namespace).and_then(|space| space.record(reference.key.name())).is_none() {
            return Err(self.forgotten(reference));
        }
        self.change(&reference.key, change)
    }

    /// Changes a record, or makes one.
    fn change<T>(
        &mut self,
        key: &NameKey,
        change: impl FnOnce(&mut NameRecord) -> Result<T, NamesError>,
    ) -> Result<T, NamesError> {
        let known = self.spaces.get_mut(key.namespace()).and_then(|space| space.take(key.name()));
        let mut record = known.unwrap_or_else(|| NameRecord::free(self.epoch_floor));
        let answer = change(&mut record);
        self.put(key, record);
        if self.spaces.get(key.namespace()).is_some_and(Space::is_empty) {
            self.spaces.remove(key.namespace());
        }
        answer
    }

    fn forgotten(&self, reference: &NameRef) -> NamesError {
        NamesError::NotRegistered { key: reference.key.clone() }
    }
}

impl From<NamesSnapshot> for Names {
    fn from(snapshot: NamesSnapshot) -> Self {
        let mut names = Self { epoch_floor: snapshot.epoch_floor, ..Self::default() };
        for (key, record) in snapshot.records {
            names.put(&key, record);
        }
        names
    }
}

impl From<Names> for NamesSnapshot {
    fn from(names: Names) -> Self {
        names.snapshot()
    }
}
