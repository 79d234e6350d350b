//! What the nodes run: accounts that transfer by message, sinks that check the order, steps that leave a line in a file.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use stanchion::{Activity, ActivityCtx, Agent, Builder, Completion, Ctx, Failure, Never, System};

/// What an account may hold more or less than at the beginning.
const MARGIN: i64 = 60;

/// An account that keeps what was done to it, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Against the opening balance.
    pub(crate) change: i64,
    pub(crate) added: Vec<u64>,
    pub(crate) debits: Vec<(u64, i64)>,
    pub(crate) credits: Vec<(u64, i64)>,
    /// Debits given back because the receiver refused.
    pub(crate) returned: Vec<(u64, i64)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Move {
    /// Notes the id; the ballast is ignored.
    Add { id: u64, ballast: serde_json::Value },
    /// Debits, and credits an account of another node by a durable message.
    Send { id: u64, node: String, key: String, n: i64 },
    /// Refused when the account would hold too much: whether depends on when it comes.
    Credit { id: u64, n: i64 },
    /// Answers the whole account.
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the account would hold too much, or too little")]
pub(crate) struct Beyond;

impl Agent for Account {
    const KIND: &'static str = "account";
    type Command = Move;
    type Reply = Option<Account>;
    type Rejection = Beyond;

    fn handle(&mut self, command: Move, ctx: &mut Ctx<'_>) -> Result<Option<Account>, Beyond> {
        match command {
            Move::Add { id, .. } => self.added.push(id),
            Move::Send { id, node, key, n } => {
                if self.change - n < -MARGIN {
                    return Err(Beyond);
                }
                self.change -= n;
                self.debits.push((id, n));
                ctx.send_on::<Self>(&node, &key, &Move::Credit { id, n }).unwrap();
            }
            Move::Credit { id, n } => {
                if self.change + n > MARGIN {
                    return Err(Beyond);
                }
                self.change += n;
                self.credits.push((id, n));
            }
            Move::Look => return Ok(Some(self.clone())),
        }
        Ok(None)
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

/// Sends numbers to the sinks of other nodes, and expects 1, 2, 3, ... from each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sink {
    /// The last number it has sent, to each of the others.
    pub(crate) sent: u64,
    pub(crate) emitted: Vec<u64>,
    /// The last number that came, by sender.
    pub(crate) got: BTreeMap<String, u64>,
    /// Sender, what came, and what had to come.
    pub(crate) wrong: Vec<(String, u64, u64)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Say {
    /// Sends so many numbers to the sinks of these nodes.
    Emit {
        id: u64,
        count: u64,
        to: Vec<String>,
    },
    Number {
        from: String,
        number: u64,
    },
    /// Answers the whole sink.
    Look,
}

impl Agent for Sink {
    const KIND: &'static str = "sink";
    type Command = Say;
    type Reply = Option<Sink>;
    type Rejection = Never;

    fn handle(&mut self, command: Say, ctx: &mut Ctx<'_>) -> Result<Option<Sink>, Never> {
        match command {
            Say::Emit { id, count, to } => {
                self.emitted.push(id);
                let from = ctx.key().to_owned();
                for _ in 0..count {
                    self.sent += 1;
                    for node in &to {
                        let number = Say::Number { from: from.clone(), number: self.sent };
                        ctx.send_on::<Self>(node, &sink_of(node), &number).unwrap();
                    }
                }
            }
            Say::Number { from, number } => {
                let last = self.got.entry(from.clone()).or_default();
                let expected = *last + 1;
                if number != expected {
                    self.wrong.push((from, number, expected));
                }
                *last = number;
            }
            Say::Look => return Ok(Some(self.clone())),
        }
        Ok(None)
    }
}

/// Key of the sink of a node.
pub(crate) fn sink_of(node: &str) -> String {
    format!("of-{node}")
}

/// A line of the file that every step writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepLine {
    pub(crate) run: u64,
    pub(crate) step: usize,
    pub(crate) key: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StepInput {
    pub(crate) run: u64,
    pub(crate) step: usize,
}

/// An activity that only one node has: appends a line, on disk when it ends.
struct On<const N: usize>(PathBuf);

impl<const N: usize> Activity for On<N> {
    const NAME: &'static str = ["on0", "on1", "on2"][N];
    type Input = StepInput;
    type Output = usize;

    async fn run(&self, ctx: ActivityCtx, StepInput { run, step }: StepInput) -> Result<usize, Failure> {
        let line = StepLine { run, step, key: ctx.idempotency_key };
        let text = format!("{}\n", serde_json::to_string(&line).unwrap());
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.0).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.sync_data().unwrap();
        // Kills find it at work.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        Ok(step)
    }
}

/// A task of a trace that begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskLine {
    pub(crate) run: String,
    pub(crate) task: String,
    pub(crate) key: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TaskInput {
    pub(crate) run: String,
    pub(crate) task: String,
    pub(crate) ms: f64,
}

/// Names of the activities of tasks, by node.
pub(crate) const TASKS_OF: [&str; 3] = ["task0", "task1", "task2"];

/// A task of a trace, on the one node that has it: appends a line and takes its time.
struct Task<const N: usize>(PathBuf);

impl<const N: usize> Activity for Task<N> {
    const NAME: &'static str = TASKS_OF[N];
    type Input = TaskInput;
    type Output = ();

    async fn run(&self, ctx: ActivityCtx, TaskInput { run, task, ms }: TaskInput) -> Result<(), Failure> {
        let line = TaskLine { run, task, key: ctx.idempotency_key };
        let text = format!("{}\n", serde_json::to_string(&line).unwrap());
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.0).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        tokio::time::sleep(std::time::Duration::from_secs_f64(ms / 1e3)).await;
        Ok(())
    }
}

/// Every agent, and the activities of the node with this number.
pub(crate) fn builder(number: usize, lines: &Path, tasks: &Path) -> Builder {
    let builder = System::builder().agent::<Account>().agent::<Sink>();
    let (lines, tasks) = (lines.to_path_buf(), tasks.to_path_buf());
    match number {
        0 => builder.activity(On::<0>(lines)).activity(Task::<0>(tasks)),
        1 => builder.activity(On::<1>(lines)).activity(Task::<1>(tasks)),
        2 => builder.activity(On::<2>(lines)).activity(Task::<2>(tasks)),
        _ => builder,
    }
}
