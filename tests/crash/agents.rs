//! The agents and activities that the workloads run on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stanchion::{
    Activity, ActivityCtx, Agent, Builder, Completion, Ctx, Failure, Never, System,
    ids::Timestamp,
    workflow::{Definition, Step},
};

use crate::history::{History, Kind, Op};

pub(crate) const ACCOUNTS: usize = 8;
pub(crate) const OPENING: i64 = 100;
pub(crate) const RECEIVERS: usize = 2;
pub(crate) const STEPS: usize = 10;

/// An account that keeps what was done to it, by transfer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Against the opening balance.
    pub(crate) change: i64,
    pub(crate) debits: Vec<(u64, i64)>,
    pub(crate) credits: Vec<(u64, i64)>,
    /// Debits given back because the receiver refused.
    pub(crate) returned: Vec<(u64, i64)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Move {
    Debit {
        id: u64,
        n: i64,
    },
    Credit {
        id: u64,
        n: i64,
    },
    /// Debits, and credits another account by a message.
    Send {
        id: u64,
        to: usize,
        n: i64,
    },
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NoMove {
    Insufficient,
    Refused,
}

impl std::fmt::Display for NoMove {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for NoMove {}

/// Whether the receiver of a message refuses this transfer.
pub(crate) fn is_refused(id: u64) -> bool {
    id.is_multiple_of(5)
}

impl Account {
    pub(crate) fn balance(&self) -> i64 {
        OPENING + self.change
    }

    fn debit(&mut self, id: u64, n: i64) -> Result<(), NoMove> {
        if self.balance() < n {
            return Err(NoMove::Insufficient);
        }
        self.change -= n;
        self.debits.push((id, n));
        Ok(())
    }
}

impl Agent for Account {
    const KIND: &'static str = "account";
    const FEED: bool = true;
    type Command = Move;
    type Reply = i64;
    type Rejection = NoMove;

    fn handle(&mut self, command: Move, ctx: &mut Ctx<'_>) -> Result<i64, NoMove> {
        match command {
            Move::Debit { id, n } => self.debit(id, n)?,
            Move::Credit { id, .. } if ctx.key().starts_with('m') && is_refused(id) => {
                return Err(NoMove::Refused);
            }
            Move::Credit { id, n } => {
                self.change += n;
                self.credits.push((id, n));
            }
            Move::Send { id, to, n } => {
                self.debit(id, n)?;
                ctx.send::<Self>(&mail_account(to), &Move::Credit { id, n }).unwrap();
            }
            Move::Look => {}
        }
        Ok(self.balance())
    }

    fn completed(&mut self, done: Completion, _: &mut Ctx<'_>) {
        if let Completion::Returned { payload, .. } = done
            && let Ok(Move::Credit { id, n }) = stanchion_actors::store::decode(&payload)
        {
            self.change += n;
            self.returned.push((id, n));
        }
    }
}

/// Key of an account whose transfers are transactions.
pub(crate) fn account(n: usize) -> String {
    format!("t{n}")
}

/// Key of an account whose transfers are messages.
pub(crate) fn mail_account(n: usize) -> String {
    format!("m{n}")
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counter(pub(crate) u64);

impl Agent for Counter {
    const KIND: &'static str = "counter";
    const FEED: bool = true;
    type Command = ();
    type Reply = u64;
    type Rejection = Never;

    fn handle(&mut self, (): (), _: &mut Ctx<'_>) -> Result<u64, Never> {
        self.0 += 1;
        Ok(self.0)
    }
}

/// Jobs as they were handled, and as their effects ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Queue {
    pub(crate) handled: Vec<u64>,
    pub(crate) done: Vec<u64>,
    pub(crate) running: BTreeMap<String, u64>,
}

impl Agent for Queue {
    const KIND: &'static str = "worklist";
    type Command = u64;
    type Reply = ();
    type Rejection = Never;

    fn handle(&mut self, id: u64, ctx: &mut Ctx<'_>) -> Result<(), Never> {
        self.handled.push(id);
        let effect = ctx.start::<Consume>(&id).unwrap();
        self.running.insert(effect, id);
        Ok(())
    }

    fn completed(&mut self, done: Completion, _: &mut Ctx<'_>) {
        if let Completion::Succeeded { effect, .. } = done
            && let Some(id) = self.running.remove(&effect)
        {
            self.done.push(id);
        }
    }
}

/// The job itself: one line in the history.
pub(crate) struct Consume(Arc<History>);

impl Activity for Consume {
    const NAME: &'static str = "consume";
    type Input = u64;
    type Output = ();

    async fn run(&self, ctx: ActivityCtx, id: u64) -> Result<(), Failure> {
        self.0.append(Kind::Ok, Op::Effect { what: format!("job/{id}"), key: ctx.idempotency_key });
        tokio::time::sleep(Duration::from_micros(id % 7 * 300)).await;
        Ok(())
    }
}

/// Timers set and fired.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sleeper {
    pub(crate) asleep: BTreeMap<u64, i64>,
    /// Id, due time, time at which it fired.
    pub(crate) fired: Vec<(u64, i64, i64)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Nap {
    Sleep { id: u64, due: i64 },
    Wake { id: u64, due: i64 },
}

impl Agent for Sleeper {
    const KIND: &'static str = "sleeper";
    type Command = Nap;
    type Reply = ();
    type Rejection = Never;

    fn handle(&mut self, command: Nap, ctx: &mut Ctx<'_>) -> Result<(), Never> {
        match command {
            Nap::Sleep { id, due } => {
                self.asleep.insert(id, due);
                ctx.set_timer(id.to_string(), Timestamp(due), &Nap::Wake { id, due }).unwrap();
            }
            Nap::Wake { id, due } => {
                self.asleep.remove(&id);
                self.fired.push((id, due, ctx.now().0));
            }
        }
        Ok(())
    }
}

/// Numbers sent to each receiver.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Emitter(pub(crate) u64);

impl Agent for Emitter {
    const KIND: &'static str = "emitter";
    type Command = u64;
    type Reply = u64;
    type Rejection = Never;

    fn handle(&mut self, count: u64, ctx: &mut Ctx<'_>) -> Result<u64, Never> {
        for _ in 0..count {
            self.0 += 1;
            for receiver in 0..RECEIVERS {
                ctx.send::<Receiver>(&receiver.to_string(), &self.0).unwrap();
            }
        }
        Ok(self.0)
    }
}

/// Expects 1, 2, 3, ...
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Receiver {
    pub(crate) last: u64,
    /// What came, and what had to come.
    pub(crate) wrong: Vec<(u64, u64)>,
}

impl Agent for Receiver {
    const KIND: &'static str = "receiver";
    type Command = u64;
    type Reply = ();
    type Rejection = Never;

    fn handle(&mut self, number: u64, _: &mut Ctx<'_>) -> Result<(), Never> {
        if number != self.last + 1 {
            self.wrong.push((number, self.last + 1));
        }
        self.last = number;
        Ok(())
    }
}

/// A step of a run: one line in the history, and its input plus one.
pub(crate) struct Tick(Arc<History>);

impl Activity for Tick {
    const NAME: &'static str = "tick";
    type Input = Value;
    type Output = Value;

    async fn run(&self, ctx: ActivityCtx, input: Value) -> Result<Value, Failure> {
        let what = format!("step/{}", ctx.idempotency_key);
        self.0.append(Kind::Ok, Op::Effect { what, key: ctx.idempotency_key });
        Ok(json!(input.as_u64().unwrap_or(0) + 1))
    }
}

/// A chain of steps, each of which adds one.
pub(crate) fn chain() -> Definition {
    let mut builder = Definition::builder("chain");
    for n in 0..STEPS {
        let mut step = Step::new(format!("s{n}")).activity("tick");
        if n > 0 {
            step = step.needs([format!("s{}", n - 1)]).input(json!(format!("${{steps.s{}.output}}", n - 1)));
        }
        builder = builder.step(step);
    }
    builder.output(json!(format!("${{steps.s{}.output}}", STEPS - 1))).build()
}

/// A system that knows them all.
pub(crate) fn builder(history: &Arc<History>) -> Builder {
    System::builder()
        .agent::<Account>()
        .agent::<Counter>()
        .agent::<Queue>()
        .agent::<Sleeper>()
        .agent::<Emitter>()
        .agent::<Receiver>()
        .activity(Consume(Arc::clone(history)))
        .activity(Tick(Arc::clone(history)))
}
