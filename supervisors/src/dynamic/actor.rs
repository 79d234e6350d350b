//! Receives for the shell.

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use super::handle::StartedChild;
use super::shell::{ChildKey, DynamicInfo, Shell};
use super::spec::{DynamicChild, DynamicSpec};
use crate::child::Shutdown;
use crate::error::ControlError;
use crate::link::of_own_link;

type Reply<T> = RpcReplyPort<Result<T, ControlError>>;

pub(super) enum DynamicMsg {
    StartChild(DynamicChild, Reply<Option<StartedChild>>),
    TerminateChild(ChildKey, Reply<Option<(ActorCell, Shutdown)>>),
    ListChildren(Reply<Vec<DynamicInfo>>),
    CountChildren(Reply<usize>),
    /// Doorbell of the link: the exit lies in its queue.
    ChildEnded,
    /// The last start attempt of the child failed.
    Retry {
        key: ChildKey,
        ticket: u64,
    },
    /// The delay before the child's restart is over.
    RestartDue {
        key: ChildKey,
        ticket: u64,
    },
}

#[cfg(feature = "cluster")]
impl ractor::Message for DynamicMsg {}

pub(super) struct DynamicActor;

impl Actor for DynamicActor {
    type Msg = DynamicMsg;
    type State = Shell;
    /// Validated.
    type Arguments = DynamicSpec;

    async fn pre_start(
        &self,
        myself: ActorRef<DynamicMsg>,
        spec: DynamicSpec,
    ) -> Result<Shell, ActorProcessingErr> {
        Shell::open(myself, spec).await
    }

    async fn handle(
        &self,
        _myself: ActorRef<DynamicMsg>,
        message: DynamicMsg,
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
        _myself: ActorRef<DynamicMsg>,
        event: SupervisionEvent,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        of_own_link(&event, shell.link())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<DynamicMsg>,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        shell.stop_all().await;
        Ok(())
    }
}

/// A failed send of a reply means that the asker has gone away; the order was carried out all the same.
async fn receive(message: DynamicMsg, shell: &mut Shell) {
    match message {
        DynamicMsg::StartChild(child, reply) => {
            let _ = reply.send(shell.start_child(child).await);
        }
        DynamicMsg::TerminateChild(key, reply) => {
            let _ = reply.send(Ok(shell.terminate_child(key)));
        }
        DynamicMsg::ListChildren(reply) => {
            let _ = reply.send(Ok(shell.infos()));
        }
        DynamicMsg::CountChildren(reply) => {
            let _ = reply.send(Ok(shell.count()));
        }
        DynamicMsg::ChildEnded => {}
        DynamicMsg::Retry { key, ticket } => shell.retry(key, ticket).await,
        DynamicMsg::RestartDue { key, ticket } => shell.restart_due(key, ticket).await,
    }
}
