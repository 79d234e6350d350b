//! Peers, their streams, and what is done about both.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use ractor::{ActorCell, ActorRef};
use ractor_cluster::NodeServerMessage;
use stanchion_actors::task::{CancelToken, TaskScope};
use tokio::{sync::broadcast, time::Instant};
use tracing::{debug, info, warn};

use super::{
    arbitrate::judge,
    handler::Handler,
    peer::{Peer, Slot},
    pump,
    session::{label, remote},
    state::{PeerEvent, PeerState},
};
use crate::cluster::{
    frame::{FORMAT_VERSION, FORMAT_VERSION_MIN, Hello, StreamToken, decode},
    identity::{NodeId, NodeName},
    link::{Link, LinkLimits, micros},
    transport::{Arrival, CutStream, Door, Reception, Refusal},
};

/// Counters of a gateway; they only grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) malformed: AtomicU64,
    pub(super) strays: AtomicU64,
    pub(super) faults: AtomicU64,
    pub(super) panics: AtomicU64,
}

#[derive(Default)]
struct Peers {
    by_name: HashMap<NodeName, Arc<Peer>>,
    by_token: HashMap<StreamToken, (Arc<Peer>, Slot)>,
}

/// What a started gateway has and the parts before it have not.
pub(super) struct Started {
    pub(super) server: ActorRef<NodeServerMessage>,
    pub(super) door: Arc<Door>,
}

/// See the [module](self).
pub(crate) struct Core {
    pub(super) node: NodeId,
    pub(super) limits: Arc<LinkLimits>,
    pub(super) capabilities: Vec<String>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) scope: TaskScope,
    pub(super) events: broadcast::Sender<PeerEvent>,
    pub(super) counters: Counters,
    pub(super) stopping: AtomicBool,
    pub(super) ended: CancelToken,
    pub(super) targets: Mutex<HashMap<String, CancelToken>>,
    pub(super) started: OnceLock<Started>,
    began: Instant,
    peers: Mutex<Peers>,
}

impl Core {
    pub(super) fn new(
        node: NodeId,
        limits: LinkLimits,
        capabilities: Vec<String>,
        handler: Arc<dyn Handler>,
        scope: TaskScope,
    ) -> Self {
        Self {
            node,
            limits: Arc::new(limits),
            capabilities,
            handler,
            scope,
            events: broadcast::channel(1_024).0,
            counters: Counters::default(),
            stopping: AtomicBool::new(false),
            ended: CancelToken::new(),
            targets: Mutex::new(HashMap::new()),
            started: OnceLock::new(),
            began: Instant::now(),
            peers: Mutex::new(Peers::default()),
        }
    }

    fn peers_mut(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since the gateway began.
    pub(super) fn now_us(&self) -> u64 {
        micros(self.began.elapsed())
    }

    /// The moment `at_us` on the runtime's clock; far away for what never comes.
    pub(super) fn instant(&self, at_us: u64) -> Instant {
        self.began + Duration::from_micros(at_us.min(self.now_us() + 3_600_000_000))
    }

    /// The peer of this name in its latest life.
    pub(super) fn peer(&self, name: &NodeName) -> Option<Arc<Peer>> {
        self.peers_mut().by_name.get(name).cloned()
    }

    /// Every peer.
    pub(super) fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers_mut().by_name.values().cloned().collect()
    }

    /// Streams that stand.
    pub(super) fn streams(&self) -> u64 {
        self.peers_mut().by_token.len() as u64
    }

    /// Forgets a peer: its requests end, its stream is cut.
    pub(super) fn forget(&self, name: &NodeName) {
        let peer = self.peers_mut().by_name.remove(name);
        if let Some(peer) = peer {
            peer.retire();
        }
    }

    /// Tells of a peer's state, if it is news.
    pub(super) fn tell_news(&self, peer: &Peer) {
        if let Some(state) = peer.news() {
            self.publish(&peer.id, state);
        }
    }

