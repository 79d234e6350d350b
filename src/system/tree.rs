//! The supervision tree.
//!
//! ```text
//! Root (rest_for_one) ─ Persistence ─ Runtime (one_for_one) ─┬ TaskSupervisor, Timers, Outbox
//!                                                            ├ VolatileSupervisor
//!                                                            ├ AgentSupervisor x N, WorkflowSupervisor x N
//!                                                            ├ Coordinator, PolicyKeeper, Retention
//!                                                            └ TaskAgents ─ TaskAgent x N
//! ```

use std::{sync::Arc, time::Duration};

use stanchion_actors::{
    entity::{Activities, ActivityRunnerActor, ActivityRunnerArgs, EffectsMsg, OutboxActor, TimersActor},
    env::Env,
    persistence::{PersistenceActor, PersistenceArgs, StoreOpener},
    policies::PolicyKeeperActor,
    workflow::{CoordinatorActor, CoordinatorArgs, Definitions, RetentionActor, RetentionArgs},
};
use stanchion_supervisors::{
    ChildSpec, EntitySupervisorActor, EntitySupervisorArgs, Init, Intensity, Strategy, Supervisor,
    SupervisorSpec, SupervisorStartError, VolatileSupervisorActor, VolatileSupervisorArgs,
};

use super::task_agents;

/// What the tree is built from.
pub(super) struct Plan {
    pub(super) env: Arc<Env>,
    pub(super) opener: StoreOpener,
    pub(super) activities: Arc<Activities>,
    pub(super) activities_at_once: usize,
    pub(super) intensity: Intensity,
    pub(super) definitions: Arc<Definitions>,
    /// Whether timers fire and activities run.
    pub(super) awake: bool,
    /// How long ended runs are kept; `None`: as long as the store.
    pub(super) keep_runs: Option<Duration>,
}

impl Plan {
    fn activities(&self) -> ActivityRunnerArgs {
        ActivityRunnerArgs {
            env: Arc::clone(&self.env),
            activities: Arc::clone(&self.activities),
            limit: self.activities_at_once,
        }
    }
}

/// Starts the tree.
pub(super) async fn start(plan: Plan) -> Result<Supervisor, SupervisorStartError> {
    let name = plan.env.actor_name("root");
    let persistence = PersistenceArgs { env: Arc::clone(&plan.env), opener: Arc::clone(&plan.opener) };
    let plan = Arc::new(plan);
    let runtime_name = plan.env.actor_name("runtime");
    let runtime = Supervisor::child_spec("runtime", Some(runtime_name), {
        let plan = Arc::clone(&plan);
        move || Init::Run(runtime(&plan))
    });
    let spec = SupervisorSpec::new(Strategy::RestForOne)
        .intensity(plan.intensity)
        .child(ChildSpec::actor("persistence", move || (PersistenceActor, persistence.clone())))
        .child(runtime);
    Supervisor::start(spec, Some(name), None).await
}

fn runtime(plan: &Arc<Plan>) -> SupervisorSpec {
    let env = &plan.env;
    let mut spec = SupervisorSpec::new(Strategy::OneForOne).intensity(plan.intensity);
    if plan.awake {
        let tasks = Arc::clone(plan);
        let timers = Arc::clone(env);
        spec = spec
            .child(ChildSpec::actor("task-supervisor", move || (ActivityRunnerActor, tasks.activities())))
            .child(ChildSpec::actor("timers", move || (TimersActor, Arc::clone(&timers))));
    }
    let outbox = Arc::clone(env);
    spec = spec.child(ChildSpec::actor("outbox", move || (OutboxActor, Arc::clone(&outbox))));
    let volatile = VolatileSupervisorArgs { env: Arc::clone(env), intensity: plan.intensity };
    spec = spec
        .child(ChildSpec::actor("volatile-supervisor", move || (VolatileSupervisorActor, volatile.clone())));
    let supervisors = env.directory().supervisors();
    for shard in supervisors.agents() {
        spec = spec.child(shard_spec(plan, format!("agent-supervisor-{shard}"), shard));
    }
    for shard in supervisors.runs() {
        spec = spec.child(shard_spec(plan, format!("workflow-supervisor-{shard}"), shard));
    }
    let coordinator = CoordinatorArgs { env: Arc::clone(env), definitions: Arc::clone(&plan.definitions) };
    let spec = spec.child(ChildSpec::actor("coordinator", move || (CoordinatorActor, coordinator.clone())));
    let keeper = Arc::clone(env);
    let mut spec = spec.child(ChildSpec::actor("policies", move || (PolicyKeeperActor, Arc::clone(&keeper))));
    if let Some(keep) = plan.keep_runs {
        let args = RetentionArgs { env: Arc::clone(env), keep };
        spec = spec.child(ChildSpec::actor("retention", move || (RetentionActor, args.clone())));
    }
    let plan = Arc::clone(plan);
    let name = plan.env.actor_name(task_agents::SUPERVISOR);
    spec.child(Supervisor::child_spec(task_agents::SUPERVISOR, Some(name), move || {
        Init::Run(task_agents::supervisor(&plan.env, &plan.activities, plan.intensity))
    }))
}

fn shard_spec(plan: &Arc<Plan>, id: String, shard: usize) -> ChildSpec {
    let plan = Arc::clone(plan);
    ChildSpec::actor(id, move || {
        let env = Arc::clone(&plan.env);
        (EntitySupervisorActor, EntitySupervisorArgs { env, shard, intensity: plan.intensity })
    })
}

/// How often a draining system looks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until no command waits and no activity runs, at most `deadline`. Answers the activities left.
pub(super) async fn drain(env: &Arc<Env>, deadline: Duration) -> usize {
    let until = tokio::time::Instant::now() + deadline;
    loop {
        let running = running(env).await;
        let idle = env.directory().cells().iter().all(|cell| cell.is_idle());
        if (running == 0 && idle) || tokio::time::Instant::now() >= until {
            return running;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn running(env: &Arc<Env>) -> usize {
    let Some(runner) = env.services().effects.actor() else { return 0 };
    ractor::call_t!(runner, EffectsMsg::Busy, 1_000).unwrap_or(0)
}
