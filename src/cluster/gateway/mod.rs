//! The gateway: the one actor of a node that other nodes reach, and the calls that go through it.
//!
//! It owns peers, links and sessions; it refuses to know entities and membership. A node is addressed by its name;
//! what is sent goes to its latest life. Streams are proven by our transport, carried by a session of
//! ractor_cluster, and outlived by the link.

mod actor;
mod arbitrate;
mod core;
mod dialer;
mod end;
mod handler;
mod peer;
mod pump;
mod session;
mod state;

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use ractor::{Actor, ActorRef, SpawnErr};
use ractor_cluster::NodeServerMessage;
use stanchion_actors::task::{CancelToken, TaskScope};
use stanchion_supervisors::Backoff;
use tokio::{net::TcpListener, sync::broadcast};

use self::{
    actor::{GatewayActor, GatewayMsg},
    core::{Core, Started},
    end::answer,
    handler::pack,
    peer::Peer,
    session::Sessions,
};
pub use self::{
    end::CallEnd,
    handler::{Handler, Incoming, IncomingDurable},
    state::{PeerEvent, PeerState, PeerView},
};
use super::{
    frame::{Kind, encode},
    identity::{NodeId, NodeName},
    link::{End, LinkLimits, LinkLimitsError, Outgoing, micros},
    transport::{
        Cookie, Door, Guard, TransportCounters, TransportError, TransportOptions, TransportStats, listen,
    },
};

/// Settings of a gateway.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// Who this node is, and in which life.
    pub node: NodeId,
    /// The cluster's secret.
    pub cookie: Cookie,
    /// Where peers reach this node; `None`: it only dials. Port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    /// What this node tells its peers it can do.
    pub capabilities: Vec<String>,
    /// Bounds of each link.
    pub limits: LinkLimits,
    /// Settings of the transport.
    pub transport: TransportOptions,
    /// How long [`Gateway::stop`] waits for peers to hear the goodbye; default 1 s.
    pub goodbye: Duration,
}

impl GatewayOptions {
    /// Settings with the defaults: plain TCP on loopback, listening on a free port of it.
    #[must_use]
    pub fn new(node: NodeId, cookie: Cookie) -> Self {
        Self {
            node,
            cookie,
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            capabilities: vec![],
            limits: LinkLimits::default(),
            transport: TransportOptions::default(),
            goodbye: Duration::from_secs(1),
        }
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The limits do not fit together.
    #[error(transparent)]
    Limits(#[from] LinkLimitsError),
    /// The transport cannot be set up: certificates, plain TCP outside loopback, a port that is taken.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// An actor did not start.
    #[error("gateway actor did not start: {0}")]
    Actor(#[from] SpawnErr),
    /// The owner of tasks has ended.
    #[error(transparent)]
    Tasks(#[from] stanchion_actors::task::SpawnError),
}

/// Counters of a gateway; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayStats {
    /// Packets that could not be read.
    pub malformed: u64,
    /// Packets of streams that are gone or never were.
    pub strays: u64,
    /// Streams cut because the peer broke the rules.
    pub faults: u64,
    /// Panics of the handler.
    pub panics: u64,
    /// Streams that stand: one for each peer, but for a moment when two dials cross.
    pub streams: u64,
    /// How handshakes ended.
    pub transport: TransportStats,
}

/// What is sent to an entity of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// The entity, as the receiver's side reads it: at most 512 bytes.
    pub entity: Option<Arc<str>>,
    /// The payload.
    pub body: Bytes,
    /// W3C trace context: at most 64 bytes.
    pub traceparent: Option<Arc<str>>,
}

impl Outbound {
    /// `body` for `entity`.
    #[must_use]
    pub fn new(entity: impl Into<Arc<str>>, body: impl Into<Bytes>) -> Self {
        Self { entity: Some(entity.into()), body: body.into(), traceparent: None }
    }
}

/// A started gateway; clones are the same one.
#[derive(Clone)]
pub struct Gateway {
    core: Arc<Core>,
    actor: ActorRef<GatewayMsg>,
    server: ActorRef<NodeServerMessage>,
    address: Option<SocketAddr>,
    transport: Arc<TransportCounters>,
    backoff: Backoff,
    goodbye: Duration,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("node", &self.core.node).field("address", &self.address).finish()
    }
}

impl Gateway {
    /// Starts the gateway: its actor, the node server of ractor, and the listener.
    ///
    /// # Errors
    /// [`GatewayError`] names what cannot be set up; nothing stays behind.
    ///
    /// # Cancel safety
    /// Not safe: dropped half way, an actor may stay.
    pub async fn start(
        options: GatewayOptions,
        handler: Arc<dyn Handler>,
        tasks: &TaskScope,
    ) -> Result<Self, GatewayError> {
        options.limits.validate()?;
        let guard = Guard::new(&options.transport.security)?;
        let listener = bind(&guard, options.listen).await?;
        let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let scope = tasks.child("gateway");
        let core =
            Arc::new(Core::new(options.node.clone(), options.limits, options.capabilities, handler, scope));
        let (actor, actor_ended) = Actor::spawn(None, GatewayActor, core.clone()).await?;
        let (server, server_ended) = match session::start(&options.node, &options.cookie).await {
            Ok(started) => started,
            Err(error) => {
                actor.stop(None);
                return Err(error.into());
            }
        };
        let transport = Arc::new(TransportCounters::default());
        let door = Arc::new(Door {
            node: options.node,
            gateway: actor.get_id().pid(),
            guard,
            cookie: options.cookie,
            deadline: options.transport.handshake_deadline,
            handshakes_max: options.transport.handshakes_max,
            counters: transport.clone(),
        });
        let backoff = Backoff { first: options.transport.redial_first, max: options.transport.redial_max };
        let goodbye = options.goodbye;
        let gateway = Self { core, actor, server, address, transport, backoff, goodbye };
        gateway.open(door, listener, actor_ended, server_ended)?;
        Ok(gateway)
    }

