//! Runs activities: after the commit that recorded them, under a bound, each with a cancellation token.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::{
    active::panic_text,
    cell::EntityCell,
    machine::{Completion, Failure},
    mail::Item,
};
use crate::{
    env::Env,
    health::{Counter, Vital},
    ids::{Cause, Name},
    moment::{Moment, Observer},
    store::Effect,
    task::{ActorGuard, CancelToken, Places, TaskScope},
};

/// What an activity knows of its attempt.
#[derive(Clone, Debug)]
pub struct ActivityCtx {
    /// The same for all attempts: give it to the outside, so that a repeated attempt is recognised.
    pub idempotency_key: String,
    /// Attempt, from 1.
    pub attempt: u32,
    /// Asked to stop.
    pub cancel: CancelToken,
    /// Trace, correlation, causation.
    pub cause: Cause,
    progress: Arc<Mutex<Progress>>,
}

/// The last sign of life of an attempt.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Signs given so far.
    pub beats: u64,
    /// What the activity said last.
    pub note: Option<String>,
}

impl ActivityCtx {
    /// Says that the attempt lives, and how far it is. Volatile: not stored.
    pub fn heartbeat(&self, note: impl Into<String>) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.beats += 1;
        progress.note = Some(note.into());
    }
}

/// An activity over bytes.
pub trait DynActivity: Send + Sync + 'static {
    /// Runs one attempt.
    fn run(&self, ctx: ActivityCtx, input: Bytes) -> BoxFuture<'static, Result<Bytes, Failure>>;
}

/// Activities by name.
pub type Activities = HashMap<String, Arc<dyn DynActivity>>;

/// Messages of the runner of effects.
#[derive(Debug)]
pub enum EffectsMsg {
    /// Starts an attempt, unless it runs. Another attempt of the same effect is stopped.
    Start {
        /// Whose.
        cell: Arc<EntityCell>,
        /// The effect.
        effect: Effect,
    },
    /// Stops an attempt; nobody waits for its end.
    Cancel {
        /// Whose.
        entity: Name,
        /// The effect's id.
        id: String,
    },
    /// Lists the attempts that run or wait for a place.
    Running(RpcReplyPort<Vec<RunningAttempt>>),
}

/// An attempt that runs, or waits for a place.
#[derive(Clone, Debug)]
pub struct RunningAttempt {
    /// Whose.
    pub entity: Name,
    /// The effect's id.
    pub effect: String,
    /// Attempt, from 1.
    pub attempt: u32,
    /// Its last sign of life.
    pub progress: Progress,
}

#[cfg(feature = "cluster")]
impl ractor::Message for EffectsMsg {}

/// Runs activities; its end ends all of them. In the tree it is the TaskSupervisor of the system.
///
/// It is for recorded effects alone: each attempt belongs to an entity, is started after a commit, and is taken up again
/// by its entity when this actor starts anew. Tasks of a program that nobody recorded go to the task supervisor of the
/// supervisors' crate. Both bound what runs by [`Places`], and own it by a [`TaskScope`] that ends with the actor.
#[derive(Debug)]
pub struct ActivityRunnerActor;

/// What the runner is started with.
pub struct ActivityRunnerArgs {
    /// The environment.
    pub env: Arc<Env>,
    /// Activities registered.
    pub activities: Arc<Activities>,
    /// Attempts that run at once: at least 1.
    pub limit: usize,
}

type Running = Arc<Mutex<HashMap<(Name, String), Attempt>>>;

struct Attempt {
    number: u32,
    cancel: CancelToken,
    progress: Arc<Mutex<Progress>>,
}

/// `started` attempts are `succeeded`, `failed`, `cancelled` or run still, or ended with their runner.
#[derive(Clone)]
struct Counts {
    started: Counter,
    succeeded: Counter,
    failed: Counter,
    cancelled: Counter,
}

/// State of the runner.
pub struct ActivityRunnerState {
    scope: TaskScope,
    activities: Arc<Activities>,
    places: Places,
    running: Running,
    counts: Counts,
    _vital: Vital,
    observer: Observer,
    _counted: ActorGuard,
}

impl Actor for ActivityRunnerActor {
    type Msg = EffectsMsg;
    type State = ActivityRunnerState;
    type Arguments = ActivityRunnerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<EffectsMsg>,
        args: ActivityRunnerArgs,
    ) -> Result<ActivityRunnerState, ActorProcessingErr> {
        let ActivityRunnerArgs { env, activities, limit } = args;
        env.services().effects.register(myself);
        // What ran under a runner before this one has ended with it: its entities start it anew.
        let taken_up = |cell: &Arc<EntityCell>| cell.is_active() && env.takes_up(cell.name());
        for cell in env.directory().cells().into_iter().filter(taken_up) {
            cell.push_internal(Item::Recover);
        }
        let vital = env.vitals().begin("task-supervisor");
        vital.up();
        Ok(ActivityRunnerState {
            counts: Counts {
                started: vital.counter("started"),
                succeeded: vital.counter("succeeded"),
                failed: vital.counter("failed"),
                cancelled: vital.counter("cancelled"),
            },
            _vital: vital,
            scope: env.tasks().child("activities"),
            activities,
            places: Places::new(limit),
            running: Running::default(),
            observer: env.observer(),
            _counted: env.tasks().actor("task-supervisor"),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<EffectsMsg>,
        message: EffectsMsg,
        state: &mut ActivityRunnerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            EffectsMsg::Start { cell, effect } => state.start(cell, effect),
            EffectsMsg::Cancel { entity, id } => state.cancel(&(entity, id)),
            EffectsMsg::Running(reply) => {
                let _ = reply.send(state.list());
            }
        }
        Ok(())
    }
}

