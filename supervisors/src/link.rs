//! The actor all children of one supervisor are linked to, and the queue in which it puts their exits.
//!
//! A ractor actor cannot read its supervision port while it handles a message, nor in `post_stop`; a supervisor that
//! stops children one after another needs to, to learn how each ended. So children are linked to this actor, and this
//! actor is linked to the supervisor: when the supervisor is killed, ractor kills both levels at once. When this actor
//! ends, the supervisor ends too.

use std::collections::VecDeque;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, Message, SupervisionEvent};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::child::Shutdown;
use crate::exit::{Exit, SHUTDOWN};

/// How long a killed child may take to be gone; only one that blocks its thread takes so long.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(10);

/// Receives the exits of children; rings the supervisor's doorbell for each.
pub(crate) struct LinkActor<M: Message> {
    pub(crate) exits: mpsc::UnboundedSender<(ActorId, Exit)>,
    pub(crate) supervisor: ActorRef<M>,
    pub(crate) doorbell: fn() -> M,
}

/// Never sent: the link only hears of exits.
pub(crate) enum LinkMsg {}

#[cfg(feature = "cluster")]
impl ractor::Message for LinkMsg {}

impl<M: Message> Actor for LinkActor<M> {
    type Msg = LinkMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<LinkMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<LinkMsg>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let Some(ended) = Exit::of(&event) {
            // Both fail only when the supervisor is gone, and this actor with it.
            let _ = self.exits.send(ended);
            let _ = self.supervisor.cast((self.doorbell)());
        }
        Ok(())
    }
}

/// What a supervisor does with an event of its own: it ends when its link has.
pub(crate) fn of_own_link(event: &SupervisionEvent, link: &ActorCell) -> Result<(), ActorProcessingErr> {
    match Exit::of(event) {
        // Without its link a supervisor is deaf; ractor has ended the children with the link.
        Some((actor, exit)) if actor == link.get_id() => {
            Err(format!("the supervisor's link ended: {exit}").into())
        }
        Some(_) | None => Ok(()),
    }
}

/// The exits of children that the supervisor has not handled yet, oldest first.
///
/// Unbounded, but holds at most one exit for each life of a child.
pub(crate) struct Exits {
    incoming: mpsc::UnboundedReceiver<(ActorId, Exit)>,
    /// Exits of other children that came while the supervisor waited for one.
    backlog: VecDeque<(ActorId, Exit)>,
}

impl Exits {
    /// Starts the link under `supervisor`, and gives the actor to link children to.
    pub(crate) async fn open<M: Message>(
        supervisor: ActorRef<M>,
        doorbell: fn() -> M,
    ) -> Result<(Self, ActorCell), ActorProcessingErr> {
        let (exits, incoming) = mpsc::unbounded_channel();
        let parent = supervisor.get_cell();
        let link = LinkActor { exits, supervisor, doorbell };
        let (link, _join) = parent.spawn_linked(None, link, ()).await?;
        Ok((Self { incoming, backlog: VecDeque::new() }, link.get_cell()))
    }

    /// The oldest exit that is there.
    pub(crate) fn next(&mut self) -> Option<(ActorId, Exit)> {
        self.backlog.pop_front().or_else(|| self.incoming.try_recv().ok())
    }

    /// The next exit; `None` when the link is gone.
    ///
    /// Cancel safe.
    pub(crate) async fn wait(&mut self) -> Option<(ActorId, Exit)> {
        match self.backlog.pop_front() {
            Some(exit) => Some(exit),
            None => self.incoming.recv().await,
        }
    }

    /// Stops one child as its shutdown says, and answers how it ended. A child that ended before is not told.
    pub(crate) async fn stop(&mut self, child: &ActorCell, shutdown: Shutdown) -> Exit {
        if let Some(exit) = self.already(child.get_id()) {
            return exit;
        }
        match shutdown {
            Shutdown::BrutalKill => {}
            Shutdown::Infinity => {
                child.stop(Some(SHUTDOWN.to_owned()));
                return self.end_of(child.get_id()).await;
            }
            Shutdown::Deadline(deadline) => {
                child.stop(Some(SHUTDOWN.to_owned()));
                if let Ok(exit) = timeout(deadline, self.end_of(child.get_id())).await {
                    return exit;
                }
            }
        }
        child.kill();
        match timeout(KILL_GRACE, self.end_of(child.get_id())).await {
            Ok(exit) => exit,
            Err(_) => {
                tracing::warn!(actor = %child.get_id(), "killed child blocks its thread, left behind");
                Exit::Killed
            }
        }
    }

    /// Takes the exit of this child out of what has come so far.
    fn already(&mut self, id: ActorId) -> Option<Exit> {
        while let Ok(exit) = self.incoming.try_recv() {
            self.backlog.push_back(exit);
        }
        let at = self.backlog.iter().position(|(other, _)| *other == id)?;
        self.backlog.remove(at).map(|(_, exit)| exit)
    }

    /// Waits for the exit of this child; others go to the backlog.
    async fn end_of(&mut self, id: ActorId) -> Exit {
        loop {
            match self.incoming.recv().await {
                Some((ended, exit)) if ended == id => return exit,
                Some(other) => self.backlog.push_back(other),
                // The link is gone, and ractor has killed every child with it.
                None => return Exit::Killed,
            }
        }
    }
}
