//! Task agents of a system: started, found, stopped.

use std::{sync::Arc, time::Duration};

use stanchion_actors::{
    entity::Activities,
    env::Env,
    policies::DurableBreakers,
    queue::Queue,
    task_agent::{
        PoolShared, Shared, TaskAgent, TaskAgentActor, TaskAgentArgs, TaskAgentConfig, TaskAgentError,
        TaskPoolConfig, TaskType, TaskWork,
    },
};
use stanchion_supervisors::{ChildSpec, ControlError, Intensity, Strategy, Supervisor, SupervisorSpec};

/// Name of their supervisor, after that of the system.
pub(super) const SUPERVISOR: &str = "task-agents";

/// Task agents: workers that take jobs from queues and run activities for them.
#[derive(Clone)]
pub struct TaskAgents {
    pub(super) env: Arc<Env>,
    pub(super) activities: Arc<Activities>,
}

impl std::fmt::Debug for TaskAgents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TaskAgents")
    }
}

impl TaskAgents {
    /// Starts a task agent. Its pause is remembered under its name; leases that it held in an earlier life of the process
    /// come back to the queue at once.
    ///
    /// # Errors
    /// [`TaskAgentError`]: nothing was started.
    ///
    /// # Cancel safety
    /// Dropped while it waits, it may have been started.
    pub async fn start(&self, config: TaskAgentConfig) -> Result<TaskAgent, TaskAgentError> {
        config.validate()?;
        Queue::new(&self.env, &config.queue).map_err(|_| TaskAgentError::Queue(config.queue.clone()))?;
        self.check_activities(&config.types)?;
        let shared = self.env.task_agents().enter(config)?;
        let started = async {
            keep_breakers(&self.env, &shared).await?;
            let agent = TaskAgent::new(&self.env, Arc::clone(&shared))?;
            start(&self.supervisor()?, spec(&self.env, &self.activities, &shared)).await?;
            Ok(agent)
        };
        let started = started.await;
        if started.is_err() {
            self.env.task_agents().leave(shared.name());
        }
        started
    }

    /// Starts a pool: its agents, and the dispatcher that gives each job to one of them. An agent of a pool is found,
    /// paused and looked at as any other.
    ///
    /// # Errors
    /// [`TaskAgentError`]: nothing was started.
    ///
    /// # Cancel safety
    /// Dropped while it waits, some of it may have been started.
    pub async fn start_pool(&self, config: TaskPoolConfig) -> Result<Vec<TaskAgent>, TaskAgentError> {
        config.validate()?;
        Queue::new(&self.env, &config.queue).map_err(|_| TaskAgentError::Queue(config.queue.clone()))?;
        self.check_activities(&config.types)?;
        let name = config.name.clone();
        let entered = self.env.task_pools().enter_with(config, self.env.task_agents())?;
        let started = async {
            let supervisor = self.supervisor()?;
            let mut agents = Vec::new();
            for shared in entered.agents() {
                keep_breakers(&self.env, &shared).await?;
                start(&supervisor, spec(&self.env, &self.activities, &shared)).await?;
                agents.push(TaskAgent::new(&self.env, shared)?);
            }
            start(&supervisor, pool_spec(&self.env, &entered)).await?;
            Ok(agents)
        };
        let started = started.await;
        if started.is_err() {
            let _ = self.stop_pool(&name, Duration::ZERO).await;
        }
        started
    }

    /// Stops a pool: it leases nothing more, its agents as [`Self::stop`] says. Answers how many jobs went back.
    ///
    /// # Errors
    /// [`TaskAgentError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, some of it may be stopped.
    pub async fn stop_pool(&self, name: &str, deadline: Duration) -> Result<usize, TaskAgentError> {
        let pool = self.env.task_pools().leave(name);
        let pool = pool.ok_or_else(|| TaskAgentError::NotFound(name.to_owned()))?;
        end(&self.supervisor()?, &pool_id(name)).await?;
        let mut left = 0;
        for agent in pool.agents() {
            left += self.stop(agent.name(), deadline).await?;
        }
        Ok(left)
    }

    /// The task agent of this name.
    ///
    /// # Errors
    /// [`TaskAgentError::NotFound`].
    pub fn find(&self, name: &str) -> Result<TaskAgent, TaskAgentError> {
        let shared = self.env.task_agents().find(name);
        TaskAgent::new(&self.env, shared.ok_or_else(|| TaskAgentError::NotFound(name.to_owned()))?)
    }

