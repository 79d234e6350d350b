//! A pool: task agents that share the jobs of one queue, each job given to one of them by a strategy.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, mpsc};

use super::{
    config::{AutoPause, TaskAgentConfig, TaskAgentConfigError, TaskType},
    handle::{TaskAgentError, TaskAgentTable},
    shared::Shared,
};
use crate::{
    balance::{Balancer, Candidate, InstanceId, Outcome, Readiness, Request, Strategy, Weight},
    ids::Timestamp,
    queue::Work,
};

/// Settings of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskPoolConfig {
    /// Its name, unique among pools and agents; the leases of its jobs carry it.
    pub name: String,
    /// The queue it takes jobs from.
    pub queue: String,
    /// Who gets which job. Consistent hash and sticky go by the job's key, jobs without one by their number.
    pub strategy: Strategy,
    /// Its agents: at least one.
    pub members: Vec<PoolMember>,
    /// What all of them can do: at least one.
    pub types: Vec<TaskType>,
    /// As of an agent.
    pub lease_ms: u64,
    /// As of an agent; each pauses alone.
    pub auto_pause: Option<AutoPause>,
}

/// An agent of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolMember {
    /// Its name, unique among all agents.
    pub name: String,
    /// Most jobs at once: 1..=1 024.
    pub concurrency: u32,
    /// Its share of the work, for the strategies that look at it; 1 by default.
    pub weight: Weight,
}

impl TaskPoolConfig {
    /// `count` agents `NAME-1`, `NAME-2`, ... with one job at a time and one activity for jobs of any kind.
    #[must_use]
    pub fn new(name: &str, queue: &str, activity: &str, count: u32, strategy: Strategy) -> Self {
        let agent = TaskAgentConfig::new(name, queue, activity);
        let member = |number| PoolMember {
            name: format!("{name}-{number}"),
            concurrency: 1,
            weight: Weight::default(),
        };
        Self {
            name: agent.name,
            queue: agent.queue,
            strategy,
            members: (1..=count).map(member).collect(),
            types: agent.types,
            lease_ms: agent.lease_ms,
            auto_pause: None,
        }
    }

    /// Settings of its agents.
    pub(super) fn agents(&self) -> impl Iterator<Item = TaskAgentConfig> {
        self.members.iter().map(|member| TaskAgentConfig {
            name: member.name.clone(),
            queue: self.queue.clone(),
            types: self.types.clone(),
            concurrency: member.concurrency,
            lease_ms: self.lease_ms,
            auto_pause: self.auto_pause,
        })
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// The first fault.
    pub fn validate(&self) -> Result<(), TaskAgentConfigError> {
        if self.members.is_empty() {
            let right = "name at least one agent".to_owned();
            return Err(TaskAgentConfigError { field: "members", value: "empty".into(), right });
        }
        let own = TaskAgentConfig {
            types: self.types.clone(),
            ..TaskAgentConfig::new(self.name.as_str(), self.queue.as_str(), "")
        };
        own.validate()?;
        self.agents().try_for_each(|agent| agent.validate())
    }
}

type Given = Arc<tokio::sync::Mutex<mpsc::Receiver<Work>>>;

struct Seat {
    agent: Arc<Shared>,
    weight: Weight,
    gives: mpsc::Sender<Work>,
    given: Given,
}

/// What the dispatcher and the agents of a pool share, through all their lives.
pub struct PoolShared {
    pub(super) config: TaskPoolConfig,
    seats: BTreeMap<String, Seat>,
    balancer: Mutex<Balancer>,
    room: Notify,
}

impl std::fmt::Debug for PoolShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolShared").field("name", &self.config.name).finish_non_exhaustive()
    }
}

