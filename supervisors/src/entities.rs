//! The supervisors of entity actors: one actor for each active entity, crashes counted for each alone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use stanchion_actors::{
    entity::{EntityActor, EntityArgs, EntityCell, EntityMsg, EntitySupervisorMsg},
    env::Env,
    ids::Name,
    task::ActorGuard,
};
use tokio::time::Instant;

use crate::{
    Exit, Intensity,
    board::Board,
    intensity::{RestartWindow, Verdict},
};

/// Idle entities are looked for this often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Starts, restarts and passivates entity actors of one shard.
///
/// A poisoned entity never takes others along: its crashes count against itself. A workflow run that crashes too
/// often is parked, durably; an agent is blocked until its crashes have left the window.
#[derive(Debug)]
pub struct EntitySupervisorActor;

/// What the supervisor of a shard is started with.
#[derive(Clone, Debug)]
pub struct EntitySupervisorArgs {
    /// The environment.
    pub env: Arc<Env>,
    /// Its shard.
    pub shard: usize,
    /// Crashes of one entity that are borne.
    pub intensity: Intensity,
}

struct Child {
    cell: Arc<EntityCell>,
    actor: ActorRef<EntityMsg>,
    generation: u64,
}

/// What is remembered of an entity's crashes.
struct Crashes {
    window: RestartWindow,
    last: Instant,
    /// It was started once more only to be parked.
    parking: bool,
}

/// State of the supervisor of a shard.
pub struct EntitySupervisorState {
    args: EntitySupervisorArgs,
    children: HashMap<ActorId, Child>,
    crashes: HashMap<Name, Crashes>,
    board: Board,
    _counted: ActorGuard,
}

