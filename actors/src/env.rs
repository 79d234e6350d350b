//! What is passed down to every actor of a system: no globals.

use std::{
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ractor::ActorRef;
use tokio::sync::watch;

use crate::{
    clock::Clock,
    entity::{Directory, EffectsMsg, OutboxMsg, Session, TimersMsg},
    error::Refusal,
    health::{Health, Stats, Vitals},
    ids::{Name, Timestamp},
    moment::Observer,
    persistence::{PersistenceMsg, StoreHandle},
    policies::{PolicyKeeperMsg, PolicyTable},
    queue::Bells,
    remote::{Remote, RemotePlace},
    resilience::protected::ProtectedServices,
    store::Incarnation,
    task::TaskScope,
    task_agent::{TaskAgentTable, TaskPoolTable},
    volatile::Volatiles,
    workflow::CoordinatorMsg,
};

/// Where a service actor is in force. A message that finds none is not kept: a service that starts reads the
/// store, of which it is a view.
#[derive(Debug)]
pub struct Place<M>(RwLock<Option<ActorRef<M>>>);

impl<M> Default for Place<M> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<M: ractor::Message> Place<M> {
    /// The service has started.
    pub fn register(&self, actor: ActorRef<M>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
    }

    /// The service, if it has started.
    #[must_use]
    pub fn actor(&self) -> Option<ActorRef<M>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Casts to the service, if it runs.
    pub fn cast(&self, message: M) {
        if let Some(actor) = self.actor() {
            let _ = actor.cast(message);
        }
    }
}

/// The services that entities use.
#[derive(Debug, Default)]
pub struct Services {
    /// Fires durable timers.
    pub timers: Place<TimersMsg>,
    /// Delivers messages between entities.
    pub outbox: Place<OutboxMsg>,
    /// Runs activities.
    pub effects: Place<EffectsMsg>,
    /// Owns the store.
    pub persistence: Place<PersistenceMsg>,
    /// Routes to workflow runs.
    pub coordinator: Place<CoordinatorMsg>,
    /// Stores the state of policies.
    pub policies: Place<PolicyKeeperMsg>,
}

/// Whose work left is taken up: what was in flight, timers that are due, effects that were recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Waking {
    /// Every entity's.
    #[default]
    All,
    /// One entity's; the others only answer.
    Only(Name),
    /// Those of one kind; the others only answer.
    Kind(&'static str),
    /// Nobody's: entities only answer.
    Nobody,
}

impl Waking {
    /// Whether work of this entity is taken up.
    #[must_use]
    pub fn takes_up(&self, name: &Name) -> bool {
        match self {
            Self::All => true,
            Self::Only(one) => one == name,
            Self::Kind(kind) => *name.kind == **kind,
            Self::Nobody => false,
        }
    }
}

/// What the persistence actor is called where services are listed.
pub(crate) const PERSISTENCE: &str = "persistence";

/// Whether a system is in a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Joining {
    #[default]
    Alone,
    Expected,
    Joined,
}

/// What an environment is made of.
pub struct EnvParts {
    /// Id of the system; prefix of its actors' names.
    pub system: Arc<str>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// The store in force.
    pub store: StoreHandle,
    /// Entities known.
    pub directory: Directory,
    /// Owner of the system's tasks.
    pub tasks: TaskScope,
    /// This life of the process.
    pub incarnation: Incarnation,
    /// First seed of handlers' random numbers.
    pub seed: u64,
    /// New external commands are refused while true.
    pub draining: Arc<AtomicBool>,
    /// Whose work left is taken up.
    pub waking: Waking,
}

/// The environment of a system's actors.
pub struct Env {
    parts: EnvParts,
    services: Services,
    vitals: Vitals,
    volatiles: Volatiles,
    bells: Bells,
    policies: PolicyTable,
    task_agents: TaskAgentTable,
    task_pools: TaskPoolTable,
    remote: RemotePlace,
    /// Whether it will join a cluster, or has.
    cluster: watch::Sender<Joining>,
    protected: ProtectedServices,
    seed: AtomicU64,
    began: Timestamp,
    session: RwLock<(Timestamp, Arc<Session>)>,
    /// Set at most once, before anything runs.
    observer: OnceLock<Observer>,
}

/// A session numbers commands for at most this long; then another one begins.
pub(crate) const SESSION_LIFE: Duration = Duration::from_secs(6 * 3600);

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env").field("system", &self.parts.system).finish_non_exhaustive()
    }
}

impl Env {
    /// Makes an environment.
    #[must_use]
    pub fn new(parts: EnvParts) -> Arc<Self> {
        let began = parts.clock.now();
        let seed = AtomicU64::new(parts.seed);
        let session = RwLock::new((began, Session::begun_at(began)));
        Arc::new(Self {
            vitals: Vitals::new(Arc::clone(&parts.clock)),
            protected: ProtectedServices::new(Arc::clone(&parts.clock)),
            parts,
            services: Services::default(),
            volatiles: Volatiles::default(),
            bells: Bells::default(),
            policies: PolicyTable::default(),
            task_agents: TaskAgentTable::default(),
            task_pools: TaskPoolTable::default(),
            remote: RemotePlace::default(),
            cluster: watch::Sender::default(),
            seed,
            began,
            session,
            observer: OnceLock::new(),
        })
    }

    /// Id of the system.
    #[must_use]
    pub fn system(&self) -> &Arc<str> {
        &self.parts.system
    }

    /// Wall time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// When this environment was made.
    #[must_use]
    pub fn began(&self) -> Timestamp {
        self.began
    }

    /// The store in force.
    #[must_use]
    pub fn store(&self) -> &StoreHandle {
        &self.parts.store
    }

