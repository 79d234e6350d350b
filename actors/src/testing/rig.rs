//! Drives one store through a case.

use std::{
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::sync::oneshot;

use super::fixtures::{chain, event_entry, name, state_entry};
use crate::{
    ids::{EntityId, Name, Position, Timestamp, Version},
    store::{
        Activated, Due, Entry, HistoryPage, Incarnation, Loaded, Outcome, Record, Store, StoreError, Token,
    },
};

/// Longest wait for one answer: a store that forgets to answer fails its case instead of hanging it.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// What a check says: `Err` tells what does not hold.
pub type Check = Result<(), String>;

/// Makes the stores under test.
pub trait StoreFactory: Send + Sync {
    /// A new, empty store.
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Store>, String>>;

    /// Ends `store` without asking it, as a crash would, and opens its data again. No other handle is left.
    fn reopen(&self, store: Arc<dyn Store>) -> BoxFuture<'_, Result<Arc<dyn Store>, String>>;

    /// Lets background work (folding, trimming) come to its end.
    fn settle<'a>(&'a self, _store: &'a Arc<dyn Store>) -> BoxFuture<'a, Check> {
        ready(Ok(())).boxed()
    }

    /// An empty directory for backups; `None`: this store's backups are not checked.
    fn backup_dir(&self) -> Option<PathBuf> {
        None
    }

    /// Opens a backup as a store of its own.
    fn restore(&self, from: &Path) -> BoxFuture<'_, Result<Arc<dyn Store>, String>> {
        ready(Err(format!("cannot restore {}", from.display()))).boxed()
    }
}

/// An entity that the case owns.
#[derive(Clone, Debug)]
pub struct Owned {
    /// Its name.
    pub name: Name,
    /// The right to write it.
    pub token: Token,
    /// Version of the last entry made with [`Owned::state`] or [`Owned::events`].
    pub version: u64,
}

impl Owned {
    /// Its number.
    #[must_use]
    pub fn entity(&self) -> EntityId {
        self.token.entity
    }

    /// The next entry, with a full state.
    pub fn state(&mut self, state: &[u8]) -> Entry {
        self.version += 1;
        state_entry(&self.name, self.version, state)
    }

    /// The next entry, with events and perhaps a snapshot.
    pub fn events(&mut self, events: &[&[u8]], snapshot: Option<&[u8]>) -> Entry {
        self.version += 1;
        event_entry(&self.name, self.version, events, snapshot)
    }
}

/// An outcome that is waited for.
pub type Pending = oneshot::Receiver<Result<Outcome, StoreError>>;

/// One store under test; every helper fails the case by `Err`.
pub struct Rig {
    factory: Arc<dyn StoreFactory>,
    store: Option<Arc<dyn Store>>,
    /// The life that activates.
    pub me: Incarnation,
}

impl Rig {
    /// Opens a new store.
    ///
    /// # Errors
    /// What the factory says.
    pub async fn open(factory: Arc<dyn StoreFactory>) -> Result<Self, String> {
        let store = Some(factory.open().await?);
        Ok(Self { factory, store, me: Incarnation(1) })
    }

    /// The factory.
    #[must_use]
    pub fn factory(&self) -> &dyn StoreFactory {
        &*self.factory
    }

    /// The store in force.
    ///
    /// # Errors
    /// When an earlier reopening failed.
    pub fn store(&self) -> Result<&Arc<dyn Store>, String> {
        self.store.as_ref().ok_or_else(|| "there is no open store".into())
    }

    /// Ends the store as a crash would, and opens its data again.
    ///
    /// # Errors
    /// What the factory says.
    pub async fn reopen(&mut self) -> Check {
        let store = self.store.take().ok_or("there is no open store")?;
        self.store = Some(self.factory.reopen(store).await?);
        Ok(())
    }

    /// Lets background work come to its end.
    ///
    /// # Errors
    /// What the factory says.
    pub async fn settle(&self) -> Check {
        self.factory.settle(self.store()?).await
    }

    /// Puts another store in the place of this one.
    pub fn replace(&mut self, store: Arc<dyn Store>) {
        self.store = Some(store);
    }