    /// All task agents, by name.
    #[must_use]
    pub fn list(&self) -> Vec<TaskAgent> {
        let agents = self.env.task_agents().all();
        agents.into_iter().filter_map(|shared| TaskAgent::new(&self.env, shared).ok()).collect()
    }

    /// Stops a task agent: what runs may end within `deadline`, the rest goes back to the queue. Answers how many jobs
    /// that were.
    ///
    /// # Errors
    /// [`TaskAgentError`].
    ///
    /// # Cancel safety
    /// Dropped while it waits, it leases nothing any more.
    pub async fn stop(&self, name: &str, deadline: Duration) -> Result<usize, TaskAgentError> {
        let left = self.find(name)?.drain(deadline).await;
        end(&self.supervisor()?, name).await?;
        self.env.task_agents().leave(name);
        Ok(left)
    }

    /// Drains all of them at once; how many jobs went back to the queue.
    pub(super) async fn drain(&self, deadline: Duration) -> usize {
        let agents = self.list();
        let drained = agents.iter().map(|agent| agent.drain(deadline));
        futures_util::future::join_all(drained).await.into_iter().sum()
    }

    fn check_activities(&self, types: &[TaskType]) -> Result<(), TaskAgentError> {
        let unknown = |name: &&String| !self.activities.contains_key(*name);
        match types.iter().map(|task| &task.activity).find(unknown) {
            Some(name) => Err(TaskAgentError::UnknownActivity(name.clone())),
            None => Ok(()),
        }
    }

    fn supervisor(&self) -> Result<Supervisor, TaskAgentError> {
        let supervisor = Supervisor::find(&self.env.actor_name(SUPERVISOR));
        supervisor.ok_or_else(|| TaskAgentError::Supervisor("it does not run at the moment".into()))
    }
}

async fn start(supervisor: &Supervisor, spec: ChildSpec) -> Result<(), TaskAgentError> {
    match supervisor.start_child(spec).await {
        // A supervisor that began anew has found it in the table.
        Ok(_) | Err(ControlError::AlreadyStarted { .. }) => Ok(()),
        Err(error) => Err(TaskAgentError::Supervisor(error.to_string())),
    }
}

async fn end(supervisor: &Supervisor, id: &str) -> Result<(), TaskAgentError> {
    let ended = async {
        supervisor.terminate_child(id).await?;
        supervisor.delete_child(id).await
    };
    match ended.await {
        Ok(()) | Err(ControlError::NotFound { .. }) => Ok(()),
        Err(error) => Err(TaskAgentError::Supervisor(error.to_string())),
    }
}

fn pool_id(name: &str) -> String {
    format!("pool/{name}")
}

fn pool_spec(env: &Arc<Env>, pool: &Arc<PoolShared>) -> ChildSpec {
    child(env, pool_id(pool.name()), TaskWork::Pool(Arc::clone(pool)))
}

fn spec(env: &Arc<Env>, activities: &Arc<Activities>, shared: &Arc<Shared>) -> ChildSpec {
    let work = TaskWork::Agent { activities: Arc::clone(activities), shared: Arc::clone(shared) };
    child(env, shared.name().to_owned(), work)
}

fn child(env: &Arc<Env>, id: String, work: TaskWork) -> ChildSpec {
    let args = TaskAgentArgs { env: Arc::clone(env), work };
    ChildSpec::actor(id, move || (TaskAgentActor, args.clone()))
}

/// The supervisor of task agents: every life of it begins with those in the table.
pub(super) fn supervisor(
    env: &Arc<Env>,
    activities: &Arc<Activities>,
    intensity: Intensity,
) -> SupervisorSpec {
    let mut spec_of_all = SupervisorSpec::new(Strategy::OneForOne).intensity(intensity);
    for shared in env.task_agents().all() {
        spec_of_all = spec_of_all.child(spec(env, activities, &shared));
    }
    for pool in env.task_pools().all() {
        spec_of_all = spec_of_all.child(pool_spec(env, &pool));
    }
    spec_of_all
}

/// Has the breakers of an agent's types survive the process.
async fn keep_breakers(env: &Arc<Env>, agent: &Shared) -> Result<(), TaskAgentError> {
    let breakers = DurableBreakers::new(Arc::clone(env));
    for breaker in agent.breakers() {
        breakers.adopt(breaker).await.map_err(Box::new)?;
    }
    Ok(())
}
