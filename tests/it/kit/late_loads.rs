//! A store whose reads of whole entities wait until they are let go, with what they have read.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use stanchion::{
    ids::{EntityId, Name, Position, Timestamp, Version},
    port::{
        Activated, Caps, Completer, Created, Due, FeedFilter, FeedPage, HistoryPage, Incarnation, ListQuery,
        Listed, Loaded, Record, Refused, Store, StoreError, StoreStats, Token,
    },
};
use tokio::sync::oneshot;

/// Reads that have happened and are not answered yet, in order.
#[derive(Default)]
pub(crate) struct Late {
    holds: AtomicBool,
    waiting: Mutex<Vec<(EntityId, oneshot::Sender<()>)>>,
}

impl Late {
    /// Whether later reads wait.
    pub(crate) fn hold(&self, holds: bool) {
        self.holds.store(holds, Ordering::SeqCst);
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().unwrap().len()
    }

    /// Answers the one that has waited longest.
    pub(crate) fn answer_first(&self) {
        let (_, go) = self.waiting.lock().unwrap().remove(0);
        go.send(()).unwrap();
    }
}

/// The store in front of which [`Late`] stands.
pub(crate) struct LateLoads {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) late: Arc<Late>,
}

impl Store for LateLoads {
    fn submit(&self, record: Record, done: Completer) -> Result<(), Box<Refused>> {
        self.inner.submit(record, done)
    }
    fn create(&self, name: &Name) -> BoxFuture<'_, Result<Created, StoreError>> {
        self.inner.create(name)
    }
    fn resolve(&self, name: &Name) -> BoxFuture<'_, Result<Option<EntityId>, StoreError>> {
        self.inner.resolve(name)
    }
    fn activate(&self, entity: EntityId, by: Incarnation) -> BoxFuture<'_, Result<Activated, StoreError>> {
        self.inner.activate(entity, by)
    }
    fn release(&self, token: Token) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.release(token)
    }
    fn load(&self, entity: EntityId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        Box::pin(async move {
            let loaded = self.inner.load(entity).await;
            if self.late.holds.load(Ordering::SeqCst) {
                let (go, wait) = oneshot::channel();
                self.late.waiting.lock().unwrap().push((entity, go));
                let _ = wait.await;
            }
            loaded
        })
    }
    fn rows(
        &self,
        entity: EntityId,
        from: Bytes,
        to: Bytes,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, StoreError>> {
        self.inner.rows(entity, from, to, limit)
    }
    fn history(
        &self,
        entity: EntityId,
        from: Version,
        limit: usize,
    ) -> BoxFuture<'_, Result<HistoryPage, StoreError>> {
        self.inner.history(entity, from, limit)
    }
    fn feed(
        &self,
        after: Position,
        filter: FeedFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<FeedPage, StoreError>> {
        self.inner.feed(after, filter, limit)
    }
    fn list(&self, query: ListQuery, limit: usize) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        self.inner.list(query, limit)
    }
    fn due(
        &self,
        until: Timestamp,
        after: Option<Due>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Due>, StoreError>> {
        self.inner.due(until, after, limit)
    }
    fn work(
        &self,
        after: Option<EntityId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<EntityId>, StoreError>> {
        self.inner.work(after, limit)
    }
    fn definition(&self, hash: [u8; 32]) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        self.inner.definition(hash)
    }
    fn backup(&self, to: PathBuf, force: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.backup(to, force)
    }
    fn stats(&self) -> StoreStats {
        self.inner.stats()
    }
    fn caps(&self) -> Caps {
        self.inner.caps()
    }
    fn poisoned(&self) -> Option<String> {
        self.inner.poisoned()
    }
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.close()
    }
    fn position(&self) -> Position {
        self.inner.position()
    }
}
