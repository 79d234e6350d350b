//! The way to other nodes, as addresses, messages and runs take it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use stanchion_actors::{
    balance::{ChooseError, Strategy},
    discovery::{Affinity, Criteria, NodeId as Place, Requirement},
    entity::Failure,
    env::Env,
    error::{Doubt, FailureKind, Refusal},
    ids::Name,
    remote::{Placement, Ran, Remote, RemoteAttempt, RemoteCommand, RemoteMessage, RemoteNode},
    store::{decode, encode},
    task::CancelToken,
};

use super::{
    board::Board,
    house::{NOT_HERE, kind_of_end},
    wire::{Ask, Attempt, Told},
};
use crate::cluster::{Gateway, NodeName, Outbound};

/// Code of an attempt that the way to the other nodes refused.
const REFUSED: &str = "activity.refused";
/// How long a window of messages may take; its outbox offers it again.
const DELIVER_WITHIN: Duration = Duration::from_secs(30);
/// How long a command may take to be stored elsewhere.
const STORE_WITHIN: Duration = Duration::from_secs(30);
/// A node that took an attempt without a limit is asked again after so long.
const RUN_WITHIN: Duration = Duration::from_secs(24 * 3_600);
/// What an attempt's limit is extended by on its way.
const ON_THE_WAY: Duration = Duration::from_secs(10);
/// When every node that has an activity refused an attempt, it is offered again after a change or so long.
const OFFER_AGAIN: Duration = Duration::from_secs(1);

/// The way to other nodes.
#[derive(Clone)]
pub(super) struct Reach {
    pub(super) env: Arc<Env>,
    pub(super) name: Arc<str>,
    pub(super) life: u64,
    pub(super) address: Option<String>,
    pub(super) gateway: Gateway,
    pub(super) board: Arc<Board>,
    pub(super) tickets: Arc<AtomicU64>,
    /// Attempts that wait for a node that can do them.
    pub(super) waiting: Arc<AtomicU64>,
    pub(super) leaves: CancelToken,
    /// How nodes for new runs are chosen.
    pub(super) strategy: Strategy,
}

impl Reach {
    async fn ask_node(
        &self,
        node: &str,
        entity: Option<String>,
        ask: &Ask,
        deadline: Duration,
    ) -> Result<Told, FailureKind> {
        let malformed = |error: &dyn ToString| FailureKind::Refused(Refusal::Malformed(error.to_string()));
        let name = NodeName::new(node).map_err(|error| malformed(&error))?;
        let out = self.outbound(entity, ask)?;
        let answered = self.gateway.call(&name, out, deadline).await;
        let body = answered.map_err(|end| kind_of_end(&end, node))?;
        // It was applied, and what became of it cannot be read.
        decode(&body).map_err(|_| FailureKind::Unknown(Doubt::Lost))
    }

    fn outbound(&self, entity: Option<String>, ask: &Ask) -> Result<Outbound, FailureKind> {
        let body = encode(ask).map(Bytes::from);
        let body = body.map_err(|error| FailureKind::Refused(Refusal::Malformed(error.to_string())))?;
        Ok(Outbound { entity: entity.map(Arc::from), body, traceparent: None })
    }

    async fn call_there(&self, to: &Name, ask: Ask, deadline: Duration) -> Result<Bytes, FailureKind> {
        let node = to.node().unwrap_or_default();
        match self.ask_node(node, Some(to.here().to_string()), &ask, deadline).await? {
            Told::Called(result) => result,
            Told::Delivered(_) | Told::Ran(_) => Err(FailureKind::Unknown(Doubt::Lost)),
        }
    }

    /// Runs the attempt on one node; `Err`: another node has to.
    async fn run_on(
        &self,
        node: &str,
        attempt: &RemoteAttempt,
    ) -> Result<Option<Result<Bytes, Failure>>, ()> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let ask = Ask::Run(Attempt {
            ticket,
            activity: attempt.activity.clone(),
            input: attempt.input.clone(),
            timeout_ms: attempt.timeout_ms,
            idempotency_key: attempt.ctx.idempotency_key.clone(),
            number: attempt.ctx.attempt,
            cause: attempt.ctx.cause.clone(),
        });
        let limit = match attempt.timeout_ms {
            0 => RUN_WITHIN,
            ms => Duration::from_millis(ms).saturating_add(ON_THE_WAY),
        };
        let told = tokio::select! {
            told = self.ask_node(node, None, &ask, limit) => told,
            () = attempt.ctx.cancel.cancelled() => {
                if let (Ok(name), Ok(out)) = (NodeName::new(node), self.outbound(None, &Ask::Stop { ticket })) {
                    // It ends by itself when its node hears nothing more of this one.
                    let _ = self.gateway.cast(&name, out);
                }
                return Ok(None);
            }
        };
        match told {
            Ok(Told::Ran(Some(Err(failure)))) if is_not_there(&failure) => Err(()),
            Ok(Told::Ran(Some(ended))) => Ok(Some(ended)),
            Err(FailureKind::Unknown(Doubt::DeadlinePassed)) if attempt.timeout_ms > 0 => {
                let message = format!("attempt {} ran over {limit:?} on node {node}", attempt.ctx.attempt);
                Ok(Some(Err(Failure::retryable(Failure::TIMED_OUT, message))))
            }
            Err(FailureKind::Refused(refusal)) => {
                Ok(Some(Err(Failure::permanent(REFUSED, refusal.to_string()))))
            }
            // It is gone, or never had it: the attempt is still to be made.
            Ok(_) | Err(_) => Err(()),
        }
    }

    async fn run_somewhere(&self, attempt: RemoteAttempt) -> Ran {
        let need = need_of(&attempt.activity, &attempt.requires);
        let mut changes = self.board.changes();
        // What this node could run itself would not have come here.
        let mut refused = vec![self.name.to_string()];
        loop {
            changes.borrow_and_update();
            let Some(node) = self.board.choose(&need, &refused, &self.env) else {
                if refused.len() == 1 {
                    return Ran::Nobody;
                }
                refused.truncate(1);
                let cancelled = tokio::select! {
                    _ = changes.changed() => false,
                    () = tokio::time::sleep(OFFER_AGAIN) => false,
                    () = attempt.ctx.cancel.cancelled() => true,
                };
                if cancelled {
                    return Ran::Cancelled;
                }
                continue;
            };
            let began = tokio::time::Instant::now();
            let ran = self.run_on(&node, &attempt).await;
            let succeeded = matches!(ran, Ok(None | Some(Ok(_))));
            self.board.finished(&node, began.elapsed(), succeeded, self.env.now());
            match ran {
                Ok(Some(ended)) => return Ran::Ended(ended),
                Ok(None) => return Ran::Cancelled,
                Err(()) => refused.push(node),
            }
        }
    }
}

