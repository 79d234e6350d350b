//! One peer in one of its lives: its link, who waits for answers, and the stream that carries it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ractor::ActorRef;
use stanchion_actors::task::CancelToken;
use tokio::sync::{Notify, oneshot};

use super::{
    actor::GatewayMsg,
    arbitrate::Standing,
    state::{PeerState, PeerView},
};
use crate::cluster::{
    frame::{Packet, StreamToken},
    identity::NodeId,
    link::{End, Fault, Link, LinkEvent, LinkState, Outgoing, Refused},
};

/// How many packets are made before others get the peer's lock.
const PACKETS_AT_ONCE: usize = 16;

/// A stream of a peer, from its proof to its end.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// As we named it.
    pub(super) token: StreamToken,
    /// As the peer named it.
    pub(super) their_token: StreamToken,
    /// Number of the peer's gateway actor.
    pub(super) their_gateway: u64,
    pub(super) is_server: bool,
    pub(super) since_us: u64,
    pub(super) address: SocketAddr,
    /// Ends the stream.
    pub(super) cut: CancelToken,
    /// The session of ractor on it is ready.
    pub(super) ready: CancelToken,
    /// The session of ractor on it has ended.
    pub(super) gone: CancelToken,
}

#[derive(Debug)]
struct Inner {
    link: Link,
    slot: Option<Slot>,
    remote: Option<ActorRef<GatewayMsg>>,
    waiting: HashMap<u64, oneshot::Sender<End>>,
    capabilities: Vec<String>,
    left: bool,
    /// The state that was told last.
    told: Option<PeerState>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: NodeId,
    /// Rung when there is something to do for the pump.
    pub(super) bell: Notify,
    /// Cancelled when the peer begins another life, or is forgotten.
    pub(super) retired: CancelToken,
    inner: Mutex<Inner>,
}

/// What the pump is to do.
pub(super) struct Work {
    pub(super) packets: Vec<Packet>,
    pub(super) remote: Option<ActorRef<GatewayMsg>>,
    pub(super) events: Vec<LinkEvent>,
    pub(super) wake_us: u64,
}

