//! The way to a queue, whatever the number of its partitions.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{
    bells::Meaning,
    command::{
        Ack, Extend, GrantedJob, LeaseRequest, Nack, QUEUE_KIND, QueueCommand, QueueReply, Release, Settled,
    },
    config::QueueConfig,
    error::QueueError,
    gather::Gather,
    names::{JobId, Work},
    partition::Partition,
    refusal::QueueRefusal,
    rows::payload_row,
    taker::bit,
};
use crate::{
    entity::{CallOptions, EntityAddress, Transaction},
    env::Env,
    error::{FailureKind, Unavailable},
    ids::{Name, Timestamp},
    store::{CodecError, decode, encode},
};

/// Asked again, under the same ticket, when it is not known whether a command was applied, or it was not.
const ASK_AGAIN: u32 = 4;
/// Pause before asking again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(25);

/// The way to a queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(super) env: Arc<Env>,
    pub(super) name: Arc<str>,
    pub(super) state: Arc<Known>,
}

/// Jobs leased from one partition.
pub(super) struct Leased {
    pub(super) work: Vec<Work>,
    /// Jobs granted: those that were cancelled since are not among the work.
    pub(super) granted: usize,
    /// When the next one may become ready by itself, if fewer were granted than wanted.
    pub(super) next: Option<Timestamp>,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Partitions; 0: not asked yet.
    pub(super) partitions: AtomicU16,
    turn: AtomicU64,
    pub(super) gather: Gather,
}