impl PoolShared {
    /// A pool of these agents, which take their jobs from it from here on.
    pub(super) fn new(config: TaskPoolConfig, agents: Vec<Arc<Shared>>) -> Arc<Self> {
        let seat = |(member, agent): (&PoolMember, Arc<Shared>)| {
            // As much as it can run: what is given has a place at once, or waits for one that is about to be free.
            let (gives, given) = mpsc::channel(usize::try_from(member.concurrency).unwrap_or(1));
            let given = Arc::new(tokio::sync::Mutex::new(given));
            (member.name.clone(), Seat { agent, weight: member.weight, gives, given })
        };
        let seats = config.members.iter().zip(agents).map(seat).collect();
        let pool = Arc::new(Self {
            balancer: Mutex::new(Balancer::new(config.strategy)),
            seats,
            config,
            room: Notify::new(),
        });
        pool.seats.values().for_each(|seat| seat.agent.join(&pool));
        pool
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its agents.
    #[must_use]
    pub fn agents(&self) -> Vec<Arc<Shared>> {
        self.seats.values().map(|seat| Arc::clone(&seat.agent)).collect()
    }

    fn balancer(&self) -> MutexGuard<'_, Balancer> {
        self.balancer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The jobs given to an agent; one life of it at a time holds them.
    pub(super) fn given_to(&self, agent: &str) -> Option<Given> {
        self.seats.get(agent).map(|seat| Arc::clone(&seat.given))
    }

    /// How many jobs may be leased now.
    pub(super) fn free(&self) -> usize {
        self.seats.values().filter(|seat| !seat.agent.is_held()).map(Seat::free).sum()
    }

    /// Gives a job to the agent that the strategy chooses; answers the job when nobody takes one.
    pub(super) fn give(&self, work: Work, now: Timestamp, random: u64) -> Option<Work> {
        let id = work.id.to_string();
        let key = work.lease.key.as_deref().unwrap_or(&id);
        let candidates: Vec<Candidate> = self.seats.iter().map(|(name, seat)| seat.candidate(name)).collect();
        let chosen = self.balancer().choose(&candidates, Request::of(key), now, random);
        let seat = chosen.ok().and_then(|chosen| Some((self.seats.get(chosen.as_str())?, chosen)));
        let Some((seat, chosen)) = seat else { return Some(work) };
        match seat.gives.try_send(work) {
            Ok(()) => {
                self.balancer().started(&chosen, now);
                None
            }
            Err(mpsc::error::TrySendError::Full(work) | mpsc::error::TrySendError::Closed(work)) => {
                Some(work)
            }
        }
    }

    /// An attempt that was given to an agent is over.
    pub(super) fn finished(&self, agent: &str, took: Duration, succeeded: bool, now: Timestamp) {
        let outcome = if succeeded { Outcome::Done } else { Outcome::Failed };
        self.balancer().finished(&InstanceId::new(agent), took, outcome, now);
    }

    /// An agent may have room.
    pub(super) fn has_room(&self) {
        self.room.notify_one();
    }

    /// Waits until an agent may have room.
    pub(super) async fn until_room(&self) {
        self.room.notified().await;
    }
}

impl Seat {
    /// Jobs it can be given: those it runs and those it was given take places.
    fn free(&self) -> usize {
        let limit = usize::try_from(self.agent.config().concurrency).unwrap_or(1);
        let given = self.gives.max_capacity() - self.gives.capacity();
        limit.saturating_sub(self.agent.running().len() + given)
    }

    fn candidate(&self, name: &str) -> Candidate {
        let readiness = match (self.agent.is_held(), self.free()) {
            (true, _) => Readiness::Draining,
            (false, 0) => Readiness::Suspect,
            (false, _) => Readiness::Ready,
        };
        Candidate { id: InstanceId::new(name), weight: self.weight, readiness, in_flight_max: None }
    }
}

/// The pools of a system, by name.
#[derive(Debug, Default)]
pub struct TaskPoolTable(Mutex<BTreeMap<String, Arc<PoolShared>>>);

impl TaskPoolTable {
    /// Enters a pool, and its agents among the agents: all of it, or nothing.
    ///
    /// # Errors
    /// `AlreadyExists`, `Config`.
    pub fn enter_with(
        &self,
        config: TaskPoolConfig,
        agents: &TaskAgentTable,
    ) -> Result<Arc<PoolShared>, TaskAgentError> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.contains_key(&config.name) {
            return Err(TaskAgentError::AlreadyExists(config.name));
        }
        let mut entered = Vec::new();
        for agent in config.agents() {
            match agents.enter(agent) {
                Ok(shared) => entered.push(shared),
                Err(error) => {
                    entered.iter().for_each(|shared: &Arc<Shared>| agents.leave(shared.name()));
                    return Err(error);
                }
            }
        }
        let name = config.name.clone();
        let pool = PoolShared::new(config, entered);
        pools.insert(name, Arc::clone(&pool));
        Ok(pool)
    }

    /// All pools, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<PoolShared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Takes a pool out.
    pub fn leave(&self, name: &str) -> Option<Arc<PoolShared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name)
    }
}