    fn open(
        &self,
        door: Arc<Door>,
        listener: Option<TcpListener>,
        actor_ended: ractor::concurrency::JoinHandle<()>,
        server_ended: ractor::concurrency::JoinHandle<()>,
    ) -> Result<(), GatewayError> {
        let core = &self.core;
        let _ = core.started.set(Started { server: self.server.clone(), door: door.clone() });
        let subscription = Box::new(Sessions(Arc::downgrade(core)));
        let id = core.node.to_string();
        // A server that ended already is found by the watch below.
        let _ = self.server.cast(NodeServerMessage::SubscribeToEvents { id, subscription });
        if let Some(listener) = listener {
            let listens = listen(listener, door, core.clone(), core.scope.clone());
            let ended = core.ended.clone();
            core.scope.spawn("listen", async move {
                tokio::select! {
                    () = listens => {}
                    () = ended.cancelled() => {}
                }
            })?;
        }
        let (watched, actor, server) = (core.clone(), self.actor.clone(), self.server.clone());
        core.scope.spawn("watch", async move {
            tokio::select! {
                _ = actor_ended => {}
                _ = server_ended => {}
            }
            watched.end();
            actor.stop(None);
            server.stop(None);
        })?;
        Ok(())
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.core.node
    }

    /// Where peers reach this node.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Keeps a stream to the node at `address` (`host:port`): dials, and dials again with growing delays whenever it
    /// is gone. An address of this node itself is found out and left alone. Repeating it changes nothing.
    pub fn dial(&self, address: impl Into<String>) {
        let address = address.into();
        let mut targets = self.core.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if targets.contains_key(&address) {
            return;
        }
        let enough = CancelToken::new();
        let keeps = dialer::run(self.core.clone(), address.clone(), enough.clone(), self.backoff);
        if self.core.scope.spawn("dial", keeps).is_ok() {
            targets.insert(address, enough);
        }
    }

    /// Dials `address` no more; a stream that is there stays.
    pub fn undial(&self, address: &str) {
        let mut targets = self.core.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(enough) = targets.remove(address) {
            enough.cancel();
        }
    }

    /// Forgets a node: what waits for it ends, its stream is cut. It may join again.
    pub fn forget(&self, node: &NodeName) {
        self.core.forget(node);
    }

    fn peer(&self, node: &NodeName) -> Result<Arc<Peer>, CallEnd> {
        if self.core.stopping.load(Ordering::SeqCst) {
            return Err(CallEnd::Stopping);
        }
        self.core.peer(node).ok_or(CallEnd::Unreachable)
    }

    /// Calls `node` and waits for its answer, at most until `deadline` is over.
    ///
    /// # Errors
    /// [`CallEnd`]; its family says whether the call was applied.
    ///
    /// # Cancel safety
    /// Dropped, the call is given up: it is not sent if it was not, and whether it was applied stays unknown.
    pub async fn call(&self, node: &NodeName, out: Outbound, deadline: Duration) -> Result<Bytes, CallEnd> {
        let peer = self.peer(node)?;
        let now_us = self.core.now_us();
        let deadline_us = now_us.saturating_add(micros(deadline));
        let asked = Asked::new(peer, outgoing(Kind::Call, out, Some(deadline_us)))?;
        asked.end_by(self.core.instant(deadline_us)).await
    }

    /// Sends `out` to `node` without an answer; at most once.
    ///
    /// # Errors
    /// [`CallEnd`] when it cannot wait for the peer.
    pub fn cast(&self, node: &NodeName, out: Outbound) -> Result<(), CallEnd> {
        Ok(self.peer(node)?.tell(outgoing(Kind::Cast, out, None))?)
    }