impl Queue {
    /// The queue of this name.
    ///
    /// # Errors
    /// [`QueueError::Name`].
    pub fn new(env: &Arc<Env>, name: &str) -> Result<Self, QueueError> {
        if name.contains('/') || name.len() > 200 {
            return Err(crate::ids::NameError::Key(name.to_owned()).into());
        }
        Name::new(QUEUE_KIND, name)?;
        Ok(Self { env: Arc::clone(env), name: Arc::from(name), state: Arc::default() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn partition_name(&self, partition: u16) -> Result<Name, QueueError> {
        let key = if partition == 0 { self.name.to_string() } else { format!("{}/{partition}", self.name) };
        Ok(Name::new(QUEUE_KIND, key)?)
    }

    pub(super) fn address(&self, partition: u16) -> Result<EntityAddress, QueueError> {
        Ok(EntityAddress::new(&self.env, &self.partition_name(partition)?)?)
    }

    /// Number of its partitions.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn partitions(&self) -> Result<u16, QueueError> {
        match self.state.partitions.load(Ordering::Relaxed) {
            0 => self.partitions_anew().await,
            known => Ok(known),
        }
    }

    /// Number of its partitions, whatever is remembered of it.
    pub(super) async fn partitions_anew(&self) -> Result<u16, QueueError> {
        let partitions = self.config().await?.partitions;
        self.state.partitions.store(partitions, Ordering::Relaxed);
        Ok(partitions)
    }

    /// Its settings.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn config(&self) -> Result<QueueConfig, QueueError> {
        let look = |state: &dyn std::any::Any| state.downcast_ref::<Partition>().map(|p| p.config().clone());
        let config = self.address(0)?.read(look, CallOptions::default().deadline).await;
        Ok(config.map_err(QueueError::of_call)?.unwrap_or_default())
    }

    /// Sets its settings, in every partition at once.
    ///
    /// # Errors
    /// [`QueueError`]; `NotEmpty` when the number of partitions would change while jobs are live.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the settings may be in force.
    pub async fn configure(&self, config: QueueConfig) -> Result<(), QueueError> {
        self.state.partitions.store(0, Ordering::Relaxed);
        let partitions = self.partitions().await?.max(config.partitions);
        let told = self.tell_partitions(partitions, &QueueCommand::Configure(config)).await;
        self.state.partitions.store(0, Ordering::Relaxed);
        told
    }

    /// Leases jobs and reads their payloads; a job that was cancelled in between is left out.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, jobs may be leased; they come back when the lease runs out.
    pub async fn lease(&self, request: LeaseRequest) -> Result<Vec<Work>, QueueError> {
        let partitions = self.partitions().await?;
        let first = self.next_turn();
        let mut work = Vec::new();
        for step in 0..u64::from(partitions) {
            let partition = u16::try_from((first + step) % u64::from(partitions)).unwrap_or(0);
            let n = request.n.saturating_sub(work.len());
            if n == 0 && step > 0 {
                break;
            }
            work.extend(self.lease_in(partition, LeaseRequest { n, ..request.clone() }).await?.work);
        }
        Ok(work)
    }

    /// Leases jobs of one partition.
    pub(super) async fn lease_in(&self, partition: u16, request: LeaseRequest) -> Result<Leased, QueueError> {
        let QueueReply::Leased(granted) = self.ask(partition, QueueCommand::Lease(request)).await? else {
            return Err(unexpected());
        };
        let (count, next) = (granted.jobs.len(), granted.next_us.map(Timestamp));
        Ok(Leased { work: self.with_payloads(partition, granted.jobs).await?, granted: count, next })
    }

    pub(super) fn next_turn(&self) -> u64 {
        self.state.turn.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.env.now()
    }

    async fn with_payloads(&self, partition: u16, jobs: Vec<GrantedJob>) -> Result<Vec<Work>, QueueError> {
        let name = self.partition_name(partition)?;
        let address = self.address(partition)?;
        let Some(entity) = address.cell().and_then(|cell| cell.entity()) else { return Ok(Vec::new()) };
        let store = self.env.store().current();
        // Jobs leased together were mostly enqueued together: their payloads lie side by side.
        let mut near: HashMap<Bytes, Bytes> = HashMap::new();
        let (first, last) = (jobs.iter().map(|job| job.seq).min(), jobs.iter().map(|job| job.seq).max());
        if let (Some(first), Some(last), true) = (first, last, jobs.len() > 1) {
            let limit = jobs.len();
            near.extend(store.rows(entity, payload_row(first), payload_row(last + 1), limit).await?);
        }
        let mut work = Vec::with_capacity(jobs.len());
        for lease in jobs {
            let payload = match near.remove(&payload_row(lease.seq)) {
                Some(payload) => Some(payload),
                None => store.row(entity, payload_row(lease.seq)).await?,
            };
            if let Some(payload) = payload {
                let id = JobId { partition, seq: lease.seq };
                let idempotency_key = format!("{name}/{}", lease.seq);
                work.push(Work { id, idempotency_key, lease, payload });
            }
        }
        Ok(work)
    }

    /// The jobs of one partition are done.
    ///
    /// # Errors
    /// [`QueueError`]; each job's own refusal is in its place.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the jobs may be done.
    pub async fn ack(
        &self,
        partition: u16,
        acks: Vec<Ack>,
    ) -> Result<Vec<Result<Settled, QueueRefusal>>, QueueError> {
        self.settle(partition, QueueCommand::Ack(acks)).await
    }

    /// Attempts of jobs of one partition failed.
    ///
    /// # Errors
    /// As [`Self::ack`].
    ///
    /// # Cancel safety
    /// As [`Self::ack`].
    pub async fn nack(
        &self,
        partition: u16,
        nacks: Vec<Nack>,
    ) -> Result<Vec<Result<Settled, QueueRefusal>>, QueueError> {
        self.settle(partition, QueueCommand::Nack(nacks)).await
    }

    /// Jobs of one partition are given back as they were.
    ///
    /// # Errors
    /// As [`Self::ack`].
    ///
    /// # Cancel safety
    /// As [`Self::ack`].
    pub async fn release(
        &self,
        partition: u16,
        releases: Vec<Release>,
    ) -> Result<Vec<Result<Settled, QueueRefusal>>, QueueError> {
        self.settle(partition, QueueCommand::Release(releases)).await
    }

    /// Workers of jobs of one partition still work; they learn here whether to stop.
    ///
    /// # Errors
    /// As [`Self::ack`].
    ///
    /// # Cancel safety
    /// As [`Self::ack`].
    pub async fn extend(
        &self,
        partition: u16,
        extends: Vec<Extend>,
    ) -> Result<Vec<Result<Settled, QueueRefusal>>, QueueError> {
        self.settle(partition, QueueCommand::Extend(extends)).await
    }

    /// Cancels a job; the worker of a leased one is told at its next extension and loses the lease after the grace.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, the job may be cancelled.
    pub async fn cancel(&self, id: JobId, grace: Duration) -> Result<Settled, QueueError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let settled =
            self.settle(id.partition, QueueCommand::Cancel { jobs: vec![id.seq], grace_ms }).await?;
        Ok(settled.into_iter().next().ok_or_else(unexpected)??)
    }

