//! What a scope's handle, its tasks and its parent share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::census::Registry;
use super::{TaskId, lock};

/// Whether a scope takes tasks; it only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    /// Takes no task; living ones may finish.
    Closed,
    /// The owner is gone; living tasks are aborted.
    Ended,
}

#[derive(Debug)]
pub(super) struct ScopeCore {
    pub(super) owner: Arc<str>,
    pub(super) registry: Arc<Registry>,
    state: Mutex<State>,
    /// Rings whenever a task ends.
    ended: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// `None` between admission and tokio's answer.
    tasks: HashMap<TaskId, Option<AbortHandle>>,
    children: Vec<Weak<ScopeCore>>,
}

impl ScopeCore {
    pub(super) fn new(owner: Arc<str>, registry: Arc<Registry>, phase: Phase) -> Arc<Self> {
        let state = State { phase, tasks: HashMap::new(), children: Vec::new() };
        Arc::new(Self { owner, registry, state: Mutex::new(state), ended: Notify::new() })
    }

    /// Makes a scope below this one; it is born in this one's phase.
    pub(super) fn child(&self, owner: Arc<str>) -> Arc<Self> {
        let mut state = lock(&self.state);
        let child = Self::new(owner, Arc::clone(&self.registry), state.phase);
        if state.children.len() == state.children.capacity() {
            state.children.retain(|known| known.strong_count() > 0);
        }
        state.children.push(Arc::downgrade(&child));
        child
    }

    pub(super) fn phase(&self) -> Phase {
        lock(&self.state).phase
    }

    /// Counts a task in, or says in which phase it is refused.
    pub(super) fn admit(self: &Arc<Self>, name: &'static str) -> Result<Admission, Phase> {
        let mut state = lock(&self.state);
        if state.phase != Phase::Open {
            return Err(state.phase);
        }
        let id = self.registry.start_task(&self.owner, name);
        state.tasks.insert(id, None);
        Ok(Admission { core: Arc::clone(self), id })
    }

    /// Makes the task abortable. The lock is not held across tokio's spawn, so the scope may have ended meanwhile.
    pub(super) fn adopt(&self, id: TaskId, abort: AbortHandle) {
        let mut state = lock(&self.state);
        if state.phase == Phase::Ended {
            abort.abort();
        }
        if let Some(slot) = state.tasks.get_mut(&id) {
            *slot = Some(abort);
        }
    }

    pub(super) fn live(&self) -> usize {
        lock(&self.state).tasks.len()
    }

    /// Moves this scope and all below it forward to `phase`; `Ended` aborts their tasks.
    pub(super) fn advance(self: &Arc<Self>, phase: Phase) {
        for core in self.subtree() {
            let mut state = lock(&core.state);
            state.phase = state.phase.max(phase);
            if state.phase == Phase::Ended {
                state.tasks.values().flatten().for_each(AbortHandle::abort);
            }
        }
    }

    /// Aborts what lives in this scope and below, and says how many that were.
    pub(super) fn abort_all(self: &Arc<Self>) -> usize {
        let mut aborted = 0;
        for core in self.subtree() {
            let state = lock(&core.state);
            aborted += state.tasks.len();
            state.tasks.values().flatten().for_each(AbortHandle::abort);
        }
        aborted
    }

    pub(super) fn live_below(self: &Arc<Self>) -> usize {
        self.subtree().iter().map(|core| core.live()).sum()
    }

    /// Waits until no task lives in this scope and below.
    pub(super) async fn idle(self: &Arc<Self>) {
        for core in self.subtree() {
            loop {
                let mut ended = std::pin::pin!(core.ended.notified());
                ended.as_mut().enable();
                if core.live() == 0 {
                    break;
                }
                ended.await;
            }
        }
    }

    fn subtree(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let mut found = Vec::new();
        let mut pending = vec![Arc::clone(self)];
        while let Some(core) = pending.pop() {
            pending.extend(lock(&core.state).children.iter().filter_map(Weak::upgrade));
            found.push(core);
        }
        found
    }

    fn leave(&self, id: TaskId) {
        lock(&self.state).tasks.remove(&id);
        self.registry.end_task(id);
        self.ended.notify_waiters();
    }
}

/// One admitted task; travels inside its future, so it is dropped however the task ends.
#[derive(Debug)]
pub(super) struct Admission {
    core: Arc<ScopeCore>,
    id: TaskId,
}

impl Admission {
    pub(super) fn id(&self) -> TaskId {
        self.id
    }

    pub(super) fn count_panic(&self) {
        self.core.registry.count_panic();
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.core.leave(self.id);
    }
}
