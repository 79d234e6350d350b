//! What happens once an entry is durable: effects start, messages leave, timers are armed.

use std::sync::Arc;

use super::{cell::EntityCell, effects::EffectsMsg, outbox::OutboxMsg, timers::TimersMsg};
use crate::{
    env::Env,
    ids::EntityId,
    store::{Due, Effect, OutMessage},
};

/// One thing to do after a commit.
#[derive(Debug)]
pub(crate) enum After {
    /// Start an attempt.
    Start(Effect),
    /// Stop an attempt whose effect is over.
    Cancel(String),
    /// Hand messages to the outbox: new ones, or all that are pending.
    Deliver(Vec<OutMessage>, bool),
    /// A returned message is consumed.
    Returned(u64, crate::ids::Name),
    /// Tell the timer service.
    Arm(Due),
    /// Tell those who follow the status.
    Publish(String),
}

impl After {
    /// Does it.
    pub(crate) fn perform(self, env: &Env, cell: &Arc<EntityCell>, entity: EntityId) {
        let services = env.services();
        match self {
            // What is recorded while the system drains, or of an entity that only answers, starts when the entity
            // is taken up the next time.
            Self::Start(_) if env.is_draining() || !env.takes_up(cell.name()) => {}
            Self::Start(effect) => {
                services.effects.cast(EffectsMsg::Start { cell: Arc::clone(cell), effect });
            }
            Self::Cancel(id) => {
                services.effects.cast(EffectsMsg::Cancel { entity: cell.name().clone(), id });
            }
            Self::Deliver(messages, complete) => {
                let sender = Arc::clone(cell);
                services.outbox.cast(OutboxMsg::Offer { sender, entity, messages, complete });
            }
            Self::Publish(status) => cell.publish_status(status),
            Self::Returned(seq, to) => {
                cell.settled(seq);
                services.outbox.cast(OutboxMsg::Returned { sender: entity, to, seq });
            }
            Self::Arm(due) => services.timers.cast(TimersMsg::Arm(due)),
        }
    }
}
