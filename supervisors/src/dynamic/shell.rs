//! Starts, restarts, gives up and stops children, each by its key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorCell, ActorId, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, timeout_at};

use super::actor::DynamicMsg;
use super::handle::StartedChild;
use super::spec::{DynamicChild, DynamicSpec, GiveUp};
use crate::child::{Shutdown, StartContext, Started};
use crate::error::{ControlError, StartError};
use crate::event::SupervisorEvent;
use crate::exit::{Exit, SHUTDOWN};
use crate::intensity::{RestartWindow, Verdict};
use crate::link::{Exits, KILL_GRACE};
use crate::start::call_start;
use crate::strategy::{Decision, decide};

/// Names one child of one dynamic supervisor, through all its lives; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(pub u64);

/// What a dynamic supervisor tells of one child.
#[derive(Clone, Debug)]
pub struct DynamicInfo {
    /// Names the child.
    pub key: ChildKey,
    /// What its starter called it.
    pub label: Arc<str>,
    /// The living actor; `None` while it waits for its restart.
    pub actor: Option<ActorCell>,
}

struct Entry {
    child: DynamicChild,
    generation: u64,
    window: RestartWindow,
    status: Status,
}

enum Status {
    Running(ActorCell),
    /// Told to end for good; leaves the list with its exit.
    Ending(ActorCell),
    /// Waits for the message with this ticket.
    Restarting(u64),
}

/// The state of one dynamic supervisor.
pub(super) struct Shell {
    myself: ActorRef<DynamicMsg>,
    link: ActorCell,
    exits: Exits,
    spec: DynamicSpec,
    children: HashMap<ChildKey, Entry>,
    by_actor: HashMap<ActorId, ChildKey>,
    /// Counts for [`GiveUp::Supervisor`].
    window: RestartWindow,
    next_key: u64,
    next_ticket: u64,
    pub(super) done: bool,
}

/// When this supervisor is killed, ractor kills those below it, but not one that is in its `post_stop`: that one would
/// live on without an owner for as long as its clean-up takes.
impl Drop for Shell {
    fn drop(&mut self) {
        self.for_each_living(ActorCell::kill);
    }
}

impl Shell {
    pub(super) async fn open(
        myself: ActorRef<DynamicMsg>,
        spec: DynamicSpec,
    ) -> Result<Self, ActorProcessingErr> {
        let (exits, link) = Exits::open(myself.clone(), || DynamicMsg::ChildEnded).await?;
        let window = RestartWindow::new(spec.intensity);
        let (children, by_actor) = (HashMap::new(), HashMap::new());
        Ok(Self {
            myself,
            link,
            exits,
            spec,
            children,
            by_actor,
            window,
            next_key: 0,
            next_ticket: 0,
            done: false,
        })
    }

    pub(super) fn link(&self) -> &ActorCell {
        &self.link
    }

    /// Without those that were told to end for good.
    pub(super) fn count(&self) -> usize {
        self.children.values().filter(|entry| stays(entry)).count()
    }

    /// Newest first; without those that were told to end for good.
    pub(super) fn infos(&self) -> Vec<DynamicInfo> {
        let staying = self.children.iter().filter(|(_, entry)| stays(entry));
        let mut infos: Vec<_> = staying.map(|(key, entry)| info(*key, entry)).collect();
        infos.sort_by_key(|info| std::cmp::Reverse(info.key));
        infos
    }

    pub(super) async fn start_child(
        &mut self,
        child: DynamicChild,
    ) -> Result<Option<StartedChild>, ControlError> {
        if self.children.len() >= self.spec.max_children {
            return Err(ControlError::TooManyChildren { limit: self.spec.max_children });
        }
        self.next_key += 1;
        let (key, label) = (ChildKey(self.next_key), Arc::clone(&child.label));
        let window = RestartWindow::new(self.spec.intensity);
        let entry = Entry { child, generation: 0, window, status: Status::Restarting(0) };
        self.children.insert(key, entry);
        match self.start(key).await {
            Ok(Some(actor)) => Ok(Some(StartedChild { key, actor })),
            Ok(None) => Ok(None),
            Err(error) => {
                self.children.remove(&key);
                Err(ControlError::Start { id: label, error })
            }
        }
    }

