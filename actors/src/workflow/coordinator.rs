//! The coordinator: validates, stores definitions, routes to runs. It keeps no state of any run.

use std::sync::Arc;

use bytes::Bytes;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{
    command::{RUN_KIND, RunCard, RunCommand, RunRefusal, RunReply, check_run_id, check_run_input},
    definition::ValidDefinition,
    reader::ReadError,
    registry::{DefinitionError, Definitions},
};
use crate::{
    entity::{CallOptions, EntityAddress},
    env::Env,
    error::{CallError, CallFailure, Coded, Doubt, FailureKind, Family, Unavailable},
    health::{Counter, Vital},
    ids::Name,
    store::{Outcome, Record, StoreError, decode, encode},
    task::{ActorGuard, TaskScope},
};

/// Why a run could not be started or told something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The id has not the shape of one.
    #[error("{0}")]
    BadId(String),
    /// The definition cannot be stored.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The run refuses.
    #[error("run {id:?}: {refusal}")]
    Refused {
        /// Its id.
        id: String,
        /// Why.
        refusal: RunRefusal,
    },
    /// The run is not within reach, or it is not known what became of the command.
    #[error(transparent)]
    Call(Box<CallError<RunRefusal>>),
    /// The run cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The coordinator ended while it worked on this; ask again.
    #[error("the coordinator stopped before it answered")]
    Lost,
}

impl Coded for RunError {
    fn code(&self) -> &'static str {
        match self {
            Self::BadId(_) => "run.bad_id",
            Self::Definition(DefinitionError::Faults(_)) => "definition.faults",
            Self::Definition(DefinitionError::TooLarge(_)) => "definition.too_large",
            Self::Definition(_) => "definition.unreadable",
            Self::Refused { refusal, .. } => refusal.code(),
            Self::Call(error) => error.code(),
            Self::Read(ReadError::Unknown(_)) => "run.unknown",
            Self::Read(ReadError::Unreadable { .. }) => "run.unreadable",
            Self::Read(ReadError::Store(error)) => error.code(),
            Self::Lost => "run.coordinator_lost",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::BadId(_) | Self::Definition(_) | Self::Refused { .. } => Family::Rejected,
            Self::Call(error) => error.family(),
            Self::Read(ReadError::Store(error)) => error.family(),
            Self::Read(_) => Family::Rejected,
            Self::Lost => Family::Unknown,
        }
    }
}

impl Coded for RunRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::IllegalTransition { .. } => "run.illegal_transition",
            Self::AlreadyTerminal(_) => "run.already_terminal",
            Self::StepNotFailed(_) => "run.step_not_failed",
            Self::UnknownStep(_) => "run.unknown_step",
            Self::Unknown => "run.unknown",
            Self::AlreadyExists { .. } => "run.already_exists",
            Self::UnknownDefinition => "run.unknown_definition",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// What a run is started with.
#[derive(Clone, Debug)]
pub struct StartRun {
    /// Its id: 1..=128 visible characters without `/`.
    pub id: String,
    /// Its definition.
    pub definition: Arc<ValidDefinition>,
    /// Its input.
    pub input: Value,
    /// Most attempts at once, at least 1; default 16.
    pub workers: u32,
    /// What else must be the same when the run is asked for again.
    pub note: Value,
}

impl StartRun {
    /// A run without input, with 16 workers.
    #[must_use]
    pub fn new(id: impl Into<String>, definition: Arc<ValidDefinition>) -> Self {
        Self { id: id.into(), definition, input: Value::Null, workers: 16, note: Value::Null }
    }
}

/// A run that was started, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Where it stands.
    pub status: String,
    /// Whether it had been started before, and the same way.
    pub known: bool,
}

/// Messages of the coordinator.
#[derive(Debug)]
pub enum CoordinatorMsg {
    /// Starts a run, or finds it started the same way.
    Start(Box<StartRun>, RpcReplyPort<Result<Started, RunError>>),
    /// Tells a run something; answers after the commit.
    Tell(String, RunCommand, RpcReplyPort<Result<RunReply, RunError>>),
}

#[cfg(feature = "cluster")]
impl ractor::Message for CoordinatorMsg {}

/// Routes to runs.
#[derive(Debug)]
pub struct CoordinatorActor;

/// What the coordinator is started with.
#[derive(Clone)]
pub struct CoordinatorArgs {
    /// The environment.
    pub env: Arc<Env>,
    /// Definitions known.
    pub definitions: Arc<Definitions>,
}

/// State of the coordinator: none of any run.
pub struct CoordinatorState {
    desk: Desk,
    scope: TaskScope,
    asked: Counter,
    answered: Counter,
    _vital: Vital,
    _counted: ActorGuard,
}

