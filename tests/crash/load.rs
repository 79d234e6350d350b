//! The clients: each does one operation after the other and writes down what it knows of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use stanchion::{
    Address, Agent, System, Transact,
    error::{CallError, CallFailure, Coded, FailureKind, Family},
    workflow::{StartRun, ValidDefinition},
};
use stanchion_actors::entity::Session;
use uuid::Uuid;

use crate::{
    agents::{ACCOUNTS, Account, Counter, Emitter, Move, Nap, Queue, Sleeper, account, chain, mail_account},
    history::{Draw, History, Kind, Line, Op, now_us},
};

/// Clients that add to counters; each has a session that outlives its processes.
pub(crate) const ADDERS: usize = 3;
pub(crate) const HOT: &str = "hot";
const DEADLINE: Duration = Duration::from_secs(5);

/// What a case is, the same in all its lives.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Sessions(pub(crate) Vec<Uuid>);

impl Sessions {
    pub(crate) fn new() -> Self {
        Self((0..ADDERS).map(|_| Uuid::now_v7()).collect())
    }
}

/// One life of the clients.
pub(crate) struct World {
    pub(crate) system: Arc<System>,
    pub(crate) history: Arc<History>,
    life: u32,
    ids: AtomicU64,
    sessions: Sessions,
    /// Last number of each adder, and whether it is answered.
    adders: Vec<(u64, bool)>,
    /// Each client stops by itself after so many operations.
    ops: u64,
    stop: AtomicBool,
    definition: Arc<ValidDefinition>,
}

/// Whether the operation is known not to have happened.
fn did_not_happen(family: Family) -> bool {
    match family {
        Family::Rejected | Family::Unavailable => true,
        Family::Unknown | Family::Fatal => false,
    }
}

fn family(failure: &CallFailure) -> Family {
    match &failure.kind {
        FailureKind::Rejected(_) | FailureKind::Refused(_) => Family::Rejected,
        FailureKind::Unavailable(_) => Family::Unavailable,
        FailureKind::Unknown(_) => Family::Unknown,
        _ => Family::Fatal,
    }
}

impl World {
    pub(crate) fn new(
        system: Arc<System>,
        history: Arc<History>,
        before: &[Line],
        (life, ops): (u32, u64),
        sessions: Sessions,
    ) -> Arc<Self> {
        let definition = system.workflows().define(chain().validate().unwrap());
        let adders = (0..ADDERS).map(|client| standing(before, client)).collect();
        let ids = AtomicU64::new(u64::from(life) << 20);
        let stop = AtomicBool::new(false);
        Arc::new(Self { system, history, life, ids, sessions, adders, ops, stop, definition })
    }

    /// Runs all clients until they have done their operations, or are told to stop.
    pub(crate) async fn load(self: &Arc<Self>) {
        let clients: Vec<BoxFuture<'static, ()>> = vec![
            Box::pin(transfers(self.clone(), 0)),
            Box::pin(transfers(self.clone(), 1)),
            Box::pin(totals(self.clone())),
            Box::pin(sends(self.clone(), 0)),
            Box::pin(sends(self.clone(), 1)),
            Box::pin(enqueues(self.clone())),
            Box::pin(shows(self.clone())),
            Box::pin(reads(self.clone())),
            Box::pin(sleeps(self.clone())),
            Box::pin(emits(self.clone())),
            Box::pin(runs(self.clone())),
        ];
        let adders =
            (0..ADDERS).map(|client| -> BoxFuture<'static, ()> { Box::pin(adds(self.clone(), client)) });
        let tasks: Vec<_> = clients.into_iter().chain(adders).map(tokio::spawn).collect();
        for task in tasks {
            task.await.unwrap();
        }
    }

    /// Asks again for what was not answered in an earlier life.
    pub(crate) async fn settle(self: &Arc<Self>) {
        self.tell_to_stop();
        for client in 0..ADDERS {
            adds(self.clone(), client).await;
        }
    }

