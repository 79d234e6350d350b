//! The supervisor of volatile actors: one actor for each, crashes counted for each alone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use stanchion_actors::{
    env::Env,
    ids::Name,
    task::ActorGuard,
    volatile::{VolatileChild, VolatileSupervisorMsg},
};
use tokio::time::Instant;

use crate::{
    Exit, Intensity,
    board::Board,
    intensity::{RestartWindow, Verdict},
};

/// Idle actors and unused cells are looked for this often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Starts and restarts volatile actors, each with a fresh state. One that crashes too often is blocked until its
/// crashes have left the window; it never takes others along.
#[derive(Debug)]
pub struct VolatileSupervisorActor;

/// What the supervisor is started with.
#[derive(Clone, Debug)]
pub struct VolatileSupervisorArgs {
    /// The environment.
    pub env: Arc<Env>,
    /// Crashes of one actor that are borne.
    pub intensity: Intensity,
}

/// State of the supervisor.
pub struct VolatileSupervisorState {
    args: VolatileSupervisorArgs,
    children: HashMap<ActorId, (Arc<dyn VolatileChild>, u64)>,
    /// Crashes that may still count, and the time of the last one.
    crashes: HashMap<Name, (RestartWindow, Instant)>,
    board: Board,
    _counted: ActorGuard,
}

impl Actor for VolatileSupervisorActor {
    type Msg = VolatileSupervisorMsg;
    type State = VolatileSupervisorState;
    type Arguments = VolatileSupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<VolatileSupervisorMsg>,
        args: VolatileSupervisorArgs,
    ) -> Result<VolatileSupervisorState, ActorProcessingErr> {
        args.env.volatiles().supervisor().register(myself.clone());
        let counted = args.env.tasks().actor("volatile-supervisor");
        let board = Board::begin(&args.env, "volatile-supervisor");
        let mut state = VolatileSupervisorState {
            args,
            board,
            children: HashMap::new(),
            crashes: HashMap::new(),
            _counted: counted,
        };
        state.plan_sweep(&myself);
        // The children of a supervisor before this one have ended with it.
        for cell in state.args.env.volatiles().cells() {
            if cell.is_blocked() {
                state.plan_forgiveness(&myself, &cell);
                state.board.blocked(cell.name());
            }
            cell.reset();
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<VolatileSupervisorMsg>,
        message: VolatileSupervisorMsg,
        state: &mut VolatileSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            VolatileSupervisorMsg::Start { cell, claim } => {
                let generation = claim.generation();
                let env = Arc::clone(&state.args.env);
                match Arc::clone(&cell).spawn(env, claim, myself.get_cell()).await {
                    Ok(actor) => {
                        state.children.insert(actor.get_id(), (cell, generation));
                        state.board.started();
                    }
                    Err(error) => {
                        // Only a claim that is over fails: the slot belongs to somebody else.
                        tracing::debug!(actor = %cell.name(), %error, "actor not started");
                        cell.vacate(generation);
                    }
                }
            }
            VolatileSupervisorMsg::Forgive { cell } => {
                state.crashes.remove(cell.name());
                state.board.forgiven(cell.name());
                cell.unblock();
            }
            VolatileSupervisorMsg::Sweep => {
                state.sweep();
                state.plan_sweep(&myself);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<VolatileSupervisorMsg>,
        event: SupervisionEvent,
        state: &mut VolatileSupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((id, exit)) = Exit::of(&event)
            && let Some((cell, generation)) = state.children.remove(&id)
        {
            state.ended(&myself, cell, generation, &exit);
        }
        Ok(())
    }
}

impl VolatileSupervisorState {
    fn ended(
        &mut self,
        myself: &ActorRef<VolatileSupervisorMsg>,
        cell: Arc<dyn VolatileChild>,
        generation: u64,
        exit: &Exit,
    ) {
        self.board.ended(exit.is_abnormal());
        if exit.is_abnormal() {
            tracing::warn!(actor = %cell.name(), %exit, "volatile actor crashed");
            let intensity = self.args.intensity;
            let now = Instant::now();
            let fresh = || (RestartWindow::new(intensity), now);
            let (window, last) = self.crashes.entry(cell.name().clone()).or_insert_with(fresh);
            *last = now;
            if window.record(now) == Verdict::GiveUp {
                let crashes = intensity.max_restarts() + 1;
                cell.block(&format!("{crashes} crashes in {:?}: {exit}", intensity.within()));
                self.board.blocked(cell.name());
                self.plan_forgiveness(myself, &cell);
            }
        }
        cell.vacate(generation);
    }

    /// Asks idle actors to end, and forgets crashes that count no more and cells that nobody uses.
    fn sweep(&mut self) {
        let within = self.args.intensity.within();
        self.crashes.retain(|_, (_, last)| last.elapsed() <= within);
        self.children.values().for_each(|(cell, _)| cell.passivate_if_idle());
        self.args.env.volatiles().sweep();
    }

    fn plan_sweep(&self, myself: &ActorRef<VolatileSupervisorMsg>) {
        let myself = myself.clone();
        self.args.env.later(SWEEP_EVERY, move || drop(myself.cast(VolatileSupervisorMsg::Sweep)));
    }

    fn plan_forgiveness(&self, myself: &ActorRef<VolatileSupervisorMsg>, cell: &Arc<dyn VolatileChild>) {
        let (myself, cell) = (myself.clone(), Arc::clone(cell));
        self.args.env.later(self.args.intensity.within(), move || {
            drop(myself.cast(VolatileSupervisorMsg::Forgive { cell }));
        });
    }
}