    /// Creates and activates a `thing`.
    ///
    /// # Errors
    /// When the activation is not granted.
    pub async fn own(&self, key: &str) -> Result<Owned, String> {
        self.own_named(&name(key)).await
    }

    /// Creates and activates an entity.
    ///
    /// # Errors
    /// When the activation is not granted.
    pub async fn own_named(&self, name: &Name) -> Result<Owned, String> {
        let entity = self.create(name).await?;
        Ok(Owned { name: name.clone(), token: self.activate(entity).await?, version: 0 })
    }

    /// Activates again what was owned before.
    ///
    /// # Errors
    /// When the activation is not granted.
    pub async fn own_again(&self, owned: &mut Owned) -> Check {
        owned.token = self.activate(owned.entity()).await?;
        Ok(())
    }

    /// Creates a name, or finds it.
    ///
    /// # Errors
    /// What the store says.
    pub async fn create(&self, name: &Name) -> Result<EntityId, String> {
        Ok(self.store()?.create(name).await.map_err(said)?.entity())
    }

    /// Activates for [`Rig::me`].
    ///
    /// # Errors
    /// When the activation is not granted.
    pub async fn activate(&self, entity: EntityId) -> Result<Token, String> {
        match within(self.store()?.activate(entity, self.me)).await?.map_err(said)? {
            Activated::Granted(token) => Ok(token),
            other => Err(format!("activation of {entity} gave {other:?}")),
        }
    }

    /// Gives a right back.
    ///
    /// # Errors
    /// What the store says.
    pub async fn release(&self, token: Token) -> Check {
        within(self.store()?.release(token)).await?.map_err(said)
    }

    /// Hands a record over.
    ///
    /// # Errors
    /// When it is handed back.
    pub fn start(&self, record: Record) -> Result<Pending, String> {
        let (to, outcome) = oneshot::channel();
        // A case that gave up waiting needs no outcome.
        let done = Box::new(move |outcome| drop(to.send(outcome)));
        self.store()?.submit(record, done).map_err(|refused| format!("handed back: {:?}", refused.why))?;
        Ok(outcome)
    }

    /// Hands a record over and waits for what became of it.
    ///
    /// # Errors
    /// When it is handed back or never answered.
    pub async fn submit(&self, record: Record) -> Result<Result<Outcome, StoreError>, String> {
        outcome_of(self.start(record)?).await
    }

    /// Hands a record over that must apply.
    ///
    /// # Errors
    /// When it does not.
    pub async fn apply(&self, record: Record) -> Result<Position, String> {
        applied(self.submit(record).await?)
    }

    /// Hands a record over that must not apply.
    ///
    /// # Errors
    /// When it is answered by an error.
    pub async fn outcome(&self, record: Record) -> Result<Outcome, String> {
        self.submit(record).await?.map_err(said)
    }

    /// Applies one entry.
    ///
    /// # Errors
    /// When it does not apply.
    pub async fn put(&self, owned: &Owned, entry: Entry) -> Result<Position, String> {
        self.put_all(owned, vec![entry]).await
    }

    /// Applies entries as one chain.
    ///
    /// # Errors
    /// When they do not apply.
    pub async fn put_all(&self, owned: &Owned, entries: Vec<Entry>) -> Result<Position, String> {
        self.apply(record(owned, entries)?).await
    }

    /// Reads what an activation reads.
    ///
    /// # Errors
    /// When there is nothing.
    pub async fn loaded(&self, entity: EntityId) -> Result<Loaded, String> {
        self.load(entity).await?.ok_or_else(|| format!("nothing is stored of entity {entity}"))
    }

    /// Reads what an activation reads, if there is something.
    ///
    /// # Errors
    /// What the store says.
    pub async fn load(&self, entity: EntityId) -> Result<Option<Loaded>, String> {
        self.store()?.load(entity).await.map_err(said)
    }

    /// The state of the checkpoint.
    ///
    /// # Errors
    /// When there is none.
    pub async fn state(&self, entity: EntityId) -> Result<Bytes, String> {
        let checkpoint = self.loaded(entity).await?.checkpoint;
        Ok(checkpoint.ok_or_else(|| format!("entity {entity} has no checkpoint"))?.state)
    }

