//! A world of scripted children whose events are compared exactly, on a paused clock.
#![allow(dead_code, unreachable_pub, reason = "shared by test targets, each uses its part")]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use stanchion_actors::task::{ActorGuard, TaskScope};
use stanchion_supervisors::{
    ChildSpec, ChildStatus, DynamicChild, Exit, Restart, Shutdown, StartContext, StartError, StartFn,
    Started, Strategy, Supervisor, SupervisorEvent, SupervisorSpec, SupervisorStartError,
};
use tokio::sync::Notify;

/// What the next start of a child does, instead of starting.
#[derive(Clone, Copy, Debug)]
pub enum Script {
    Run,
    Error(&'static str),
    PreStartError(&'static str),
    Panic(&'static str),
    Ignore,
}

/// What ends a child from within.
pub enum ChildMsg {
    Fail(&'static str),
    Panic(&'static str),
}

#[cfg(feature = "cluster")]
impl ractor::Message for ChildMsg {}

#[derive(Clone)]
pub struct World {
    pub root: TaskScope,
    inner: Arc<Inner>,
}

struct Inner {
    log: Mutex<Vec<String>>,
    logged: Notify,
    actors: Mutex<HashMap<String, ActorRef<ChildMsg>>>,
    scripts: Mutex<HashMap<String, VecDeque<Script>>>,
    /// Children that need this long to clean up, and say when they are told to.
    stubborn: Mutex<HashMap<String, Duration>>,
}

impl World {
    pub fn new() -> Self {
        let inner = Inner {
            log: Mutex::default(),
            logged: Notify::new(),
            actors: Mutex::default(),
            scripts: Mutex::default(),
            stubborn: Mutex::default(),
        };
        Self { root: TaskScope::root("test"), inner: Arc::new(inner) }
    }

    /// A spec with permanent children, 10 restarts in 60 s, 1 s to stop, observed by this world.
    pub fn spec(&self, strategy: Strategy, ids: &[&str]) -> SupervisorSpec {
        let spec = self.empty_spec(strategy);
        ids.iter().fold(spec, |spec, id| spec.child(self.child(id)))
    }

    pub fn empty_spec(&self, strategy: Strategy) -> SupervisorSpec {
        let intensity = stanchion_supervisors::Intensity::new(10, Duration::from_secs(60));
        SupervisorSpec::new(strategy).intensity(intensity).observe(self.observer())
    }

    pub fn observer(&self) -> impl Fn(&SupervisorEvent) + Send + Sync + 'static {
        let world = self.clone();
        move |event| world.log(line(event))
    }

    pub fn child(&self, id: &str) -> ChildSpec {
        ChildSpec::worker(id, self.start_fn()).shutdown(Shutdown::Deadline(Duration::from_secs(1)))
    }

    pub fn child_with(&self, id: &str, restart: Restart) -> ChildSpec {
        self.child(id).restart(restart)
    }

    pub fn dynamic(&self, label: &str) -> DynamicChild {
        DynamicChild::new(label, self.start_fn())
    }

    fn start_fn(&self) -> StartFn {
        let world = self.clone();
        Arc::new(move |context| Box::pin(world.clone().start_child(context)))
    }

    async fn start_child(self, context: StartContext) -> Result<Started, StartError> {
        let script = self.inner.scripts.lock().unwrap().get_mut(&*context.id).and_then(VecDeque::pop_front);
        match script.unwrap_or(Script::Run) {
            Script::Error(message) => return Err(StartError::failed(message)),
            Script::Ignore => return Ok(Started::Ignore),
            Script::Panic(message) => panic!("{message}"),
            Script::PreStartError(message) => {
                let args = ChildArgs { id: context.id.to_string(), world: self, refuse: Some(message) };
                context.link.spawn_linked(None, TestChild, args).await?;
            }
            Script::Run => {
                let id = context.id.to_string();
                let args = ChildArgs { id: id.clone(), world: self.clone(), refuse: None };
                let (child, _) = context.link.spawn_linked(None, TestChild, args).await?;
                self.inner.actors.lock().unwrap().insert(id, child.clone());
                return Ok(Started::Running(child.get_cell()));
            }
        }
        unreachable!("a refusing pre_start fails the spawn")
    }

    /// Starts a supervisor under a probe that logs its end as `end sup ...`.
    pub async fn start(&self, spec: SupervisorSpec) -> Result<Supervisor, SupervisorStartError> {
        Supervisor::start(spec, None, Some(self.probe().await)).await
    }

    /// Starts a supervisor and forgets the events of its start.
    pub async fn started(&self, spec: SupervisorSpec) -> Supervisor {
        let supervisor = self.start(spec).await.expect("supervisor starts");
        self.settle().await;
        self.inner.log.lock().unwrap().clear();
        supervisor
    }

    /// Logs the end of what is linked to it.
    pub async fn probe(&self) -> ActorCell {
        Actor::spawn(None, Probe, self.clone()).await.unwrap().0.get_cell()
    }

    pub fn script(&self, id: &str, starts: &[Script]) {
        self.inner.scripts.lock().unwrap().insert(id.to_owned(), starts.iter().copied().collect());
    }

    pub fn stubborn(&self, id: &str, needs: Duration) {
        self.inner.stubborn.lock().unwrap().insert(id.to_owned(), needs);
    }

    pub fn actor(&self, id: &str) -> ActorRef<ChildMsg> {
        self.inner.actors.lock().unwrap().get(id).cloned().expect("child was started")
    }

    pub fn identity(&self, id: &str) -> ActorId {
        self.actor(id).get_id()
    }

    pub fn crash(&self, id: &str) {
        self.actor(id).cast(ChildMsg::Fail("boom")).unwrap();
    }

    pub fn panic(&self, id: &str) {
        self.actor(id).cast(ChildMsg::Panic("boom")).unwrap();
    }

    pub fn exit(&self, id: &str, reason: &str) {
        self.actor(id).stop(Some(reason.to_owned()));
    }

    pub fn kill(&self, id: &str) {
        self.actor(id).kill();
    }

    pub fn log(&self, line: String) {
        self.inner.log.lock().unwrap().push(line);
        self.inner.logged.notify_waiters();
    }

    /// Lets everything run that can run without the clock moving.
    pub async fn settle(&self) {
        for _ in 0..300 {
            tokio::task::yield_now().await;
        }
    }

    /// Takes the events since the last look.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.inner.log.lock().unwrap())
    }

    /// Waits for exactly these events since the last look, and no more.
    pub async fn expect(&self, events: &[&str]) {
        let all_came = async {
            loop {
                let mut logged = std::pin::pin!(self.inner.logged.notified());
                logged.as_mut().enable();
                if self.inner.log.lock().unwrap().len() >= events.len() {
                    return;
                }
                logged.await;
            }
        };
        // The clock is paused: it jumps when nothing else can happen.
        let _ = tokio::time::timeout(Duration::from_secs(3_600), all_came).await;
        self.settle().await;
        assert_eq!(self.take(), events);
    }

    /// Ends the supervisor, and asserts that nothing of it lives.
    pub async fn finish(&self, supervisor: Supervisor) {
        supervisor.stop(Shutdown::Infinity).await;
        self.assert_nobody_lives().await;
    }

    pub async fn assert_nobody_lives(&self) {
        self.settle().await;
        let census = self.root.census();
        assert!(census.is_empty(), "still alive: {census:?}");
        assert_eq!(census.panicked_total, 0);
    }
}

pub fn line(event: &SupervisorEvent) -> String {
    match event {
        SupervisorEvent::Started { id, .. } => format!("start {id}"),
        SupervisorEvent::Ignored { id } => format!("ignore {id}"),
        SupervisorEvent::StartFailed { id, .. } => format!("startfail {id}"),
        SupervisorEvent::Ended { id, exit, .. } => format!("end {id} {exit}"),
        SupervisorEvent::GaveUp { id, .. } => format!("giveup {id}"),
        SupervisorEvent::ShutDownByChild { id } => format!("auto {id}"),
    }
}

/// `id up`, `id undefined` or `id restarting`, newest first.
pub async fn list(supervisor: &Supervisor) -> Vec<String> {
    let children = supervisor.which_children().await.expect("supervisor lives");
    children
        .into_iter()
        .map(|child| match child.status {
            ChildStatus::Running(_) => format!("{} up", child.id),
            ChildStatus::Idle => format!("{} undefined", child.id),
            ChildStatus::Restarting => format!("{} restarting", child.id),
        })
        .collect()
}

struct ChildArgs {
    id: String,
    world: World,
    refuse: Option<&'static str>,
}

struct ChildState {
    id: String,
    world: World,
    _guard: ActorGuard,
}

struct TestChild;

impl Actor for TestChild {
    type Msg = ChildMsg;
    type State = ChildState;
    type Arguments = ChildArgs;

    async fn pre_start(
        &self,
        _: ActorRef<ChildMsg>,
        args: ChildArgs,
    ) -> Result<ChildState, ActorProcessingErr> {
        if let Some(message) = args.refuse {
            return Err(message.into());
        }
        let guard = args.world.root.actor(&args.id);
        Ok(ChildState { id: args.id, world: args.world, _guard: guard })
    }

    async fn handle(
        &self,
        _: ActorRef<ChildMsg>,
        message: ChildMsg,
        _: &mut ChildState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ChildMsg::Fail(message) => Err(message.into()),
            ChildMsg::Panic(message) => panic!("{message}"),
        }
    }

    async fn post_stop(
        &self,
        _: ActorRef<ChildMsg>,
        state: &mut ChildState,
    ) -> Result<(), ActorProcessingErr> {
        let needs = state.world.inner.stubborn.lock().unwrap().get(&state.id).copied();
        if let Some(needs) = needs {
            state.world.log(format!("told {}", state.id));
            tokio::time::sleep(needs).await;
        }
        Ok(())
    }
}

struct Probe;

impl Actor for Probe {
    type Msg = ChildMsg;
    type State = World;
    type Arguments = World;

    async fn pre_start(&self, _: ActorRef<ChildMsg>, world: World) -> Result<World, ActorProcessingErr> {
        Ok(world)
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ChildMsg>,
        event: SupervisionEvent,
        world: &mut World,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((_, exit)) = Exit::of(&event) {
            world.log(format!("end sup {exit}"));
        }
        Ok(())
    }
}
