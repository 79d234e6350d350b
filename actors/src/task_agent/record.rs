//! What is stored of a task agent: whether it is paused.

use serde::{Deserialize, Serialize};

use crate::{
    agent::{Agent, Ctx},
    error::{Coded, Family},
    ids::Timestamp,
};

/// Longest text of who and why, in bytes.
pub const PAUSE_TEXT_MAX_BYTES: usize = 400;

/// A pause: leases nothing until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who paused it.
    #[serde(rename = "b")]
    pub by: String,
    /// Why.
    #[serde(rename = "r")]
    pub reason: String,
    /// Since when.
    #[serde(rename = "s")]
    pub since: Timestamp,
    /// It paused by itself, and tries one job from then on.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub probe_at: Option<Timestamp>,
}

/// What is stored of a task agent, under its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskAgentState {
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pause: Option<Pause>,
}

/// What is said to what is stored of a task agent. It answers the pause in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskAgentCommand {
    /// Pauses until resumed.
    Pause {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// It failed too often: pauses, and tries one job after the cool-down. A pause by somebody stays.
    AutoPause {
        /// Why.
        reason: String,
        /// Milliseconds.
        cool_down_ms: u64,
    },
    /// Ends the pause.
    Resume,
    /// The trial succeeded: ends a pause of its own.
    Recovered,
}

/// Why a task agent is not paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum TaskAgentRejection {
    /// A text is over its limit.
    #[error("{what} has {bytes} bytes, at most {PAUSE_TEXT_MAX_BYTES} are allowed")]
    TooLong {
        /// Which.
        what: String,
        /// Its size.
        bytes: usize,
    },
}

impl Coded for TaskAgentRejection {
    fn code(&self) -> &'static str {
        "task_agent.text"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl TaskAgentState {
    /// The pause in force.
    #[must_use]
    pub fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }
}

impl Agent for TaskAgentState {
    const KIND: &'static str = "task_agent";
    type Command = TaskAgentCommand;
    type Reply = Option<Pause>;
    type Rejection = TaskAgentRejection;

    fn handle(
        &mut self,
        command: TaskAgentCommand,
        ctx: &mut Ctx<'_>,
    ) -> Result<Option<Pause>, TaskAgentRejection> {
        let since = ctx.now();
        let is_own = |pause: &Pause| pause.probe_at.is_some();
        match command {
            TaskAgentCommand::Pause { by, reason } => {
                check("by", &by)?;
                check("reason", &reason)?;
                self.pause = Some(Pause { by, reason, since, probe_at: None });
            }
            TaskAgentCommand::AutoPause { reason, cool_down_ms } => {
                if self.pause.as_ref().is_none_or(is_own) {
                    let cool_us = i64::try_from(cool_down_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
                    let probe_at = Some(Timestamp(since.0.saturating_add(cool_us)));
                    self.pause = Some(Pause { by: ctx.key().to_owned(), reason, since, probe_at });
                }
            }
            TaskAgentCommand::Resume => self.pause = None,
            TaskAgentCommand::Recovered => {
                if self.pause.as_ref().is_some_and(is_own) {
                    self.pause = None;
                }
            }
        }
        Ok(self.pause.clone())
    }
}

fn check(what: &str, text: &str) -> Result<(), TaskAgentRejection> {
    if text.len() > PAUSE_TEXT_MAX_BYTES {
        return Err(TaskAgentRejection::TooLong { what: what.to_owned(), bytes: text.len() });
    }
    Ok(())
}