    /// Lets a dead letter or a delayed job run at once.
    ///
    /// # Errors
    /// [`QueueError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may be so.
    pub async fn retry(&self, id: JobId) -> Result<Settled, QueueError> {
        let settled = self.settle(id.partition, QueueCommand::Retry(vec![id.seq])).await?;
        Ok(settled.into_iter().next().ok_or_else(unexpected)??)
    }

    async fn settle(
        &self,
        partition: u16,
        command: QueueCommand,
    ) -> Result<Vec<Result<Settled, QueueRefusal>>, QueueError> {
        match self.ask(partition, command).await? {
            QueueReply::Settled(settled) => Ok(settled),
            _ => Err(unexpected()),
        }
    }

    pub(super) async fn count_all(&self, command: impl Fn() -> QueueCommand) -> Result<u64, QueueError> {
        let mut sum = 0;
        for partition in 0..self.partitions().await? {
            sum += self.count_in(partition, &command).await?;
        }
        Ok(sum)
    }

    /// Asks as often as there is more.
    pub(super) async fn count_in(
        &self,
        partition: u16,
        command: &impl Fn() -> QueueCommand,
    ) -> Result<u64, QueueError> {
        let mut sum = 0;
        loop {
            let QueueReply::Count { count, more } = self.ask(partition, command()).await? else {
                return Err(unexpected());
            };
            sum += count;
            if !more {
                return Ok(sum);
            }
        }
    }

    pub(super) async fn tell_all(&self, command: &QueueCommand) -> Result<(), QueueError> {
        let partitions = self.partitions().await?;
        self.tell_partitions(partitions, command).await
    }

    async fn tell_partitions(&self, partitions: u16, command: &QueueCommand) -> Result<(), QueueError> {
        let commands = (0..partitions).map(|partition| (partition, command.clone())).collect();
        self.ask_together(commands).await.map(drop)
    }

    /// Asks several partitions: all of them do it, or none.
    pub(super) async fn ask_together(
        &self,
        commands: Vec<(u16, QueueCommand)>,
    ) -> Result<Vec<QueueReply>, QueueError> {
        if let [(partition, _)] = commands.as_slice() {
            let partition = *partition;
            let mut replies = Vec::with_capacity(1);
            for (_, command) in commands {
                replies.push(self.ask(partition, command).await?);
            }
            return Ok(replies);
        }
        let mut transaction = Transaction::new();
        let meaning = commands.first().map_or(Meaning::Quiet, |(_, command)| Meaning::of(command));
        let marks = commands.iter().fold(0, |marks, (partition, _)| marks | bit(*partition));
        for (partition, command) in commands {
            transaction.add(self.partition_name(partition)?, Bytes::from(encode(&command)?));
        }
        let replies = transaction.run(&self.env).await.map_err(QueueError::of_call)?;
        self.env.bells().applied(&self.name, marks, meaning);
        replies.iter().map(|reply| decode(reply).map_err(QueueError::from)).collect()
    }

    /// Asks one partition, and again under the same ticket when it is in doubt: it is done at most once.
    pub(super) async fn ask(&self, partition: u16, command: QueueCommand) -> Result<QueueReply, QueueError> {
        let address = self.address(partition)?;
        let meaning = Meaning::of(&command);
        let payload = Bytes::from(encode(&command)?);
        let ticket = self.env.session().begin();
        let mut asked = 1;
        loop {
            let failure = match address.call_as(&ticket, payload.clone(), CallOptions::default()).await {
                Ok(reply) => {
                    self.env.bells().applied(&self.name, bit(partition), meaning);
                    return Ok(decode(&reply)?);
                }
                Err(failure) => failure,
            };
            let again = matches!(
                failure.kind,
                FailureKind::Unknown(_)
                    | FailureKind::Unavailable(
                        Unavailable::Stopped | Unavailable::Fenced | Unavailable::Store(_)
                    )
            );
            if !again || asked >= ASK_AGAIN {
                return Err(QueueError::of_call(failure));
            }
            asked += 1;
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }
}

pub(super) fn unexpected() -> QueueError {
    QueueError::Codec(CodecError::Decode("the reply is of another command".into()))
}
