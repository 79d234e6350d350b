//! The composition root: one value that is the whole system.

mod builder;
mod distribute;
mod feed;
mod task_agents;
mod tree;
mod wake;

use std::{sync::Arc, time::Duration};

use stanchion_actors::{
    agent::{Address, AddressError, Agent, EventSourced, Replies, Sourced, Transact},
    entity::{Activities, EntityAddress, PurgeError, purge},
    env::Env,
    error::{CallFailure, Refusal},
    flags::Flags,
    health::{Health, Stats},
    ids::{Name, NameError, Position, Version},
    names::DurableNames,
    policies::{DurableBreakers, DurableBudgets, DurableLimiters},
    queue::{Queue, QueueError},
    resilience::protected::{Protected, ProtectedServices, ServiceNotFound},
    store::{HistoryPage, Store, StoreError, StoreStats},
    volatile::{Volatile, VolatileAddress},
    workflow::Workflows,
};
use stanchion_supervisors::{Shutdown, Supervisor};

#[cfg(feature = "testing")]
pub use self::builder::WrapStore;
pub use self::{
    builder::{Builder, OpenError},
    distribute::{Aggregate, DistributeError, Distributed, Enough},
    feed::{Fed, Feed, FeedError, FeedEvent},
    task_agents::TaskAgents,
};

/// Looks, a millisecond apart, at what still lives after everything was stopped.
const LEFT_OVER_LOOKS: u32 = 1_000;

/// Before commands are refused, the state of policies has this long to be stored.
const SAVE_POLICIES_WITHIN: Duration = Duration::from_secs(2);

/// How a system stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "says what was left over"]
pub struct StopReport {
    /// Activities that ran over the deadline and were cancelled; they run again with the next start.
    pub activities_cancelled: usize,
    /// Tasks that had to be aborted.
    pub tasks_aborted: usize,
    /// Actors and tasks that still live: none, unless something blocks its thread.
    pub left_over: usize,
}

/// A running system: store, supervisors, services, and every agent within reach.
///
/// Dropping it without [`System::stop`] is like a crash: what was acknowledged is on disk, the rest is not.
pub struct System {
    env: Arc<Env>,
    root: Supervisor,
    workflows: Workflows,
    activities: Arc<Activities>,
    #[cfg(all(unix, feature = "control"))]
    control: Option<crate::control::Server>,
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").field("id", self.env.system()).finish_non_exhaustive()
    }
}

impl System {
    /// Begins to describe a system.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The address of an agent. It need not exist: it begins in its default state with its first command.
    ///
    /// # Errors
    /// [`AddressError`] when the key is no key, or the kind is not registered.
    pub fn agent<A: Agent>(&self, key: &str) -> Result<Address<A>, AddressError> {
        Address::new(&self.env, key)
    }

    /// The address of an agent on a node of the cluster: the same from any node.
    ///
    /// # Errors
    /// As [`Self::agent`]; `NoCluster` when this system has joined none.
    pub fn agent_on<A: Agent>(&self, node: &str, key: &str) -> Result<Address<A>, AddressError> {
        Address::on(&self.env, node, key)
    }

    /// The address of an event-sourced entity.
    ///
    /// # Errors
    /// As [`Self::agent`].
    pub fn event_sourced<S: EventSourced>(&self, key: &str) -> Result<Address<Sourced<S>>, AddressError> {
        Address::new(&self.env, key)
    }

    /// The address of a volatile actor.
    ///
    /// # Errors
    /// As [`Self::agent`].
    pub fn volatile<V: Volatile>(&self, key: &str) -> Result<VolatileAddress<V>, AddressError> {
        VolatileAddress::new(&self.env, key)
    }

    /// The queue of this name. It need not exist: it begins with its first job, or with its settings.
    ///
    /// # Errors
    /// [`QueueError::Name`] when the name is no name.
    pub fn queue(&self, name: &str) -> Result<Queue, QueueError> {
        Queue::new(&self.env, name)
    }

    /// The untyped address of any entity.
    ///
    /// # Errors
    /// [`Refusal::UnknownKind`].
    pub fn entity(&self, name: &Name) -> Result<EntityAddress, Refusal> {
        EntityAddress::new(&self.env, name)
    }

    /// Entries of a kind with a feed (`Agent::FEED`), in the order of their commits, after a position that
    /// [`Feed::position`] gave; `Position(0)`: from the beginning.
    ///
    /// # Errors
    /// [`FeedError`].
    pub fn feed(&self, kind: &str, after: Position) -> Result<Feed, FeedError> {
        Feed::new(Arc::clone(&self.env), kind, after)
    }

    /// Removes an entity with all that is its own: state, rows, history, timers, remembered answers. Answers whether
    /// there was one. Its rows leave the file in small steps afterwards. A removed name begins anew with its next command.
    ///
    /// # Errors
    /// [`PurgeError::Busy`] while a run has not ended, or activities, messages or enqueued commands are on their way.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the entity may still be removed.
    pub async fn purge(&self, name: &Name) -> Result<bool, PurgeError> {
        purge(&self.env, name).await
    }

    /// Runs commands to several agents in one commit: all or none.
    ///
    /// # Errors
    /// [`CallFailure`]: nothing is applied, unless its kind is `Unknown`.
    ///
    /// # Cancel safety
    /// Dropped before the commit was handed over, nothing is applied; after that it may be.
    pub async fn transact(&self, transaction: Transact) -> Result<Replies, CallFailure> {
        transaction.run(&self.env).await
    }

    /// Workflow runs.
    #[must_use]
    pub fn workflows(&self) -> &Workflows {
        &self.workflows
    }

