//! Runs activities: after the commit that recorded them, under a bound, each with a cancellation token.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::{
    attempt::{Activities, ActivityCtx, DynActivity, Progress, run_attempt},
    cell::EntityCell,
    machine::{Completion, Failure, Placing},
    mail::Item,
};
use crate::{
    env::Env,
    health::{Counter, Vital},
    ids::Name,
    moment::{Moment, Observer},
    remote::{Ran, RemoteAttempt},
    store::Effect,
    task::{ActorGuard, CancelToken, Places, TaskScope},
};

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
    /// Runs an attempt for another node, under this one's places; it records nothing here.
    Foreign {
        /// The attempt.
        attempt: RemoteAttempt,
        /// Its end; nothing when it was cancelled.
        reply: RpcReplyPort<Option<Result<Bytes, Failure>>>,
    },
    /// Lists the attempts that run or wait for a place.
    Running(RpcReplyPort<Vec<RunningAttempt>>),
    /// How many attempts run or wait for a place here, those for other nodes included.
    Busy(RpcReplyPort<usize>),
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
    /// No node can run it: it waits, and nothing is lost when it is given up.
    waits: Arc<AtomicBool>,
}

/// One attempt for another node; dropped, it has ended.
struct ForNode(Arc<AtomicUsize>);

impl Drop for ForNode {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where an attempt runs.
enum Runs {
    Here(Arc<dyn DynActivity>, Places),
    There(Arc<Env>),
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
    env: Arc<Env>,
    scope: TaskScope,
    activities: Arc<Activities>,
    places: Places,
    running: Running,
    /// Attempts for other nodes.
    foreign: Arc<AtomicUsize>,
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
            foreign: Arc::default(),
            observer: env.observer(),
            env: Arc::clone(&env),
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
            EffectsMsg::Foreign { attempt, reply } => state.run_foreign(attempt, reply),
            EffectsMsg::Running(reply) => {
                let _ = reply.send(state.list());
            }
            EffectsMsg::Busy(reply) => {
                let _ = reply.send(state.list().len() + state.foreign.load(Ordering::Relaxed));
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
        let Some(place) = self.place(&effect) else {
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
        let waits = Arc::new(AtomicBool::new(false));
        let attempt =
            Attempt { number: effect.attempt, cancel: cancel.clone(), progress, waits: Arc::clone(&waits) };
        self.lock().insert(key.clone(), attempt);
        let running = Arc::clone(&self.running);
        let (observer, counts) = (self.observer.clone(), self.counts.clone());
        counts.started.add(1);
        let spawned = self.scope.spawn("activity", async move {
            let result = match place {
                Runs::Here(activity, places) => {
                    let _place = tokio::select! {
                        place = places.take() => place,
                        () = cancel.cancelled() => return counts.cancelled.add(1),
                    };
                    observer.reach(Moment::EffectStart);
                    let input = effect.input.clone();
                    let result = run_attempt(activity.as_ref(), ctx, input, effect.timeout_ms).await;
                    observer.reach(Moment::EffectEnd);
                    result
                }
                // Its places are those of the node it runs on.
                Runs::There(env) => elsewhere(&env, &cell, &effect, ctx, &waits).await,
            };
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

    /// Where an attempt runs; `None`: nowhere, and never will.
    fn place(&self, effect: &Effect) -> Option<Runs> {
        let remote = self.env.remote();
        let requires = &effect.requires;
        let has = requires.is_empty() || remote.is_some_and(|remote| remote.has(requires));
        match self.activities.get(&effect.activity) {
            Some(activity) if has => Some(Runs::Here(Arc::clone(activity), self.places.clone())),
            None if remote.is_none() && requires.is_empty() && !self.env.expects_cluster() => None,
            // Where it says what it requires, it waits for the cluster that its system may join.
            Some(_) | None => Some(Runs::There(Arc::clone(&self.env))),
        }
    }

    fn run_foreign(&self, attempt: RemoteAttempt, reply: RpcReplyPort<Option<Result<Bytes, Failure>>>) {
        let RemoteAttempt { activity: name, input, timeout_ms, ctx, .. } = attempt;
        let Some(activity) = self.activities.get(&name).cloned() else {
            let message = format!("no activity {name:?} is registered on this node");
            let _ = reply.send(Some(Err(Failure::permanent(Failure::UNREGISTERED, message))));
            return;
        };
        let places = self.places.clone();
        self.foreign.fetch_add(1, Ordering::Relaxed);
        let counted = ForNode(Arc::clone(&self.foreign));
        let spawned = self.scope.spawn("foreign-activity", async move {
            let _counted = counted;
            let _place = tokio::select! {
                place = places.take() => place,
                () = ctx.cancel.cancelled() => return,
            };
            let ended = run_attempt(activity.as_ref(), ctx, input, timeout_ms).await;
            // Whoever asked may be gone.
            let _ = reply.send(ended);
        });
        if let Err(error) = spawned {
            tracing::debug!(%error, "attempt of another node not started");
        }
    }

    fn list(&self) -> Vec<RunningAttempt> {
        let running = self.lock();
        let works = |(_, attempt): &(&(Name, String), &Attempt)| !attempt.waits.load(Ordering::Relaxed);
        let attempts = running.iter().filter(works).map(|((entity, effect), attempt)| RunningAttempt {
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

/// Runs an attempt on a node of the cluster. With none that can, that of a run is told to wait and ends when there is
/// one; that of another entity waits here. `None`: nobody waits for its end.
async fn elsewhere(
    env: &Env,
    cell: &Arc<EntityCell>,
    effect: &Effect,
    ctx: ActivityCtx,
    waits: &AtomicBool,
) -> Option<Result<Bytes, Failure>> {
    let place = |placing| cell.push_internal(Item::Placing(effect.id.clone(), effect.attempt, placing));
    let cancel = ctx.cancel.clone();
    let mut told = false;
    let remote = match env.remote() {
        Some(remote) => Arc::clone(remote),
        None => {
            waits.store(true, Ordering::Relaxed);
            told = cell.kind().is_run;
            if told {
                place(Placing::Awaited);
            }
            tokio::select! {
                remote = env.joined() => remote,
                () = cancel.cancelled() => return None,
            }
        }
    };
    loop {
        if !told {
            waits.store(false, Ordering::Relaxed);
            let attempt = RemoteAttempt {
                activity: effect.activity.clone(),
                input: effect.input.clone(),
                timeout_ms: effect.timeout_ms,
                requires: effect.requires.clone(),
                ctx: ctx.clone(),
            };
            match remote.run(attempt).await {
                Ran::Ended(result) => return Some(result),
                Ran::Cancelled => return None,
                Ran::Nobody if cell.kind().is_run => {
                    told = true;
                    place(Placing::Awaited);
                }
                Ran::Nobody => {}
            }
        }
        waits.store(true, Ordering::Relaxed);
        tokio::select! {
            () = remote.appears(&effect.activity, &effect.requires) => {}
            () = cancel.cancelled() => return None,
        }
        if told {
            place(Placing::Found);
            return None;
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
