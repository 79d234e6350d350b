//! Task agents of a system: started, found, stopped.

use std::{sync::Arc, time::Duration};

use stanchion_actors::{
    entity::Activities,
    env::Env,
    queue::Queue,
    task_agent::{Shared, TaskAgent, TaskAgentActor, TaskAgentArgs, TaskAgentConfig, TaskAgentError},
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
        let unknown = |name: &String| !self.activities.contains_key(name);
        if let Some(name) = config.types.iter().map(|task| &task.activity).find(|name| unknown(name)) {
            return Err(TaskAgentError::UnknownActivity(name.clone()));
        }
        let shared = self.env.task_agents().enter(config)?;
        let started = async {
            let agent = TaskAgent::new(&self.env, Arc::clone(&shared))?;
            let spec = spec(&self.env, &self.activities, &shared);
            match self.supervisor()?.start_child(spec).await {
                // A supervisor that began anew has found it in the table.
                Ok(_) | Err(ControlError::AlreadyStarted { .. }) => Ok(agent),
                Err(error) => Err(TaskAgentError::Supervisor(error.to_string())),
            }
        };
        let started = started.await;
        if started.is_err() {
            self.env.task_agents().leave(shared.name());
        }
        started
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
        let supervisor = self.supervisor()?;
        let ended = async {
            supervisor.terminate_child(name).await?;
            supervisor.delete_child(name).await
        };
        match ended.await {
            Ok(()) | Err(ControlError::NotFound { .. }) => {}
            Err(error) => return Err(TaskAgentError::Supervisor(error.to_string())),
        }
        self.env.task_agents().leave(name);
        Ok(left)
    }

    /// Drains all of them at once; how many jobs went back to the queue.
    pub(super) async fn drain(&self, deadline: Duration) -> usize {
        let agents = self.list();
        let drained = agents.iter().map(|agent| agent.drain(deadline));
        futures_util::future::join_all(drained).await.into_iter().sum()
    }

    fn supervisor(&self) -> Result<Supervisor, TaskAgentError> {
        let supervisor = Supervisor::find(&self.env.actor_name(SUPERVISOR));
        supervisor.ok_or_else(|| TaskAgentError::Supervisor("it does not run at the moment".into()))
    }
}

fn spec(env: &Arc<Env>, activities: &Arc<Activities>, shared: &Arc<Shared>) -> ChildSpec {
    let args = TaskAgentArgs {
        env: Arc::clone(env),
        activities: Arc::clone(activities),
        shared: Arc::clone(shared),
    };
    ChildSpec::actor(shared.name().to_owned(), move || (TaskAgentActor, args.clone()))
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
    spec_of_all
}