impl Actor for EntitySupervisorActor {
    type Msg = EntitySupervisorMsg;
    type State = EntitySupervisorState;
    type Arguments = EntitySupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<EntitySupervisorMsg>,
        args: EntitySupervisorArgs,
    ) -> Result<EntitySupervisorState, ActorProcessingErr> {
        let directory = args.env.directory();
        directory.supervisors().register(args.shard, myself.clone());
        let name = service_name(&args);
        let mut board = Board::begin(&args.env, &name);
        // The children of a supervisor before this one have ended with it.
        for cell in directory.cells_of_shard(args.shard) {
            cell.reset();
            if cell.blocked().is_some() {
                // Its time to be forgiven was kept by the supervisor before this one.
                plan_forgiveness(&args, &myself, &cell);
                board.blocked(cell.name());
            }
        }
        let counted = args.env.tasks().actor("entity-supervisor");
        plan_sweep(&args.env, &myself);
        Ok(EntitySupervisorState {
            args,
            children: HashMap::new(),
            crashes: HashMap::new(),
            board,
            _counted: counted,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<EntitySupervisorMsg>,
        message: EntitySupervisorMsg,
        state: &mut EntitySupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            EntitySupervisorMsg::Start { cell, claim } => state.start(&myself, cell, claim).await,
            EntitySupervisorMsg::Forgive { cell } => state.forgive(&cell),
            EntitySupervisorMsg::Sweep => {
                state.sweep();
                plan_sweep(&state.args.env, &myself);
            }
            EntitySupervisorMsg::Kill { cell } => {
                if let Some((_, actor)) = cell.owner() {
                    actor.kill();
                }
            }
            EntitySupervisorMsg::Count(reply) => {
                let _ = reply.send(state.children.len());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<EntitySupervisorMsg>,
        event: SupervisionEvent,
        state: &mut EntitySupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let ended = Exit::of(&event);
        // The event carries the actor's last state, which holds the cell.
        drop(event);
        if let Some((id, exit)) = ended
            && let Some(child) = state.children.remove(&id)
        {
            state.ended(&myself, child, &exit);
        }
        Ok(())
    }
}

impl EntitySupervisorState {
    async fn start(
        &mut self,
        myself: &ActorRef<EntitySupervisorMsg>,
        cell: Arc<EntityCell>,
        claim: stanchion_sync::Claim,
    ) {
        let generation = claim.generation();
        let args = EntityArgs { env: Arc::clone(&self.args.env), cell: Arc::clone(&cell), claim };
        match Actor::spawn_linked(None, EntityActor, args, myself.get_cell()).await {
            Ok((actor, _join)) => {
                self.children.insert(actor.get_id(), Child { cell, actor, generation });
                self.board.started();
            }
            Err(error) => {
                // Only a claim that is over fails: the slot belongs to somebody else.
                tracing::debug!(entity = %cell.name(), %error, "actor not started");
                cell.vacate(generation);
            }
        }
    }

    fn ended(&mut self, myself: &ActorRef<EntitySupervisorMsg>, child: Child, exit: &Exit) {
        let Child { cell, generation, .. } = child;
        self.board.ended(exit.is_abnormal());
        if !exit.is_abnormal() {
            cell.vacate(generation);
            self.args.env.directory().forget(&cell);
            return;
        }
        tracing::warn!(entity = %cell.name(), %exit, "entity crashed");
        let now = Instant::now();
        let crashes = self.crashes.entry(cell.name().clone()).or_insert_with(|| Crashes {
            window: RestartWindow::new(self.args.intensity),
            last: now,
            parking: false,
        });
        crashes.last = now;
        match crashes.window.record(now) {
            Verdict::Restart => {
                cell.vacate(generation);
                cell.wake();
            }
            Verdict::GiveUp => self.give_up(myself, &cell, generation, exit),
        }
    }

    fn give_up(
        &mut self,
        myself: &ActorRef<EntitySupervisorMsg>,
        cell: &Arc<EntityCell>,
        generation: u64,
        exit: &Exit,
    ) {
        let intensity = self.args.intensity;
        let why = format!("{} crashes in {:?}: {exit}", intensity.max_restarts() + 1, intensity.within());
        let parking =
            self.crashes.get_mut(cell.name()).map(|crashes| std::mem::replace(&mut crashes.parking, true));
        tracing::error!(entity = %cell.name(), why, "entity crashed too often");
        if cell.kind().is_run && parking == Some(false) {
            // One more start, to park the run; what it did not finish stays recorded.
            cell.push_crash_loop(&why);
            cell.vacate(generation);
            return;
        }
        cell.block(&why);
        self.board.blocked(cell.name());
        cell.vacate(generation);
        plan_forgiveness(&self.args, myself, cell);
    }

    fn forgive(&mut self, cell: &Arc<EntityCell>) {
        self.crashes.remove(cell.name());
        self.board.forgiven(cell.name());
        cell.unblock();
    }

    /// Asks idle entities to end, and forgets crashes that count no more.
    fn sweep(&mut self) {
        let within = self.args.intensity.within();
        self.crashes.retain(|_, crashes| crashes.last.elapsed() <= within);
        for child in self.children.values() {
            let cell = &child.cell;
            if cell.is_idle() && cell.idle_for() >= cell.kind().options.passivate_after {
                let _ = child.actor.cast(EntityMsg::Passivate);
            }
        }
    }
}

/// The id under which the tree knows the shard.
fn service_name(args: &EntitySupervisorArgs) -> String {
    let is_run = args.env.directory().supervisors().runs().contains(&args.shard);
    format!("{}-supervisor-{}", if is_run { "workflow" } else { "agent" }, args.shard)
}

fn plan_forgiveness(
    args: &EntitySupervisorArgs,
    myself: &ActorRef<EntitySupervisorMsg>,
    cell: &Arc<EntityCell>,
) {
    let (myself, cell) = (myself.clone(), Arc::clone(cell));
    args.env.later(args.intensity.within(), move || drop(myself.cast(EntitySupervisorMsg::Forgive { cell })));
}

fn plan_sweep(env: &Arc<Env>, myself: &ActorRef<EntitySupervisorMsg>) {
    let myself = myself.clone();
    env.later(SWEEP_EVERY, move || drop(myself.cast(EntitySupervisorMsg::Sweep)));
}