    pub(crate) fn tell_to_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    fn goes_on(&self, done: u64) -> bool {
        done < self.ops && !self.stop.load(Ordering::SeqCst)
    }

    fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::SeqCst)
    }

    fn draw(&self, client: u64) -> Draw {
        Draw(u64::from(self.life) << 32 | client)
    }

    pub(crate) fn agent<A: Agent>(&self, key: &str) -> Address<A> {
        self.system.agent::<A>(key).unwrap().with_deadline(DEADLINE)
    }

    fn invoke(&self, op: &Op) {
        self.history.append(Kind::Invoke, op.clone());
    }

    fn end<T, R: std::fmt::Display>(&self, op: Op, result: Result<T, CallError<R>>) {
        match result {
            Ok(_) => self.history.append(Kind::Ok, op),
            Err(error) if did_not_happen(error.family()) => self.history.append(Kind::Fail, op),
            Err(_) => {}
        }
    }
}

/// The last number that a client used, and whether it has its answer.
fn standing(before: &[Line], adder: usize) -> (u64, bool) {
    let mut standing = (0, true);
    for line in before {
        if let Op::Add { client, seq, .. } = &line.op
            && *client == adder
        {
            standing = (*seq, line.kind != Kind::Invoke);
        }
    }
    standing
}

/// Leaves room for others; an operation of a client that is refused is not repeated at once.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

async fn transfers(world: Arc<World>, client: u64) {
    let mut draw = world.draw(client);
    for done in 0.. {
        if !world.goes_on(done) {
            return;
        }
        let id = world.id();
        let from = draw.below(ACCOUNTS as u64) as usize;
        let to = (from + 1 + draw.below(ACCOUNTS as u64 - 1) as usize) % ACCOUNTS;
        let n = 1 + draw.below(40) as i64;
        let op = Op::Transfer { id, from, to, n };
        world.invoke(&op);
        let mut transact = Transact::new();
        transact.add(&world.agent::<Account>(&account(from)), &Move::Debit { id, n });
        transact.add(&world.agent::<Account>(&account(to)), &Move::Credit { id, n });
        match world.system.transact(transact).await {
            Ok(_) => world.history.append(Kind::Ok, op),
            Err(failure) if did_not_happen(family(&failure)) => world.history.append(Kind::Fail, op),
            Err(_) => {}
        }
        pause().await;
    }
}

async fn totals(world: Arc<World>) {
    for done in 0.. {
        if !world.goes_on(done) {
            return;
        }
        let mut transact = Transact::new();
        let looks: Vec<_> =
            (0..ACCOUNTS).map(|n| transact.add(&world.agent::<Account>(&account(n)), &Move::Look)).collect();
        if let Ok(replies) = world.system.transact(transact).await {
            let seen: Vec<i64> = looks.iter().map(|look| replies.get(look).unwrap()).collect();
            let (sum, least) = (seen.iter().sum(), seen.iter().copied().min().unwrap());
            world.history.append(Kind::Ok, Op::Total { sum, least });
        }
        pause().await;
    }
}

async fn sends(world: Arc<World>, client: u64) {
    let mut draw = world.draw(10 + client);
    for done in 0.. {
        if !world.goes_on(done) {
            return;
        }
        let id = world.id();
        let from = draw.below(ACCOUNTS as u64) as usize;
        let to = (from + 1 + draw.below(ACCOUNTS as u64 - 1) as usize) % ACCOUNTS;
        let n = 1 + draw.below(40) as i64;
        let op = Op::Send { id, from, to, n };
        world.invoke(&op);
        let result = world.agent::<Account>(&mail_account(from)).call(Move::Send { id, to, n }).await;
        world.end(op, result);
        pause().await;
    }
}

async fn enqueues(world: Arc<World>) {
    let queue = world.agent::<Queue>("jobs");
    for done in 0.. {
        if !world.goes_on(done) {
            return;
        }
        let id = world.id();
        let op = Op::Enqueue { id };
        world.invoke(&op);
        world.end(op, queue.enqueue(id).await);
        pause().await;
    }
}

