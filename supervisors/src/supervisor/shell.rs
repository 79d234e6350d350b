//! Performs what the strategy plans: stops, starts, gives up.

use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorCell, ActorId, ActorRef};
use tokio::time::Instant;

use super::actor::SupervisorMsg;
use super::children::{Children, Status};
use crate::child::{Restart, StartContext, Started};
use crate::error::{StartError, SupervisorStartError};
use crate::event::{Observer, SupervisorEvent};
use crate::exit::{Exit, SHUTDOWN};
use crate::intensity::{RestartWindow, Verdict};
use crate::link::Exits;
use crate::pacing::Pacing;
use crate::spec::{AutoShutdown, SupervisorSpec};
use crate::start::call_start;
use crate::strategy::{Decision, Strategy, decide, plan, shuts_down};

/// The state of one supervisor.
pub(super) struct Shell {
    myself: ActorRef<SupervisorMsg>,
    link: ActorCell,
    pub(super) exits: Exits,
    pub(super) children: Children,
    strategy: Strategy,
    pub(super) auto_shutdown: AutoShutdown,
    window: RestartWindow,
    pacing: Option<Pacing>,
    observer: Observer,
    next_ticket: u64,
    /// Set once the supervisor has stopped its children and waits for its own end.
    pub(super) done: bool,
}

/// When this supervisor is killed, ractor kills those below it, but not one that is in its `post_stop`: that one would
/// live on without an owner for as long as its clean-up takes.
impl Drop for Shell {
    fn drop(&mut self) {
        self.children.running().for_each(ActorCell::kill);
    }
}

impl Shell {
    /// Takes a validated spec.
    pub(super) async fn open(
        myself: ActorRef<SupervisorMsg>,
        spec: SupervisorSpec,
    ) -> Result<Self, SupervisorStartError> {
        let opened = Exits::open(myself.clone(), || SupervisorMsg::ChildEnded).await;
        let (exits, link) =
            opened.map_err(|error| SupervisorStartError::Spawn(StartError::failed(error.to_string())))?;
        let mut children = Children::default();
        spec.children.into_iter().for_each(|child| children.push(child));
        Ok(Self {
            myself,
            link,
            exits,
            children,
            strategy: spec.strategy,
            auto_shutdown: spec.auto_shutdown,
            window: RestartWindow::new(spec.intensity),
            pacing: spec.pacing,
            observer: spec.observer,
            next_ticket: 0,
            done: false,
        })
    }

    pub(super) fn link(&self) -> &ActorCell {
        &self.link
    }

    /// The initial start: in order; if one fails, those before it are stopped in reverse order.
    pub(super) async fn start_all(&mut self) -> Result<(), SupervisorStartError> {
        let ids = self.children.ids(&(0..self.children.len()).collect::<Vec<_>>());
        for id in ids {
            if let Err(error) = self.start(&id).await {
                self.stop_all().await;
                return Err(SupervisorStartError::Child { id, error });
            }
        }
        Ok(())
    }

    /// Starts one child that does not run. A temporary child that is not needed is forgotten.
    pub(super) async fn start(&mut self, id: &Arc<str>) -> Result<Option<ActorCell>, StartError> {
        let Some(index) = self.children.find(id) else { return Ok(None) };
        let Some(child) = self.children.at_mut(index) else { return Ok(None) };
        let generation = child.generation + 1;
        let context = StartContext { link: self.link.clone(), id: Arc::clone(id), generation };
        let started = call_start(&child.spec.start, context).await;
        match started {
            Ok(Started::Running(cell)) => {
                child.generation = generation;
                child.status = Status::Running(cell.clone());
                self.tell(SupervisorEvent::Started { id: Arc::clone(id), generation });
                Ok(Some(cell))
            }
            Ok(Started::Ignore) => {
                child.status = Status::Idle;
                if child.spec.restart == Restart::Temporary {
                    self.children.remove(id);
                }
                self.tell(SupervisorEvent::Ignored { id: Arc::clone(id) });
                Ok(None)
            }
            Err(error) => {
                child.status = Status::Idle;
                self.tell(SupervisorEvent::StartFailed { id: Arc::clone(id), error: error.clone() });
                Err(error)
            }
        }
    }

    /// Stops one child as its spec says; it stays listed. Nothing happens to one that does not run.
    pub(super) async fn stop(&mut self, index: usize) {
        let Some(child) = self.children.at_mut(index) else { return };
        if let Status::Running(cell) = &child.status {
            let exit = self.exits.stop(cell, child.spec.shutdown).await;
            self.ended(index, exit);
        } else {
            child.status = Status::Idle;
        }
    }

