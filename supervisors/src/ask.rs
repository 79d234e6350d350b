//! Calls of supervisors by their handles.

use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorRef, Message, RpcReplyPort};

use crate::child::Shutdown;
use crate::error::{ControlError, SupervisorStartError};
use crate::exit::SHUTDOWN;

/// How a supervisor that was told to stop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It stopped its children in order, then itself.
    InOrder,
    /// It was killed, and every child with it.
    Killed,
}

/// Starts a supervisor's actor: under `parent`, if there is one.
pub(crate) async fn spawn<A: Actor>(
    actor: A,
    spec: A::Arguments,
    name: Option<String>,
    parent: Option<ActorCell>,
) -> Result<ActorRef<A::Msg>, SupervisorStartError> {
    let spawned = match parent {
        Some(parent) => parent.spawn_linked(name, actor, spec).await,
        None => A::spawn(name, actor, spec).await,
    };
    let (actor, _join) = spawned.map_err(SupervisorStartError::of_spawn)?;
    Ok(actor)
}

/// Waits until a supervisor has ended, for whatever reason.
pub(crate) async fn ended(supervisor: &ActorCell) {
    // Without a limit there is no timeout to fail with.
    let _ = supervisor.wait(None).await;
}

/// Reaches an actor by its messages; `None` if it takes others.
pub(crate) fn of_cell<M: Message>(cell: &ActorCell) -> Option<ActorRef<M>> {
    (cell.is_message_type_of::<M>() == Some(true)).then(|| cell.clone().into())
}

/// Asks and waits for the answer, however long the supervisor needs: its children's deadlines bound it.
pub(crate) async fn ask<M, T>(
    supervisor: &ActorRef<M>,
    message: impl FnOnce(RpcReplyPort<Result<T, ControlError>>) -> M,
) -> Result<T, ControlError>
where
    M: Message,
    T: Send + 'static,
{
    match supervisor.call(message, None).await {
        Ok(CallResult::Success(answer)) => answer,
        Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => Err(ControlError::NotRunning),
    }
}

/// Stops a supervisor and waits until it is gone.
pub(crate) async fn stop(supervisor: &ActorCell, how: Shutdown) -> Stopped {
    let deadline: Option<Duration> = match how {
        Shutdown::BrutalKill => Some(Duration::ZERO),
        Shutdown::Deadline(deadline) => Some(deadline),
        Shutdown::Infinity => None,
    };
    if deadline != Some(Duration::ZERO) {
        supervisor.stop(Some(SHUTDOWN.to_owned()));
        if supervisor.wait(deadline).await.is_ok() {
            return Stopped::InOrder;
        }
    }
    supervisor.kill();
    // Without a limit there is no timeout to fail with.
    let _ = supervisor.wait(None).await;
    Stopped::Killed
}