impl Peer {
    pub(super) fn new(id: NodeId, link: Link) -> Self {
        let inner = Inner {
            link,
            slot: None,
            remote: None,
            waiting: HashMap::new(),
            capabilities: vec![],
            left: false,
            told: None,
        };
        Self { id, bell: Notify::new(), retired: CancelToken::new(), inner: Mutex::new(inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a request; the receiver is told its end.
    pub(super) fn ask(&self, out: Outgoing) -> Result<(u64, oneshot::Receiver<End>), Refused> {
        let (told, end) = oneshot::channel();
        let mut inner = self.lock();
        if inner.left {
            return Err(Refused::Unreachable);
        }
        let id = inner.link.offer(out)?;
        inner.waiting.insert(id, told);
        drop(inner);
        self.bell.notify_one();
        Ok((id, end))
    }

    /// Offers a request without an answer.
    pub(super) fn tell(&self, out: Outgoing) -> Result<(), Refused> {
        let mut inner = self.lock();
        if inner.left {
            return Err(Refused::Unreachable);
        }
        inner.link.offer(out)?;
        drop(inner);
        self.bell.notify_one();
        Ok(())
    }

    /// Gives up a request.
    pub(super) fn withdraw(&self, id: u64) -> End {
        let mut inner = self.lock();
        inner.waiting.remove(&id);
        let end = inner.link.withdraw(id);
        drop(inner);
        self.bell.notify_one();
        end
    }

    /// Whoever waits for request `id`.
    pub(super) fn waiter(&self, id: u64) -> Option<oneshot::Sender<End>> {
        self.lock().waiting.remove(&id)
    }

    /// Answers a call or durable message of the peer.
    pub(super) fn answer(&self, id: u64, answer: Result<bytes::Bytes, crate::cluster::frame::Nack>) {
        self.lock().link.answer(id, answer);
        self.bell.notify_one();
    }

    /// A cast of the peer is done with.
    pub(super) fn finished(&self, id: u64) {
        self.lock().link.finished(id);
        self.bell.notify_one();
    }

    /// Takes a packet that came on the stream we named `token`; one of an earlier stream is dropped.
    pub(super) fn receive(&self, packet: Packet, now_us: u64) -> Result<(), Fault> {
        let mut inner = self.lock();
        if inner.slot.as_ref().is_none_or(|slot| slot.token != packet.head.token) {
            return Ok(());
        }
        let received = inner.link.receive(packet, now_us);
        drop(inner);
        self.bell.notify_one();
        received
    }

    /// What there is to do now.
    pub(super) fn work(&self, now_us: u64) -> Work {
        let mut inner = self.lock();
        inner.link.tick(now_us);
        let mut packets = Vec::new();
        let carries = inner.remote.is_some();
        while carries
            && packets.len() < PACKETS_AT_ONCE
            && let Some(packet) = inner.link.transmit(now_us)
        {
            packets.push(packet);
        }
        let events = std::iter::from_fn(|| inner.link.poll_event()).collect();
        let wake_us = if packets.len() < PACKETS_AT_ONCE { inner.link.wake_us(carries) } else { now_us };
        Work { packets, remote: inner.remote.clone(), events, wake_us }
    }

    /// The stream that stands, if one does.
    pub(super) fn standing(&self, now_us: u64) -> Option<Standing> {
        let inner = self.lock();
        let slot = inner.slot.as_ref()?;
        Some(Standing { is_server: slot.is_server, age_us: now_us.saturating_sub(slot.since_us) })
    }

    /// Gives the peer a new stream, on which it may speak at once; what stood is returned.
    pub(super) fn put(&self, slot: Slot, now_us: u64) -> Option<Slot> {
        let mut inner = self.lock();
        inner.remote = None;
        inner.left = false;
        inner.link.detach();
        inner.link.attach(slot.their_token, now_us);
        inner.slot.replace(slot)
    }

    /// The session on stream `token` is ready: the link may speak through `remote`.
    pub(super) fn carry(&self, token: StreamToken, remote: ActorRef<GatewayMsg>) {
        let mut inner = self.lock();
        if let Some(slot) = inner.slot.as_ref().filter(|slot| slot.token == token) {
            slot.ready.cancel();
            inner.remote = Some(remote);
        }
        drop(inner);
        self.bell.notify_one();
    }

    /// The stream `token` is gone.
    pub(super) fn detach(&self, token: StreamToken) {
        let mut inner = self.lock();
        if inner.slot.take_if(|slot| slot.token == token).is_none() {
            return;
        }
        inner.remote = None;
        inner.link.detach();
        drop(inner);
        self.bell.notify_one();
    }

    /// The stream that stands.
    pub(super) fn slot(&self) -> Option<Slot> {
        self.lock().slot.clone()
    }

    /// Ends the stream that stands.
    pub(super) fn cut(&self) {
        if let Some(slot) = &self.lock().slot {
            slot.cut.cancel();
        }
    }

    /// The peer told what it can do.
    pub(super) fn learn(&self, capabilities: Vec<String>) {
        self.lock().capabilities = capabilities;
    }

    /// The peer has left on purpose.
    pub(super) fn leave(&self) {
        self.lock().left = true;
        self.cut();
    }

    /// The last words on the stream that stands, and what carries them.
    pub(super) fn goodbye(&self, now_us: u64) -> Option<(Packet, ActorRef<GatewayMsg>)> {
        let mut inner = self.lock();
        let packet = inner.link.goodbye(now_us)?;
        Some((packet, inner.remote.clone()?))
    }

    /// Ends every request and the stream: the peer begins another life, or we stop.
    pub(super) fn retire(&self) {
        let mut inner = self.lock();
        inner.link.close();
        while let Some(event) = inner.link.poll_event() {
            if let LinkEvent::Ended(id, end) = event
                && let Some(waiter) = inner.waiting.remove(&id)
            {
                let _ = waiter.send(end);
            }
        }
        inner.waiting.clear();
        inner.remote = None;
        if let Some(slot) = &inner.slot {
            slot.cut.cancel();
        }
        drop(inner);
        self.retired.cancel();
    }

    /// Its link has turned away from what was told, if only for a moment: whoever looked then waits to hear more, so
    /// what it is now is news.
    pub(super) fn turned_away(&self) {
        self.lock().told = None;
    }

    /// The state, if it is another one than was told last.
    pub(super) fn news(&self) -> Option<PeerState> {
        let mut inner = self.lock();
        let state = inner.state();
        (inner.told.replace(state) != Some(state)).then_some(state)
    }

    pub(super) fn view(&self, now_us: u64) -> PeerView {
        let inner = self.lock();
        PeerView {
            node: self.id.clone(),
            state: inner.state(),
            address: inner.slot.as_ref().map(|slot| slot.address),
            capabilities: inner.capabilities.clone(),
            silent_for: Duration::from_micros(inner.link.silent_us(now_us)),
            held_bytes: inner.link.held_bytes(),
            link: inner.link.stats(),
        }
    }
}

impl Inner {
    fn state(&self) -> PeerState {
        match self.link.state() {
            _ if self.left => PeerState::Left,
            LinkState::Greeting => PeerState::Joining,
            LinkState::Up => PeerState::Up,
            LinkState::Suspect => PeerState::Suspect,
            LinkState::Lost => PeerState::Lost,
        }
    }
}
