//! What happens under the lock: rights and versions checked, records applied, outcomes queued.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use super::{
    disk::Disk,
    faults::{Failure, Plan},
    owners::Owners,
};
use crate::{
    ids::{EntityId, Name, Position, Version},
    store::{
        Activated, Chain, Completer, Created, Incarnation, Outcome, Record, StoreError, StoreStats, Token,
    },
};

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What waits for its turn.
pub(super) enum Item {
    Record(Record, Completer),
    Activate(EntityId, Incarnation, Answer<Activated>),
    Release(Token, Answer<()>),
    Close(Answer<()>),
}

/// What waits to be told.
pub(super) enum Delivery {
    Completion(Completer, Result<Outcome, StoreError>),
    Answer(Box<dyn FnOnce() + Send>),
}

impl Delivery {
    pub(super) fn answer<T: Send + 'static>(to: Answer<T>, answer: Result<T, StoreError>) -> Self {
        // Nobody waits any more: the answer has no reader, and nothing depends on it.
        Self::Answer(Box::new(move || drop(to.send(answer))))
    }

    /// A completer that panics has told its own story; the others are still told.
    pub(super) fn tell(self) {
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match self {
            Self::Completion(done, outcome) => done(outcome),
            Self::Answer(tell) => tell(),
        }));
        if told.is_err() {
            tracing::error!("a completer panicked");
        }
    }
}

/// Everything under the lock.
pub(super) struct Core {
    pub(super) disk: Disk,
    pub(super) owners: Owners,
    /// Names that have a number but no row yet.
    created: BTreeMap<Name, EntityId>,
    last_entity: EntityId,
    pub(super) queue: VecDeque<Item>,
    pub(super) queued: usize,
    pub(super) queue_max: usize,
    pub(super) plan: Plan,
    pub(super) stats: StoreStats,
    pub(super) poisoned: Option<String>,
    /// No record is taken any more.
    pub(super) closing: bool,
    /// Every handle is gone.
    pub(super) abandoned: bool,
    pub(super) deliveries: VecDeque<Delivery>,
    pub(super) delivering: bool,
}

impl Core {
    pub(super) fn open(disk: Disk, queue_max: usize) -> Self {
        Self {
            owners: Owners::under(disk.boot),
            created: BTreeMap::new(),
            last_entity: disk.last_entity,
            disk,
            queue: VecDeque::new(),
            queued: 0,
            queue_max,
            plan: Plan::default(),
            stats: StoreStats::default(),
            poisoned: None,
            closing: false,
            abandoned: false,
            deliveries: VecDeque::new(),
            delivering: false,
        }
    }

    /// Whether anything is answered under this boot.
    pub(super) fn alive(&self) -> Result<(), StoreError> {
        match &self.poisoned {
            Some(cause) => Err(StoreError::Fatal(cause.clone())),
            None => Ok(()),
        }
    }

    /// Whether reads are answered.
    pub(super) fn readable(&self) -> Result<(), StoreError> {
        match self.plan.blind {
            true => Err(StoreError::NotApplied("reads fail on purpose".into())),
            false => self.alive(),
        }
    }

    /// Finds a name, with or without a row.
    pub(super) fn resolve(&self, name: &Name) -> Option<EntityId> {
        self.disk.named(name).or_else(|| self.created.get(name).copied())
    }

    /// Finds a name or gives it the next number.
    pub(super) fn create(&mut self, name: &Name) -> Created {
        if let Some(entity) = self.disk.named(name) {
            return Created::Exists(entity);
        }
        if let Some(entity) = self.created.get(name) {
            return Created::New(*entity);
        }
        self.last_entity = self.last_entity.next();
        self.created.insert(name.clone(), self.last_entity);
        Created::New(self.last_entity)
    }

