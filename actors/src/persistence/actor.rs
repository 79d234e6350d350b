//! The persistence actor.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::{
    env::{Env, PERSISTENCE},
    health::{Counter, Vital},
    store::{Store, StoreError, StoreStats},
    task::ActorGuard,
};

/// Opens the store again, under the next boot number.
pub type StoreOpener = Arc<dyn Fn() -> BoxFuture<'static, Result<Arc<dyn Store>, StoreError>> + Send + Sync>;

/// Waits between attempts to open the store again; after the last one the actor fails, and its supervisor starts it
/// anew: it goes on trying for as long as the system runs.
const REOPEN_WAITS: [Duration; 6] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Messages of the persistence actor.
#[derive(Debug)]
pub enum PersistenceMsg {
    /// Somebody saw an error: look whether the store is poisoned, and open it anew if so.
    Suspect(String),
    /// Look now and then: a store may be poisoned while every entity sleeps.
    Look,
    /// Writes a backup.
    Backup {
        /// Where to.
        to: PathBuf,
        /// Replaces an existing file.
        force: bool,
        /// Told when it is complete.
        reply: RpcReplyPort<Result<(), StoreError>>,
    },
    /// Counters of the store.
    Stats(RpcReplyPort<StoreStats>),
}

#[cfg(feature = "cluster")]
impl ractor::Message for PersistenceMsg {}

/// Owns the store.
#[derive(Debug)]
pub struct PersistenceActor;

/// What the persistence actor is started with.
#[derive(Clone)]
pub struct PersistenceArgs {
    /// The environment; its handle holds the store opened first.
    pub env: Arc<Env>,
    /// Opens it again.
    pub opener: StoreOpener,
}

/// State of the persistence actor.
pub struct PersistenceState {
    args: PersistenceArgs,
    vital: Vital,
    reopened: Counter,
    _counted: ActorGuard,
}

impl Actor for PersistenceActor {
    type Msg = PersistenceMsg;
    type State = PersistenceState;
    type Arguments = PersistenceArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<PersistenceMsg>,
        args: PersistenceArgs,
    ) -> Result<PersistenceState, ActorProcessingErr> {
        args.env.services().persistence.register(myself.clone());
        plan_look(&args.env, &myself);
        let vital = args.env.vitals().begin(PERSISTENCE);
        let reopened = vital.counter("reopened");
        let counted = args.env.tasks().actor("persistence");
        let state = PersistenceState { args, vital, reopened, _counted: counted };
        state.reopen_if_poisoned().await?;
        state.vital.up();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<PersistenceMsg>,
        message: PersistenceMsg,
        state: &mut PersistenceState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PersistenceMsg::Suspect(why) => {
                tracing::debug!(why, "store suspected");
                state.reopen_if_poisoned().await?;
            }
            PersistenceMsg::Look => {
                state.reopen_if_poisoned().await?;
                plan_look(&state.args.env, &myself);
            }
            PersistenceMsg::Backup { to, force, reply } => {
                let store = state.args.env.store().current();
                let spawned = state.args.env.tasks().spawn("backup", async move {
                    // The asker may have gone; the backup is complete all the same.
                    let _ = reply.send(store.backup(to, force).await);
                });
                drop(spawned);
            }
            PersistenceMsg::Stats(reply) => {
                let _ = reply.send(state.args.env.store().current().stats());
            }
        }
        Ok(())
    }
}

/// The store is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

fn plan_look(env: &Arc<Env>, myself: &ActorRef<PersistenceMsg>) {
    let myself = myself.clone();
    env.later(LOOK_EVERY, move || drop(myself.cast(PersistenceMsg::Look)));
}

impl PersistenceState {
    async fn reopen_if_poisoned(&self) -> Result<(), ActorProcessingErr> {
        let handle = self.args.env.store();
        let broken = handle.current();
        let Some(why) = broken.poisoned() else { return Ok(()) };
        if self.args.env.is_draining() {
            return Ok(());
        }
        tracing::error!(why, "store is poisoned: opening it anew");
        self.vital.degraded(format!("the store is poisoned, and opened anew: {why}"));
        // Closing frees the files; a poisoned store cannot fail any worse.
        let _ = broken.close().await;
        drop(broken);
        let mut last = StoreError::Fatal(why);
        for wait in REOPEN_WAITS {
            match (self.args.opener)().await {
                Ok(store) => {
                    metrics::counter!("stanchion_store_reopened_total").increment(1);
                    tracing::info!(boot = store.caps().boot, "store opened anew");
                    handle.replace(store);
                    self.reopened.add(1);
                    self.vital.up();
                    return Ok(());
                }
                Err(error) => {
                    self.vital.degraded(format!("the store does not open: {error}"));
                    last = error;
                }
            }
            tokio::time::sleep(wait).await;
        }
        Err(Box::new(last))
    }
}
