//! The writer thread: drains the queue, decides, commits the log once, projects, answers in order.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, atomic::Ordering},
};

use stanchion_actors::{
    ids::{EntityId, Position, Version},
    store::{Activated, Chain, Incarnation, Outcome, Record, StoreError, Table, Token, encode, key},
};
use stanchion_sync::Drain;

use super::{
    chunk::{ChunkBuilder, LogRecord},
    crash::CrashPoint,
    decide::Owners,
    log::RedoLog,
    memtable::version_of,
    pace::{freeze, freeze_if_due, pace},
    reply::Reply,
    shared::{Job, Shared, count},
};

/// Most entries projected under one lock, so that readers wait for a fraction of a batch.
const PROJECT_MAX_ENTRIES: usize = 128;
/// What becomes readable with a batch.
enum Projection {
    /// A chain, and the position of its last entry.
    Chain(Position, Chain),
    /// Chains that become readable together.
    Atomic(Vec<(Position, Chain)>),
    /// Another record at its position.
    Other(Position, LogRecord),
}

/// The one thread that writes the log.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    log: RedoLog,
    owners: Owners,
    /// Position of the next entry.
    next: Position,
    chunk: ChunkBuilder,
    /// Entries in the chunk.
    entries: u64,
    projections: Vec<Projection>,
    replies: VecDeque<Reply>,
    /// Entities whose name is stored by this batch.
    born: Vec<EntityId>,
    /// Taken from the queue and not looked at yet.
    jobs: VecDeque<Job>,
    /// Bytes of the last commit.
    last_bytes: usize,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, log: RedoLog, last: Position) -> Self {
        let owners = Owners::new(shared.boot);
        Self {
            shared,
            log,
            owners,
            next: last.next(),
            chunk: ChunkBuilder::new(),
            entries: 0,
            projections: Vec::new(),
            replies: VecDeque::new(),
            born: Vec::new(),
            jobs: VecDeque::new(),
            last_bytes: 0,
        }
    }

    /// Runs until the queue is closed and empty, or the store is poisoned; gives the log back.
    pub(crate) fn run(mut self) -> RedoLog {
        let ended = catch_unwind(AssertUnwindSafe(|| self.work()));
        if ended.is_err() {
            self.shared.poison("the writer thread panicked".into());
        }
        if self.shared.poisoned().is_some() {
            self.reject_rest();
        }
        self.log
    }

    fn work(&mut self) {
        let mut drained = Vec::new();
        freeze_if_due(&self.shared);
        while self.shared.poisoned().is_none() {
            let share = pace(&self.shared, self.last_bytes);
            let options = &self.shared.options;
            let items = options.batch_items / share;
            if self.shared.queue.drain(items, options.batch_bytes, &mut drained) == Drain::Closed {
                return;
            }
            self.jobs.extend(drained.drain(..));
            while let Some(job) = self.jobs.pop_front() {
                if self.shared.poisoned().is_some() {
                    self.reject(job);
                } else {
                    self.take(job);
                }
            }
            self.flush();
            freeze_if_due(&self.shared);
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Record(Record::Purge { token }, done) => {
                self.flush();
                let decided = self.purge(token);
                self.replies.push_back(Reply::Record(done, decided));
                self.flush();
            }
            Job::Record(record, done) => {
                let decided = self.decide(record);
                self.replies.push_back(Reply::Record(done, decided));
            }
            Job::Activate { entity, by, answer } => {
                let decided = self.activate(entity, by);
                self.replies.push_back(Reply::Activated(answer, decided));
            }
            Job::Release { token, answer } => {
                if self.owners.release(token) && !self.born.contains(&token.entity) {
                    self.drop_empty(token.entity);
                }
                self.replies.push_back(Reply::Done(answer, Ok(())));
            }
            Job::Seal { answer } => {
                self.flush();
                self.seal();
                self.replies.push_back(Reply::Done(answer, Ok(())));
            }
            Job::Freeze { answer } => {
                self.flush();
                freeze(&self.shared);
                self.replies.push_back(Reply::Done(answer, Ok(())));
            }
        }
    }

    fn decide(&mut self, record: Record) -> Result<Outcome, StoreError> {
        match record {
            Record::Chain(chain) => Ok(match self.owners.accept(&chain)? {
                Ok(()) => {
                    let last = self.encode(&chain);
                    self.projections.push(Projection::Chain(last, chain));
                    self.applied()
                }
                Err(outcome) => outcome,
            }),
            Record::Atomic(chains) => Ok(match self.owners.accept_all(&chains)? {
                Ok(()) => {
                    let chains = chains.into_iter().map(|chain| (self.encode(&chain), chain)).collect();
                    self.projections.push(Projection::Atomic(chains));
                    self.applied()
                }
                Err(outcome) => outcome,
            }),
            Record::Inbox { entity, item } => {
                let named = self
                    .known(entity)?
                    .ok_or_else(|| StoreError::NotApplied(format!("entity {entity} does not exist")))?;
                let encoded = encode(&item).map_err(|e| StoreError::NotApplied(e.to_string()))?;
                self.chunk.inbox(entity, named, &encoded);
                if named {
                    self.born.push(entity);
                }
                Ok(self.other(LogRecord::Inbox { entity, named, item }))
            }
            Record::Done { sender, seq } => {
                self.chunk.done(sender, seq);
                Ok(self.other(LogRecord::Done { sender, seq }))
            }
            Record::Definition { hash, bytes } => {
                self.chunk.definition(&hash, &bytes);
                Ok(self.other(LogRecord::Definition { hash, bytes }))
            }
            other => Err(StoreError::NotApplied(format!("this store does not know the record {other:?}"))),
        }
    }

    fn applied(&self) -> Outcome {
        Outcome::Applied { position: Position(self.next.0 - 1) }
    }

    /// Puts a chain into the chunk; answers the position of its last entry.
    fn encode(&mut self, chain: &Chain) -> Position {
        self.chunk.chain(chain);
        if chain.expect() == Version(0) {
            self.born.push(chain.entity());
        }
        self.entries += chain.len() as u64;
        self.next = Position(self.next.0 + chain.len() as u64);
        Position(self.next.0 - 1)
    }

    fn other(&mut self, record: LogRecord) -> Outcome {
        self.projections.push(Projection::Other(self.next, record));
        self.next = self.next.next();
        self.applied()
    }

    /// `None`: no such entity; `Some(true)`: it has a number and nothing stored yet.
    fn known(&self, entity: EntityId) -> Result<Option<bool>, StoreError> {
        if self.shared.pending.lock().name_of(entity).is_some() {
            return Ok(Some(!self.born.contains(&entity)));
        }
        if self.owners.version(entity).is_some() {
            return Ok(Some(false));
        }
        let snapshot = self.shared.view.snapshot()?;
        let found = snapshot.head(entity)?.is_some()
            || !snapshot.range(Table::Work, key::entity(entity), after(entity), 1)?.is_empty();
        Ok(found.then_some(false))
    }

    /// A number whose name was only looked at is free again; it is never given twice.
    fn drop_empty(&mut self, entity: EntityId) {
        if self.shared.pending.forget(entity) {
            self.owners.drop_empty(entity);
        }
    }

    fn activate(&mut self, entity: EntityId, by: Incarnation) -> Result<Activated, StoreError> {
        let version = match self.owners.version(entity) {
            Some(version) => version,
            None => match self.known(entity)? {
                None => return Ok(Activated::Missing),
                Some(_) => version_of(self.shared.view.snapshot()?.head(entity)?.as_ref()),
            },
        };
        Ok(self.owners.activate(entity, by, version))
    }

    /// Everything before it can be read, so what lies outside the entity's number is found.
    fn purge(&mut self, token: Token) -> Result<Outcome, StoreError> {
        if let Err(outcome) = self.owners.admits(token) {
            return Ok(outcome);
        }
        let entity = token.entity;
        let snapshot = self.shared.view.snapshot()?;
        let name = match snapshot.head(entity)? {
            Some(head) => key::name(&head.name),
            None => snapshot.waiting_name(entity)?.map(|name| key::name(&name)).unwrap_or_default(),
        };
        let index = match snapshot.head(entity)?.filter(|head| !head.status.is_empty()) {
            Some(head) => key::index(&head.name, key::STATUS, &head.status),
            None => Vec::new(),
        };
        let due = snapshot.timers(entity)?.iter().map(|t| key::due(t.due, entity, &t.id)).collect::<Vec<_>>();
        self.owners.release(token);
        self.born.push(entity);
        self.chunk.purge(entity, &name, &index, &due);
        Ok(self.other(LogRecord::Purge { entity, name, index, due }))
    }

    /// Commits what is decided, makes it readable, answers.
    fn flush(&mut self) {
        if !self.chunk.is_empty() && !self.commit() {
            return;
        }
        self.owners.settle();
        self.shared.options.crash.reach(CrashPoint::BeforeAnswer);
        self.reply();
        // After the answers: nobody waits for memory to be given back.
        self.projections.clear();
    }

    fn commit(&mut self) -> bool {
        let shared = self.shared.clone();
        let last = Position(self.next.0 - 1);
        let first = Position(self.next.0 - self.chunk.count());
        let folded = Position(shared.folded.load(Ordering::Acquire));
        shared.options.crash.reach(CrashPoint::BeforeCommit);
        let chunk = self.chunk.seal(first, shared.boot);
        let bytes = chunk.len();
        if let Err(error) = self.log.append(first, last, chunk, folded) {
            shared.poison(format!("the log was not flushed: {error}"));
            self.reply_unknown();
            return false;
        }
        self.last_bytes = bytes;
        shared.options.crash.reach(CrashPoint::AfterCommit);
        count(&shared.counters.commits, 1);
        count(&shared.counters.entries, std::mem::take(&mut self.entries));
        count(&shared.counters.bytes, bytes as u64);
        self.chunk.clear();
        self.project();
        shared.position.store(last.0, Ordering::Release);
        shared.logged(bytes);
        true
    }

    /// A commit behind the last one, while nobody waits for anything.
    fn seal(&self) {
        if self.shared.poisoned().is_some() {
            return;
        }
        match self.log.seal() {
            Ok(()) => self.shared.options.crash.reach(CrashPoint::AfterSeal),
            Err(error) => self.shared.poison(format!("the log was not flushed: {error}")),
        }
    }

    fn project(&mut self) {
        let active = self.shared.view.active();
        let mut projections = self.projections.iter().peekable();
        while projections.peek().is_some() {
            let mut mem = active.write().unwrap_or_else(PoisonError::into_inner);
            let mut entries = 0;
            while entries < PROJECT_MAX_ENTRIES
                && let Some(projection) = projections.next()
            {
                let done = match projection {
                    Projection::Chain(last, chain) => {
                        entries += chain.len();
                        mem.chain(*last, chain)
                    }
                    Projection::Atomic(chains) => {
                        entries += chains.len();
                        chains.iter().try_for_each(|(last, chain)| mem.chain(*last, chain))
                    }
                    Projection::Other(position, record) => {
                        entries += 1;
                        mem.replay(*position, record)
                    }
                };
                assert!(done.is_ok(), "what was encoded projects: {done:?}");
            }
        }
        self.shared.pending.settle(&mut self.born);
    }

    fn reply(&mut self) {
        while let Some(reply) = self.replies.pop_front() {
            reply.tell(&self.shared);
        }
    }

    /// Answers a batch whose commit failed.
    fn reply_unknown(&mut self) {
        let why = self.why();
        while let Some(reply) = self.replies.pop_front() {
            let applied = matches!(reply, Reply::Record(_, Ok(Outcome::Applied { .. })));
            let error =
                if applied { StoreError::Unknown(why.clone()) } else { StoreError::NotApplied(why.clone()) };
            reply.refused(error).tell(&self.shared);
        }
    }

    fn why(&self) -> String {
        self.shared.poisoned().unwrap_or("the store is closed").to_owned()
    }

    fn reject(&self, job: Job) {
        Reply::refusing(job, StoreError::NotApplied(self.why())).tell(&self.shared);
    }

    /// Nothing handed over is left without an answer.
    fn reject_rest(&mut self) {
        self.reply_unknown();
        let mut jobs = Vec::from(std::mem::take(&mut self.jobs));
        while self.shared.queue.drain(usize::MAX, usize::MAX, &mut jobs) == Drain::Items {}
        for job in jobs {
            self.reject(job);
        }
    }
}

/// The end of the entity's rows.
pub(crate) fn after(entity: EntityId) -> Option<Vec<u8>> {
    super::tables::after_prefix(&key::entity(entity))
}