    /// The version: 0 before the first entry.
    ///
    /// # Errors
    /// What the store says.
    pub async fn version(&self, entity: EntityId) -> Result<u64, String> {
        let loaded = self.load(entity).await?;
        Ok(loaded.as_ref().and_then(Loaded::head).map_or(0, |head| head.version.0))
    }

    /// Private rows of a range.
    ///
    /// # Errors
    /// What the store says.
    pub async fn rows(
        &self,
        entity: EntityId,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, String> {
        let (from, to) = (Bytes::copy_from_slice(from), Bytes::copy_from_slice(to));
        self.store()?.rows(entity, from, to, limit).await.map_err(said)
    }

    /// One page of history.
    ///
    /// # Errors
    /// What the store says.
    pub async fn history(&self, entity: EntityId, from: u64, limit: usize) -> Result<HistoryPage, String> {
        self.store()?.history(entity, Version(from), limit).await.map_err(said)
    }

    /// Everything kept from the first version kept on, and that version.
    ///
    /// # Errors
    /// When what is named as the first kept version is not readable.
    pub async fn kept(&self, entity: EntityId) -> Result<(u64, Vec<Entry>), String> {
        let first = match self.history(entity, 1, 1).await? {
            HistoryPage::Entries(_) => 1,
            HistoryPage::Truncated { first } => first.0,
        };
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            match self.history(entity, first + entries.len() as u64, 100).await? {
                HistoryPage::Entries(page) if page.is_empty() => return Ok((first, entries)),
                HistoryPage::Entries(page) => entries.extend(page),
                HistoryPage::Truncated { first } => {
                    return Err(format!("truncated to {first} while reading"));
                }
            }
        }
    }

    /// Timers due up to `until`, as (entity, timer).
    ///
    /// # Errors
    /// What the store says.
    pub async fn due(&self, until: i64, after: Option<Due>, limit: usize) -> Result<Vec<Due>, String> {
        self.store()?.due(Timestamp(until), after, limit).await.map_err(said)
    }

    /// Entities with something pending.
    ///
    /// # Errors
    /// What the store says.
    pub async fn work(&self, after: Option<EntityId>, limit: usize) -> Result<Vec<EntityId>, String> {
        self.store()?.work(after, limit).await.map_err(said)
    }
}

/// A chain of `entries` of an owned entity, on top of the version before the first of them.
pub(crate) fn record(owned: &Owned, entries: Vec<Entry>) -> Result<Record, String> {
    let expect = entries.first().map_or(owned.version, |entry| entry.head.version.0.saturating_sub(1));
    Ok(Record::Chain(chain(owned.token, expect, entries)?))
}

/// Waits for an answer, not for ever.
pub(crate) async fn within<T>(answer: impl Future<Output = T>) -> Result<T, String> {
    tokio::time::timeout(ANSWER_MAX, answer).await.map_err(|_| format!("no answer within {ANSWER_MAX:?}"))
}

/// Waits for an outcome, not for ever.
pub(crate) async fn outcome_of(pending: Pending) -> Result<Result<Outcome, StoreError>, String> {
    within(pending).await?.map_err(|_| "the completer was dropped without a call".into())
}

/// The position of an outcome that must be `Applied`.
pub(crate) fn applied(outcome: Result<Outcome, StoreError>) -> Result<Position, String> {
    match outcome {
        Ok(Outcome::Applied { position }) => Ok(position),
        other => Err(format!("expected Applied, found {other:?}")),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "reads as map_err(said)")]
pub(crate) fn said(error: StoreError) -> String {
    format!("the store says: {error}")
}

/// Checks that two values are equal.
///
/// # Errors
/// `what`, and both values.
pub fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Check {
    if found == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}

/// Checks a condition.
///
/// # Errors
/// `what`.
pub fn holds(condition: bool, what: &str) -> Check {
    if condition { Ok(()) } else { Err(format!("does not hold: {what}")) }
}
