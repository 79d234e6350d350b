//! Stores that are wrong on purpose: the suite must find each of them.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};

use super::rig::{Check, StoreFactory};
use crate::{
    ids::{EntityId, Name, Position, Timestamp, Version},
    store::{
        Activated, Caps, Chain, Completer, Created, Due, Entry, FeedFilter, FeedPage, HistoryPage,
        Incarnation, ListQuery, Listed, Loaded, Outcome, Record, Refused, Store, StoreError, StoreStats,
        Token,
    },
};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Private rows are not stored.
    ForgetsRows,
    /// Deletions of private rows are not done.
    ForgetsDeletes,
    /// Timers are not stored.
    ForgetsTimers,
    /// Outgoing messages are not stored.
    ForgetsMessages,
    /// Nothing is consumed.
    ForgetsConsuming,
    /// Effects are not stored.
    ForgetsEffects,
    /// Answers are not remembered.
    ForgetsAnswers,
    /// Records are answered before they are committed.
    AcksBeforeCommit,
    /// A record handed over while another is in flight may be overtaken by the next one.
    SwapsOrder,
    /// The chains of an atomic record are applied one by one.
    SplitsAtomic,
    /// A fenced record is answered `Applied`.
    HidesFences,
    /// A conflict is answered `Applied`.
    HidesConflicts,
    /// Completers are dropped without a call.
    NeverAnswers,
    /// Data does not survive reopening.
    ForgetsAtReopen,
    /// One more row than asked for is given.
    IgnoresLimits,
    /// Paging begins again at the start.
    IgnoresAfter,
    /// A released right stays in force.
    ForgetsReleases,
    /// Activations are answered by the right given first.
    NeverRaises,
    /// Purges are answered, not done.
    ForgetsPurges,
    /// History says it is whole although it begins later.
    HidesTruncation,
    /// Entries get no place in the feed.
    ForgetsFeed,
    /// The feed begins again at the start.
    RepeatsFeed,
    /// The feed holds every kind, whatever is asked.
    MixesFeed,
    /// The feed ends later than what it has shown.
    OverrunsFeed,
    /// The feed goes on behind what it has shown last.
    StallsFeed,
    /// Entities are still found by the status they had before.
    KeepsOldStatus,
    /// Entities are found by the first status they had.
    ForgetsNewStatus,
}

/// Every mutation.
pub const MUTATIONS: [Mutation; 27] = [
    Mutation::ForgetsRows,
    Mutation::ForgetsDeletes,
    Mutation::ForgetsTimers,
    Mutation::ForgetsMessages,
    Mutation::ForgetsConsuming,
    Mutation::ForgetsEffects,
    Mutation::ForgetsAnswers,
    Mutation::AcksBeforeCommit,
    Mutation::SwapsOrder,
    Mutation::SplitsAtomic,
    Mutation::HidesFences,
    Mutation::HidesConflicts,
    Mutation::NeverAnswers,
    Mutation::ForgetsAtReopen,
    Mutation::IgnoresLimits,
    Mutation::IgnoresAfter,
    Mutation::ForgetsReleases,
    Mutation::NeverRaises,
    Mutation::ForgetsPurges,
    Mutation::HidesTruncation,
    Mutation::ForgetsFeed,
    Mutation::RepeatsFeed,
    Mutation::MixesFeed,
    Mutation::OverrunsFeed,
    Mutation::StallsFeed,
    Mutation::KeepsOldStatus,
    Mutation::ForgetsNewStatus,
];

/// Makes wrong stores of right ones.
pub struct MutantFactory<F> {
    inner: F,
    mutation: Mutation,
    current: Mutex<Option<Arc<dyn Store>>>,
}

impl<F: StoreFactory> MutantFactory<F> {
    /// Stores of `inner`, wrong by `mutation`.
    #[must_use]
    pub fn new(inner: F, mutation: Mutation) -> Self {
        Self { inner, mutation, current: Mutex::new(None) }
    }

    fn wrap(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        *lock(&self.current) = Some(Arc::clone(&inner));
        Arc::new(Mutant { inner, mutation: self.mutation, swapped: Arc::default(), given: Mutex::default() })
    }
}

impl<F: StoreFactory> StoreFactory for MutantFactory<F> {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Store>, String>> {
        async { Ok(self.wrap(self.inner.open().await?)) }.boxed()
    }