    /// Sends message `seq` of `origin` out of an outbox, and waits until the receiver has committed it.
    ///
    /// An end without an answer leaves the message with its owner, who offers it again under the same number; the
    /// receiver's inbox makes it take effect once.
    ///
    /// # Errors
    /// [`CallEnd`]; `Rejected` is final, all others mean: again later.
    ///
    /// # Cancel safety
    /// Dropped, the message is given up here; it may have been committed there.
    pub async fn send_durable(
        &self,
        node: &NodeName,
        origin: &[u8],
        seq: u64,
        out: Outbound,
    ) -> Result<(), CallEnd> {
        let peer = self.peer(node)?;
        let body = pack(origin, seq, &out.body).ok_or(CallEnd::Name)?;
        let asked = Asked::new(peer, outgoing(Kind::Durable, Outbound { body, ..out }, None))?;
        asked.end().await.map(drop)
    }

    /// Tells `node` something about nodes; may be lost.
    ///
    /// # Errors
    /// [`CallEnd`] when it cannot wait for the peer.
    pub fn gossip(&self, node: &NodeName, body: Bytes) -> Result<(), CallEnd> {
        let out = Outbound { body, ..Outbound::default() };
        Ok(self.peer(node)?.tell(outgoing(Kind::Gossip, out, None))?)
    }

    /// Every node that has joined since the start and was not forgotten.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerView> {
        let now_us = self.core.now_us();
        let mut views: Vec<PeerView> = self.core.peers().iter().map(|peer| peer.view(now_us)).collect();
        views.sort_by(|a, b| a.node.cmp(&b.node));
        views
    }

    /// Changes of the peers' states from here on; a receiver that lags behind asks [`Gateway::peers`].
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<PeerEvent> {
        self.core.events.subscribe()
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> GatewayStats {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.core.counters;
        GatewayStats {
            malformed: count(&counters.malformed),
            strays: count(&counters.strays),
            faults: count(&counters.faults),
            panics: count(&counters.panics),
            streams: self.core.streams(),
            transport: self.transport.snapshot(),
        }
    }

    /// Waits until the gateway has ended: stopped, or because one of its actors died.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ended(&self) {
        self.core.ended.cancelled().await;
    }

    /// Says goodbye to the peers and ends; requests without an answer end as `Lost` or `Unreachable`.
    ///
    /// # Cancel safety
    /// Dropped half way, the gateway is stopping; call it again.
    pub async fn stop(&self) {
        self.core.stopping.store(true, Ordering::SeqCst);
        let now_us = self.core.now_us();
        let mut gone = Vec::new();
        for peer in self.core.peers() {
            if let Some((packet, remote)) = peer.goodbye(now_us)
                && remote.send_message(GatewayMsg(encode(&packet))).is_ok()
            {
                gone.extend(peer.slot().map(|slot| slot.gone));
            }
        }
        let all = futures_util::future::join_all(gone.iter().map(CancelToken::cancelled));
        let _ = tokio::time::timeout(self.goodbye, all).await;
        self.core.end();
        let _ = self.server.stop_and_wait(None, Some(self.goodbye)).await;
        let _ = self.actor.stop_and_wait(None, Some(self.goodbye)).await;
        self.core.scope.shutdown(self.goodbye).await;
    }
}

async fn bind(guard: &Guard, address: Option<SocketAddr>) -> Result<Option<TcpListener>, TransportError> {
    let Some(address) = address else {
        return Ok(None);
    };
    guard.allow(address)?;
    Ok(Some(TcpListener::bind(address).await?))
}

fn outgoing(kind: Kind, out: Outbound, deadline_us: Option<u64>) -> Outgoing {
    let Outbound { entity, body, traceparent } = out;
    Outgoing { kind, entity, deadline_us, traceparent, body }
}

/// A request under way; given up when dropped before its end.
struct Asked {
    peer: Arc<Peer>,
    id: u64,
    told: tokio::sync::oneshot::Receiver<End>,
    open: bool,
}

impl Asked {
    fn new(peer: Arc<Peer>, out: Outgoing) -> Result<Self, CallEnd> {
        let (id, told) = peer.ask(out)?;
        Ok(Self { peer, id, told, open: true })
    }

    async fn end(mut self) -> Result<Bytes, CallEnd> {
        let end = (&mut self.told).await;
        self.open = false;
        end.map_or(Err(CallEnd::Lost), answer)
    }

    async fn end_by(mut self, deadline: tokio::time::Instant) -> Result<Bytes, CallEnd> {
        match tokio::time::timeout_at(deadline, &mut self.told).await {
            Ok(end) => {
                self.open = false;
                end.map_or(Err(CallEnd::Lost), answer)
            }
            Err(_elapsed) => {
                self.open = false;
                match self.peer.withdraw(self.id) {
                    End::NotSent | End::Expired => Err(CallEnd::Expired),
                    End::Reply(_) | End::Nack(_) | End::Lost => Err(CallEnd::Deadline),
                }
            }
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.open {
            self.peer.withdraw(self.id);
        }
    }
}