impl Actor for CoordinatorActor {
    type Msg = CoordinatorMsg;
    type State = CoordinatorState;
    type Arguments = CoordinatorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<CoordinatorMsg>,
        args: CoordinatorArgs,
    ) -> Result<CoordinatorState, ActorProcessingErr> {
        args.env.services().coordinator.register(myself);
        let scope = args.env.tasks().child("coordinator");
        let counted = args.env.tasks().actor("coordinator");
        let vital = args.env.vitals().begin("coordinator");
        vital.up();
        let (asked, answered) = (vital.counter("asked"), vital.counter("answered"));
        Ok(CoordinatorState { desk: Desk { args }, scope, asked, answered, _vital: vital, _counted: counted })
    }

    async fn handle(
        &self,
        _myself: ActorRef<CoordinatorMsg>,
        message: CoordinatorMsg,
        state: &mut CoordinatorState,
    ) -> Result<(), ActorProcessingErr> {
        // Each question has a task of its own: a slow run never delays another's.
        let (desk, answered) = (state.desk.clone(), state.answered.clone());
        state.asked.add(1);
        let spawned = state.scope.spawn("coordinate", async move {
            match message {
                CoordinatorMsg::Start(start, reply) => drop(reply.send(desk.start(*start).await)),
                CoordinatorMsg::Tell(id, command, reply) => drop(reply.send(desk.tell(&id, &command).await)),
            }
            answered.add(1);
        });
        drop(spawned);
        Ok(())
    }
}

#[derive(Clone)]
struct Desk {
    args: CoordinatorArgs,
}

impl Desk {
    async fn start(&self, start: StartRun) -> Result<Started, RunError> {
        check_run_id(&start.id).map_err(RunError::BadId)?;
        check_run_input(&start.input).map_err(|why| failed(&start.id, FailureKind::Refused(why)))?;
        let hash = start.definition.hash();
        let card = RunCard {
            hash: hash.as_bytes().to_vec(),
            definition: start.definition.name().to_owned(),
            input: start.input,
            workers: start.workers.max(1),
            note: start.note,
        };
        self.store_definition(&start.id, &start.definition).await?;
        // Held until the run has it: the registry itself holds definitions weakly.
        let held = self.args.definitions.adopt(start.definition);
        let reply = self.tell(&start.id, &RunCommand::Start(card)).await?;
        drop(held);
        Ok(Started { status: reply.status, known: reply.known })
    }

    /// Stores the definition under its hash, once.
    async fn store_definition(&self, id: &str, definition: &ValidDefinition) -> Result<(), RunError> {
        let store = self.args.env.store().current();
        let hash = *definition.hash().as_bytes();
        let known = store.definition(hash).await.map_err(|e| failed(id, FailureKind::from(&e)))?;
        if known.is_some() {
            return Ok(());
        }
        let bytes = Bytes::from(Definitions::write(definition)?);
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |outcome: Result<Outcome, StoreError>| drop(tell.send(outcome)));
        if store.submit(Record::Definition { hash, bytes }, done).is_err() {
            let why = Unavailable::Store("the store's queue is full or closed".into());
            return Err(failed(id, FailureKind::Unavailable(why)));
        }
        match told.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(failed(id, FailureKind::from(&error))),
            Err(_dropped) => Err(failed(id, FailureKind::Unknown(Doubt::Lost))),
        }
    }

    async fn tell(&self, id: &str, command: &RunCommand) -> Result<RunReply, RunError> {
        check_run_id(id).map_err(RunError::BadId)?;
        let name = Name::new(RUN_KIND, id).map_err(|e| RunError::BadId(e.to_string()))?;
        let fail = |kind| failed(id, kind);
        if !matches!(command, RunCommand::Start(_)) {
            // A command must not bring a run into being.
            let known = self.args.env.store().current().resolve(&name).await;
            if known.map_err(|e| fail(FailureKind::from(&e)))?.is_none() {
                return Err(RunError::Refused { id: id.to_owned(), refusal: RunRefusal::Unknown });
            }
        }
        let payload = encode(command).map_err(|e| RunError::BadId(e.to_string()))?;
        let address = EntityAddress::new(&self.args.env, &name)
            .map_err(|refusal| fail(FailureKind::Refused(refusal)))?;
        match address.call(Bytes::from(payload), CallOptions::default()).await {
            Ok(bytes) => decode(&bytes).map_err(|_| RunError::Lost),
            Err(failure) => Err(typed(id, failure)),
        }
    }
}

fn failed(id: &str, kind: FailureKind) -> RunError {
    match Name::new(RUN_KIND, id) {
        Ok(entity) => typed(id, CallFailure { entity, id: None, kind }),
        Err(error) => RunError::BadId(error.to_string()),
    }
}

fn typed(id: &str, failure: CallFailure) -> RunError {
    match failure.typed::<RunRefusal>() {
        CallError::Rejected(refusal) => RunError::Refused { id: id.to_owned(), refusal },
        error => RunError::Call(Box::new(error)),
    }
}
