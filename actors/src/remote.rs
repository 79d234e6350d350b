//! The port to entities on other nodes: what a cluster has to offer, whatever carries it.
//!
//! A name with a node, such as `account@berlin/ann`, is that of an entity there. Addresses and messages take it as they
//! take any other; who has no cluster is told so.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{
    balance::{ChooseError, Strategy},
    discovery::Requirement,
    entity::{ActivityCtx, Failure},
    error::FailureKind,
    ids::{Cause, CommandId, Name},
    workflow::ValidDefinition,
};

/// A command on its way to another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteCommand {
    /// Its id; executed at most once, whichever way it comes.
    #[serde(rename = "i")]
    pub id: CommandId,
    /// Below which number its origin is settled.
    #[serde(rename = "b")]
    pub settled_below: u64,
    /// Encoded command.
    #[serde(rename = "p")]
    pub payload: Bytes,
    /// For policy Shed.
    #[serde(rename = "r")]
    pub priority: u8,
    /// Trace, correlation, causation.
    #[serde(rename = "c")]
    pub cause: Cause,
}

/// A message of an outbox on its way to another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteMessage {
    /// The message's number at its sender.
    #[serde(rename = "s")]
    pub seq: u64,
    /// Encoded command.
    #[serde(rename = "p")]
    pub payload: Bytes,
    /// Trace, correlation, causation.
    #[serde(rename = "c")]
    pub cause: Cause,
}

/// What is run elsewhere.
#[derive(Clone, Debug)]
pub struct RemoteAttempt {
    /// Name of the activity.
    pub activity: String,
    /// Encoded input.
    pub input: Bytes,
    /// Longest time in milliseconds; 0: none.
    pub timeout_ms: u64,
    /// What the node has to have beside the activity.
    pub requires: Vec<Requirement>,
    /// The attempt; its token is cancelled when nobody waits for its end any more.
    pub ctx: ActivityCtx,
}

/// Where a new run shall go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Activities of the run: nodes that have the most of them come first.
    #[serde(default)]
    pub activities: Vec<String>,
    /// What the node has to have.
    #[serde(default)]
    pub requires: Vec<Requirement>,
    /// How one is chosen; `None`: as the node that chooses is set.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// What belongs together, for strategies that go by a key.
    #[serde(default)]
    pub key: Option<String>,
}

impl Placement {
    /// By the activities of a definition.
    #[must_use]
    pub fn of(definition: &ValidDefinition) -> Self {
        let mut activities: Vec<String> =
            definition.source().steps.iter().map(|step| step.activity.clone()).collect();
        activities.sort_unstable();
        activities.dedup();
        Self { activities, ..Self::default() }
    }

    /// With another strategy than the node's.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// With a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Only on nodes that have this.
    #[must_use]
    pub fn requires(mut self, requirement: Requirement) -> Self {
        self.requires.push(requirement);
        self
    }
}

/// What became of an attempt that was to run elsewhere.
#[derive(Debug)]
pub enum Ran {
    /// It ended.
    Ended(Result<Bytes, Failure>),
    /// It was cancelled: nobody waits for its end.
    Cancelled,
    /// No node can run it.
    Nobody,
}

/// A node as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteNode {
    /// Its name.
    pub node: String,
    /// Where it is reached, if that is known.
    pub address: Option<String>,
    /// `up`, `joining`, `suspect`, `unreachable` or `left`.
    pub state: String,
    /// Which life of it.
    pub life: u64,
    /// Milliseconds since something was heard of it; 0 for this one.
    pub silent_ms: u64,
    /// Whether it takes no new work.
    pub draining: bool,
    /// What it can do, each as `name@version`.
    pub capabilities: Vec<String>,
    /// Through which other node this is known; none: at first hand.
    pub via: Option<String>,
}

/// Entities and activities on other nodes.
pub trait Remote: Send + Sync + 'static {
    /// Name of this node.
    fn node(&self) -> &str;

    /// Calls an entity; ends within the deadline, in one of the four ways of every call.
    fn call(
        &self,
        to: Name,
        command: RemoteCommand,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, FailureKind>>;

    /// Puts a command into the mailbox of an entity and does not wait.
    fn cast(&self, to: Name, command: RemoteCommand) -> BoxFuture<'static, Result<(), FailureKind>>;

    /// Stores a command for an entity; ends when it is durable there.
    fn enqueue(&self, to: Name, command: RemoteCommand) -> BoxFuture<'static, Result<(), FailureKind>>;

    /// Delivers messages of one sender of this node, in order; what became of each.
    fn deliver(
        &self,
        from: Name,
        to: Name,
        messages: Vec<RemoteMessage>,
    ) -> BoxFuture<'static, Vec<Result<Bytes, FailureKind>>>;

    /// Runs an attempt on a node that has the activity and what it requires.
    fn run(&self, attempt: RemoteAttempt) -> BoxFuture<'static, Ran>;

    /// Waits until a node takes work that has the activity and what is required.
    fn appears(&self, activity: &str, requires: &[Requirement]) -> BoxFuture<'static, ()>;

    /// Chooses a node for a new run.
    ///
    /// # Errors
    /// [`ChooseError`].
    fn place(&self, placement: &Placement) -> Result<String, ChooseError>;

    /// Whether this node has what is required.
    fn has(&self, requires: &[Requirement]) -> bool;

    /// Asks the desk of a node, which answers as its own process would be answered.
    fn ask(
        &self,
        node: &str,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, FailureKind>>;

    /// Every node that is known, this one first.
    fn nodes(&self) -> Vec<RemoteNode>;

    /// This node is asked to end what it has begun and to leave.
    fn leave(&self);
}

/// The cluster of an environment, once it has joined one.
pub type RemotePlace = std::sync::OnceLock<Arc<dyn Remote>>;