/// Shows which jobs are done.
async fn shows(world: Arc<World>) {
    let queue = world.agent::<Queue>("jobs");
    let mut shown = 0;
    for done in 0.. {
        if !world.goes_on(done) {
            return;
        }
        if let Ok(new) = queue.read(move |queue| queue.done.get(shown..).unwrap_or_default().to_vec()).await {
            shown += new.len();
            for id in new {
                world.history.append(Kind::Ok, Op::Done { id });
            }
        }
        pause().await;
    }
}

/// Shows what counters stand at.
async fn reads(world: Arc<World>) {
    let mut draw = world.draw(20);
    for done in 0.. {
        if !world.goes_on(done) {
            return;
        }
        let one = draw.below(ADDERS as u64) as usize;
        let counter = if done.is_multiple_of(2) { HOT.to_owned() } else { private(one) };
        if let Ok(value) = world.agent::<Counter>(&counter).read(|counter| counter.0).await {
            world.history.append(Kind::Ok, Op::Read { counter, value });
        }
        tokio::task::yield_now().await;
    }
}

/// The counter that one client alone adds to.
pub(crate) fn private(client: usize) -> String {
    format!("c{client}")
}

/// Adds to its own counter and to one that all share, each command under its number until it is answered.
async fn adds(world: Arc<World>, client: usize) {
    let session = Session::with_id(world.sessions.0[client]);
    let (last, answered) = world.adders[client];
    let open = u64::from(!answered);
    for _ in 0..last - open {
        drop(session.begin());
    }
    let mut first = !answered;
    for done in 0.. {
        if !first && !world.goes_on(done) {
            return;
        }
        let ticket = session.begin();
        let seq = ticket.id().seq;
        let counter = if seq.is_multiple_of(2) { HOT.to_owned() } else { private(client) };
        let op = |reply| Op::Add { client, seq, counter: counter.clone(), reply };
        if !std::mem::take(&mut first) {
            world.invoke(&op(0));
        }
        let address = world.agent::<Counter>(&counter);
        let mut deadline = if seq.is_multiple_of(8) { Duration::from_micros(300) } else { DEADLINE };
        loop {
            match address.clone().with_deadline(deadline).call_as(&ticket, ()).await {
                Ok(reply) => break world.history.append(Kind::Ok, op(reply)),
                Err(CallError::Unavailable(_) | CallError::Unknown(_)) => {}
                // Neither is refused: that it is, is a fault the check finds.
                Err(CallError::Rejected(_) | CallError::Refused(_)) => {
                    break world.history.append(Kind::Fail, op(0));
                }
                Err(_) => return,
            }
            deadline = DEADLINE;
            pause().await;
        }
    }
}

async fn sleeps(world: Arc<World>) {
    let mut draw = world.draw(30);
    let sleeper = world.agent::<Sleeper>("s");
    for done in 0.. {
        if !world.goes_on(done) {
            return;
        }
        let id = world.id();
        let due = now_us() + 10_000 + draw.below(400_000) as i64;
        let op = Op::Sleep { id, due };
        world.invoke(&op);
        world.end(op, sleeper.call(Nap::Sleep { id, due }).await);
        pause().await;
    }
}

async fn emits(world: Arc<World>) {
    let mut draw = world.draw(40);
    let emitter = world.agent::<Emitter>("e");
    for done in 0.. {
        if !world.goes_on(done) {
            return;
        }
        let count = 1 + draw.below(4);
        let op = Op::Emit { count };
        world.invoke(&op);
        world.end(op, emitter.call(count).await);
        pause().await;
    }
}

async fn runs(world: Arc<World>) {
    for done in 0.. {
        if !world.goes_on(done) {
            return;
        }
        let run = format!("r{}", world.id());
        let op = Op::Start { run: run.clone() };
        world.invoke(&op);
        match world.system.workflows().start(StartRun::new(run, Arc::clone(&world.definition))).await {
            Ok(_) => world.history.append(Kind::Ok, op),
            Err(error) if did_not_happen(error.family()) => world.history.append(Kind::Fail, op),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}
