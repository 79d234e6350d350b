//! Clients of a cluster: calls from a node without entities of its own, and what they were told.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use stanchion::{Address, Agent, System, error::CallError};

use super::{
    agents::{Account, Move, Say, Sink, sink_of},
    child::now_ms,
    plan::Draw,
};

/// Deadline of every call.
pub(crate) const DEADLINE: Duration = Duration::from_millis(1_500);
/// Accounts of each node.
pub(crate) const ACCOUNTS: u64 = 2;
/// How often a doubtful command is asked for again, under its ticket.
const AGAIN: u32 = 4;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Made {
    Add,
    Send,
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
}

/// One command, its answer, and how long the slowest call for it took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) id: u64,
    pub(crate) made: Made,
    pub(crate) node: String,
    pub(crate) key: String,
    pub(crate) answer: Answer,
    pub(crate) began_ms: u64,
    pub(crate) took_ms: u64,
    pub(crate) deadline_ms: u64,
}

pub(crate) fn answer_of<T, R>(result: &Result<T, CallError<R>>) -> Answer {
    match result {
        Ok(_) => Answer::Done,
        Err(CallError::Rejected(_) | CallError::Refused(_)) => Answer::Refused,
        Err(CallError::Unavailable(_)) => Answer::Unavailable,
        Err(_) => Answer::Unknown,
    }
}

/// Calls, and again under the same ticket while it is unknown what became of it; the slowest call.
async fn ask<A: Agent>(
    system: &System,
    address: &Address<A>,
    command: &A::Command,
    again: bool,
) -> (Answer, Duration)
where
    A::Command: Clone,
{
    let ticket = system.env().session().begin();
    let mut slowest = Duration::ZERO;
    let mut doubted = false;
    for _ in 0..=AGAIN {
        let began = Instant::now();
        let answer = answer_of(&address.call_as(&ticket, command.clone()).await);
        slowest = slowest.max(began.elapsed());
        match answer {
            Answer::Done => return (answer, slowest),
            // A handler that says no may do so the second time only: the first one is still in doubt.
            Answer::Refused | Answer::Unavailable if !doubted => return (answer, slowest),
            Answer::Refused | Answer::Unavailable | Answer::Unknown => doubted = true,
        }
        if !again {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (Answer::Unknown, slowest)
}

/// What clients share.
pub(crate) struct Clients {
    pub(crate) system: System,
    pub(crate) nodes: Vec<String>,
    pub(crate) lines: Mutex<Vec<Line>>,
    pub(crate) ends: AtomicBool,
    next: AtomicU64,
}

pub(crate) fn account(n: u64) -> String {
    format!("a{n}")
}

impl Clients {
    pub(crate) fn new(system: System, nodes: Vec<String>) -> Self {
        Self { system, nodes, lines: Mutex::default(), ends: AtomicBool::new(false), next: AtomicU64::new(1) }
    }

    /// One client: one call after another until the end.
    pub(crate) async fn work(&self, mut draw: Draw) {
        while !self.ends.load(Ordering::SeqCst) {
            let line = self.step(&mut draw).await;
            let pause = if line.answer == Answer::Done { draw.below(15) } else { 20 };
            self.lines.lock().unwrap().push(line);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn step(&self, draw: &mut Draw) -> Line {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let began_ms = now_ms();
        let at = draw.below(self.nodes.len() as u64) as usize;
        let node = self.nodes[at].clone();
        let others: Vec<String> = self.nodes.iter().filter(|other| **other != node).cloned().collect();
        let again = draw.below(2) == 0;
        let key = account(draw.below(ACCOUNTS));
        let (made, key, (answer, slowest)) = match draw.below(6) {
            0 => {
                let command = Say::Emit { id, count: 1 + draw.below(20), to: others };
                let key = sink_of(&node);
                (
                    Made::Emit,
                    key.clone(),
                    ask(&self.system, &self.at::<Sink>(&node, &key), &command, again).await,
                )
            }
            1 | 2 => {
                let command = Move::Add { id, ballast: serde_json::Value::Null };
                (
                    Made::Add,
                    key.clone(),
                    ask(&self.system, &self.at::<Account>(&node, &key), &command, again).await,
                )
            }
            _ => {
                let to = others[draw.below(others.len() as u64) as usize].clone();
                let n = 1 + draw.below(20) as i64;
                let command = Move::Send { id, node: to, key: account(draw.below(ACCOUNTS)), n };
                (
                    Made::Send,
                    key.clone(),
                    ask(&self.system, &self.at::<Account>(&node, &key), &command, again).await,
                )
            }
        };
        let deadline_ms = DEADLINE.as_millis() as u64;
        Line { id, made, node, key, answer, began_ms, took_ms: slowest.as_millis() as u64, deadline_ms }
    }

    pub(crate) fn at<A: Agent>(&self, node: &str, key: &str) -> Address<A> {
        self.system.agent_on::<A>(node, key).unwrap().with_deadline(DEADLINE)
    }
}
