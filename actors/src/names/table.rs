//! [`NameTable`]: names for many threads, in shards.

use std::{
    collections::BTreeSet,
    hash::BuildHasher,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{
    AfterEnd, Exit, Metadata, NameFound, NameKey, NameRef, NameSearch, NameSpec, Names, NamesError,
    NamesSnapshot, NamesStats, Namespace, ShardsError, Stopped,
};
use crate::{balance::InstanceId, fast_hash::FastState, ids::Timestamp};

const SHARDS_MAX: usize = 4_096;

/// Names for many threads: each name lies in one shard, so that whoever asks for one waits for writers of that shard
/// only. The same operations as [`Names`], with the same answers. It has no atomics of its own: locks keep each
/// operation whole.
#[derive(Debug)]
pub struct NameTable {
    /// Never empty.
    shards: Box<[RwLock<Names>]>,
}

impl NameTable {
    /// A table without names; a few times the number of threads is a good number of shards.
    ///
    /// # Errors
    /// [`ShardsError`] outside 1..=4096.
    pub fn new(shards: usize) -> Result<Self, ShardsError> {
        if !(1..=SHARDS_MAX).contains(&shards) {
            return Err(ShardsError { given: shards });
        }
        Ok(Self { shards: (0..shards).map(|_| RwLock::default()).collect() })
    }

    /// A table of stored names.
    ///
    /// # Errors
    /// [`ShardsError`] outside 1..=4096.
    pub fn restore(shards: usize, snapshot: NamesSnapshot) -> Result<Self, ShardsError> {
        let table = Self::new(shards)?;
        for shard in &table.shards {
            write(shard).raise_epoch_floor(snapshot.epoch_floor);
        }
        for (key, record) in snapshot.records {
            table.write_shard(&key).put(&key, record);
        }
        Ok(table)
    }

    /// The same names in another number of shards: names change their place, so the old table is used up.
    ///
    /// # Errors
    /// [`ShardsError`] outside 1..=4096.
    pub fn rehash(self, shards: usize) -> Result<Self, ShardsError> {
        Self::restore(shards, self.snapshot())
    }

    /// Number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// As [`Names::register`].
    ///
    /// # Errors
    /// As there; of threads that ask for one name at once exactly one gets it.
    pub fn register(
        &self,
        key: NameKey,
        spec: NameSpec,
        owner: InstanceId,
        now: Timestamp,
    ) -> Result<NameRef, NamesError> {
        self.write_shard(&key).register(key, spec, owner, now)
    }

    /// As [`Names::whereis`].
    #[must_use]
    pub fn whereis(&self, namespace: &Namespace, name: &str) -> Option<(NameRef, InstanceId)> {
        let shard = read(self.shard(namespace, name));
        shard.whereis(namespace, name).map(|(reference, owner)| (reference, owner.clone()))
    }

    /// As [`Names::owner`].
    #[must_use]
    pub fn owner(&self, namespace: &Namespace, name: &str) -> Option<InstanceId> {
        read(self.shard(namespace, name)).owner(namespace, name).cloned()
    }

    /// As [`Names::resolve`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&self, namespace: &Namespace, reference: &NameRef) -> Result<InstanceId, NamesError> {
        self.read_shard(&reference.key).resolve(namespace, reference).cloned()
    }

    /// As [`Names::ended`].
    ///
    /// # Errors
    /// As there.
    pub fn ended(
        &self,
        namespace: &Namespace,
        reference: &NameRef,
        exit: Exit,
        now: Timestamp,
    ) -> Result<AfterEnd, NamesError> {
        self.write_shard(&reference.key).ended(namespace, reference, exit, now)
    }

    /// As [`Names::respawned`].
    ///
    /// # Errors
    /// As there.
    pub fn respawned(
        &self,
        namespace: &Namespace,
        reference: &NameRef,
        owner: InstanceId,
        now: Timestamp,
    ) -> Result<(), NamesError> {
        self.write_shard(&reference.key).respawned(namespace, reference, owner, now)
    }

    /// As [`Names::unregister`].
    ///
    /// # Errors
    /// As there.
    pub fn unregister(&self, namespace: &Namespace, reference: &NameRef) -> Result<(), NamesError> {
        self.write_shard(&reference.key).unregister(namespace, reference)
    }

    /// As [`Names::set_metadata`].
    ///
    /// # Errors
    /// As there.
    pub fn set_metadata(
        &self,
        namespace: &Namespace,
        reference: &NameRef,
        metadata: Metadata,
    ) -> Result<(), NamesError> {
        self.write_shard(&reference.key).set_metadata(namespace, reference, metadata)
    }

    /// As [`Names::search`]; shard by shard, so a name registered meanwhile may be in it or not.
    #[must_use]
    pub fn search(&self, namespace: &Namespace, search: &NameSearch) -> Vec<NameFound> {
        let mut found: Vec<_> =
            self.shards.iter().flat_map(|shard| read(shard).search(namespace, search)).collect();
        found.sort_by(|a, b| a.reference.key.cmp(&b.reference.key));
        found
    }

    /// As [`Names::recover`].
    #[must_use = "what is to be started anew keeps its name until that is said"]
    pub fn recover(&self, now: Timestamp) -> Vec<(NameRef, NameSpec)> {
        let mut awaited: Vec<_> = self.shards.iter().flat_map(|shard| write(shard).recover(now)).collect();
        awaited.sort_by(|(a, _), (b, _)| a.cmp(b));
        awaited
    }

    /// As [`Names::drop_namespace`], in one moment: what is registered before is in the answer, what comes after is
    /// not touched.
    #[must_use = "the owners still run"]
    pub fn drop_namespace(&self, namespace: &Namespace) -> Vec<Stopped> {
        // Always in this order, and nobody else holds two: no deadlock.
        let mut shards: Vec<_> = self.shards.iter().map(write).collect();
        let mut stopped: Vec<_> =
            shards.iter_mut().flat_map(|shard| shard.drop_namespace(namespace)).collect();
        stopped.sort_by(|a, b| a.reference.cmp(&b.reference));
        stopped
    }

    /// How many names there are, at one moment.
    #[must_use]
    pub fn stats(&self) -> NamesStats {
        let shards: Vec<_> = self.shards.iter().map(read).collect();
        let namespaces: BTreeSet<_> = shards.iter().flat_map(|shard| shard.namespaces()).collect();
        let none = NamesStats { namespaces: namespaces.len(), ..NamesStats::default() };
        shards.iter().map(|shard| shard.stats()).fold(none, |sum, of| NamesStats {
            live: sum.live + of.live,
            recovering: sum.recovering + of.recovering,
            ..sum
        })
    }

    /// What is held at one moment, as it is stored.
    #[must_use]
    pub fn snapshot(&self) -> NamesSnapshot {
        let shards: Vec<_> = self.shards.iter().map(read).collect();
        let mut snapshot = NamesSnapshot::default();
        for shard in &shards {
            snapshot.epoch_floor = snapshot.epoch_floor.max(shard.epoch_floor());
            snapshot.records.extend(shard.snapshot().records);
        }
        snapshot.records.sort_by(|(a, _), (b, _)| a.cmp(b));
        snapshot
    }

    fn shard(&self, namespace: &Namespace, name: &str) -> &RwLock<Names> {
        let hash = FastState::default().hash_one((namespace.as_str(), name));
        // The high bits: the map inside a shard goes by the low ones.
        let place = (u128::from(hash) * self.shards.len() as u128) >> 64;
        let shard = self.shards.get(place as usize);
        let Some(shard) = shard else { unreachable!("a table has a shard for every name") };
        shard
    }

    fn read_shard(&self, key: &NameKey) -> RwLockReadGuard<'_, Names> {
        read(self.shard(key.namespace(), key.name()))
    }

    fn write_shard(&self, key: &NameKey) -> RwLockWriteGuard<'_, Names> {
        write(self.shard(key.namespace(), key.name()))
    }
}

// Nothing in here panics half-way; whoever takes several locks takes them in the order of the shards.

fn read(shard: &RwLock<Names>) -> RwLockReadGuard<'_, Names> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Names>) -> RwLockWriteGuard<'_, Names> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}
