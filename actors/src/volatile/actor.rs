//! The ractor actor around a volatile actor.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use stanchion_sync::Claim;

use super::{Volatile, VolatileCtx, cell::VolatileCell};
use crate::{env::Env, task::ActorGuard};

/// Commands handled before the actor lets others run.
const TURN: usize = 128;

/// Messages of a volatile actor. The commands lie in its cell.
#[derive(Debug)]
pub enum VolatileMsg {
    /// Look at the mailbox.
    Wake,
    /// End, if nothing came in between.
    Passivate,
}

#[cfg(feature = "cluster")]
impl ractor::Message for VolatileMsg {}

/// What it is started with, and its state.
pub(super) struct VolatileArgs<V: Volatile> {
    pub(super) env: Arc<Env>,
    pub(super) cell: Arc<VolatileCell<V>>,
    pub(super) claim: Claim,
}

/// One life of the actor.
pub(super) struct Life<V: Volatile> {
    env: Arc<Env>,
    cell: Arc<VolatileCell<V>>,
    generation: u64,
    state: V,
    _counted: ActorGuard,
}

/// Binds the actor to the type it runs.
pub(super) struct Typed<V>(pub(super) std::marker::PhantomData<fn() -> V>);

impl<V: Volatile> Actor for Typed<V> {
    type Msg = VolatileMsg;
    type State = Life<V>;
    type Arguments = VolatileArgs<V>;

    async fn pre_start(
        &self,
        myself: ActorRef<VolatileMsg>,
        args: VolatileArgs<V>,
    ) -> Result<Life<V>, ActorProcessingErr> {
        let VolatileArgs { env, cell, claim } = args;
        if !cell.own(&claim, myself.clone()) {
            return Err(format!("{} was claimed by another actor", cell.name()).into());
        }
        myself.cast(VolatileMsg::Wake)?;
        let counted = env.tasks().actor("volatile");
        cell.touch();
        let generation = claim.generation();
        Ok(Life { env, cell, generation, state: V::default(), _counted: counted })
    }

    async fn handle(
        &self,
        myself: ActorRef<VolatileMsg>,
        message: VolatileMsg,
        life: &mut Life<V>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            VolatileMsg::Wake => {}
            VolatileMsg::Passivate => {
                if life.cell.is_idle() && life.cell.leave(life.generation) {
                    myself.stop(None);
                }
                return Ok(());
            }
        }
        life.cell.silence();
        life.cell.touch();
        for _ in 0..TURN {
            let Some(waiting) = life.cell.pop() else { return Ok(()) };
            let (state, name) = (&mut life.state, life.cell.name());
            let mut ctx = VolatileCtx { name, clock: life.env.clock() };
            waiting.run(name, |command| state.handle(command, &mut ctx));
        }
        // More may lie there: let others run, then look again.
        myself.cast(VolatileMsg::Wake)?;
        Ok(())
    }
}
