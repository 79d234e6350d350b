//! A store in memory: for tests and simulation, with several owners and faults to inject.
//!
//! It commits on a thread of its own ([`MemoryStore::new`]) or when asked ([`MemoryStore::manual`]). What a
//! real store keeps on disk survives [`MemoryStore::reopen`] and [`MemoryStore::power_cut`]; nothing else does.

mod disk;
mod engine;
mod faults;
mod image;
mod owners;
mod read;
mod shared;

use std::{path::PathBuf, sync::Arc, thread::JoinHandle};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::sync::oneshot;

pub use self::faults::{Failure, Faults};
use self::{disk::Disk, engine::Item, shared::Shared};
use super::{
    Activated, Caps, Completer, Created, Due, FeedFilter, FeedPage, HistoryPage, Incarnation, ListQuery,
    Listed, Loaded, Record, Refused, Store, StoreError, StoreStats, Token,
};
use crate::ids::{EntityId, Name, Position, Timestamp, Version};

/// Records that may wait, unless [`Faults::limit_queue`] says otherwise.
pub const QUEUE_MAX_RECORDS: usize = 65_536;

/// A store in memory; clones share it. When the last one is dropped, what was handed over is settled.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    opening: Arc<Opening>,
}

/// One opening of the rows: ends its writer when dropped.
#[derive(Debug)]
struct Opening {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.shared.abandon();
        if let Some(writer) = self.writer.take()
            && writer.thread().id() != std::thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!("the writer of a memory store panicked");
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store that commits on a thread of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::open(Disk::default(), QUEUE_MAX_RECORDS, false)
    }

    /// An empty store that commits only in [`MemoryStore::commit_next`] and [`Store::close`].
    ///
    /// Activations and releases are answered at once when no record waits before them.
    #[must_use]
    pub fn manual() -> Self {
        Self::open(Disk::default(), QUEUE_MAX_RECORDS, true)
    }

    /// Commits the next `records` records as one commit; answers how many there were.
    pub fn commit_next(&self, records: usize) -> usize {
        self.opening.shared.commit(records)
    }

    /// Faults to inject into this opening.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults { shared: Arc::clone(&self.opening.shared) }
    }

    /// Notes that this life is over, so that others may activate what it owns; it may still write until then.
    pub fn end_incarnation(&self, incarnation: Incarnation) {
        self.opening.shared.lock().owners.end(incarnation);
    }

    /// Ends this opening as kill -9 would, and opens the rows again: what waits is answered `Unknown`.
    ///
    /// Each call opens a copy: the openings do not see each other.
    #[must_use]
    pub fn reopen(&self) -> Self {
        self.power_cut(self.position())
    }

    /// Cuts the power, and opens what is left.
    ///
    /// Queued records that end at or before `keep` had reached the disk unconfirmed, later ones had not.
    /// Whatever is committed stays, unless [`Faults::lie_about_flushes`] was asked for: then records after
    /// `keep` are lost although confirmed.
    #[must_use]
    pub fn power_cut(&self, keep: Position) -> Self {
        let shared = &self.opening.shared;
        let queue_max = shared.lock().queue_max;
        Self::open(shared.crash(keep), queue_max, shared.manual)
    }

    fn open(mut disk: Disk, queue_max: usize, manual: bool) -> Self {
        disk.boot += 1;
        let shared = Arc::new(Shared::open(disk, queue_max, manual));
        let writer = (!manual).then(|| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.write())
        });
        Self { opening: Arc::new(Opening { shared, writer }) }
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Disk) -> Result<T, StoreError>,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let core = self.opening.shared.lock();
        ready(core.alive().and_then(|()| read(&core.disk))).boxed()
    }
}

/// Waits for an answer of the writer.
async fn answered<T>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.await.unwrap_or_else(|_| Err(StoreError::Fatal("the writer is gone".into())))
}

impl Store for MemoryStore {
    fn submit(&self, record: Record, done: Completer) -> Result<(), Box<Refused>> {
        self.opening.shared.submit(record, done)
    }

    fn create(&self, name: &Name) -> BoxFuture<'_, Result<Created, StoreError>> {
        let mut core = self.opening.shared.lock();
        ready(core.alive().map(|()| core.create(name))).boxed()
    }

    fn resolve(&self, name: &Name) -> BoxFuture<'_, Result<Option<EntityId>, StoreError>> {
        let core = self.opening.shared.lock();
        ready(core.alive().map(|()| core.resolve(name))).boxed()
    }

    fn activate(&self, entity: EntityId, by: Incarnation) -> BoxFuture<'_, Result<Activated, StoreError>> {
        answered(self.opening.shared.ask(|to| Item::Activate(entity, by, to))).boxed()
    }

    fn release(&self, token: Token) -> BoxFuture<'_, Result<(), StoreError>> {
        answered(self.opening.shared.ask(|to| Item::Release(token, to))).boxed()
    }

    fn load(&self, entity: EntityId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        self.read(|disk| disk.load(entity))
    }

    fn rows(
        &self,
        entity: EntityId,
        from: Bytes,
        to: Bytes,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, StoreError>> {
        self.read(|disk| disk.rows(entity, &from, &to, limit))
    }

    fn history(
        &self,
        entity: EntityId,
        from: Version,
        limit: usize,
    ) -> BoxFuture<'_, Result<HistoryPage, StoreError>> {
        self.read(|disk| disk.history_page(entity, from, limit))
    }

    fn feed(
        &self,
        after: Position,
        filter: FeedFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<FeedPage, StoreError>> {
        self.read(|disk| disk.feed(after, &filter, limit))
    }

    fn list(&self, query: ListQuery, limit: usize) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        self.read(|disk| disk.list(&query, limit))
    }

    fn due(
        &self,
        until: Timestamp,
        after: Option<Due>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Due>, StoreError>> {
        self.read(|disk| Ok(disk.due(until, after.as_ref(), limit)))
    }

    fn work(
        &self,
        after: Option<EntityId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<EntityId>, StoreError>> {
        self.read(|disk| Ok(disk.work(after, limit)))
    }

    fn definition(&self, hash: [u8; 32]) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        self.read(|disk| disk.definition(hash))
    }

    fn backup(&self, to: PathBuf, force: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        self.read(|disk| image::write(disk, &to, force))
    }

    fn stats(&self) -> StoreStats {
        self.opening.shared.lock().stats
    }

    fn caps(&self) -> Caps {
        Caps { name: "memory", durable: false, shared: false, boot: self.opening.shared.lock().disk.boot }
    }

    fn poisoned(&self) -> Option<String> {
        self.opening.shared.lock().poisoned.clone()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.poisoned().is_some() {
            return ready(Ok(())).boxed();
        }
        answered(self.opening.shared.ask(Item::Close)).boxed()
    }

    fn position(&self) -> Position {
        self.opening.shared.lock().disk.position
    }
}
