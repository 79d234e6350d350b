//! Who lives, under whose ownership, since when; and how many ever did.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::lock;

/// Names one spawned task or registered actor within its root scope; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// One living task or actor.
#[derive(Clone, Debug)]
pub struct TaskInfo {
    /// Names the task within its root scope.
    pub id: TaskId,
    /// The scope that owns it, as a path from the root: `system/tasks`.
    pub owner: Arc<str>,
    /// What it does, given by the spawner.
    pub name: Arc<str>,
    /// When it was spawned.
    pub since: Instant,
}

/// Counts of one root scope and everything below it, at one moment.
///
/// # Guarantees
/// `started_total - ended_total` is the number of living tasks once the system is quiet.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Living tasks, by id.
    pub live: Vec<TaskInfo>,
    /// Living actors that registered a guard, by id.
    pub actors: Vec<TaskInfo>,
    /// Tasks ever started.
    pub started_total: u64,
    /// Tasks that ended: returned, panicked or aborted.
    pub ended_total: u64,
    /// Tasks that ended by a panic; also in `ended_total`.
    pub panicked_total: u64,
    /// Actors ever registered.
    pub actors_started_total: u64,
    /// Registered actors that ended.
    pub actors_ended_total: u64,
}

impl Census {
    /// Whether no task and no registered actor lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.actors.is_empty()
    }
}

/// Registers a living actor until dropped; an actor keeps it in its state.
///
/// ractor drops the state when the actor ends, however it ends, so a killed actor leaves the census too.
#[derive(Debug)]
#[must_use = "dropping the guard says that the actor has ended"]
pub struct ActorGuard {
    registry: Arc<Registry>,
    id: TaskId,
}

impl Drop for ActorGuard {
    fn drop(&mut self) {
        self.registry.actors.end(self.id);
    }
}

/// Shared by all scopes of one root.
#[derive(Debug, Default)]
pub(super) struct Registry {
    next_id: AtomicU64,
    tasks: Population,
    actors: Population,
    panicked: AtomicU64,
}

impl Registry {
    pub(super) fn start_task(&self, owner: &Arc<str>, name: &'static str) -> TaskId {
        self.start(&self.tasks, owner, name)
    }

    pub(super) fn end_task(&self, id: TaskId) {
        self.tasks.end(id);
    }

    pub(super) fn count_panic(&self) {
        self.panicked.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn start_actor(self: &Arc<Self>, owner: &Arc<str>, name: &str) -> ActorGuard {
        let id = self.start(&self.actors, owner, name);
        ActorGuard { registry: Arc::clone(self), id }
    }

    pub(super) fn live_tasks(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn census(&self) -> Census {
        Census {
            live: self.tasks.list(),
            actors: self.actors.list(),
            started_total: self.tasks.started.load(Ordering::SeqCst),
            ended_total: self.tasks.ended.load(Ordering::SeqCst),
            panicked_total: self.panicked.load(Ordering::SeqCst),
            actors_started_total: self.actors.started.load(Ordering::SeqCst),
            actors_ended_total: self.actors.ended.load(Ordering::SeqCst),
        }
    }

    fn start(&self, population: &Population, owner: &Arc<str>, name: &str) -> TaskId {
        let id = TaskId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let info = TaskInfo { id, owner: Arc::clone(owner), name: Arc::from(name), since: Instant::now() };
        population.start(info);
        id
    }
}

/// Spread over shards so that spawning threads rarely meet.
#[derive(Debug, Default)]
struct Population {
    shards: [Mutex<HashMap<TaskId, TaskInfo>>; 16],
    started: AtomicU64,
    ended: AtomicU64,
}

impl Population {
    fn start(&self, info: TaskInfo) {
        self.started.fetch_add(1, Ordering::SeqCst);
        if let Some(shard) = self.shard(info.id) {
            lock(shard).insert(info.id, info);
        }
    }

    fn end(&self, id: TaskId) {
        let known = self.shard(id).and_then(|shard| lock(shard).remove(&id));
        if known.is_some() {
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn list(&self) -> Vec<TaskInfo> {
        let mut all: Vec<_> =
            self.shards.iter().flat_map(|shard| lock(shard).values().cloned().collect::<Vec<_>>()).collect();
        all.sort_by_key(|info| info.id);
        all
    }

    fn shard(&self, id: TaskId) -> Option<&Mutex<HashMap<TaskId, TaskInfo>>> {
        let shards = self.shards.len() as u64;
        self.shards.get(usize::try_from(id.0 % shards).unwrap_or(0))
    }
}
