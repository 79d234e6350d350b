//! The one actor type behind every entity: a thin shell over [`Active`].

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use stanchion_sync::Claim;

use super::{
    active::{Active, Broken},
    cell::EntityCell,
    machine::{Machine, Unreadable},
    mail::Item,
    msg::EntityMsg,
    purge::{Purge, remove},
};
use crate::{
    env::Env,
    error::{FailureKind, Unavailable},
    ids::EntityId,
    store::{Activated, Store, StoreError, Token},
    task::ActorGuard,
};

/// Items handled before the actor lets others run.
const TURN: usize = 128;
/// An activation that failed is tried again after this long, at first and at most, when the system itself has
/// work for the entity.
const REACTIVATE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Numbers asked for when each was given back before it could be used.
const CLAIMS: usize = 3;

/// Runs one entity.
#[derive(Debug)]
pub struct EntityActor;

/// What an entity's actor is started with.
pub struct EntityArgs {
    /// The environment.
    pub env: Arc<Env>,
    /// The entity.
    pub cell: Arc<EntityCell>,
    /// The right to take its slot.
    pub claim: Claim,
}

/// State of an entity's actor.
pub struct EntityState {
    env: Arc<Env>,
    cell: Arc<EntityCell>,
    generation: u64,
    active: Option<Active>,
    failures: u32,
    /// The last activation ended before its time.
    owed: bool,
    _counted: ActorGuard,
}

impl Actor for EntityActor {
    type Msg = EntityMsg;
    type State = EntityState;
    type Arguments = EntityArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<EntityMsg>,
        args: EntityArgs,
    ) -> Result<EntityState, ActorProcessingErr> {
        let EntityArgs { env, cell, claim } = args;
        if !cell.own(&claim, myself.clone()) {
            return Err(format!("{} was claimed by another actor", cell.name()).into());
        }
        myself.cast(EntityMsg::Wake)?;
        let counted = env.tasks().actor("entity");
        let generation = claim.generation();
        Ok(EntityState { env, cell, generation, active: None, failures: 0, owed: false, _counted: counted })
    }

    async fn handle(
        &self,
        myself: ActorRef<EntityMsg>,
        message: EntityMsg,
        state: &mut EntityState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            EntityMsg::Wake => {
                state.cell.silence();
                state.turn(&myself).await;
            }
            EntityMsg::Passivate => state.passivate(&myself).await,
        }
        Ok(())
    }
}

impl EntityState {
    async fn turn(&mut self, myself: &ActorRef<EntityMsg>) {
        self.cell.touch();
        if self.active.is_none() && !self.activate().await {
            return;
        }
        match self.work(myself) {
            Ok(None) => {}
            Ok(Some(purge)) => return self.purge(purge).await,
            Err(broken) => return self.give_up(broken),
        }
        if let Some(active) = &mut self.active
            && let Err(error) = active.offer_pending().await
        {
            self.give_up(Broken(FailureKind::from(&error)));
        }
    }

    /// Handles what lies in the mailbox, up to a removal.
    fn work(&mut self, myself: &ActorRef<EntityMsg>) -> Result<Option<Purge>, Broken> {
        let Some(active) = &mut self.active else { return Ok(None) };
        active.retry_planned = false;
        active.submit()?;
        let (mut waits, mut full) = (false, false);
        for handled in 0.. {
            if handled == TURN {
                // More may lie there: let others run, then look again.
                let _ = myself.cast(EntityMsg::Wake);
                break;
            }
            if !active.has_room() {
                full = true;
                break;
            }
            let Some(item) = self.cell.pop() else { break };
            if matches!(item, Item::Prepare(_) | Item::Purge(_)) && !active.is_quiet() {
                self.cell.unpop(item);
                waits = true;
                break;
            }
            match item {
                Item::Purge(purge) => return Ok(Some(purge)),
                item => active.handle(item)?,
            }
        }
        active.submit()?;
        active.perform_afters();
        if full && active.has_room() {
            // The full chain left: what lies in the mailbox is for the next one.
            let _ = myself.cast(EntityMsg::Wake);
        }
        if waits && !active.retry_planned {
            active.wake_when_quiet();
        }
        Ok(None)
    }

    /// Ends the activation and removes the entity; whatever waits in the mailbox finds it gone, and begins it anew.
    async fn purge(&mut self, purge: Purge) {
        let removed = match self.active.take() {
            Some(active) => match active.in_the_way() {
                Some(busy) => {
                    self.active = Some(active);
                    Err(busy)
                }
                None => {
                    active.say_goodbye();
                    let entity = active.token().entity;
                    drop(active);
                    let store = self.env.store().current();
                    remove(store.as_ref(), self.cell.name(), entity, self.env.incarnation()).await
                }
            },
            None => Ok(false),
        };
        if matches!(removed, Ok(true)) {
            self.cell.publish_status(String::new());
        }
        purge.answer(removed);
        self.cell.wake();
    }