/// What a node has to have that runs attempts of an activity.
fn need_of(activity: &str, requires: &[Requirement]) -> Criteria {
    Criteria::capability(format!("activity:{activity}")).with_required(requires)
}

/// One attempt in the count of those that wait; dropped, it waits no longer.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_not_there(failure: &Failure) -> bool {
    failure.code == NOT_HERE || failure.code == Failure::UNREGISTERED
}

impl Remote for Reach {
    fn node(&self) -> &str {
        &self.name
    }

    fn call(
        &self,
        to: Name,
        command: RemoteCommand,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, FailureKind>> {
        let reach = self.clone();
        async move { reach.call_there(&to, Ask::Call { to: to.here(), command }, deadline).await }.boxed()
    }

    fn cast(&self, to: Name, command: RemoteCommand) -> BoxFuture<'static, Result<(), FailureKind>> {
        let reach = self.clone();
        async move {
            let node = to.node().unwrap_or_default().to_owned();
            let malformed =
                |error: &dyn ToString| FailureKind::Refused(Refusal::Malformed(error.to_string()));
            let name = NodeName::new(node.as_str()).map_err(|error| malformed(&error))?;
            let out = reach.outbound(Some(to.here().to_string()), &Ask::Call { to: to.here(), command })?;
            reach.gateway.cast(&name, out).map_err(|end| kind_of_end(&end, &node))
        }
        .boxed()
    }

    fn enqueue(&self, to: Name, command: RemoteCommand) -> BoxFuture<'static, Result<(), FailureKind>> {
        let reach = self.clone();
        async move {
            let ask = Ask::Enqueue { to: to.here(), command };
            reach.call_there(&to, ask, STORE_WITHIN).await.map(drop)
        }
        .boxed()
    }

    fn deliver(
        &self,
        from: Name,
        to: Name,
        messages: Vec<RemoteMessage>,
    ) -> BoxFuture<'static, Vec<Result<Bytes, FailureKind>>> {
        let reach = self.clone();
        async move {
            let count = messages.len();
            let node = to.node().unwrap_or_default().to_owned();
            let ask = Ask::Deliver { from, to: to.here(), messages };
            match reach.ask_node(&node, Some(to.here().to_string()), &ask, DELIVER_WITHIN).await {
                Ok(Told::Delivered(results)) => results,
                Ok(_) => vec![Err(FailureKind::Unknown(Doubt::Lost)); count],
                Err(kind) => vec![Err(kind); count],
            }
        }
        .boxed()
    }

    fn run(&self, attempt: RemoteAttempt) -> BoxFuture<'static, Ran> {
        let reach = self.clone();
        async move { reach.run_somewhere(attempt).await }.boxed()
    }

    fn appears(&self, activity: &str, requires: &[Requirement]) -> BoxFuture<'static, ()> {
        let (reach, need) = (self.clone(), need_of(activity, requires));
        async move {
            let _counted = Counted::new(&reach.waiting);
            let mut changes = reach.board.changes();
            loop {
                changes.borrow_and_update();
                if reach.board.has(&need, reach.env.now()) {
                    return;
                }
                // Some nodes take work again without a word of it: a look now and then finds them.
                let _ = tokio::time::timeout(OFFER_AGAIN, changes.changed()).await;
            }
        }
        .boxed()
    }

    fn place(&self, placement: &Placement) -> Result<String, ChooseError> {
        self.board.place(placement, self.strategy, &self.env)
    }

    fn has(&self, requires: &[Requirement]) -> bool {
        let own = Some(Affinity::OnNode(Place::new(self.name.as_ref())));
        let need = Criteria { affinity: own, ..Criteria::default().with_required(requires) };
        self.board.has(&need, self.env.now())
    }

    fn ask(
        &self,
        node: &str,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, FailureKind>> {
        let (reach, node) = (self.clone(), node.to_owned());
        async move {
            match reach.ask_node(&node, None, &Ask::Desk(request), deadline).await? {
                Told::Called(result) => result,
                Told::Delivered(_) | Told::Ran(_) => Err(FailureKind::Unknown(Doubt::Lost)),
            }
        }
        .boxed()
    }

    fn nodes(&self) -> Vec<RemoteNode> {
        let own = RemoteNode {
            node: self.name.to_string(),
            address: self.address.clone(),
            state: "up".to_owned(),
            life: self.life,
            silent_ms: 0,
            draining: self.env.is_draining(),
            capabilities: Vec::new(),
            via: None,
        };
        self.board.nodes(&own, &self.gateway.peers(), self.env.now())
    }

    fn leave(&self) {
        self.leaves.cancel();
    }
}
