//! A node with a handler that tells what it got, and waits that end by events.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use stanchion::{
    bytes::Bytes,
    cluster::{
        Cookie, Gateway, GatewayOptions, Handler, Incoming, IncomingDurable, LinkLimits, Nack, NackReason,
        NodeId, NodeIncarnation, NodeName, Outbound, PeerState,
    },
};
use stanchion_actors::task::TaskScope;
use tokio::sync::{Semaphore, broadcast::error::RecvError, mpsc};

/// Longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a handler was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Call(Arc<str>, Bytes),
    Cast(Arc<str>, Bytes),
    Durable(Bytes, u64, Bytes),
    Gossip(Bytes),
}

/// Tells what it gets; the entity says what becomes of a call.
pub(crate) struct Teller {
    seen: mpsc::UnboundedSender<Seen>,
    /// Calls to `held` wait for a permit.
    pub(crate) hold: Arc<Semaphore>,
    /// Durable messages that are committed, in order.
    pub(crate) committed: Arc<Mutex<Vec<(Bytes, u64)>>>,
}

impl Teller {
    fn told(&self, seen: Seen) {
        // The test may have ended.
        let _ = self.seen.send(seen);
    }
}

fn entity(incoming: &Incoming) -> Arc<str> {
    incoming.entity.clone().unwrap_or_else(|| "".into())
}

impl Handler for Teller {
    fn on_call(&self, _from: &NodeId, call: Incoming) -> BoxFuture<'static, Result<Bytes, Nack>> {
        let entity = entity(&call);
        self.told(Seen::Call(entity.clone(), call.body.clone()));
        assert!(call.time_left.is_some(), "calls have a deadline");
        let hold = self.hold.clone();
        match &*entity {
            "missing" => {
                std::future::ready(Err(Nack::new(NackReason::UnknownEntity, "no such entity"))).boxed()
            }
            "full" => std::future::ready(Err(Nack::new(NackReason::Overloaded, "full"))).boxed(),
            "panics" => panic!("as it was told"),
            "panics-later" => async { panic!("as it was told") }.boxed(),
            "held" => async move {
                hold.acquire().await.unwrap().forget();
                Ok(call.body)
            }
            .boxed(),
            _ => std::future::ready(Ok(call.body)).boxed(),
        }
    }

    fn on_cast(&self, _from: &NodeId, cast: Incoming) -> BoxFuture<'static, ()> {
        self.told(Seen::Cast(entity(&cast), cast.body.clone()));
        let (hold, held) = (self.hold.clone(), &*entity(&cast) == "held");
        async move {
            if held {
                hold.acquire().await.unwrap().forget();
            }
        }
        .boxed()
    }

    fn on_durable(&self, _from: &NodeId, durable: IncomingDurable) -> BoxFuture<'static, Result<(), Nack>> {
        let IncomingDurable { origin, seq, message } = durable;
        self.told(Seen::Durable(origin.clone(), seq, message.body));
        let mut committed = self.committed.lock().unwrap();
        if !committed.contains(&(origin.clone(), seq)) {
            committed.push((origin, seq));
        }
        std::future::ready(Ok(())).boxed()
    }

    fn on_gossip(&self, _from: &NodeId, body: Bytes) {
        self.told(Seen::Gossip(body));
    }
}

/// A node of a test.
pub(crate) struct Node {
    pub(crate) gateway: Gateway,
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
    pub(crate) hold: Arc<Semaphore>,
    pub(crate) committed: Arc<Mutex<Vec<(Bytes, u64)>>>,
    pub(crate) scope: TaskScope,
}

pub(crate) fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

pub(crate) fn id(text: &str, life: u64) -> NodeId {
    NodeId { name: name(text), incarnation: NodeIncarnation::of_boot(life).unwrap() }
}

pub(crate) fn cookie() -> Cookie {
    Cookie::new(&[7; 32]).unwrap()
}

/// Limits with short times: a peer is lost after a second.
pub(crate) fn quick() -> LinkLimits {
    LinkLimits {
        heartbeat: Duration::from_millis(100),
        suspect_after: Duration::from_millis(500),
        lost_after: Duration::from_secs(1),
        ..LinkLimits::default()
    }
}

pub(crate) fn options(text: &str, life: u64) -> GatewayOptions {
    GatewayOptions::new(id(text, life), cookie())
}

impl Node {
    pub(crate) async fn start(options: GatewayOptions) -> Self {
        let scope = TaskScope::root(options.node.name.as_str());
        let (told, seen) = mpsc::unbounded_channel();
        let teller = Teller { seen: told, hold: Arc::new(Semaphore::new(0)), committed: Arc::default() };
        let (hold, committed) = (teller.hold.clone(), teller.committed.clone());
        let gateway = Gateway::start(options, Arc::new(teller), &scope).await.unwrap();
        Self { gateway, seen, hold, committed, scope }
    }

    pub(crate) async fn plain(text: &str) -> Self {
        Self::start(options(text, 1)).await
    }

    pub(crate) fn name(&self) -> NodeName {
        self.gateway.node().name.clone()
    }

    pub(crate) fn dial(&self, other: &Self) {
        self.gateway.dial(other.gateway.address().unwrap().to_string());
    }

    /// What the handler gets next.
    pub(crate) async fn next(&mut self) -> Seen {
        patient(self.seen.recv()).await.unwrap()
    }

    /// Waits until the node of this name is in `state`.
    pub(crate) async fn sees(&self, node: &NodeName, state: PeerState) {
        self.sees_life(node, None, state).await;
    }

    /// Waits until the node of this name is in `state`, in life `life` if one is given.
    pub(crate) async fn sees_life(&self, node: &NodeName, life: Option<u64>, state: PeerState) {
        let mut events = self.gateway.events();
        let holds = || {
            self.gateway.peers().iter().any(|peer| {
                peer.node.name == *node
                    && peer.state == state
                    && life.is_none_or(|life| peer.node.incarnation.life == life)
            })
        };
        patient(async {
            while !holds() {
                match events.recv().await {
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => panic!("gateway is gone"),
                }
            }
        })
        .await;
    }

    pub(crate) async fn call(
        &self,
        to: &NodeName,
        entity: &str,
        body: &str,
    ) -> Result<Bytes, stanchion::cluster::CallEnd> {
        self.gateway.call(to, Outbound::new(entity, body.to_owned()), Duration::from_secs(10)).await
    }

    /// Stops the node, and checks that nothing of it lives on.
    pub(crate) async fn stop(self) {
        patient(self.gateway.stop()).await;
        assert_eq!(self.scope.live(), 0, "{:?}", self.scope.census());
    }
}

/// Two nodes that see each other.
pub(crate) async fn pair() -> (Node, Node) {
    let (a, b) = (Node::plain("a").await, Node::plain("b").await);
    a.dial(&b);
    a.sees(&b.name(), PeerState::Up).await;
    b.sees(&a.name(), PeerState::Up).await;
    (a, b)
}

/// Waits, but not for ever.
pub(crate) async fn patient<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened for 30 s")
}

pub(crate) fn is_campaign() -> bool {
    std::env::var_os("STANCHION_CAMPAIGN").is_some()
}