    /// One commit: at most `records` records, and whatever else waits before and right behind them.
    pub(super) fn commit(&mut self, records: usize) -> usize {
        let mut committed = 0;
        let mut failure = None;
        while let Some(item) = self.queue.pop_front() {
            match item {
                Item::Record(..) if committed >= records => {
                    self.queue.push_front(item);
                    break;
                }
                Item::Record(record, done) => {
                    if committed == 0 {
                        self.stats.commits += 1;
                        failure = self.plan.failures.pop_front();
                    }
                    committed += 1;
                    self.queued -= 1;
                    let outcome = self.settle(&record, failure);
                    self.complete(done, outcome);
                }
                other => self.answer(other),
            }
        }
        if matches!(failure, Some(Failure::UnknownApplied | Failure::UnknownLost)) {
            self.poison("a flush failed");
        }
        committed
    }

    fn answer(&mut self, item: Item) {
        let alive = self.alive();
        let delivery = match item {
            Item::Record(_, done) => {
                Delivery::Completion(done, Err(StoreError::NotApplied("not reached".into())))
            }
            Item::Activate(entity, by, to) => Delivery::answer(to, alive.map(|()| self.activate(entity, by))),
            Item::Release(token, to) => {
                self.release(token);
                Delivery::answer(to, alive)
            }
            Item::Close(to) => {
                self.poisoned.get_or_insert_with(|| "closed".into());
                Delivery::answer(to, Ok(()))
            }
        };
        self.deliveries.push_back(delivery);
    }

    /// A number whose name was only looked at is free again; it is never given twice.
    fn release(&mut self, token: Token) {
        let in_force = self.owners.check(token).is_ok();
        self.owners.release(token);
        if in_force && !self.is_stored(token.entity) {
            self.created.retain(|_, entity| *entity != token.entity);
        }
    }

    fn activate(&mut self, entity: EntityId, by: Incarnation) -> Activated {
        if self.exists(entity) { self.owners.activate(entity, by) } else { Activated::Missing }
    }

    fn exists(&self, entity: EntityId) -> bool {
        self.created.values().any(|known| *known == entity) || self.is_stored(entity)
    }

    fn is_stored(&self, entity: EntityId) -> bool {
        self.disk.heads.contains_key(&entity)
            || self.disk.work(Some(EntityId(entity.0.saturating_sub(1))), 1).contains(&entity)
    }

    fn settle(&mut self, record: &Record, failure: Option<Failure>) -> Result<Outcome, StoreError> {
        let applied = match failure {
            Some(Failure::NotApplied) => return Err(StoreError::NotApplied("injected".into())),
            Some(Failure::UnknownLost) => return Err(StoreError::Unknown("the flush failed".into())),
            Some(Failure::UnknownApplied) | None => self.apply(record)?,
        };
        if failure.is_some() { Err(StoreError::Unknown("the flush failed".into())) } else { Ok(applied) }
    }

    fn apply(&mut self, record: &Record) -> Result<Outcome, StoreError> {
        if let Some(outcome) = self.refusal(record)? {
            return Ok(outcome);
        }
        let position = self.disk.apply(record).map_err(|e| StoreError::NotApplied(e.to_string()))?;
        if let Some(lies) = &mut self.plan.lies {
            lies.confirm(record);
        }
        self.stats.bytes += record.weight() as u64;
        self.stats.entries += entries(record);
        if let Record::Purge { token } = record {
            self.owners.release(*token);
            self.created.retain(|_, entity| *entity != token.entity);
        }
        Ok(Outcome::Applied { position })
    }

    /// Why a record is not applied: the first of its chains that may not.
    fn refusal(&self, record: &Record) -> Result<Option<Outcome>, StoreError> {
        match record {
            Record::Chain(chain) => self.refusal_of(chain),
            Record::Atomic(chains) => {
                distinct(chains)?;
                for chain in chains {
                    if let Some(outcome) = self.refusal_of(chain)? {
                        return Ok(Some(outcome));
                    }
                }
                Ok(None)
            }
            Record::Purge { token } => {
                Ok(self.owners.check(*token).err().map(|activation| Outcome::Fenced { activation }))
            }
            Record::Inbox { entity, .. } if !self.exists(*entity) => {
                Err(StoreError::NotApplied(format!("there is no entity {entity}")))
            }
            Record::Inbox { .. } | Record::Done { .. } | Record::Definition { .. } => Ok(None),
        }
    }

