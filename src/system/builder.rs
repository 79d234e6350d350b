//! From a description to a running system.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use stanchion_actors::{
    agent::{Activity, Agent, EventSourced, agent_kind, dyn_activity, event_sourced_kind},
    clock::{Clock, SystemClock},
    entity::{
        Activities, Directory, DynActivity, EntityOptions, Kind, KindError, MailboxOptions, Supervisors,
    },
    env::{Env, EnvParts, Waking},
    flags::Flag,
    ids::Name,
    names::DurableName,
    persistence::{StoreHandle, StoreOpener},
    policies::PolicyState,
    queue::queue_kind,
    store::{Incarnation, Store, StoreError, memory::MemoryStore},
    task::TaskScope,
    task_agent::TaskAgentState,
    volatile::{Volatile, Volatiles},
    workflow::{Definitions, Workflows, run_kind},
};
use stanchion_supervisors::{Intensity, SupervisorStartError};

use super::{System, tree, wake};
use crate::store::{OpenError as StoreOpenError, RedbStore, StoreOptions};

/// Why a system does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The kinds registered do not go together.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// Two activities of one name.
    #[error("activity {0:?} is registered twice: give one of them another NAME")]
    DuplicateActivity(String),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreOpenError),
    /// The supervisors do not start.
    #[error("supervisors did not start: {0}")]
    Supervisors(#[from] SupervisorStartError),
    /// The control socket does not open.
    #[error("the control socket of the store does not open")]
    Control(#[source] std::io::Error),
    /// The thread that opens the store ended without an answer.
    #[error("the thread that opens the store ended without an answer")]
    Lost,
}

/// Describes a system.
#[must_use = "a builder does nothing until `open`"]
pub struct Builder {
    id: Option<Arc<str>>,
    kinds: Vec<Kind>,
    activities: Vec<(String, Arc<dyn DynActivity>)>,
    clock: Arc<dyn Clock>,
    store: StoreOptions,
    activities_at_once: usize,
    waking: Waking,
    run_workers: Option<u32>,
    joins_cluster: bool,
    keep_runs: Option<Duration>,
    intensity: Intensity,
    shards: usize,
    #[cfg(all(unix, feature = "control"))]
    control_socket: bool,
    #[cfg(feature = "testing")]
    testing: Testing,
    volatiles: Vec<RegisterVolatile>,
}

/// What tests put between the system and the world.
#[cfg(feature = "testing")]
#[derive(Default)]
struct Testing {
    moments: Option<Arc<dyn stanchion_actors::moment::Moments>>,
    wrap: Option<WrapStore>,
}

/// Puts another store in front of the one that was opened.
#[cfg(feature = "testing")]
pub type WrapStore = Arc<dyn Fn(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync>;

/// Registers one volatile kind.
type RegisterVolatile = Box<dyn FnOnce(&Volatiles) -> Result<(), KindError> + Send>;

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            id: None,
            kinds: Vec::new(),
            activities: Vec::new(),
            clock: Arc::new(SystemClock),
            store: StoreOptions::default(),
            activities_at_once: 1_024,
            waking: Waking::All,
            run_workers: None,
            joins_cluster: false,
            keep_runs: None,
            intensity: Intensity::default(),
            shards: 4,
            #[cfg(all(unix, feature = "control"))]
            control_socket: false,
            #[cfg(feature = "testing")]
            testing: Testing::default(),
            volatiles: Vec::new(),
        }
    }

    /// Names the system: prefix of its actors' names; default: a random one.
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(Arc::from(id));
        self
    }

    /// Registers an agent type.
    pub fn agent<A: Agent + Sync>(self) -> Self {
        self.agent_with::<A>(EntityOptions::default())
    }

    /// Registers an agent type with other limits than the default.
    pub fn agent_with<A: Agent + Sync>(self, options: EntityOptions) -> Self {
        self.kind(agent_kind::<A>(options))
    }

    /// Registers an event-sourced type.
    pub fn event_sourced<S: EventSourced + Sync>(self) -> Self
    where
        S::Event: Sync,
    {
        self.kind(event_sourced_kind::<S>(EntityOptions::default()))
    }

    /// Registers a type of volatile actors: the same addresses and supervision, and nothing on disk.
    pub fn volatile<V: Volatile>(mut self, mailbox: MailboxOptions) -> Self {
        self.volatiles.push(Box::new(move |volatiles| volatiles.register::<V>(mailbox)));
        self
    }

    /// Registers any kind of entity.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Registers an activity.
    pub fn activity<V: Activity>(self, activity: V) -> Self {
        self.dyn_activity(V::NAME, dyn_activity(activity))
    }

    /// Registers an activity over bytes.
    pub fn dyn_activity(mut self, name: &str, activity: Arc<dyn DynActivity>) -> Self {
        self.activities.push((name.to_owned(), activity));
        self
    }

    /// Activities that run at once: at least 1; default 1 024.
    pub fn activities_at_once(mut self, limit: usize) -> Self {
        self.activities_at_once = limit;
        self
    }

    /// Reads wall time from another clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Opens the store with other options than the default.
    pub fn store_options(mut self, options: StoreOptions) -> Self {
        self.store = options;
        self
    }

    /// Whether entities with work left are taken up again at start, and timers fire; default true. A tool that
    /// only looks, or sends one command, says false.
    pub fn wake(mut self, wake: bool) -> Self {
        self.waking = if wake { Waking::All } else { Waking::Nobody };
        self
    }

    /// Takes up work of this entity alone, once something is told to it: no other one's effects start and no other
    /// one's timers fire.
    pub fn wake_only(mut self, name: Name) -> Self {
        self.waking = Waking::Only(name);
        self
    }

    /// Takes up work of entities of this kind alone: no other one's effects start and no other one's timers fire.
    pub fn wake_kind(mut self, kind: &'static str) -> Self {
        self.waking = Waking::Kind(kind);
        self
    }

    /// Workers of workflow runs that are taken up again; default: as many as they were started with.
    pub fn run_workers(mut self, workers: u32) -> Self {
        self.run_workers = Some(workers);
        self
    }

    /// Says that the system will join a cluster; default false. What was begun and has no activity here then waits until
    /// it has, instead of failing: a node that starts again takes its work up before it has joined.
    pub fn joins_cluster(mut self, joins: bool) -> Self {
        self.joins_cluster = joins;
        self
    }

    /// Removes runs this long after they ended, a failed one as well, with their history; default: they are kept.
    pub fn keep_ended_runs(mut self, keep: Duration) -> Self {
        self.keep_runs = Some(keep);
        self
    }

    /// Crashes of one entity, and of one service, that are borne; default 3 in 5 s.
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Whether other processes of the same user reach the store through a local socket while this one holds it;
    /// default false. The commands of the binary (`list`, `show`, `pause`, ...) then work on this program.
    #[cfg(all(unix, feature = "control"))]
    pub fn control_socket(mut self, open: bool) -> Self {
        self.control_socket = open;
        self
    }

    /// Tells `moments` of every named moment of the runtime.
    #[cfg(feature = "testing")]
    pub fn moments(mut self, moments: Arc<dyn stanchion_actors::moment::Moments>) -> Self {
        self.testing.moments = Some(moments);
        self
    }

    /// Reaches the store through `wrap`: a store that lies is the negative control of a proof.
    #[cfg(feature = "testing")]
    pub fn wrap_store(mut self, wrap: WrapStore) -> Self {
        self.testing.wrap = Some(wrap);
        self
    }

    /// Opens the store at `path`, made if missing, and starts the system.
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing runs; the store may have been made.
    pub async fn open(self, path: impl AsRef<Path>) -> Result<System, OpenError> {
        let path = path.as_ref().to_path_buf();
        let options = self.store.clone();
        let store = open_redb(path.clone(), options.clone()).await?;
        self.open_on_redb(store, path).await
    }

    /// Starts the system on the store at `path`, which the caller has opened and may have looked into.
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// # Cancel safety
    /// As [`Self::open`].
    pub async fn open_on_redb(
        self,
        store: Arc<RedbStore>,
        path: impl AsRef<Path>,
    ) -> Result<System, OpenError> {
        let (path, options) = (path.as_ref().to_path_buf(), self.store.clone());
        #[cfg(all(unix, feature = "control"))]
        let socket_of = self.control_socket.then(|| path.clone());
        let opener: StoreOpener = Arc::new(move || {
            let (path, options) = (path.clone(), options.clone());
            Box::pin(async move {
                let opened = open_redb(path, options).await;
                let opened = opened.map_err(|error| StoreError::Fatal(error.to_string()))?;
                let reopened: Arc<dyn Store> = opened;
                Ok(reopened)
            })
        });
        let system = self.start(store, opener).await?;
        #[cfg(all(unix, feature = "control"))]
        let system = match socket_of {
            Some(path) => system.open_control(&path)?,
            None => system,
        };
        Ok(system)
    }

    /// Starts the system on a store in memory: the same behaviour, and nothing survives the process.
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn open_memory(self) -> Result<System, OpenError> {
        self.open_on(MemoryStore::new()).await
    }

    /// [`Self::open_memory`] on a store the caller keeps a handle of.
    ///
    /// # Errors
    /// [`OpenError`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn open_on(self, store: MemoryStore) -> Result<System, OpenError> {
        let again = store.clone();
        let opener: StoreOpener = Arc::new(move || {
            let reopened: Arc<dyn Store> = Arc::new(again.reopen());
            Box::pin(async move { Ok(reopened) })
        });
        self.start(Arc::new(store), opener).await
    }

    async fn start(self, store: Arc<dyn Store>, opener: StoreOpener) -> Result<System, OpenError> {
        #[cfg(feature = "testing")]
        let (store, opener) = self.testing.wrapped(store, opener);
        let mut activities = Activities::new();
        for (name, activity) in self.activities {
            if activities.insert(name.clone(), activity).is_some() {
                return Err(OpenError::DuplicateActivity(name));
            }
        }
        let fresh = uuid::Uuid::now_v7();
        let id = self.id.unwrap_or_else(|| Arc::from(fresh.to_string()));
        let draining = Arc::new(AtomicBool::new(false));
        let definitions = Arc::new(Definitions::default());
        let mut kinds = self.kinds;
        kinds.push(agent_kind::<Flag>(EntityOptions::default()));
        kinds.push(agent_kind::<DurableName>(EntityOptions::default()));
        kinds.push(run_kind(Arc::clone(&definitions), self.run_workers, self.waking.clone()));
        kinds.push(queue_kind());
        kinds.push(agent_kind::<TaskAgentState>(EntityOptions::default()));
        kinds.push(agent_kind::<PolicyState>(EntityOptions::default()));
        let supervisors = Supervisors::new(self.shards, self.shards);
        let directory = Directory::new(kinds, supervisors, Arc::clone(&draining))?;
        let env = Env::new(EnvParts {
            tasks: TaskScope::root(&id),
            system: id,
            clock: self.clock,
            store: StoreHandle::new(store),
            directory,
            incarnation: Incarnation(fresh.as_u64_pair().1),
            seed: fresh.as_u64_pair().0,
            draining,
            waking: self.waking.clone(),
        });
        if self.joins_cluster {
            env.expect_cluster();
        }
        #[cfg(feature = "testing")]
        if let Some(moments) = self.testing.moments {
            env.observe(moments);
        }
        for register in self.volatiles {
            register(env.volatiles())?;
        }
        let activities = Arc::new(activities);
        let plan = tree::Plan {
            env: Arc::clone(&env),
            opener,
            activities: Arc::clone(&activities),
            activities_at_once: self.activities_at_once,
            intensity: self.intensity,
            definitions: Arc::clone(&definitions),
            awake: self.waking != Waking::Nobody,
            keep_runs: self.keep_runs,
        };
        let root = tree::start(plan).await?;
        if self.waking == Waking::All {
            wake::start(&env);
        }
        let workflows = Workflows::new(Arc::clone(&env), definitions);
        Ok(System {
            env,
            root,
            workflows,
            activities,
            #[cfg(all(unix, feature = "control"))]
            control: None,
        })
    }
}

#[cfg(feature = "testing")]
impl Testing {
    fn wrapped(&self, store: Arc<dyn Store>, opener: StoreOpener) -> (Arc<dyn Store>, StoreOpener) {
        let Some(wrap) = self.wrap.clone() else { return (store, opener) };
        let first = wrap(store);
        let again: StoreOpener = Arc::new(move || {
            let (opened, wrap) = (opener(), Arc::clone(&wrap));
            Box::pin(async move { opened.await.map(|store| wrap(store)) })
        });
        (first, again)
    }
}

/// Opens the store on a thread of its own: it reads and repairs files, and must not hold up the runtime.
async fn open_redb(path: PathBuf, options: StoreOptions) -> Result<Arc<RedbStore>, OpenError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("stanchion-open".into())
        .spawn(move || {
            // Nobody waits any more when the caller was dropped: then the store closes again.
            let _ = tell.send(RedbStore::open(&path, options));
        })
        .map_err(|_| OpenError::Lost)?;
    let store = told.await.map_err(|_| OpenError::Lost)??;
    Ok(Arc::new(store))
}
