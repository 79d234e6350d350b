//! Fires durable timers: a view of the store's due rows, read ahead by ten minutes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use super::mail::Item;
use crate::{
    env::Env,
    health::{Counter, Vital},
    ids::{EntityId, Name, Timestamp},
    store::{Due, StoreError},
    task::ActorGuard,
};

/// Timers due within this time are kept in memory.
const AHEAD: Duration = Duration::from_secs(600);
/// The clock is looked at no later than this, so that a clock that jumps forward is noticed.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// Rows read at a time.
const PAGE: usize = 1_000;

/// Messages of the timer service.
#[derive(Debug)]
pub enum TimersMsg {
    /// A timer is durable.
    Arm(Due),
    /// Look at the clock.
    Tick,
}

#[cfg(feature = "cluster")]
impl ractor::Message for TimersMsg {}

/// Fires due timers into the mailboxes of their entities, waking them if they sleep.
#[derive(Debug)]
pub struct TimersActor;

/// State of the timer service.
pub struct TimersState {
    env: Arc<Env>,
    due: BTreeSet<Due>,
    /// Rows up to this time were read.
    read_until: Timestamp,
    /// A tick is on its way, at this time.
    tick_at: Option<Instant>,
    vital: Vital,
    fired: Counter,
    armed: Counter,
    _counted: ActorGuard,
}

impl Actor for TimersActor {
    type Msg = TimersMsg;
    type State = TimersState;
    type Arguments = Arc<Env>;

    async fn pre_start(
        &self,
        myself: ActorRef<TimersMsg>,
        env: Arc<Env>,
    ) -> Result<TimersState, ActorProcessingErr> {
        env.services().timers.register(myself.clone());
        myself.cast(TimersMsg::Tick)?;
        let counted = env.tasks().actor("timers");
        let vital = env.vitals().begin("timers");
        vital.up();
        Ok(TimersState {
            env,
            due: BTreeSet::new(),
            read_until: Timestamp(i64::MIN),
            tick_at: None,
            fired: vital.counter("fired"),
            armed: vital.counter("armed"),
            vital,
            _counted: counted,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<TimersMsg>,
        message: TimersMsg,
        state: &mut TimersState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TimersMsg::Arm(due) => {
                if due.due <= state.read_until {
                    state.due.insert(due);
                    state.plan(&myself);
                }
            }
            TimersMsg::Tick => {
                state.tick_at = None;
                let ticked = state.tick().await;
                state
                    .vital
                    .tell_wrong(ticked.as_ref().err().map(|e| format!("due timers could not be read: {e}")));
                if let Err(error) = ticked {
                    // The rows stay where they are; the next tick, a while later, reads them again.
                    state.read_until = Timestamp(i64::MIN);
                    state.due.clear();
                    tracing::warn!(%error, "due timers could not be read");
                }
                state.plan(&myself);
            }
        }
        Ok(())
    }
}

impl TimersState {
    async fn tick(&mut self) -> Result<(), StoreError> {
        let now = self.env.now();
        let horizon = now.after(AHEAD);
        if self.read_until < now.after(AHEAD / 2) {
            self.read(horizon).await?;
        }
        while let Some(first) = self.due.first() {
            if first.due > now {
                break;
            }
            if let Some(due) = self.due.pop_first() {
                self.fire(due).await?;
            }
        }
        Ok(())
    }

    async fn read(&mut self, until: Timestamp) -> Result<(), StoreError> {
        let store = self.env.store().current();
        let mut after = None;
        loop {
            let page = store.due(until, after, PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().cloned();
            self.due.extend(page);
            if !full {
                break;
            }
        }
        self.read_until = until;
        Ok(())
    }

    async fn fire(&mut self, due: Due) -> Result<(), StoreError> {
        let directory = self.env.directory();
        let cell = match directory.cell_of(due.entity) {
            Some(cell) => Some(cell),
            None => match name_of(&self.env, due.entity).await {
                Ok(Some(name)) => directory.cell(&name).ok(),
                Ok(None) => None,
                // It is quarantined; the timers of all others fire.
                Err(error @ StoreError::Corrupt { .. }) => {
                    tracing::error!(entity = %due.entity, %error, "timer of an unreadable entity");
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        match cell {
            // Its row stays for the process that takes the entity up.
            Some(cell) if !self.env.takes_up(cell.name()) => {}
            Some(cell) => {
                metrics::counter!("stanchion_timers_fired_total").increment(1);
                self.fired.add(1);
                cell.push_internal(Item::Timer(due.timer));
            }
            None => tracing::warn!(entity = %due.entity, timer = due.timer, "timer of an unknown entity"),
        }
        Ok(())
    }

    /// Makes sure a tick comes in time for the first timer.
    fn plan(&mut self, myself: &ActorRef<TimersMsg>) {
        self.armed.set(self.due.len());
        let wait = match self.due.first() {
            Some(first) => first.due.since(self.env.now()).min(LOOK_AT_LEAST_EVERY),
            None => LOOK_AT_LEAST_EVERY,
        };
        let at = Instant::now() + wait;
        if self.tick_at.is_some_and(|planned| planned <= at) {
            return;
        }
        self.tick_at = Some(at);
        let myself = myself.clone();
        self.env.later(wait, move || drop(myself.cast(TimersMsg::Tick)));
    }
}

/// The name of an entity that is not active.
pub(crate) async fn name_of(env: &Env, entity: EntityId) -> Result<Option<Name>, StoreError> {
    let loaded = env.store().current().load(entity).await?;
    Ok(loaded.and_then(|loaded| match loaded.head() {
        Some(head) => Some(head.name.clone()),
        // Nothing but an inbox command so far.
        None => loaded.inbox.first().map(|(_, item)| item.to.clone()),
    }))
}
