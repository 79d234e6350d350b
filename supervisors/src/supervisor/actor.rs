//! Receives for the shell.

use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use super::children::{ChildCounts, ChildInfo};
use super::shell::Shell;
use crate::child::ChildSpec;
use crate::error::ControlError;
use crate::link::of_own_link;
use crate::spec::SupervisorSpec;

type Reply<T> = RpcReplyPort<Result<T, ControlError>>;

pub(super) enum SupervisorMsg {
    StartChild(Box<ChildSpec>, Reply<Option<ActorCell>>),
    TerminateChild(Arc<str>, Reply<()>),
    RestartChild(Arc<str>, Reply<Option<ActorCell>>),
    DeleteChild(Arc<str>, Reply<()>),
    WhichChildren(Reply<Vec<ChildInfo>>),
    CountChildren(Reply<ChildCounts>),
    /// Doorbell of the link: the exit lies in its queue.
    ChildEnded,
    /// The last start attempt of the child failed.
    Retry {
        id: Arc<str>,
        ticket: u64,
    },
    /// The delay before the child's restart is over.
    RestartDue {
        id: Arc<str>,
        ticket: u64,
    },
}

#[cfg(feature = "cluster")]
impl ractor::Message for SupervisorMsg {}

pub(super) struct SupervisorActor;

impl Actor for SupervisorActor {
    type Msg = SupervisorMsg;
    type State = Shell;
    /// Validated.
    type Arguments = SupervisorSpec;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        spec: SupervisorSpec,
    ) -> Result<Shell, ActorProcessingErr> {
        let mut shell = Shell::open(myself, spec).await?;
        shell.start_all().await?;
        Ok(shell)
    }

    async fn handle(
        &self,
        _myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        // Exits first, so that every answer is given on the newest state.
        shell.handle_exits().await;
        if shell.done {
            // Dropping the message drops its reply port: the caller reads that as not running.
            return Ok(());
        }
        receive(message, shell).await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        of_own_link(&event, shell.link())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<SupervisorMsg>,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        shell.stop_all().await;
        Ok(())
    }
}

/// A failed send of a reply means that the asker has gone away; the order was carried out all the same.
async fn receive(message: SupervisorMsg, shell: &mut Shell) {
    match message {
        SupervisorMsg::StartChild(spec, reply) => {
            let _ = reply.send(shell.start_child(*spec).await);
        }
        SupervisorMsg::TerminateChild(id, reply) => {
            let _ = reply.send(shell.terminate_child(&id).await);
        }
        SupervisorMsg::RestartChild(id, reply) => {
            let _ = reply.send(shell.restart_child(&id).await);
        }
        SupervisorMsg::DeleteChild(id, reply) => {
            let _ = reply.send(shell.delete_child(&id));
        }
        SupervisorMsg::WhichChildren(reply) => {
            let _ = reply.send(Ok(shell.children.infos()));
        }
        SupervisorMsg::CountChildren(reply) => {
            let _ = reply.send(Ok(shell.children.counts()));
        }
        SupervisorMsg::ChildEnded => {}
        SupervisorMsg::Retry { id, ticket } => shell.retry(&id, ticket).await,
        SupervisorMsg::RestartDue { id, ticket } => shell.restart_due(&id, ticket).await,
    }
}