    /// Takes the entity from the store. False: it is not available now; callers were answered.
    async fn activate(&mut self) -> bool {
        match load(&self.env, &self.cell).await {
            Ok(mut active) => {
                // What was in flight is taken up before anything else is handled.
                // An entity that crashed too often is parked first: recovering may be what crashes it.
                let taken_up = self.env.takes_up(self.cell.name()) && !self.cell.is_crash_looping();
                let recovered = if taken_up { active.handle(Item::Recover) } else { Ok(()) };
                self.active = Some(active);
                (self.failures, self.owed) = (0, false);
                if let Err(broken) = recovered {
                    self.give_up(broken);
                    return false;
                }
                true
            }
            Err(kind) => {
                self.cell.refuse_waiting(&kind);
                if (self.owed || self.cell.has_internal()) && !self.env.tasks().is_closed() {
                    let cell = Arc::clone(&self.cell);
                    let wait = REACTIVATE.0.saturating_mul(1 << self.failures.min(7)).min(REACTIVATE.1);
                    self.failures = self.failures.saturating_add(1);
                    self.env.later(wait, move || cell.wake());
                }
                false
            }
        }
    }

    /// The speculative state is void: everything that was not stored is answered, then the entity starts over.
    fn give_up(&mut self, broken: Broken) {
        let Broken(kind) = broken;
        if let FailureKind::Unknown(_) | FailureKind::Fatal(_) = &kind {
            self.env.store().suspect(&self.env, &StoreError::Unknown(format!("{kind:?}")));
        }
        metrics::counter!("stanchion_activations_failed_total").increment(1);
        tracing::debug!(entity = %self.cell.name(), ?kind, "activation over");
        // What was to be done after its commits may not be done yet: the next activation takes it up.
        self.owed = self.active.take().is_some() || self.owed;
        self.cell.wake();
    }

    async fn passivate(&mut self, myself: &ActorRef<EntityMsg>) {
        let quiet = !self.owed
            && self.active.as_mut().is_none_or(|active| {
                active.perform_afters();
                active.is_quiet() && !active.has_started()
            });
        let idle = self.cell.idle_for() >= self.cell.kind().options.passivate_after;
        if !(quiet && idle && self.cell.is_idle() && self.cell.leave(self.generation)) {
            return;
        }
        if let Some(active) = self.active.take() {
            let token = active.token();
            active.say_goodbye();
            drop(active);
            // Not released means fenced by the next activation all the same.
            let _ = self.env.store().current().release(token).await;
        }
        myself.stop(None);
    }
}

/// Takes the entity from the store, as its only writer.
async fn load(env: &Arc<Env>, cell: &Arc<EntityCell>) -> Result<Active, FailureKind> {
    let store = env.store().current();
    let failed = |error: StoreError| {
        env.store().suspect(env, &error);
        match FailureKind::from(&error) {
            // Reading changes nothing, so there is no doubt; and a store that failed is opened anew.
            FailureKind::Unknown(why) => FailureKind::Unavailable(Unavailable::Store(why.to_string())),
            FailureKind::Fatal(why) => FailureKind::Unavailable(Unavailable::Store(why)),
            kind => kind,
        }
    };
    let token = claim(env, cell, store.as_ref()).await.map_err(failed)?;
    let token = token.ok_or(FailureKind::Unavailable(Unavailable::Fenced))?;
    let entity = token.entity;
    let loaded = store.load(entity).await.map_err(failed)?.unwrap_or_default();
    let inbox = loaded.inbox.clone();
    let quarantined =
        |unreadable: Unreadable| FailureKind::Unavailable(Unavailable::Quarantined(unreadable.to_string()));
    let mut machine = (cell.kind().machine)(cell.name());
    if let Some(hash) =
        prelude(machine.as_mut(), store.as_ref(), entity).await.map_err(failed)?.map_err(quarantined)?
    {
        let definition = store.definition(hash).await.map_err(failed)?;
        let missing = || quarantined(Unreadable("its definition is missing".into()));
        machine.restore_definition(&definition.ok_or_else(missing)?).map_err(quarantined)?;
    }
    let mut active =
        Active::restore(Arc::clone(env), Arc::clone(cell), token, machine, loaded).map_err(quarantined)?;
    active.restore_rows(store.as_ref()).await.map_err(failed)?;
    active.check_rows().map_err(quarantined)?;
    env.directory().learn(entity, cell);
    for (position, item) in inbox {
        cell.push_inbox(position, item);
    }
    Ok(active)
}

/// A number, and the right to write under it; `None`: it belongs to somebody else.
async fn claim(env: &Env, cell: &EntityCell, store: &dyn Store) -> Result<Option<Token>, StoreError> {
    for _ in 0..CLAIMS {
        let entity = store.create(cell.name()).await?.entity();
        match store.activate(entity, env.incarnation()).await? {
            Activated::Granted(token) => return Ok(Some(token)),
            Activated::Held { .. } => return Ok(None),
            // Given back in between, with nothing stored: the name gets another number.
            Activated::Missing => {}
        }
    }
    Ok(None)
}

/// Reads the row that a machine needs before it is restored.
async fn prelude(
    machine: &mut dyn Machine,
    store: &dyn Store,
    entity: EntityId,
) -> Result<Result<Option<[u8; 32]>, Unreadable>, StoreError> {
    let Some(key) = machine.prelude() else { return Ok(Ok(None)) };
    let found = store.row(entity, key).await?;
    Ok(found.map_or(Ok(None), |row| machine.restore_prelude(&row)))
}