    /// Entities known.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.parts.directory
    }

    /// Owner of the system's tasks.
    #[must_use]
    pub fn tasks(&self) -> &TaskScope {
        &self.parts.tasks
    }

    /// This life of the process.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.parts.incarnation
    }

    /// The services.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// What the services write down of themselves.
    #[must_use]
    pub fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    /// How each service is, by name; a look, whatever the services do.
    #[must_use]
    pub fn health(&self) -> Vec<(String, Health)> {
        if let Some(why) = self.store().current().poisoned() {
            self.vitals.doubt(PERSISTENCE, &format!("the store is poisoned: {why}"));
        }
        self.vitals.health()
    }

    /// What each service has counted, by name; a look, whatever the services do.
    #[must_use]
    pub fn stats(&self) -> Vec<(String, Stats)> {
        let mut stats = self.vitals.stats();
        if let Some((_, own)) = stats.iter_mut().find(|(name, _)| name == PERSISTENCE) {
            own.counters.extend(self.store().current().stats().named());
        }
        stats
    }

    /// Volatile kinds and actors.
    #[must_use]
    pub fn volatiles(&self) -> &Volatiles {
        &self.volatiles
    }

    /// What wakes the workers of queues.
    #[must_use]
    pub fn bells(&self) -> &Bells {
        &self.bells
    }

    /// The policies in use whose state is stored.
    #[must_use]
    pub fn policies(&self) -> &PolicyTable {
        &self.policies
    }

    /// Services outside, each behind its layers.
    #[must_use]
    pub fn protected(&self) -> &ProtectedServices {
        &self.protected
    }

    /// The task agents.
    #[must_use]
    pub fn task_agents(&self) -> &TaskAgentTable {
        &self.task_agents
    }

    /// The pools of task agents.
    #[must_use]
    pub fn task_pools(&self) -> &TaskPoolTable {
        &self.task_pools
    }

    /// The cluster this system has joined.
    #[must_use]
    pub fn remote(&self) -> Option<&Arc<dyn Remote>> {
        self.remote.get()
    }

    /// Joins a cluster; false when it has joined one before.
    pub fn join(&self, remote: Arc<dyn Remote>) -> bool {
        let joins = self.remote.set(remote).is_ok();
        self.cluster.send_replace(Joining::Joined);
        joins
    }

    /// This system will join a cluster: attempts that it cannot run itself wait until it has, instead of failing.
    pub fn expect_cluster(&self) {
        self.cluster.send_if_modified(|joining| {
            let expects = *joining == Joining::Alone;
            if expects {
                *joining = Joining::Expected;
            }
            expects
        });
    }

    pub(crate) fn expects_cluster(&self) -> bool {
        *self.cluster.borrow() != Joining::Alone
    }

    /// The cluster, once this system has joined one.
    pub(crate) async fn joined(&self) -> Arc<dyn Remote> {
        let mut joins = self.cluster.subscribe();
        loop {
            if let Some(remote) = self.remote() {
                return Arc::clone(remote);
            }
            if joins.changed().await.is_err() {
                // The sender is this environment's own: it lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The way to an entity that another node has; `None`: this one has it.
    ///
    /// # Errors
    /// [`Refusal::NoCluster`].
    pub fn way_to(&self, name: &Name) -> Result<Option<Arc<dyn Remote>>, Refusal> {
        let Some(node) = name.node() else { return Ok(None) };
        let remote = self.remote().ok_or_else(|| Refusal::NoCluster(node.to_owned()))?;
        Ok((remote.node() != node).then(|| Arc::clone(remote)))
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        self.parts.clock.as_ref()
    }

    /// A seed for one handling.
    #[must_use]
    pub fn next_seed(&self) -> u64 {
        self.seed.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
    }

    /// Whether work of this entity is taken up; otherwise it only answers.
    #[must_use]
    pub fn takes_up(&self, name: &Name) -> bool {
        self.parts.waking.takes_up(name)
    }

    /// Whether new external commands are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.parts.draining.load(Ordering::Acquire)
    }

    /// Refuses new external commands from here on; completions and timers still enter.
    pub fn start_draining(&self) {
        self.vitals.drain();
        self.parts.draining.store(true, Ordering::Release);
    }

    /// The session that numbers this process's commands.
    #[must_use]
    pub fn session(&self) -> Arc<Session> {
        let now = self.now();
        {
            let session = self.session.read().unwrap_or_else(PoisonError::into_inner);
            if now.since(session.0) < SESSION_LIFE {
                return Arc::clone(&session.1);
            }
        }
        let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
        if now.since(session.0) >= SESSION_LIFE {
            *session = (now, Session::begun_at(now));
        }
        Arc::clone(&session.1)
    }

    /// Tells `moments` of every [`crate::moment::Moment`] of entities activated from here on; the first caller wins.
    #[cfg(feature = "testing")]
    pub fn observe(&self, moments: Arc<dyn crate::moment::Moments>) {
        let _ = self.observer.set(Observer::new(moments));
    }

    pub(crate) fn observer(&self) -> Observer {
        self.observer.get().cloned().unwrap_or_default()
    }

    /// Runs `then` after a while, in a task of the system. When the system has ended, it is dropped.
    pub fn later(&self, after: Duration, then: impl FnOnce() + Send + 'static) {
        let spawned = self.parts.tasks.spawn("later", async move {
            tokio::time::sleep(after).await;
            then();
        });
        drop(spawned);
    }

    /// A name for an actor of this system; ractor's registry is one for the whole process.
    #[must_use]
    pub fn actor_name(&self, name: &str) -> String {
        format!("{}/{name}", self.parts.system)
    }
}