    fn publish(&self, node: &NodeId, state: PeerState) {
        debug!(%node, ?state, "peer");
        // Nobody listening is no fault.
        let _ = self.events.send(PeerEvent { node: node.clone(), state });
    }

    /// Takes a packet from the gateway actor.
    pub(super) fn receive(&self, bytes: Bytes) {
        let packet = match decode(bytes) {
            Ok(packet) => packet,
            Err(error) => {
                self.counters.malformed.fetch_add(1, Ordering::Relaxed);
                warn!(%error, "packet refused");
                return;
            }
        };
        let peer = self.peers_mut().by_token.get(&packet.head.token).map(|(peer, _)| peer.clone());
        let Some(peer) = peer else {
            self.counters.strays.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if let Err(fault) = peer.receive(packet, self.now_us()) {
            self.counters.faults.fetch_add(1, Ordering::Relaxed);
            warn!(node = %peer.id, %fault, "stream cut");
            peer.cut();
        }
    }

    /// How long two dials may have crossed each other.
    fn young_us(&self) -> u64 {
        self.started.get().map_or(0, |started| micros(started.door.deadline))
    }

    fn judge(&self, peers: &Peers, id: &NodeId, is_server: bool) -> Result<(), Refusal> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Refusal::Stopping);
        }
        if *id == self.node || id.name == self.node.name {
            return Err(Refusal::Myself);
        }
        let Some(peer) = peers.by_name.get(&id.name) else {
            return Ok(());
        };
        let (theirs, known) = (id.incarnation, peer.id.incarnation);
        let standing = peer.standing(self.now_us());
        if theirs.life < known.life {
            return Err(Refusal::Stale);
        }
        match standing {
            Some(_) if theirs != known && theirs.life == known.life => Err(Refusal::Twin),
            Some(standing) if theirs == known => judge(standing, is_server, &self.node, id, self.young_us()),
            Some(_) | None => Ok(()),
        }
    }

    /// Makes room for a proven stream: an earlier life of the peer ends, and what stood in its place is returned.
    fn enter(self: &Arc<Self>, arrival: &Arrival, slot: &Slot) -> Result<(Arc<Peer>, Option<Slot>), Refusal> {
        let id = &arrival.theirs.node;
        let mut peers = self.peers_mut();
        self.judge(&peers, id, arrival.is_server)?;
        let known = peers.by_name.get(&id.name).filter(|peer| peer.id == *id).cloned();
        let peer = known.unwrap_or_else(|| {
            let peer =
                Arc::new(Peer::new(id.clone(), Link::new(self.limits.clone(), self.hello(), self.now_us())));
            if let Some(earlier) = peers.by_name.insert(id.name.clone(), peer.clone()) {
                earlier.retire();
                self.publish(&earlier.id, PeerState::Lost);
            }
            let _ = self.scope.spawn("link", pump::run(self.clone(), peer.clone()));
            peer
        });
        let before = peer.put(slot.clone(), self.now_us());
        peers.by_token.insert(slot.token, (peer.clone(), slot.clone()));
        Ok((peer, before))
    }

    fn hello(&self) -> Hello {
        Hello {
            versions: (FORMAT_VERSION_MIN, FORMAT_VERSION),
            node: self.node.name.clone().into(),
            incarnation: (self.node.incarnation.life, self.node.incarnation.nonce),
            message_max_bytes: self.limits.message_max_bytes as u64,
            capabilities: self.capabilities.clone(),
        }
    }

    /// Takes a proven stream; the token is cancelled once the stream is gone.
    pub(super) fn join(self: &Arc<Self>, arrival: Arrival) -> Result<CancelToken, Refusal> {
        let slot = Slot {
            token: arrival.ours.token,
            their_token: arrival.theirs.token,
            their_gateway: arrival.theirs.gateway,
            is_server: arrival.is_server,
            since_us: self.now_us(),
            address: arrival.address,
            cut: CancelToken::new(),
            ready: CancelToken::new(),
            gone: CancelToken::new(),
        };
        let (peer, before) = self.enter(&arrival, &slot)?;
        info!(node = %peer.id, address = %arrival.address, "stream proven");
        let gone = slot.gone.clone();
        let _ = self.scope.spawn("join", self.clone().settle(peer, slot, before, arrival));
        Ok(gone)
    }

    /// Gives the stream to ractor, after the one before it is gone, and sees that it gets ready in time.
    async fn settle(self: Arc<Self>, peer: Arc<Peer>, slot: Slot, before: Option<Slot>, arrival: Arrival) {
        let Some(started) = self.started.get() else {
            return;
        };
        let deadline = Instant::now() + started.door.deadline;
        if let Some(before) = before {
            before.cut.cancel();
            // Two sessions with one node would make ractor choose by chance.
            let _ = tokio::time::timeout_at(deadline, before.gone.cancelled()).await;
        }
        let stream = CutStream::new(arrival.io, slot.cut.clone(), self.limits.lost_after, label(slot.token));
        let opened = NodeServerMessage::ConnectionOpenedExternal {
            stream: Box::new(stream),
            is_server: slot.is_server,
        };
        let given = started.server.cast(opened).is_ok();
        let settled = async {
            tokio::select! {
                () = slot.ready.cancelled() => true,
                () = slot.gone.cancelled() => true,
                () = slot.cut.cancelled() => false,
            }
        };
        let in_time = given && tokio::time::timeout_at(deadline, settled).await.unwrap_or(false);
        if !in_time {
            info!(node = %peer.id, "stream did not get ready");
            slot.cut.cancel();
            self.session_gone(slot.token);
        }
    }

    /// ractor began a session on stream `token`: it must be linked to nothing that is cut already.
    pub(super) fn session_opened(&self, token: StreamToken, session: ActorCell) {
        if !self.peers_mut().by_token.contains_key(&token) {
            session.stop(Some("stream was cut".to_owned()));
        }
    }

    /// ractor has a session on stream `token`, and knows the peer's actors.
    pub(super) fn session_ready(&self, token: StreamToken, session: &ActorCell) {
        let Some((peer, slot)) = self.peers_mut().by_token.get(&token).cloned() else {
            return;
        };
        match remote(session, slot.their_gateway) {
            Some(gateway) => peer.carry(token, gateway.into()),
            None => {
                warn!(node = %peer.id, "peer does not offer its gateway");
                slot.cut.cancel();
            }
        }
    }

    /// The stream `token` is gone, with or without a session.
    pub(super) fn session_gone(&self, token: StreamToken) {
        let stood = self.peers_mut().by_token.remove(&token);
        if let Some((peer, slot)) = stood {
            slot.cut.cancel();
            peer.detach(token);
            slot.gone.cancel();
        }
    }

    /// Runs `work` of the handler; a panic in it is counted and gives `None`.
    pub(super) fn guarded<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let done = std::panic::catch_unwind(AssertUnwindSafe(work));
        if done.is_err() {
            self.counters.panics.fetch_add(1, Ordering::Relaxed);
        }
        done.ok()
    }

    /// Ends everything: every request gets its end, every stream is cut.
    pub(super) fn end(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        // The streams stay known until their sessions have ended.
        let peers = std::mem::take(&mut self.peers_mut().by_name);
        for peer in peers.values() {
            peer.retire();
        }
        self.ended.cancel();
    }
}

impl Reception for Core {
    fn admit(&self, peer: &NodeId, is_server: bool) -> Result<(), Refusal> {
        self.judge(&self.peers_mut(), peer, is_server)
    }

    fn arrived(self: Arc<Self>, arrival: Arrival) {
        if let Err(refusal) = self.join(arrival) {
            debug!(%refusal, "stream dropped");
        }
    }
}
