//! The keeper: stores what policies have become.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::{
    PolicyError,
    record::{PolicyCommand, PolicyState},
    table::Entry,
};
use crate::{
    agent::Address,
    env::Env,
    health::{Counter, Vital},
    task::ActorGuard,
    workflow,
};

/// Counts are stored, and what could not be stored is tried again, this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A save that takes longer has failed.
const SAVE_WITHIN: Duration = Duration::from_secs(5);
/// After a breaker was closed by hand, runs are told at once, and again after this time: an attempt that was refused
/// just before may have been parked just after.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Saves at once.
const SAVES_AT_ONCE: usize = 64;

/// Messages of the keeper.
#[derive(Debug)]
pub enum PolicyKeeperMsg {
    /// Some policy changed its state.
    Rung,
    /// Time has passed.
    Tick,
    /// Store whatever has changed, and say when it is durable, or why it is not.
    Flush(RpcReplyPort<Result<(), String>>),
}

#[cfg(feature = "cluster")]
impl ractor::Message for PolicyKeeperMsg {}

/// Stores changes of state at once, and counts at most once a second.
#[derive(Debug)]
pub struct PolicyKeeperActor;

/// State of the keeper: all of it is in the table, so a keeper that starts anew goes on where the other one ended.
pub struct PolicyKeeperState {
    env: Arc<Env>,
    vital: Vital,
    saved: Counter,
    failed: Counter,
    _counted: ActorGuard,
}

impl Actor for PolicyKeeperActor {
    type Msg = PolicyKeeperMsg;
    type State = PolicyKeeperState;
    type Arguments = Arc<Env>;

    async fn pre_start(
        &self,
        myself: ActorRef<PolicyKeeperMsg>,
        env: Arc<Env>,
    ) -> Result<PolicyKeeperState, ActorProcessingErr> {
        // In this order: a ring before it is heard by the tick, one after it wakes this actor.
        env.services().policies.register(myself.clone());
        env.policies().hear();
        myself.cast(PolicyKeeperMsg::Tick)?;
        let vital = env.vitals().begin("policies");
        vital.up();
        Ok(PolicyKeeperState {
            saved: vital.counter("saved"),
            failed: vital.counter("failed"),
            _counted: env.tasks().actor("policies"),
            vital,
            env,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<PolicyKeeperMsg>,
        message: PolicyKeeperMsg,
        state: &mut PolicyKeeperState,
    ) -> Result<(), ActorProcessingErr> {
        state.env.policies().hear();
        state.tell_who_waits();
        match message {
            PolicyKeeperMsg::Rung => drop(state.save(false).await),
            PolicyKeeperMsg::Flush(reply) => drop(reply.send(state.save(true).await)),
            PolicyKeeperMsg::Tick => {
                drop(state.save(true).await);
                state.env.later(LOOK_EVERY, move || drop(myself.cast(PolicyKeeperMsg::Tick)));
            }
        }
        Ok(())
    }
}

impl PolicyKeeperState {
    /// Has steps that wait for a breaker look again when one was closed by hand.
    fn tell_who_waits(&self) {
        let entries = self.env.policies().all();
        // Every one of them is asked, so that none is told of later.
        if entries.iter().filter(|entry| entry.was_closed_by_hand()).count() == 0 {
            return;
        }
        look_again(&self.env);
        let env = Arc::clone(&self.env);
        self.env.later(TOLD_AGAIN_AFTER, move || look_again(&env));
    }

    /// Stores what has changed; the answer is the first reason why something is not stored.
    async fn save(&self, counts_too: bool) -> Result<(), String> {
        // New commands are refused by now; what was there when the drain began is stored.
        if self.env.is_draining() {
            let due = |entry: &Arc<Entry>| entry.is_due(counts_too, self.env.now()).is_some();
            return match self.env.policies().all().iter().any(due) {
                true => Err("the system drains and stores no more of its policies".to_owned()),
                false => Ok(()),
            };
        }
        let saves = self.env.policies().all().into_iter().filter_map(|entry| {
            let mark = entry.is_due(counts_too, self.env.now())?;
            Some(async move {
                let stored = self.save_one(&entry).await;
                match stored {
                    Ok(()) => {
                        entry.is_stored(mark);
                        self.saved.add(1);
                        None
                    }
                    Err(error) => {
                        self.failed.add(1);
                        Some(format!("policy {} is not stored: {error}", entry.name))
                    }
                }
            })
        });
        let outcomes = stream::iter(saves.collect::<Vec<_>>()).buffer_unordered(SAVES_AT_ONCE);
        let outcomes: Vec<_> = outcomes.collect().await;
        let wrong = outcomes.into_iter().flatten().next();
        // Only a look at everything says that nothing is wrong.
        if counts_too || wrong.is_some() {
            self.vital.tell_wrong(wrong.clone());
        }
        wrong.map_or(Ok(()), Err)
    }

    async fn save_one(&self, entry: &Entry) -> Result<(), PolicyError> {
        let address = Address::<PolicyState>::new(&self.env, &entry.name.to_string())?;
        let saved = entry.live.saved(self.env.now());
        address.with_deadline(SAVE_WITHIN).call(PolicyCommand::Save(saved)).await?;
        Ok(())
    }
}

fn look_again(env: &Arc<Env>) {
    let telling = Arc::clone(env);
    let spawned = env.tasks().spawn("look-again", async move {
        if let Err(error) = workflow::look_again(&telling).await {
            tracing::warn!(%error, "runs that wait for a breaker were not told that it is closed");
        }
    });
    // The system ends: steps look in the next life.
    drop(spawned);
}