    fn reopen(&self, store: Arc<dyn Store>) -> BoxFuture<'_, Result<Arc<dyn Store>, String>> {
        drop(store);
        async {
            let inner = lock(&self.current).take().ok_or("nothing is open")?;
            match self.mutation {
                Mutation::ForgetsAtReopen => drop(inner),
                _ => return Ok(self.wrap(self.inner.reopen(inner).await?)),
            }
            self.open().await
        }
        .boxed()
    }

    fn settle<'a>(&'a self, _store: &'a Arc<dyn Store>) -> BoxFuture<'a, Check> {
        async {
            let inner = lock(&self.current).clone().ok_or("nothing is open")?;
            self.inner.settle(&inner).await
        }
        .boxed()
    }
}

/// Records in flight, and one that waits to be overtaken.
#[derive(Default)]
struct Swapped {
    in_flight: usize,
    kept_back: Option<(Record, Completer)>,
}

fn swap(
    inner: &Arc<dyn Store>,
    swapped: &Arc<Mutex<Swapped>>,
    record: Record,
    done: Completer,
) -> Result<(), Box<Refused>> {
    let mut state = lock(swapped);
    if state.in_flight > 0 && state.kept_back.is_none() {
        state.kept_back = Some((record, done));
        return Ok(());
    }
    state.in_flight += 1;
    drop(state);
    let (again, shared) = (Arc::clone(inner), Arc::clone(swapped));
    let told: Completer = Box::new(move |outcome| {
        let mut state = lock(&shared);
        state.in_flight = state.in_flight.saturating_sub(1);
        let kept_back = state.kept_back.take();
        drop(state);
        done(outcome);
        if let Some((record, done)) = kept_back {
            // Handed back only when the store has ended: then nobody waits.
            drop(swap(&again, &shared, record, done));
        }
    });
    inner.submit(record, told)
}

struct Mutant {
    inner: Arc<dyn Store>,
    mutation: Mutation,
    swapped: Arc<Mutex<Swapped>>,
    given: Mutex<std::collections::HashMap<EntityId, Token>>,
}

impl Mutant {
    fn spoil(&self, record: Record) -> Record {
        match record {
            Record::Chain(chain) => Record::Chain(self.spoil_chain(&chain)),
            Record::Atomic(chains) => Record::Atomic(chains.iter().map(|c| self.spoil_chain(c)).collect()),
            Record::Purge { .. } if self.mutation == Mutation::ForgetsPurges => {
                Record::Done { sender: EntityId(u64::MAX), seq: 0 }
            }
            Record::Done { .. } if self.mutation == Mutation::ForgetsConsuming => {
                Record::Done { sender: EntityId(u64::MAX), seq: 0 }
            }
            other => other,
        }
    }

    fn spoil_chain(&self, chain: &Chain) -> Chain {
        let mut spoilt = Chain::new(chain.token(), chain.expect());
        for (entry, _) in chain.entries() {
            let mut entry: Entry = entry.clone();
            match self.mutation {
                Mutation::ForgetsRows => entry.rows.clear(),
                Mutation::ForgetsDeletes => entry.rows.retain(|row| row.value.is_some()),
                Mutation::ForgetsTimers => entry.timers.clear(),
                Mutation::ForgetsMessages => entry.messages.clear(),
                Mutation::ForgetsConsuming => entry.consumed.clear(),
                Mutation::ForgetsEffects => entry.effects.clear(),
                Mutation::ForgetsAnswers => entry.dedup.clear(),
                Mutation::ForgetsFeed => entry.head.feed = false,
                Mutation::KeepsOldStatus => {
                    entry.status_before = entry.status_before.take().map(|_| String::new());
                }
                Mutation::ForgetsNewStatus => entry.status_before = None,
                _ => return chain.clone(),
            }
            if spoilt.push(entry).is_err() {
                return chain.clone();
            }
        }
        spoilt
    }

    fn hide(&self, done: Completer) -> Completer {
        let mutation = self.mutation;
        Box::new(move |outcome| {
            let position = Position(1);
            done(match (mutation, outcome) {
                (Mutation::HidesFences, Ok(Outcome::Fenced { .. }))
                | (Mutation::HidesConflicts, Ok(Outcome::Conflict { .. })) => {
                    Ok(Outcome::Applied { position })
                }
                (_, outcome) => outcome,
            });
        })
    }

    fn ack_early(&self, record: Record, done: Completer) -> Result<(), Box<Refused>> {
        done(Ok(Outcome::Applied { position: self.inner.position().next() }));
        self.inner.submit(record, Box::new(|_| ()))
    }