    /// Task agents: workers of queues.
    #[must_use]
    pub fn task_agents(&self) -> TaskAgents {
        TaskAgents { env: Arc::clone(&self.env), activities: Arc::clone(&self.activities) }
    }

    /// Names of the activities that were registered.
    #[must_use]
    pub fn activity_names(&self) -> Vec<String> {
        self.activities.keys().cloned().collect()
    }

    /// Circuit breakers by name that survive a restart.
    #[must_use]
    pub fn breakers(&self) -> DurableBreakers {
        DurableBreakers::new(Arc::clone(&self.env))
    }

    /// Rate limiters by name that survive a restart.
    #[must_use]
    pub fn limiters(&self) -> DurableLimiters {
        DurableLimiters::new(Arc::clone(&self.env))
    }

    /// Retry budgets by name that survive a restart.
    #[must_use]
    pub fn retry_budgets(&self) -> DurableBudgets {
        DurableBudgets::new(Arc::clone(&self.env))
    }

    /// Feature flags.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags::new(Arc::clone(&self.env))
    }

    /// Names that outlive their owners.
    #[must_use]
    pub fn names(&self) -> DurableNames {
        DurableNames::new(Arc::clone(&self.env))
    }

    /// Services outside, each behind its layers: timeouts, retries, breaker, rate limit, bulkhead, fallback.
    #[must_use]
    pub fn services(&self) -> &ProtectedServices {
        self.env.protected()
    }

    /// The service outside of this name.
    ///
    /// # Errors
    /// [`ServiceNotFound`]: do not run the call.
    pub fn protected(&self, name: &str) -> Result<Protected, ServiceNotFound> {
        self.env.protected().get(name)
    }

    /// The store in force.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        self.env.store().current()
    }

    /// Counters of the store.
    #[must_use]
    pub fn store_stats(&self) -> StoreStats {
        self.store().stats()
    }

    /// How each service is, by name. A look, however busy the services are.
    #[must_use]
    pub fn health(&self) -> Vec<(String, Health)> {
        self.env.health()
    }

    /// What each service has counted since the opening, by name. A look, however busy the services are.
    #[must_use]
    pub fn stats(&self) -> Vec<(String, Stats)> {
        self.env.stats()
    }

    /// The environment that the system's actors share.
    #[must_use]
    pub fn env(&self) -> &Arc<Env> {
        &self.env
    }

    /// The root supervisor.
    #[must_use]
    pub fn root(&self) -> &Supervisor {
        &self.root
    }

    /// Whether anything is stored of the entity of this name: an entry, or an enqueued command.
    ///
    /// # Errors
    /// [`SystemError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn exists(&self, kind: &str, key: &str) -> Result<bool, SystemError> {
        let name = Name::new(kind, key)?;
        let store = self.store();
        let Some(entity) = store.resolve(&name).await? else { return Ok(false) };
        // A name that was only looked at has a number, too, and nothing under it.
        let first = store.history(entity, Version(1), 1).await?;
        if first != HistoryPage::Entries(Vec::new()) {
            return Ok(true);
        }
        Ok(store.load(entity).await?.is_some())
    }

    #[cfg(all(unix, feature = "control"))]
    fn open_control(mut self, store: &std::path::Path) -> Result<Self, OpenError> {
        let desk = crate::control::Desk::of_system(&self);
        let server = crate::control::Server::start(store, desk, self.env.tasks());
        self.control = Some(server.map_err(OpenError::Control)?);
        Ok(self)
    }

    /// Task agents end first; then new commands are refused. What runs may end within `deadline`; nothing recorded from here on starts before the
    /// system is opened again. Answers the activities that still run, and the jobs that went back to their queues. [`Self::stop`] follows.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the system goes on draining.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let until = tokio::time::Instant::now() + deadline;
        // They tell their queues what became of jobs: commands, which are refused from then on.
        let given_back = self.task_agents().drain(deadline).await;
        // What is not stored in time shows in the service's health; the drain does not wait for it.
        let _ = tokio::time::timeout(SAVE_POLICIES_WITHIN, self.breakers().flush()).await;
        self.env.start_draining();
        given_back
            + tree::drain(&self.env, until.saturating_duration_since(tokio::time::Instant::now())).await
    }

    /// Stops in order: new commands are refused, what runs may end within `deadline`, then everything is stopped
    /// in reverse order and the store is closed last.
    ///
    /// # Errors
    /// [`StoreError`] when the store could not be closed cleanly; what was acknowledged is on disk all the same.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the system is half stopped: drop it whole.
    pub async fn stop(self, deadline: Duration) -> Result<StopReport, StoreError> {
        let activities_cancelled = self.drain(deadline).await;
        #[cfg(all(unix, feature = "control"))]
        drop(self.control);
        let _ended = self.root.stop(Shutdown::Infinity).await;
        self.env.volatiles().stopped();
        let leftover = self.env.tasks().shutdown(Duration::ZERO).await;
        let closed = self.env.store().current().close().await;
        let left_over = left_over(&self.env).await;
        closed.map(|()| StopReport { activities_cancelled, tasks_aborted: leftover.aborted, left_over })
    }
}

/// Looks at what still lives until nothing does: what was stopped takes a moment to be dropped.
async fn left_over(env: &Env) -> usize {
    for _ in 0..LEFT_OVER_LOOKS {
        let census = env.tasks().census();
        if census.live.is_empty() && census.actors.is_empty() {
            return 0;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let census = env.tasks().census();
    census.live.len() + census.actors.len()
}

/// Why a question to the system has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemError {
    /// The name is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The store cannot say.
    #[error(transparent)]
    Store(#[from] StoreError),
}
