//! An agent that does what it is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stanchion::{Activity, ActivityCtx, Agent, Completion, Ctx, Failure, Invalid, Never, ids::Timestamp};

/// State of the agent: everything it was told, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) balance: i64,
    pub(crate) seen: Vec<u64>,
    pub(crate) notes: Vec<String>,
    pub(crate) padding: String,
    pub(crate) valid_below: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    Add(i64),
    /// Rejected when the balance is lower.
    Take(i64),
    See(u64),
    Note(String),
    /// Forgets what it saw.
    Forget,
    /// Changes and records nothing.
    Peek,
    /// Answers a text of this size and adds one.
    Talk(usize),
    /// Pads the state to this size.
    Grow(usize),
    /// States with a balance from here on are invalid.
    Bound(i64),
    Panic,
    Reject,
    Send {
        to: String,
        command: Box<Command>,
    },
    SendWithin {
        to: String,
        command: Box<Command>,
        ms: u64,
    },
    /// Takes the amount and sends it on.
    Transfer {
        to: String,
        amount: i64,
    },
    /// Sends `See` of each number.
    SendEach {
        to: String,
        from: u64,
        to_number: u64,
    },
    SendStranger,
    SetTimer {
        id: String,
        due_us: i64,
        command: Box<Command>,
    },
    ClearTimer(String),
    Start {
        input: String,
        timeout_ms: u64,
    },
    StartStranger,
    Cancel(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Balance(i64),
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("balance is {0}")]
    TooLow(i64),
    #[error("rejected as told")]
    AsTold,
}

impl Agent for Ledger {
    const KIND: &'static str = "ledger";
    type Command = Command;
    type Reply = Answer;
    type Rejection = Refusal;

    fn handle(&mut self, command: Command, ctx: &mut Ctx<'_>) -> Result<Answer, Refusal> {
        match command {
            Command::Add(amount) => self.balance += amount,
            Command::Take(amount) if amount > self.balance => return Err(Refusal::TooLow(self.balance)),
            Command::Take(amount) => self.balance -= amount,
            Command::See(number) => self.seen.push(number),
            Command::Note(note) => self.notes.push(note),
            Command::Forget => self.seen.clear(),
            Command::Peek => {}
            Command::Talk(size) => {
                self.balance += 1;
                return Ok(Answer::Text("x".repeat(size)));
            }
            Command::Grow(size) => self.padding = "x".repeat(size),
            Command::Bound(bound) => self.valid_below = Some(bound),
            Command::Panic => panic!("as told"),
            Command::Reject => return Err(Refusal::AsTold),
            Command::Transfer { amount, .. } if amount > self.balance => {
                return Err(Refusal::TooLow(self.balance));
            }
            Command::Transfer { to, amount } => {
                self.balance -= amount;
                ctx.send::<Self>(&to, &Command::Add(amount)).unwrap();
            }
            other => self.record(other, ctx),
        }
        Ok(Answer::Balance(self.balance))
    }

    fn completed(&mut self, done: Completion, _: &mut Ctx<'_>) {
        let note = match done {
            Completion::Succeeded { effect, output, .. } => {
                format!("{effect} ok {}", rmp_serde::from_slice::<String>(&output).unwrap())
            }
            Completion::Failed { effect, failure, .. } => format!("{effect} failed {}", failure.code),
            Completion::Returned { payload, why, .. } => {
                match rmp_serde::from_slice::<Command>(&payload) {
                    Ok(Command::Panic) => panic!("as told"),
                    Ok(Command::Add(amount)) => self.balance += amount,
                    Ok(_) | Err(_) => {}
                }
                format!("returned {why:?}")
            }
            other => format!("{other:?}"),
        };
        self.notes.push(note);
    }

    fn validate(&self) -> Result<(), Invalid> {
        match self.valid_below {
            Some(bound) if self.balance >= bound => Err(Invalid(format!("balance {}", self.balance))),
            Some(_) | None => Ok(()),
        }
    }
}

impl Ledger {
    fn record(&mut self, command: Command, ctx: &mut Ctx<'_>) {
        match command {
            Command::Send { to, command } => ctx.send::<Self>(&to, &command).unwrap(),
            Command::SendWithin { to, command, ms } => {
                ctx.send_within::<Self>(&to, &command, Duration::from_millis(ms)).unwrap();
            }
            Command::SendEach { to, from, to_number } => {
                (from..to_number).for_each(|n| ctx.send::<Self>(&to, &Command::See(n)).unwrap());
            }
            Command::SendStranger => ctx.send::<Stranger>("x", &1).unwrap(),
            Command::SetTimer { id, due_us, command } => {
                ctx.set_timer(id, Timestamp(due_us), &command).unwrap();
            }
            Command::ClearTimer(id) => ctx.clear_timer(id),
            Command::Start { input, timeout_ms } => {
                ctx.start_within::<Echo>(&input, Duration::from_millis(timeout_ms)).unwrap();
            }
            Command::StartStranger => drop(ctx.start::<Unregistered>(&String::new()).unwrap()),
            Command::Cancel(effect) => ctx.cancel(effect),
            other => unreachable!("{other:?} records nothing"),
        }
    }
}

/// An agent that no system knows.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stranger;

impl Agent for Stranger {
    const KIND: &'static str = "stranger";
    type Command = u64;
    type Reply = ();
    type Rejection = Never;
    fn handle(&mut self, _: u64, _: &mut Ctx<'_>) -> Result<(), Never> {
        Ok(())
    }
}

/// An activity whose attempts a test follows: each is told to `started`, and ends as its input says.
#[derive(Clone)]
pub(crate) struct Echo {
    pub(crate) started: tokio::sync::mpsc::UnboundedSender<ActivityCtx>,
    /// Attempts with input `wait` end when this has permits.
    pub(crate) go: std::sync::Arc<tokio::sync::Semaphore>,
}

impl Echo {
    /// The activity, and where its attempts are told.
    pub(crate) fn new() -> (Self, tokio::sync::mpsc::UnboundedReceiver<ActivityCtx>) {
        let (started, attempts) = tokio::sync::mpsc::unbounded_channel();
        (Self { started, go: std::sync::Arc::new(tokio::sync::Semaphore::new(0)) }, attempts)
    }
}

impl Activity for Echo {
    const NAME: &'static str = "echo";
    type Input = String;
    type Output = String;

    async fn run(&self, ctx: ActivityCtx, input: String) -> Result<String, Failure> {
        let cancel = ctx.cancel.clone();
        ctx.heartbeat(format!("got {input}"));
        let _ = self.started.send(ctx);
        match input.as_str() {
            "panic" => panic!("as told"),
            "fail" => Err(Failure::permanent("test.failed", "as told")),
            "wait" => {
                tokio::select! {
                    permit = self.go.acquire() => permit.unwrap().forget(),
                    () = cancel.cancelled() => return Err(Failure::permanent("test.cancelled", "as told")),
                }
                Ok(input)
            }
            _ => Ok(input),
        }
    }
}

struct Unregistered;

impl Activity for Unregistered {
    const NAME: &'static str = "unregistered";
    type Input = String;
    type Output = String;
    async fn run(&self, _: ActivityCtx, input: String) -> Result<String, Failure> {
        Ok(input)
    }
}
