//! [`RedbStore`]: the port on top of writer, fold, readers and view.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::{JoinHandle, ThreadId},
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use stanchion_actors::{
    ids::{EntityId, Name, Position, Timestamp, Version},
    store::{
        Activated, Caps, Completer, Created, Due, FeedFilter, FeedPage, HistoryPage, Incarnation, ListQuery,
        Listed, Loaded, Record, Refused, RefusedWhy, Store, StoreError, StoreStats, Table, Token, key,
        unframe_shared,
    },
};
use stanchion_sync::Refused as Queue;
use tokio::sync::oneshot;

use super::{
    backends::Backends,
    end::{Ending, end},
    open::{Opener, Recovered},
    open_error::OpenError,
    options::StoreOptions,
    pending::create,
    read::Readers,
    shared::{Answer, Job, Shared, count},
    tables::{corrupt, decode_row, name as table_name},
    view::{Snapshot, View},
    writer::Writer,
};

/// A durable store in one file at rest, two while it is open.
///
/// Dropping it closes it as [`Store::close`] does and waits for that.
///
/// # Guarantees
/// Those of [`Store`]: what was answered `Applied` survives the end of the process and of the power.
pub struct RedbStore {
    path: PathBuf,
    backends: Arc<dyn Backends>,
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    /// Runs what takes long, so that no read waits behind a backup.
    upkeep: Arc<Readers>,
    writer: Mutex<Option<JoinHandle<()>>>,
    writer_id: ThreadId,
}

impl std::fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbStore")
            .field("path", &self.path)
            .field("boot", &self.shared.boot)
            .finish_non_exhaustive()
    }
}

/// Most backups and folds asked for at once.
const UPKEEP_MAX_JOBS: usize = 64;

impl RedbStore {
    /// Opens the store at `path`, making it if there is none, and recovers what the log holds.
    ///
    /// # Errors
    /// [`OpenError`], each saying what to do.
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, OpenError> {
        let path = path.as_ref().to_path_buf();
        let opener = Opener::new(&path, &options);
        let backends = opener.backends.clone();
        let Recovered { data, log, meta, mem, gone, last, unfolded_bytes } = opener.recover()?;
        let next_entity = mem.next_entity.max(meta.next_entity);
        let data = Arc::new(data);
        let view = View::new(mem, gone, data.clone(), Some(log.database()));
        let shared = Shared::new(options, view, &meta, next_entity, last, unfolded_bytes);
        let io = |source| OpenError::Io { path: path.clone(), source };
        let limits = (shared.options.reader_threads, shared.options.read_queue_items);
        let readers = Arc::new(Readers::start("stanchion-read", limits.0, limits.1).map_err(io)?);
        let upkeep = Arc::new(Readers::start("stanchion-upkeep", 1, UPKEEP_MAX_JOBS).map_err(io)?);
        let writer = Writer::new(shared.clone(), log, last);
        let fold = {
            let (shared, data) = (shared.clone(), data.clone());
            let thread = std::thread::Builder::new().name("stanchion-fold".into());
            thread.spawn(move || super::fold::run(&shared, &data, meta, last)).map_err(io)?
        };
        let ending = Ending {
            shared: shared.clone(),
            readers: [readers.clone(), upkeep.clone()],
            backends: backends.clone(),
            data,
            fold,
        };
        let thread = std::thread::Builder::new().name("stanchion-write".into());
        let handle = thread.spawn(move || end(writer.run(), ending)).map_err(io)?;
        let writer_id = handle.thread().id();
        Ok(Self { path, backends, shared, readers, upkeep, writer: Mutex::new(Some(handle)), writer_id })
    }

    /// Identity of the store, given at its creation.
    #[must_use]
    pub fn id(&self) -> uuid::Uuid {
        self.shared.store_id
    }