    fn split(&self, chains: Vec<Chain>, done: Completer) -> Result<(), Box<Refused>> {
        let mut done = Some(done);
        let last = chains.len().saturating_sub(1);
        for (i, chain) in chains.into_iter().enumerate() {
            let told: Completer = match done.take() {
                Some(done) if i == last => done,
                kept => {
                    done = kept;
                    Box::new(|_| ())
                }
            };
            self.inner.submit(Record::Chain(chain), told)?;
        }
        Ok(())
    }

    fn more(&self, limit: usize) -> usize {
        if self.mutation == Mutation::IgnoresLimits { limit.saturating_add(1) } else { limit }
    }

    fn after<T>(&self, after: Option<T>) -> Option<T> {
        after.filter(|_| self.mutation != Mutation::IgnoresAfter)
    }
}

impl Store for Mutant {
    fn submit(&self, record: Record, done: Completer) -> Result<(), Box<Refused>> {
        let record = self.spoil(record);
        match (self.mutation, record) {
            (Mutation::AcksBeforeCommit, record) => self.ack_early(record, done),
            (Mutation::SwapsOrder, record) => swap(&self.inner, &self.swapped, record, done),
            (Mutation::SplitsAtomic, Record::Atomic(chains)) => self.split(chains, done),
            (Mutation::NeverAnswers, record) => self.inner.submit(record, Box::new(move |_| drop(done))),
            (_, record) => self.inner.submit(record, self.hide(done)),
        }
    }

    fn create(&self, name: &Name) -> BoxFuture<'_, Result<Created, StoreError>> {
        self.inner.create(name)
    }

    fn resolve(&self, name: &Name) -> BoxFuture<'_, Result<Option<EntityId>, StoreError>> {
        self.inner.resolve(name)
    }

    fn activate(&self, entity: EntityId, by: Incarnation) -> BoxFuture<'_, Result<Activated, StoreError>> {
        async move {
            if let Some(token) = lock(&self.given).get(&entity) {
                return Ok(Activated::Granted(*token));
            }
            let answer = self.inner.activate(entity, by).await?;
            if let (Mutation::NeverRaises, Activated::Granted(token)) = (self.mutation, answer) {
                lock(&self.given).insert(entity, token);
            }
            Ok(answer)
        }
        .boxed()
    }

    fn release(&self, token: Token) -> BoxFuture<'_, Result<(), StoreError>> {
        if self.mutation == Mutation::ForgetsReleases {
            return async { Ok(()) }.boxed();
        }
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
        self.inner.rows(entity, from, to, self.more(limit))
    }

    fn history(
        &self,
        entity: EntityId,
        from: Version,
        limit: usize,
    ) -> BoxFuture<'_, Result<HistoryPage, StoreError>> {
        async move {
            match self.inner.history(entity, from, limit).await? {
                HistoryPage::Truncated { first } if self.mutation == Mutation::HidesTruncation => {
                    self.inner.history(entity, first, limit).await
                }
                page => Ok(page),
            }
        }
        .boxed()
    }

    fn feed(
        &self,
        after: Position,
        filter: FeedFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<FeedPage, StoreError>> {
        let mutation = self.mutation;
        let from = if mutation == Mutation::RepeatsFeed { Position(0) } else { after };
        let filter = if mutation == Mutation::MixesFeed { FeedFilter::default() } else { filter };
        let read = self.inner.feed(from, filter, self.more(limit));
        async move {
            let mut page = read.await?;
            match mutation {
                Mutation::OverrunsFeed => page.until = page.until.next(),
                Mutation::StallsFeed => page.until = Position(page.until.0.saturating_sub(1)),
                _ => {}
            }
            Ok(page)
        }
        .boxed()
    }

    fn list(&self, query: ListQuery, limit: usize) -> BoxFuture<'_, Result<Vec<Listed>, StoreError>> {
        let query = ListQuery { after: self.after(query.after), ..query };
        self.inner.list(query, self.more(limit))
    }

    fn due(
        &self,
        until: Timestamp,
        after: Option<Due>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Due>, StoreError>> {
        self.inner.due(until, self.after(after), self.more(limit))
    }

    fn work(
        &self,
        after: Option<EntityId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<EntityId>, StoreError>> {
        self.inner.work(self.after(after), self.more(limit))
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
