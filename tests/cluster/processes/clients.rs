//! Clients of a cluster: commands from a process without entities of its own, and what they were told.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use stanchion::{Address, Agent, System, error::CallError, ids::Cause};
use stanchion_actors::{error::FailureKind, store::encode};

use super::{
    agents::{Account, Move, Say, Sink, sink_of},
    child::now_ms,
    journal::Journal,
    plan::Draw,
};

/// Deadline of every call.
pub(crate) const DEADLINE: Duration = Duration::from_millis(1_500);
/// How long storing a command may take: the library's own word.
const STORE_WITHIN: Duration = Duration::from_secs(30);
/// Accounts of each node.
pub(crate) const ACCOUNTS: u64 = 2;
/// Clients of a process.
pub(crate) const CLIENTS: u64 = 6;
/// How often a doubtful command is asked for again, under its ticket.
const AGAIN: u32 = 4;
/// Ids of one life of the clients' process.
const IDS: u64 = 1_000_000;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Made {
    /// A call.
    Add,
    /// A command that is stored, and done later.
    Enqueue,
    /// A command that nobody waits for.
    Cast,
    /// A call that makes a durable message.
    Send,
    /// A call that makes many.
    Emit,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    /// Rejected or refused: nothing changed.
    Refused,
    /// Nothing was applied.
    Unavailable,
    Unknown,
    /// Not yet, or its client was killed before it came.
    None,
}

/// One command, its answer, and how long the slowest call for it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) id: u64,
    /// Of the clients of a process.
    pub(crate) client: u64,
    pub(crate) made: Made,
    pub(crate) node: String,
    pub(crate) key: String,
    pub(crate) answer: Answer,
    /// Asked for more than once.
    pub(crate) again: bool,
    pub(crate) began_ms: u64,
    pub(crate) took_ms: u64,
    pub(crate) deadline_ms: u64,
}

impl Line {
    /// Which life of the clients' process it is of.
    pub(crate) fn life(&self) -> usize {
        (self.id / IDS) as usize
    }
}

pub(crate) fn answer_of<T, R>(result: &Result<T, CallError<R>>) -> Answer {
    match result {
        Ok(_) => Answer::Done,
        Err(CallError::Rejected(_) | CallError::Refused(_)) => Answer::Refused,
        Err(CallError::Unavailable(_)) => Answer::Unavailable,
        Err(_) => Answer::Unknown,
    }
}

fn answer_of_kind<T>(result: &Result<T, FailureKind>) -> Answer {
    match result {
        Ok(_) => Answer::Done,
        Err(FailureKind::Rejected(_) | FailureKind::Refused(_)) => Answer::Refused,
        Err(FailureKind::Unavailable(_)) => Answer::Unavailable,
        Err(_) => Answer::Unknown,
    }
}

/// What clients of a process share.
pub(crate) struct Clients {
    pub(crate) system: std::sync::Arc<System>,
    pub(crate) nodes: Vec<String>,
    pub(crate) journal: Journal,
    pub(crate) ends: AtomicBool,
    next: AtomicU64,
}

pub(crate) fn account(n: u64) -> String {
    format!("a{n}")
}

pub(crate) fn at<A: Agent>(system: &System, node: &str, key: &str) -> Address<A> {
    system.agent_on::<A>(node, key).unwrap().with_deadline(DEADLINE)
}

impl Clients {
    /// Those of a life of the process, the first of which is 0.
    pub(crate) fn new(
        system: std::sync::Arc<System>,
        nodes: Vec<String>,
        journal: Journal,
        life: u64,
    ) -> Self {
        Self { system, nodes, journal, ends: AtomicBool::new(false), next: AtomicU64::new(life * IDS + 1) }
    }

    /// One client: one command after another until the end.
    pub(crate) async fn work(&self, client: u64, mut draw: Draw) {
        while !self.ends.load(Ordering::SeqCst) {
            let line = self.step(client, &mut draw).await;
            let pause = if line.answer == Answer::Done { draw.below(15) } else { 20 };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn step(&self, client: u64, draw: &mut Draw) -> Line {
        let at_node = draw.below(self.nodes.len() as u64) as usize;
        let node = self.nodes[at_node].clone();
        let others: Vec<String> = self.nodes.iter().filter(|other| **other != node).cloned().collect();
        let again = draw.below(2) == 0;
        let made = [Made::Emit, Made::Add, Made::Enqueue, Made::Cast, Made::Send, Made::Send, Made::Send]
            [draw.below(7) as usize];
        let deadline = if made == Made::Enqueue { STORE_WITHIN } else { DEADLINE };
        let mut line = Line {
            id: self.next.fetch_add(1, Ordering::SeqCst),
            client,
            made,
            key: if made == Made::Emit { sink_of(&node) } else { account(draw.below(ACCOUNTS)) },
            node,
            answer: Answer::None,
            again: false,
            began_ms: 0,
            took_ms: 0,
            deadline_ms: deadline.as_millis() as u64,
        };
        let id = line.id;
        match made {
            Made::Emit => {
                let command = Say::Emit { id, count: 1 + draw.below(20), to: others };
                self.ask::<Sink>(&mut line, &command, again).await;
            }
            Made::Send => {
                let to = others[draw.below(others.len() as u64) as usize].clone();
                let n = 1 + draw.below(20) as i64;
                let command = Move::Send { id, node: to, key: account(draw.below(ACCOUNTS)), n };
                self.ask::<Account>(&mut line, &command, again).await;
            }
            Made::Add | Made::Enqueue => {
                let command = Move::Add { id, ballast: serde_json::Value::Null };
                self.ask::<Account>(&mut line, &command, again).await;
            }
            Made::Cast => {
                let command = Move::Add { id, ballast: serde_json::Value::Null };
                self.cast(&mut line, command).await;
            }
        }
        line
    }

    /// Asks, and again under the same ticket while it is unknown what became of it.
    async fn ask<A: Agent>(&self, line: &mut Line, command: &A::Command, again: bool)
    where
        A::Command: Clone,
    {
        let address = at::<A>(&self.system, &line.node, &line.key);
        let ticket = self.system.env().session().begin();
        let (mut slowest, mut doubted) = (0, false);
        for _ in 0..=AGAIN {
            line.began_ms = now_ms();
            self.journal.asks(line);
            let began = Instant::now();
            let answer = if line.made == Made::Enqueue {
                let payload = encode(command).unwrap().into();
                let stored = address.untyped().enqueue_as(&ticket, payload, Cause::default()).await;
                answer_of_kind(&stored.map_err(|failure| failure.kind))
            } else {
                answer_of(&address.call_as(&ticket, command.clone()).await)
            };
            slowest = slowest.max(began.elapsed().as_millis() as u64);
            // A handler that says no may do so the second time only: the first one is still in doubt.
            if answer == Answer::Done || !doubted && answer != Answer::Unknown {
                (line.answer, line.took_ms) = (answer, slowest);
                return self.journal.told(line);
            }
            doubted = true;
            if !again {
                break;
            }
            line.again = true;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        (line.answer, line.took_ms) = (Answer::Unknown, slowest);
        self.journal.told(line);
    }

    /// That it has gone on its way is no word that it arrives.
    async fn cast(&self, line: &mut Line, command: Move) {
        line.began_ms = now_ms();
        self.journal.asks(line);
        let began = Instant::now();
        let answer = answer_of(&at::<Account>(&self.system, &line.node, &line.key).cast(command).await);
        line.answer = if answer == Answer::Done { Answer::Unknown } else { answer };
        line.took_ms = began.elapsed().as_millis() as u64;
        self.journal.told(line);
    }
}
