//! The actor of a task agent, or of the dispatcher of a pool: owns its tasks, and ends when they end, so that its
//! supervisor starts it anew.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use super::{dispatch::Dispatcher, engine::Engine, pool::PoolShared, shared::Shared};
use crate::{
    agent::Address,
    entity::Activities,
    env::Env,
    queue::Queue,
    task::{ActorGuard, Places, TaskScope},
};

/// Runs one task agent, or dispatches the jobs of one pool.
#[derive(Debug)]
pub struct TaskAgentActor;

/// What it is started with.
#[derive(Clone)]
pub struct TaskAgentArgs {
    /// The environment.
    pub env: Arc<Env>,
    /// What it does.
    pub work: TaskWork,
}

/// What the actor does.
#[derive(Clone)]
pub enum TaskWork {
    /// The work of an agent.
    Agent {
        /// Activities registered.
        activities: Arc<Activities>,
        /// The agent, through all its lives.
        shared: Arc<Shared>,
    },
    /// Giving the jobs of a pool to its agents: the pool, through all its lives.
    Pool(Arc<PoolShared>),
}

/// What is said to it.
#[derive(Debug)]
pub enum TaskAgentMsg {
    /// Its work ended, which it does not do by itself.
    Ended(String),
}

#[cfg(feature = "cluster")]
impl ractor::Message for TaskAgentMsg {}

/// State of the actor.
pub struct TaskAgentLife {
    /// Its end ends every task of this life.
    scope: TaskScope,
    _counted: ActorGuard,
}

impl TaskWork {
    /// Which of both it is, and its name.
    fn names(&self) -> (&'static str, &str) {
        match self {
            Self::Agent { shared, .. } => ("task-agent", shared.name()),
            Self::Pool(pool) => ("task-pool", pool.name()),
        }
    }

    fn begin(self, env: &Arc<Env>, scope: &TaskScope) -> Result<BoxFuture<'static, ()>, ActorProcessingErr> {
        Ok(match self {
            Self::Agent { activities, shared } => Box::pin(agent(env, activities, shared, scope)?),
            Self::Pool(pool) => Box::pin(Dispatcher::new(env, pool)?.work()),
        })
    }
}

/// The work of one life of an agent.
fn agent(
    env: &Arc<Env>,
    activities: Arc<Activities>,
    shared: Arc<Shared>,
    scope: &TaskScope,
) -> Result<impl Future<Output = ()> + use<>, ActorProcessingErr> {
    let config = &shared.config;
    let queue = Queue::new(env, &config.queue)?;
    let name: Arc<str> = Arc::from(config.queue.as_str());
    let limit = usize::try_from(config.concurrency).unwrap_or(1);
    let (ended, endings) = mpsc::channel(limit);
    let engine = Arc::new(Engine {
        bell: env.bells().of(&name),
        record: Address::new(env, &config.name)?,
        vital: env.vitals().begin(&format!("task-agent/{}", config.name)),
        places: Places::new(limit),
        // A child: tasks that held the scope itself would keep it open after a kill.
        jobs: scope.child("jobs"),
        env: Arc::clone(env),
        shared: Arc::clone(&shared),
        activities,
        queue,
        ended,
    });
    Ok(async move {
        tokio::select! {
            () = Arc::clone(&engine).work() => {}
            () = Arc::clone(&engine).settle(endings) => {}
            () = engine.extend() => {}
        }
    })
}

impl Actor for TaskAgentActor {
    type Msg = TaskAgentMsg;
    type State = TaskAgentLife;
    type Arguments = TaskAgentArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<TaskAgentMsg>,
        args: TaskAgentArgs,
    ) -> Result<TaskAgentLife, ActorProcessingErr> {
        let TaskAgentArgs { env, work } = args;
        let (what, name) = work.names();
        let scope = env.tasks().child(format!("{what}/{name}"));
        let work = scope.spawn(what, work.begin(&env, &scope)?)?;
        scope.spawn("task-agent-watch", async move {
            let why = work.await.err().map_or_else(|| "it ended".to_owned(), |end| end.to_string());
            // The actor may be gone already.
            let _ = myself.cast(TaskAgentMsg::Ended(why));
        })?;
        Ok(TaskAgentLife { scope, _counted: env.tasks().actor(what) })
    }

    async fn handle(
        &self,
        _myself: ActorRef<TaskAgentMsg>,
        message: TaskAgentMsg,
        _state: &mut TaskAgentLife,
    ) -> Result<(), ActorProcessingErr> {
        let TaskAgentMsg::Ended(why) = message;
        Err(why.into())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<TaskAgentMsg>,
        state: &mut TaskAgentLife,
    ) -> Result<(), ActorProcessingErr> {
        state.scope.end();
        Ok(())
    }
}

impl std::fmt::Debug for TaskAgentArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskAgentArgs").field("work", &self.work.names()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TaskWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TaskWork").field(&self.names()).finish()
    }
}
