//! Windows of messages to another node.

use std::sync::Arc;

use ractor::ActorRef;

use super::outbox::OutboxMsg;
use crate::{
    env::Env,
    error::{Doubt, FailureKind},
    ids::{EntityId, Name},
    remote::{Remote, RemoteMessage},
    store::OutMessage,
};

/// Sends a window, in order, and tells the outbox what became of each message. The task ends with the system: then the
/// messages are still in the store, and go again.
pub(super) fn deliver<'a>(
    env: &Env,
    outbox: &ActorRef<OutboxMsg>,
    remote: Arc<dyn Remote>,
    (sender, from): (EntityId, Name),
    to: Name,
    window: impl Iterator<Item = &'a OutMessage>,
) {
    let far = |message: &OutMessage| RemoteMessage {
        seq: message.seq,
        payload: message.payload.clone(),
        cause: message.cause.clone(),
    };
    let messages: Vec<RemoteMessage> = window.map(far).collect();
    let numbers: Vec<u64> = messages.iter().map(|message| message.seq).collect();
    let outbox = outbox.clone();
    let sent = env.tasks().spawn("deliver", async move {
        let mut results = remote.deliver(from, to.clone(), messages).await.into_iter();
        for seq in numbers {
            let result = results.next().unwrap_or(Err(FailureKind::Unknown(Doubt::Lost)));
            let _ = outbox.cast(OutboxMsg::Settled { sender, to: to.clone(), seq, result });
        }
    });
    if let Err(error) = sent {
        tracing::debug!(%error, "messages not sent: they go with the next start");
    }
}
