//! A store that answers before it commits: what the proofs must find.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use stanchion_actors::{
    ids::{EntityId, Name, Position, Timestamp, Version},
    store::{
        Activated, Caps, Completer, Created, Due, FeedFilter, FeedPage, HistoryPage, Incarnation, ListQuery,
        Listed, Loaded, Outcome, Record, Refused, Store, StoreError, StoreStats, Token,
    },
};
use tokio::sync::oneshot;

/// Time between the answer and the commit.
const AHEAD: Duration = Duration::from_millis(5);

enum Late {
    Record(Box<Record>),
    /// Told when everything before it is committed, so that within one life nothing is amiss.
    Barrier(oneshot::Sender<()>),
}

pub(crate) struct AckEarly {
    inner: Arc<dyn Store>,
    late: Mutex<mpsc::Sender<Late>>,
}

impl AckEarly {
    pub(crate) fn over(inner: Arc<dyn Store>) -> Arc<dyn Store> {
        let (late, records) = mpsc::channel();
        let store = Arc::clone(&inner);
        std::thread::spawn(move || commit_late(store.as_ref(), &records));
        Arc::new(Self { inner, late: Mutex::new(late) })
    }

    async fn barrier(&self) {
        let (tell, told) = oneshot::channel();
        let _ = self.late.lock().unwrap().send(Late::Barrier(tell));
        let _ = told.await;
    }
}

fn commit_late(store: &dyn Store, records: &mpsc::Receiver<Late>) {
    while let Ok(first) = records.recv() {
        std::thread::sleep(AHEAD);
        let mut committed = Vec::new();
        for late in std::iter::once(first).chain(std::iter::from_fn(|| records.try_recv().ok())) {
            match late {
                Late::Record(record) => {
                    let (tell, told) = mpsc::channel();
                    let _ = store.submit(
                        *record,
                        Box::new(move |_| {
                            let _ = tell.send(());
                        }),
                    );
                    committed.push(told);
                }
                Late::Barrier(tell) => {
                    committed.drain(..).for_each(|told| {
                        let _ = told.recv();
                    });
                    let _ = tell.send(());
                }
            }
        }
    }
}

impl Store for AckEarly {
    fn submit(&self, record: Record, done: Completer) -> Result<(), Box<Refused>> {
        // In the order submitted: the next record of an entity is handed over only after this one is answered.
        let _ = self.late.lock().unwrap().send(Late::Record(Box::new(record)));
        done(Ok(Outcome::Applied { position: self.inner.position().next() }));
        Ok(())
    }
    fn create(&self, name: &Name) -> BoxFuture<'_, Result<Created, StoreError>> {
        self.inner.create(name)
    }
    fn resolve(&self, name: &Name) -> BoxFuture<'_, Result<Option<EntityId>, StoreError>> {
        self.inner.resolve(name)
    }
    fn activate(&self, entity: EntityId, by: Incarnation) -> BoxFuture<'_, Result<Activated, StoreError>> {
        Box::pin(async move {
            self.barrier().await;
            self.inner.activate(entity, by).await
        })
    }
    fn release(&self, token: Token) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner.release(token)
    }
    fn load(&self, entity: EntityId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        self.inner.load(entity)
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
    fn backup(&self, to: std::path::PathBuf, force: bool) -> BoxFuture<'_, Result<(), StoreError>> {
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
        Box::pin(async move {
            self.barrier().await;
            self.inner.close().await
        })
    }
    fn position(&self) -> Position {
        self.inner.position()
    }
}