    /// Tells a child to end for good; the caller waits for its end. `None` if it has ended.
    pub(super) fn terminate_child(&mut self, key: ChildKey) -> Option<(ActorCell, Shutdown)> {
        let entry = self.children.get_mut(&key)?;
        let (Status::Running(cell) | Status::Ending(cell)) = &entry.status else {
            self.children.remove(&key);
            return None;
        };
        let cell = cell.clone();
        match self.spec.shutdown {
            Shutdown::BrutalKill => cell.kill(),
            Shutdown::Deadline(_) | Shutdown::Infinity => cell.stop(Some(SHUTDOWN.to_owned())),
        }
        entry.status = Status::Ending(cell.clone());
        Some((cell, self.spec.shutdown))
    }

    /// Starts one life. A child that is not needed leaves the list.
    async fn start(&mut self, key: ChildKey) -> Result<Option<ActorCell>, StartError> {
        let Some(entry) = self.children.get_mut(&key) else { return Ok(None) };
        let (id, generation) = (Arc::clone(&entry.child.label), entry.generation + 1);
        let context = StartContext { link: self.link.clone(), id: Arc::clone(&id), generation };
        match call_start(&entry.child.start, context).await {
            Ok(Started::Running(cell)) => {
                entry.generation = generation;
                entry.status = Status::Running(cell.clone());
                self.by_actor.insert(cell.get_id(), key);
                self.tell(SupervisorEvent::Started { id, generation });
                Ok(Some(cell))
            }
            Ok(Started::Ignore) => {
                self.children.remove(&key);
                self.tell(SupervisorEvent::Ignored { id });
                Ok(None)
            }
            Err(error) => {
                self.tell(SupervisorEvent::StartFailed { id, error: error.clone() });
                Err(error)
            }
        }
    }

    /// Handles every exit that has come so far.
    pub(super) async fn handle_exits(&mut self) {
        while !self.done {
            let Some((actor, exit)) = self.exits.next() else { return };
            self.handle_exit(actor, exit).await;
        }
    }

    async fn handle_exit(&mut self, actor: ActorId, exit: Exit) {
        let Some(key) = self.ended(actor, exit.clone()) else { return };
        let ending = match self.children.get(&key).map(|entry| &entry.status) {
            Some(Status::Ending(_)) => true,
            Some(Status::Running(_) | Status::Restarting(_)) => false,
            None => return,
        };
        match decide(self.spec.restart, &exit) {
            Decision::Restart if !ending => self.restart(key, Some(exit)).await,
            // A finished dynamic child can only be started anew, so it is not kept.
            Decision::Restart | Decision::Keep | Decision::Forget => {
                self.children.remove(&key);
            }
        }
    }

    async fn restart(&mut self, key: ChildKey, last: Option<Exit>) {
        let Some(entry) = self.children.get_mut(&key) else { return };
        let label = Arc::clone(&entry.child.label);
        let window = match self.spec.give_up {
            GiveUp::Child => &mut entry.window,
            GiveUp::Supervisor => &mut self.window,
        };
        if window.record(Instant::now()) == Verdict::GiveUp {
            self.children.remove(&key);
            self.tell(SupervisorEvent::GaveUp { id: label, last });
            if self.spec.give_up == GiveUp::Supervisor {
                self.finish().await;
            }
            return;
        }
        let recent = window.recent();
        match self.spec.pacing.as_ref().map(|pacing| pacing.delay(recent)) {
            Some(delay) => self.wait_for_restart(key, delay),
            None => self.try_start(key).await,
        }
    }

    /// A failed attempt is counted as a restart of its own, by way of the mailbox.
    async fn try_start(&mut self, key: ChildKey) {
        if self.start(key).await.is_err() {
            let ticket = self.wait_with_ticket(key);
            // Fails only when this supervisor is ending.
            let _ = self.myself.cast(DynamicMsg::Retry { key, ticket });
        }
    }