    fn refusal_of(&self, chain: &Chain) -> Result<Option<Outcome>, StoreError> {
        if chain.is_empty() {
            return Err(StoreError::NotApplied("the chain has no entry".into()));
        }
        if let Err(activation) = self.owners.check(chain.token()) {
            return Ok(Some(Outcome::Fenced { activation }));
        }
        let found: Version = self.disk.version(chain.entity());
        Ok((found != chain.expect()).then_some(Outcome::Conflict { found }))
    }

    fn complete(&mut self, done: Completer, outcome: Result<Outcome, StoreError>) {
        let counter = match &outcome {
            Ok(Outcome::Applied { .. }) => &mut self.stats.applied,
            Ok(Outcome::Fenced { .. }) => &mut self.stats.fenced,
            Ok(Outcome::Conflict { .. }) => &mut self.stats.conflicts,
            Err(_) => &mut self.stats.failed,
        };
        *counter += 1;
        self.deliveries.push_back(Delivery::Completion(done, outcome));
    }

    /// Nothing is applied any more: what waits is answered so.
    pub(super) fn poison(&mut self, cause: &str) {
        self.poisoned.get_or_insert_with(|| cause.into());
        self.drain(&StoreError::NotApplied(cause.into()));
    }

    fn drain(&mut self, error: &StoreError) {
        while let Some(item) = self.queue.pop_front() {
            match item {
                Item::Record(_, done) => {
                    self.queued -= 1;
                    self.complete(done, Err(error.clone()));
                }
                other => self.answer(other),
            }
        }
    }

    pub(super) fn crash(&mut self, keep: Position) -> Disk {
        let gone = StoreError::Unknown("the process ended".into());
        let disk = match self.plan.lies.take() {
            Some(lies) if keep < self.disk.position => lies.cut(keep),
            _ => self.reached(keep),
        };
        for delivery in &mut self.deliveries {
            if let Delivery::Completion(_, outcome) = delivery {
                *outcome = Err(gone.clone());
            }
        }
        self.poisoned.get_or_insert_with(|| "the process ended".into());
        self.drain(&gone);
        disk
    }

    /// The rows with those queued records that end by `keep`: their bytes had reached the disk, unconfirmed.
    fn reached(&mut self, keep: Position) -> Disk {
        let mut disk = self.disk.clone();
        let queue = std::mem::take(&mut self.queue);
        for item in &queue {
            let Item::Record(record, _) = item else { continue };
            let before = self.disk.clone();
            let settled = self.apply(record);
            if self.disk.position > keep {
                self.disk = before;
                break;
            }
            if settled.is_ok() {
                disk = self.disk.clone();
            }
        }
        self.queue = queue;
        disk
    }
}

fn distinct(chains: &[Chain]) -> Result<(), StoreError> {
    let mut entities: Vec<EntityId> = chains.iter().map(Chain::entity).collect();
    entities.sort_unstable();
    entities.dedup();
    if entities.len() == chains.len() && !chains.is_empty() {
        Ok(())
    } else {
        Err(StoreError::NotApplied("an atomic record needs chains of different entities".into()))
    }
}

fn entries(record: &Record) -> u64 {
    match record {
        Record::Chain(chain) => chain.len() as u64,
        Record::Atomic(chains) => chains.iter().map(|chain| chain.len() as u64).sum(),
        Record::Inbox { .. } | Record::Done { .. } | Record::Definition { .. } | Record::Purge { .. } => 0,
    }
}