    /// Stops all children, one after another, the newest first.
    pub(super) async fn stop_all(&mut self) {
        for index in (0..self.children.len()).rev() {
            self.stop(index).await;
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
        let Some(index) = self.children.find_running(actor) else { return };
        self.ended(index, exit.clone());
        let Some(child) = self.children.at(index) else { return };
        let (id, significant) = (Arc::clone(&child.spec.id), child.spec.significant);
        match decide(child.spec.restart, &exit) {
            Decision::Restart => return self.restart(index, Some(exit)).await,
            Decision::Keep => {}
            Decision::Forget => self.children.remove(&id),
        }
        // The ended child is not among the running, so it need not be left out of the others.
        if shuts_down(self.auto_shutdown, significant, &self.children.views()) {
            self.tell(SupervisorEvent::ShutDownByChild { id });
            self.finish().await;
        }
    }

    /// Counts a restart and performs it for the whole group of the child, which does not run.
    async fn restart(&mut self, index: usize, last: Option<Exit>) {
        let Some(id) = self.children.id_at(index) else { return };
        if self.window.record(Instant::now()) == Verdict::GiveUp {
            self.tell(SupervisorEvent::GaveUp { id, last });
            return self.finish().await;
        }
        let plan = plan(self.strategy, &self.children.views(), index);
        let (forget, start) = (self.children.ids(&plan.forget), self.children.ids(&plan.start));
        for stop in plan.stop {
            self.stop(stop).await;
        }
        forget.iter().for_each(|id| self.children.remove(id));
        match self.pacing.as_ref().map(|pacing| pacing.delay(self.window.recent())) {
            Some(delay) => self.wait_for_restart(&id, delay),
            None => self.start_group(start).await,
        }
    }

    /// Starts what does not run yet; the first failure ends it and is counted as a restart of its own.
    async fn start_group(&mut self, ids: Vec<Arc<str>>) {
        for id in ids {
            let index = self.children.find(&id);
            let child = index.and_then(|index| self.children.at(index));
            if child.is_none_or(|child| matches!(child.status, Status::Running(_))) {
                continue;
            }
            if self.start(&id).await.is_err() {
                let ticket = self.wait_with_ticket(&id);
                // Through the mailbox, so that a stop of this supervisor is not kept waiting.
                let _ = self.myself.cast(SupervisorMsg::Retry { id, ticket });
                return;
            }
        }
    }

    /// The start attempt of a child failed before; this is the next one.
    pub(super) async fn retry(&mut self, id: &str, ticket: u64) {
        if let Some(index) = self.children.find_restarting(id, ticket) {
            self.restart(index, None).await;
        }
    }

    /// The delay before a restart is over.
    pub(super) async fn restart_due(&mut self, id: &str, ticket: u64) {
        let Some(index) = self.children.find_restarting(id, ticket) else { return };
        let plan = plan(self.strategy, &self.children.views(), index);
        self.start_group(self.children.ids(&plan.start)).await;
    }

    fn wait_for_restart(&mut self, id: &Arc<str>, delay: Duration) {
        let ticket = self.wait_with_ticket(id);
        let (Some(pacing), id) = (&self.pacing, Arc::clone(id)) else { return };
        let due = move || SupervisorMsg::RestartDue { id: Arc::clone(&id), ticket };
        pacing.tell_after(delay, &self.myself, due);
    }

    fn wait_with_ticket(&mut self, id: &str) -> u64 {
        self.next_ticket += 1;
        let child = self.children.find(id).and_then(|index| self.children.at_mut(index));
        if let Some(child) = child {
            child.status = Status::Restarting(self.next_ticket);
        }
        self.next_ticket
    }

    /// Ends the supervisor: children first, then itself.
    async fn finish(&mut self) {
        self.done = true;
        self.stop_all().await;
        self.myself.stop(Some(SHUTDOWN.to_owned()));
    }

    fn ended(&mut self, index: usize, exit: Exit) {
        let Some(child) = self.children.at_mut(index) else { return };
        child.status = Status::Idle;
        let (id, generation) = (Arc::clone(&child.spec.id), child.generation);
        self.tell(SupervisorEvent::Ended { id, generation, exit });
    }

    fn tell(&self, event: SupervisorEvent) {
        tracing::debug!(supervisor = ?self.myself.get_name(), ?event, "supervisor event");
        (self.observer)(&event);
    }
}