    /// Writes everything committed so far into the data file, and removes the rows of purged entities. The store does
    /// so by itself as the log grows, and meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Fatal`] when the store is closed or poisoned.
    ///
    /// # Cancel safety
    /// Dropped early, the fold goes on.
    pub async fn fold(&self) -> Result<(), StoreError> {
        self.await_fold().await?;
        self.control(|answer| Job::Freeze { answer }).await?;
        self.await_fold().await
    }

    fn await_fold(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let shared = self.shared.clone();
        self.upkeep.run(move || {
            shared.fold(|fold| fold.urgent = true);
            drop(shared.await_fold(None, |fold| (fold.busy || fold.upkeep) && !fold.stop));
            shared.fold(|fold| fold.urgent = false);
            shared.poisoned().map_or(Ok(()), |why| Err(StoreError::Fatal(why.to_owned())))
        })
    }

    /// Closing waits for upkeep as well.
    pub(crate) fn close_finishes(&self) {
        self.shared.fold(|fold| fold.finish = true);
    }

    /// Closes and waits, on this thread.
    pub(crate) fn close_blocking(self) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        drop(self);
        shared.ended().unwrap_or_else(|| Err(StoreError::Fatal("the store did not end".into())))
    }

    fn control<T: Send + 'static>(
        &self,
        job: impl FnOnce(Answer<T>) -> Job,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (answer, waiting) = oneshot::channel();
        let pushed = self.shared.queue.push_control(job(answer));
        let why = self.closed_why();
        Box::pin(async move {
            if pushed.is_err() {
                return Err(StoreError::Fatal(why));
            }
            waiting.await.unwrap_or(Err(StoreError::Fatal(why)))
        })
    }

    fn closed_why(&self) -> String {
        self.shared.poisoned().unwrap_or("the store is closed").to_owned()
    }

    fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Snapshot) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let shared = self.shared.clone();
        self.readers.run(move || ask(&shared.view.snapshot()?))
    }

    /// A name that memory knows.
    fn peek_name(&self, name: &Name) -> Option<Result<EntityId, StoreError>> {
        let key = key::name(name);
        let row = self.shared.view.peek(Table::Name, &key)??;
        Some(decode_row(Table::Name, &key, &row))
    }
}

impl Store for RedbStore {
    fn submit(&self, record: Record, done: Completer) -> Result<(), Box<Refused>> {
        let bytes = record.weight();
        let refused = match self.shared.queue.push(Job::Record(record, done), bytes) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        let (job, why) = match refused {
            Queue::Full(job) => {
                count(&self.shared.counters.refused, 1);
                (job, RefusedWhy::Full)
            }
            Queue::Closed(job) => (job, RefusedWhy::Closed),
        };
        match job {
            Job::Record(record, done) => Err(Box::new(Refused { record, done, why })),
            Job::Activate { .. } | Job::Release { .. } | Job::Freeze { .. } | Job::Seal { .. } => Ok(()),
        }
    }

