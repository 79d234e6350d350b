//! The actor of a task agent: owns its tasks, and ends when they end, so that its supervisor starts it anew.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use super::{engine::Engine, shared::Shared};
use crate::{
    agent::Address,
    entity::Activities,
    env::Env,
    queue::Queue,
    task::{ActorGuard, Places, TaskScope},
};

/// Runs one task agent.
#[derive(Debug)]
pub struct TaskAgentActor;

/// What it is started with.
#[derive(Clone)]
pub struct TaskAgentArgs {
    /// The environment.
    pub env: Arc<Env>,
    /// Activities registered.
    pub activities: Arc<Activities>,
    /// The agent, through all its lives.
    pub shared: Arc<Shared>,
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

impl Actor for TaskAgentActor {
    type Msg = TaskAgentMsg;
    type State = TaskAgentLife;
    type Arguments = TaskAgentArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<TaskAgentMsg>,
        args: TaskAgentArgs,
    ) -> Result<TaskAgentLife, ActorProcessingErr> {
        let TaskAgentArgs { env, activities, shared } = args;
        let config = &shared.config;
        let scope = env.tasks().child(format!("task-agent/{}", config.name));
        let queue = Queue::new(&env, &config.queue)?;
        let name: Arc<str> = Arc::from(config.queue.as_str());
        let limit = usize::try_from(config.concurrency).unwrap_or(1);
        let (ended, endings) = mpsc::channel(limit);
        let engine = Arc::new(Engine {
            bell: env.bells().of(&name),
            record: Address::new(&env, &config.name)?,
            vital: env.vitals().begin(&format!("task-agent/{}", config.name)),
            places: Places::new(limit),
            // A child: tasks that held the scope itself would keep it open after a kill.
            jobs: scope.child("jobs"),
            env: Arc::clone(&env),
            shared: Arc::clone(&shared),
            activities,
            queue,
            ended,
        });
        let work = scope.spawn("task-agent", async move {
            tokio::select! {
                () = Arc::clone(&engine).work() => {}
                () = Arc::clone(&engine).settle(endings) => {}
                () = engine.extend() => {}
            }
        })?;
        scope.spawn("task-agent-watch", async move {
            let why = work.await.err().map_or_else(|| "it ended".to_owned(), |end| end.to_string());
            // The actor may be gone already.
            let _ = myself.cast(TaskAgentMsg::Ended(why));
        })?;
        Ok(TaskAgentLife { scope, _counted: env.tasks().actor("task-agent") })
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
        f.debug_struct("TaskAgentArgs").field("agent", &self.shared.name()).finish_non_exhaustive()
    }
}