    /// The last start attempt failed; this is the next one.
    pub(super) async fn retry(&mut self, key: ChildKey, ticket: u64) {
        if self.waits_for(key, ticket) {
            self.restart(key, None).await;
        }
    }

    /// The delay before a restart is over.
    pub(super) async fn restart_due(&mut self, key: ChildKey, ticket: u64) {
        if self.waits_for(key, ticket) {
            self.try_start(key).await;
        }
    }

    fn wait_for_restart(&mut self, key: ChildKey, delay: Duration) {
        let ticket = self.wait_with_ticket(key);
        let Some(pacing) = &self.spec.pacing else { return };
        pacing.tell_after(delay, &self.myself, move || DynamicMsg::RestartDue { key, ticket });
    }

    fn wait_with_ticket(&mut self, key: ChildKey) -> u64 {
        self.next_ticket += 1;
        if let Some(entry) = self.children.get_mut(&key) {
            entry.status = Status::Restarting(self.next_ticket);
        }
        self.next_ticket
    }

    fn waits_for(&self, key: ChildKey, ticket: u64) -> bool {
        let status = self.children.get(&key).map(|entry| &entry.status);
        matches!(status, Some(Status::Restarting(due)) if *due == ticket)
    }

    async fn finish(&mut self) {
        self.done = true;
        self.stop_all().await;
        self.myself.stop(Some(SHUTDOWN.to_owned()));
    }

    /// Tells all children at once; kills those that live when the time is over.
    pub(super) async fn stop_all(&mut self) {
        let deadline = match self.spec.shutdown {
            Shutdown::BrutalKill => Some(Instant::now()),
            Shutdown::Deadline(deadline) => Some(Instant::now() + deadline),
            Shutdown::Infinity => None,
        };
        if self.spec.shutdown != Shutdown::BrutalKill {
            self.for_each_living(|cell| cell.stop(Some(SHUTDOWN.to_owned())));
            self.collect(deadline).await;
        }
        self.for_each_living(ActorCell::kill);
        self.collect(Some(Instant::now() + KILL_GRACE)).await;
        self.children.clear();
    }

    fn for_each_living(&self, tell: impl Fn(&ActorCell)) {
        for entry in self.children.values() {
            match &entry.status {
                Status::Running(cell) | Status::Ending(cell) => tell(cell),
                Status::Restarting(_) => {}
            }
        }
    }

    /// Takes exits until no child lives or the time is over.
    async fn collect(&mut self, deadline: Option<Instant>) {
        while !self.by_actor.is_empty() {
            let exit = match deadline {
                None => Ok(self.exits.wait().await),
                Some(deadline) => timeout_at(deadline, self.exits.wait()).await,
            };
            let Ok(Some((actor, exit))) = exit else { return };
            if let Some(key) = self.ended(actor, exit) {
                self.children.remove(&key);
            }
        }
    }

    fn ended(&mut self, actor: ActorId, exit: Exit) -> Option<ChildKey> {
        let key = self.by_actor.remove(&actor)?;
        let entry = self.children.get(&key)?;
        let (id, generation) = (Arc::clone(&entry.child.label), entry.generation);
        self.tell(SupervisorEvent::Ended { id, generation, exit });
        Some(key)
    }

    fn tell(&self, event: SupervisorEvent) {
        tracing::debug!(supervisor = ?self.myself.get_name(), ?event, "supervisor event");
        (self.spec.observer)(&event);
    }
}

fn stays(entry: &Entry) -> bool {
    !matches!(entry.status, Status::Ending(_))
}

fn info(key: ChildKey, entry: &Entry) -> DynamicInfo {
    let actor = match &entry.status {
        Status::Running(cell) | Status::Ending(cell) => Some(cell.clone()),
        Status::Restarting(_) => None,
    };
    DynamicInfo { key, label: Arc::clone(&entry.child.label), actor }
}