    fn create(&self, name: &Name) -> BoxFuture<'_, Result<Created, StoreError>> {
        if self.shared.poisoned().is_some() {
            return Box::pin(ready(Err(StoreError::Fatal(self.closed_why()))));
        }
        let waiting = self.shared.pending.lock().of_name(name);
        if let Some(entity) = waiting {
            return Box::pin(ready(Ok(Created::New(entity))));
        }
        if let Some(found) = self.peek_name(name) {
            return Box::pin(ready(found.map(Created::Exists)));
        }
        let (shared, name) = (self.shared.clone(), name.clone());
        self.readers.run(move || create(&shared, &name))
    }

    fn resolve(&self, name: &Name) -> BoxFuture<'_, Result<Option<EntityId>, StoreError>> {
        if let Some(found) = self.peek_name(name) {
            return Box::pin(ready(found.map(Some)));
        }
        let name = name.clone();
        let shared = self.shared.clone();
        self.readers.run(move || {
            let stored = shared.view.snapshot()?.resolve(&name)?;
            Ok(stored.or_else(|| shared.pending.lock().of_name(&name)))
        })
    }

    fn activate(&self, entity: EntityId, by: Incarnation) -> BoxFuture<'_, Result<Activated, StoreError>> {
        // The reader brings the pages into the cache, so that the writer's own look does not wait for the disk.
        let warm = self.read(move |snapshot| snapshot.head(entity).map(drop));
        Box::pin(async move {
            warm.await?;
            self.control(|answer| Job::Activate { entity, by, answer }).await
        })
    }

    fn release(&self, token: Token) -> BoxFuture<'_, Result<(), StoreError>> {
        self.control(|answer| Job::Release { token, answer })
    }

    fn load(&self, entity: EntityId) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        self.read(move |snapshot| snapshot.load(entity))
    }

    fn rows(
        &self,
        entity: EntityId,
        from: Bytes,
        to: Bytes,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Bytes, Bytes)>, StoreError>> {
        self.read(move |snapshot| snapshot.private_rows(entity, &from, &to, limit))
    }

    fn history(
        &self,
        entity: EntityId,
        from: Version,
        limit: usize,
    ) -> BoxFuture<'_, Result<HistoryPage, StoreError>> {
        self.read(move |snapshot| snapshot.history_page(entity, from, limit))
    }

    fn list(&self, query: ListQuery, limit: usize) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        let indexed = self.shared.indexed.load(Ordering::Acquire);
        self.read(move |snapshot| snapshot.list(&query, limit, indexed))
    }

    fn feed(
        &self,
        after: Position,
        filter: FeedFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<FeedPage, StoreError>> {
        // Before the snapshot is taken: everything up to here is in it.
        let known = self.position();
        self.read(move |snapshot| snapshot.feed(after, &filter, limit, known))
    }

    fn due(
        &self,
        until: Timestamp,
        after: Option<Due>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Due>, StoreError>> {
        self.read(move |snapshot| snapshot.due(until, after.as_ref(), limit))
    }

    fn work(
        &self,
        after: Option<EntityId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<EntityId>, StoreError>> {
        self.read(move |snapshot| snapshot.work(after, limit))
    }

    fn definition(&self, hash: [u8; 32]) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        match self.shared.view.peek(Table::Definition, &hash) {
            Some(row) => {
                let bytes = row.map(|row| unframe_shared(&hash, &row).map(|(_, bytes)| bytes)).transpose();
                Box::pin(ready(bytes.map_err(|e| corrupt(table_name(Table::Definition), &hash, e))))
            }
            None => self.read(move |snapshot| snapshot.definition(&hash)),
        }
    }

    fn backup(&self, to: PathBuf, force: bool) -> BoxFuture<'_, Result<(), StoreError>> {
        let (shared, backends) = (self.shared.clone(), self.backends.clone());
        self.upkeep.run(move || super::backup::backup(&shared, backends.as_ref(), &to, force))
    }

    fn stats(&self) -> StoreStats {
        self.shared.stats()
    }

    fn caps(&self) -> Caps {
        Caps::new("redb", true, false, self.shared.boot)
    }

    fn poisoned(&self) -> Option<String> {
        let closed = self.shared.queue.is_closed().then(|| "closed".to_owned());
        self.shared.poisoned().map(str::to_owned).or(closed)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.shared.queue.close();
        let (answer, waiting) = oneshot::channel();
        self.shared.await_end(answer);
        Box::pin(async move {
            waiting
                .await
                .unwrap_or_else(|_| Err(StoreError::Unknown("the writer ended without a word".into())))
        })
    }

    fn position(&self) -> Position {
        Position(self.shared.position.load(Ordering::Acquire))
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.shared.queue.close();
        let handle = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle may go with a completer, on the writer thread itself.
        if let Some(handle) = handle.filter(|_| std::thread::current().id() != self.writer_id) {
            let _ = handle.join();
        }
    }
}
