//! The writer thread: drains the queue, decides, commits the log once, projects, answers in order.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use stanchion_actors::{
    ids::{EntityId, Position, Version},
    store::{Activated, Completer, Incarnation, Outcome, Record, StoreError, Table, encode, key},
};
use stanchion_sync::Drain;

use super::{
    chunk::{ChunkBuilder, LogRecord},
    crash::CrashPoint,
    decide::Owners,
    log::RedoLog,
    memtable::version_of,
    shared::{Answer, Job, Shared, count},
    view::read_mem,
};

/// Most entries projected under one lock, so that readers wait for a fraction of a batch.
const PROJECT_MAX_ENTRIES: usize = 128;
/// Longest single wait for the fold before a commit.
const PACE_MAX: Duration = Duration::from_millis(50);
/// Batches are this many times smaller while the fold is behind.
const PACED_SHARE: usize = 8;
/// Fold speed assumed before the first fold, in bytes a second.
const PACE_ASSUMED: f64 = 20e6;

/// What becomes readable with a batch.
enum Projection {
    /// A chain, and the position of its last entry.
    Chain(Position, stanchion_actors::store::Chain),
    /// Another record at its position.
    Other(Position, LogRecord),
}

/// Who is answered after the commit.
enum Reply {
    Record(Completer, Result<Outcome, StoreError>),
    Activated(Answer<Activated>, Result<Activated, StoreError>),
    Done(Answer<()>),
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
    replies: Vec<Reply>,
    /// Entities whose name is stored by this batch.
    born: Vec<EntityId>,
    jobs: Vec<Job>,
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
            replies: Vec::new(),
            born: Vec::new(),
            jobs: Vec::new(),
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
        self.freeze_if_due();
        while self.shared.poisoned().is_none() {
            let paced = self.pace();
            let mut jobs = std::mem::take(&mut self.jobs);
            let options = &self.shared.options;
            // While the fold sets the speed, small batches spread its waits evenly over the callers.
            let items = if paced { options.batch_items / PACED_SHARE } else { options.batch_items };
            if self.shared.queue.drain(items, options.batch_bytes, &mut jobs) == Drain::Closed {
                return;
            }
            for job in jobs.drain(..) {
                if self.shared.poisoned().is_some() {
                    self.reject(job);
                    continue;
                }
                self.take(job);
            }
            self.jobs = jobs;
            self.flush();
            self.freeze_if_due();
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Record(Record::Purge { token }, done) => {
                self.flush();
                let decided = self.purge(token);
                self.replies.push(Reply::Record(done, decided));
                self.flush();
            }
            Job::Record(record, done) => {
                let decided = self.decide(record);
                self.replies.push(Reply::Record(done, decided));
            }
            Job::Activate { entity, by, answer } => {
                let decided = self.activate(entity, by);
                self.replies.push(Reply::Activated(answer, decided));
            }
            Job::Release { token, answer } => {
                self.owners.release(token);
                self.replies.push(Reply::Done(answer));
            }
            Job::Freeze { answer } => {
                self.flush();
                freeze(&self.shared);
                self.replies.push(Reply::Done(answer));
            }
        }
    }

    fn decide(&mut self, record: Record) -> Result<Outcome, StoreError> {
        match record {
            Record::Chain(chain) => Ok(match self.owners.accept(&chain)? {
                Ok(()) => self.chain(chain),
                Err(outcome) => outcome,
            }),
            Record::Atomic(chains) => Ok(match self.owners.accept_all(&chains)? {
                Ok(()) => {
                    for chain in chains {
                        self.chain(chain);
                    }
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

    fn chain(&mut self, chain: stanchion_actors::store::Chain) -> Outcome {
        self.chunk.chain(&chain);
        if chain.expect() == Version(0) {
            self.born.push(chain.entity());
        }
        self.entries += chain.len() as u64;
        self.next = Position(self.next.0 + chain.len() as u64);
        let outcome = self.applied();
        self.projections.push(Projection::Chain(Position(self.next.0 - 1), chain));
        outcome
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
    fn purge(&mut self, token: stanchion_actors::store::Token) -> Result<Outcome, StoreError> {
        if let Err(outcome) = self.owners.admits(token) {
            return Ok(outcome);
        }
        let entity = token.entity;
        let snapshot = self.shared.view.snapshot()?;
        let name = match snapshot.head(entity)? {
            Some(head) => key::name(&head.name),
            None => snapshot.waiting_name(entity)?.map(|name| key::name(&name)).unwrap_or_default(),
        };
        let due = snapshot.timers(entity)?.iter().map(|t| key::due(t.due, entity, &t.id)).collect::<Vec<_>>();
        self.owners.release(token);
        self.born.push(entity);
        self.chunk.purge(entity, &name, &due);
        Ok(self.other(LogRecord::Purge { entity, name, due }))
    }

    /// Commits what is decided, makes it readable, answers.
    fn flush(&mut self) {
        if !self.chunk.is_empty() && !self.commit() {
            return;
        }
        self.owners.settle();
        self.shared.options.crash.reach(CrashPoint::BeforeAnswer);
        self.reply();
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
        shared.fold_state().active_bytes += bytes;
        true
    }

    fn project(&mut self) {
        let active = self.shared.view.active();
        let mut projections = self.projections.drain(..).peekable();
        while projections.peek().is_some() {
            let mut mem = active.write().unwrap_or_else(PoisonError::into_inner);
            let mut entries = 0;
            while entries < PROJECT_MAX_ENTRIES
                && let Some(projection) = projections.next()
            {
                let done = match &projection {
                    Projection::Chain(last, chain) => {
                        entries += chain.len();
                        mem.advance(*last, Some(chain.entity()));
                        chain.entries().try_for_each(|(entry, bytes)| mem.entry(chain.entity(), entry, bytes))
                    }
                    Projection::Other(position, record) => {
                        entries += 1;
                        mem.replay(*position, record)
                    }
                };
                assert!(done.is_ok(), "what was encoded projects: {done:?}");
            }
        }
        drop(projections);
        self.shared.pending.settle(&mut self.born);
    }

    fn reply(&mut self) {
        let counters = &self.shared.counters;
        for reply in self.replies.drain(..) {
            match reply {
                Reply::Record(done, result) => {
                    match &result {
                        Ok(Outcome::Applied { .. }) => count(&counters.applied, 1),
                        Ok(Outcome::Fenced { .. }) => count(&counters.fenced, 1),
                        Ok(Outcome::Conflict { .. }) => count(&counters.conflicts, 1),
                        _ => count(&counters.failed, 1),
                    }
                    done(result);
                }
                Reply::Activated(answer, result) => drop(answer.send(result)),
                Reply::Done(answer) => drop(answer.send(Ok(()))),
            }
        }
    }

    /// Answers a batch whose commit failed.
    fn reply_unknown(&mut self) {
        let why = self.why();
        for reply in self.replies.drain(..) {
            let applied = matches!(reply, Reply::Record(_, Ok(Outcome::Applied { .. })));
            let error =
                if applied { StoreError::Unknown(why.clone()) } else { StoreError::NotApplied(why.clone()) };
            refuse(&self.shared, reply, error);
        }
    }

    fn why(&self) -> String {
        self.shared.poisoned().unwrap_or("the store is closed").to_owned()
    }

    fn reject(&self, job: Job) {
        let error = StoreError::NotApplied(self.why());
        let reply = match job {
            Job::Record(_, done) => Reply::Record(done, Err(error.clone())),
            Job::Activate { answer, .. } => Reply::Activated(answer, Err(error.clone())),
            Job::Release { answer, .. } | Job::Freeze { answer } => Reply::Done(answer),
        };
        refuse(&self.shared, reply, error);
    }

    /// Nothing handed over is left without an answer.
    fn reject_rest(&mut self) {
        self.reply_unknown();
        let mut jobs = std::mem::take(&mut self.jobs);
        while self.shared.queue.drain(usize::MAX, usize::MAX, &mut jobs) == Drain::Items {}
        for job in jobs {
            self.reject(job);
        }
    }

    /// Waits for the fold in proportion to what it is behind; whether it is.
    fn pace(&mut self) -> bool {
        let cap = self.shared.options.log_max_bytes;
        let half = cap / 2;
        loop {
            let (backlog, speed) = {
                let fold = self.shared.fold_state();
                (fold.backlog(), fold.bytes_per_second)
            };
            if backlog <= half {
                return false;
            }
            self.freeze_if_due();
            if backlog < cap {
                let full = (backlog - half) as f64 / half.max(1) as f64;
                let speed = if speed > 0.0 { speed } else { PACE_ASSUMED };
                let wait = Duration::from_secs_f64(1.5 * full * self.last_bytes as f64 / speed).min(PACE_MAX);
                drop(self.shared.await_fold(Some(wait), |fold| !fold.stop && fold.backlog() > half));
                return true;
            }
            if self.shared.poisoned().is_some() {
                return true;
            }
            drop(self.shared.await_fold(None, |fold| !fold.stop && fold.busy && fold.backlog() >= cap));
        }
    }

    fn freeze_if_due(&self) {
        let limit = self.shared.options.freeze_bytes();
        let logged = self.shared.fold_state().active_bytes;
        if logged >= limit || read_mem(&self.shared.view.active()).bytes >= limit {
            freeze(&self.shared);
        }
    }
}

/// Freezes the active generation, unless one is being folded or there is nothing; whether it did.
pub(crate) fn freeze(shared: &Shared) -> bool {
    if shared.fold_state().busy {
        return false;
    }
    let frozen = shared.view.change(|gens| {
        if read_mem(&gens.active).is_empty() || gens.folding.is_some() {
            return false;
        }
        gens.folding = Some(std::mem::take(&mut gens.active));
        true
    });
    if frozen {
        shared.fold(|fold| {
            fold.frozen_bytes = std::mem::take(&mut fold.active_bytes);
            fold.done_bytes = 0;
            fold.busy = true;
        });
    }
    frozen
}

fn refuse(shared: &Shared, reply: Reply, error: StoreError) {
    match reply {
        Reply::Record(done, _) => {
            count(&shared.counters.failed, 1);
            done(Err(error));
        }
        Reply::Activated(answer, _) => drop(answer.send(Err(error))),
        Reply::Done(answer) => drop(answer.send(Err(error))),
    }
}

/// The end of the entity's rows.
pub(crate) fn after(entity: EntityId) -> Option<Vec<u8>> {
    super::tables::after_prefix(&key::entity(entity))
}