impl ActivityRunnerState {
    fn start(&self, cell: Arc<EntityCell>, effect: Effect) {
        let key = (cell.name().clone(), effect.id.clone());
        if self.lock().get(&key).is_some_and(|attempt| attempt.number == effect.attempt) {
            return;
        }
        self.cancel(&key);
        let Some(activity) = self.activities.get(&effect.activity).cloned() else {
            let message = format!("no activity {:?} is registered", effect.activity);
            let failure = Failure::permanent(Failure::UNREGISTERED, message);
            return report(&cell, &effect, Err(failure));
        };
        let cancel = CancelToken::new();
        let progress = Arc::new(Mutex::new(Progress::default()));
        let ctx = ActivityCtx {
            idempotency_key: idempotency_key(&cell, &effect.id),
            attempt: effect.attempt,
            cancel: cancel.clone(),
            cause: effect.cause.clone(),
            progress: Arc::clone(&progress),
        };
        let attempt = Attempt { number: effect.attempt, cancel: cancel.clone(), progress };
        self.lock().insert(key.clone(), attempt);
        let (places, running) = (self.places.clone(), Arc::clone(&self.running));
        let (observer, counts) = (self.observer.clone(), self.counts.clone());
        counts.started.add(1);
        let spawned = self.scope.spawn("activity", async move {
            let _place = tokio::select! {
                place = places.take() => place,
                () = cancel.cancelled() => return counts.cancelled.add(1),
            };
            observer.reach(Moment::EffectStart);
            let result = run_attempt(activity.as_ref(), ctx, &effect, &cancel).await;
            observer.reach(Moment::EffectEnd);
            forget(&running, &key, effect.attempt);
            match &result {
                Some(Ok(_)) => counts.succeeded.add(1),
                Some(Err(_)) => counts.failed.add(1),
                None => counts.cancelled.add(1),
            }
            if let Some(result) = result {
                report(&cell, &effect, result);
            }
        });
        if let Err(error) = spawned {
            // The system stops: the effect stays recorded and runs again with the next start.
            tracing::debug!(%error, "attempt not started");
        }
    }

    fn list(&self) -> Vec<RunningAttempt> {
        let running = self.lock();
        let attempts = running.iter().map(|((entity, effect), attempt)| RunningAttempt {
            entity: entity.clone(),
            effect: effect.clone(),
            attempt: attempt.number,
            progress: attempt.progress.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        });
        attempts.collect()
    }

    fn cancel(&self, key: &(Name, String)) {
        if let Some(attempt) = self.lock().remove(key) {
            attempt.cancel.cancel();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Name, String), Attempt>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt that was cancelled may clean up this long; then it is dropped.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Runs one attempt to its end; `None` when it was cancelled, for then nobody waits for its end.
async fn run_attempt(
    activity: &dyn DynActivity,
    ctx: ActivityCtx,
    effect: &Effect,
    cancel: &CancelToken,
) -> Option<Result<Bytes, Failure>> {
    let attempt = AssertUnwindSafe(async { activity.run(ctx, effect.input.clone()).await }).catch_unwind();
    let limit = match effect.timeout_ms {
        0 => Duration::from_secs(u64::from(u32::MAX)),
        ms => Duration::from_millis(ms),
    };
    tokio::pin!(attempt);
    tokio::select! {
        ended = &mut attempt => Some(ended.unwrap_or_else(|panic| {
            Err(Failure::retryable(Failure::PANICKED, panic_text(panic.as_ref())))
        })),
        () = tokio::time::sleep(limit) => {
            cancel.cancel();
            let _ = tokio::time::timeout(CANCEL_GRACE, &mut attempt).await;
            let message = format!("attempt {} ran over {limit:?}", effect.attempt);
            Some(Err(Failure::retryable(Failure::TIMED_OUT, message)))
        }
        () = cancel.cancelled() => {
            let _ = tokio::time::timeout(CANCEL_GRACE, &mut attempt).await;
            None
        }
    }
}

/// The same for all attempts: `run/step` of a workflow run, `kind/key/e<n>` of any other entity.
fn idempotency_key(cell: &EntityCell, effect: &str) -> String {
    if cell.kind().is_run {
        format!("{}/{effect}", cell.name().key)
    } else {
        format!("{}/{effect}", cell.name())
    }
}

fn forget(running: &Running, key: &(Name, String), number: u32) {
    let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
    if running.get(key).is_some_and(|attempt| attempt.number == number) {
        running.remove(key);
    }
}

fn report(cell: &Arc<EntityCell>, effect: &Effect, result: Result<Bytes, Failure>) {
    let outcome = if result.is_ok() { "succeeded" } else { "failed" };
    metrics::counter!("stanchion_attempts_total", "outcome" => outcome).increment(1);
    let (id, attempt) = (effect.id.clone(), effect.attempt);
    let completion = match result {
        Ok(output) => Completion::Succeeded { effect: id, attempt, output },
        Err(failure) => Completion::Failed { effect: id, attempt, failure },
    };
    cell.push_internal(Item::Completion(completion, None));
}
