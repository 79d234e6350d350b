//! One link to one life of one peer: a pure state machine, time as an argument, no I/O.
//!
//! It outlives streams: what was sent and not acknowledged is sent again on the next stream to the same life of the
//! peer, and the receiver drops what it has. When either side begins another life, both begin another link. Memory is
//! bounded on both sides: by the queue here, by the window the peer grants there.

mod event;
mod inbound;
mod limits;
mod outbound;
mod receive;
mod transit;
mod transmit;

#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod model_tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

pub use self::{
    event::LinkStats,
    limits::{LinkLimits, LinkLimitsError},
};
pub(crate) use self::{
    event::{End, Fault, LinkEvent, LinkState, Outgoing, Refused, Request},
    limits::micros,
};
use self::{
    inbound::LaneIn,
    outbound::{LaneOut, Message},
    transit::Transit,
};
use crate::cluster::frame::{
    Credit, ENTITY_MAX_BYTES, Frame, Hello, Kind, Lane, Nack, NackReason, StreamToken, TRACE_MAX_BYTES,
};

/// A frame that is not acknowledged.
#[derive(Debug)]
struct Sent {
    frame: Frame,
    /// On our own clock.
    deadline_us: Option<u64>,
}

/// A request of ours without an end.
#[derive(Debug)]
struct Open {
    kind: Kind,
    /// Whether it is wholly sent.
    sent: bool,
}

/// The stream a link speaks on.
#[derive(Debug)]
struct Stream {
    /// As the peer named it.
    token: StreamToken,
    said_hello: bool,
    heard_hello: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Link {
    limits: Arc<LinkLimits>,
    hello: Hello,
    peer_message_max: usize,
    stream: Option<Stream>,
    state: LinkState,

    next_id: u64,
    next_seq: u64,
    requests: LaneOut,
    answers: LaneOut,
    voids: VecDeque<u64>,
    unacked: VecDeque<Sent>,
    unacked_bytes: usize,
    /// How many of `unacked` are sent on this stream.
    resent: usize,
    open: HashMap<u64, Open>,

    last_received: u64,
    requests_in: LaneIn,
    answers_in: LaneIn,
    /// What requests hold until they are done with.
    handling: HashMap<u64, Credit>,
    transit: Transit,

    heard_us: u64,
    said_us: u64,
    ack_owed_us: Option<u64>,
    ack_owed_frames: u64,

    events: VecDeque<LinkEvent>,
    stats: LinkStats,
}

impl Link {
    /// A link that never had a stream.
    pub(crate) fn new(limits: Arc<LinkLimits>, hello: Hello, now_us: u64) -> Self {
        Self {
            peer_message_max: limits.message_max_bytes,
            limits,
            hello,
            stream: None,
            state: LinkState::Greeting,
            next_id: 1,
            next_seq: 1,
            requests: LaneOut::default(),
            answers: LaneOut::default(),
            voids: VecDeque::new(),
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            resent: 0,
            open: HashMap::new(),
            last_received: 0,
            requests_in: LaneIn::default(),
            answers_in: LaneIn::default(),
            handling: HashMap::new(),
            transit: Transit::default(),
            heard_us: now_us,
            said_us: now_us,
            ack_owed_us: None,
            ack_owed_frames: 0,
            events: VecDeque::new(),
            stats: LinkStats::default(),
        }
    }

    /// The next thing that happened.
    pub(crate) fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// What the peer's silence means at present.
    pub(crate) fn state(&self) -> LinkState {
        self.state
    }

    /// The counters.
    pub(crate) fn stats(&self) -> LinkStats {
        self.stats
    }

    /// Bytes held for the peer, both ways.
    pub(crate) fn held_bytes(&self) -> usize {
        let out = self.requests.bytes() + self.answers.bytes() + self.unacked_bytes;
        out + self.requests_in.partial_bytes() + self.answers_in.partial_bytes()
    }

    /// A stream to this life of the peer is there; the peer named it `token`.
    pub(crate) fn attach(&mut self, token: StreamToken, now_us: u64) {
        self.stream = Some(Stream { token, said_hello: false, heard_hello: false });
        self.resent = 0;
        self.heard_us = now_us;
        self.turn(LinkState::Greeting);
    }

    /// The stream is gone.
    pub(crate) fn detach(&mut self) {
        self.stream = None;
        self.resent = 0;
        if self.state != LinkState::Lost {
            self.turn(LinkState::Greeting);
        }
    }

    /// How long the peer is silent.
    pub(crate) fn silent_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.heard_us)
    }

    fn turn(&mut self, state: LinkState) {
        if self.state != state {
            self.state = state;
            self.events.push_back(LinkEvent::State(state));
        }
    }

    /// Takes a message to be sent, and gives its number.
    pub(crate) fn offer(&mut self, out: Outgoing) -> Result<u64, Refused> {
        let limit = self.limits.message_max_bytes.min(self.peer_message_max);
        let too_long = |text: &Option<Arc<str>>, limit| text.as_ref().is_some_and(|text| text.len() > limit);
        if out.body.len() > limit {
            return Err(Refused::TooLarge { bytes: out.body.len(), limit });
        }
        if too_long(&out.entity, ENTITY_MAX_BYTES) || too_long(&out.traceparent, TRACE_MAX_BYTES) {
            return Err(Refused::Name);
        }
        if self.state == LinkState::Lost {
            return Err(Refused::Unreachable);
        }
        let bytes = self.requests.bytes() + self.unacked_bytes;
        let messages = self.requests.messages() + self.unacked.len().max(self.open.len());
        if bytes + out.body.len() > self.limits.queue_max_bytes || messages >= self.limits.queue_max_messages
        {
            self.stats.overloaded += 1;
            return Err(Refused::Overloaded { bytes, messages });
        }
        let id = self.next_id;
        self.next_id += 1;
        if matches!(out.kind, Kind::Call | Kind::Durable) {
            self.open.insert(id, Open { kind: out.kind, sent: false });
        }
        let mut message = Message::new(out.kind, id, out.body);
        (message.entity, message.traceparent) = (out.entity, out.traceparent);
        message.deadline_us = out.deadline_us;
        self.requests.push(message);
        Ok(id)
    }

    /// Gives up a request; says whether it may have been applied. It has no other end then.
    pub(crate) fn withdraw(&mut self, id: u64) -> End {
        self.open.remove(&id);
        match self.requests.remove(id) {
            Some((_, begun)) => {
                if begun {
                    self.void(id);
                    self.voids.push_back(id);
                }
                End::NotSent
            }
            None => {
                self.void(id);
                End::Lost
            }
        }
    }

    /// Empties what was sent of request `id` and not acknowledged: it must not run later.
    fn void(&mut self, id: u64) {
        for sent in &mut self.unacked {
            if sent.frame.id == id && sent.frame.kind.lane() == Some(Lane::Requests) {
                self.unacked_bytes = self.unacked_bytes.saturating_sub(sent.frame.body.len());
                empty(sent);
            }
        }
    }

    /// Answers request `id` of the peer.
    pub(crate) fn answer(&mut self, id: u64, answer: Result<Bytes, Nack>) {
        if !self.handling.contains_key(&id) {
            return;
        }
        let room = self.limits.queue_max_bytes.saturating_sub(self.answers.bytes());
        let limit = self.limits.message_max_bytes.min(self.peer_message_max).min(room);
        let answer = answer.and_then(|body| {
            let fits = body.len() <= limit;
            let refusal =
                || Nack::new(NackReason::Unknown, format!("the reply has {} bytes: too large", body.len()));
            if fits { Ok(body) } else { Err(refusal()) }
        });
        let message = match answer {
            Ok(body) => Message::new(Kind::Reply, id, body),
            Err(nack) => Message::new(Kind::Nack, id, write(&nack)),
        };
        self.answers.push(message);
    }

    /// Request `id` of the peer, one without an answer, is done with.
    pub(crate) fn finished(&mut self, id: u64) {
        if let Some(cost) = self.handling.remove(&id) {
            self.requests_in.release(cost);
        }
    }

    /// Judges the peer's silence.
    pub(crate) fn tick(&mut self, now_us: u64) {
        let silent = now_us.saturating_sub(self.heard_us);
        if silent >= micros(self.limits.lost_after) {
            if self.state != LinkState::Lost {
                self.turn(LinkState::Lost);
                self.let_go();
            }
        } else if silent >= micros(self.limits.suspect_after) && self.state == LinkState::Up {
            self.turn(LinkState::Suspect);
        }
    }

    /// When [`tick`](Self::tick), and if the stream `carries` also [`transmit`](Self::transmit), should be asked again
    /// at the latest.
    pub(crate) fn wake_us(&self, carries: bool) -> u64 {
        let after = match self.state {
            LinkState::Up => self.limits.suspect_after,
            LinkState::Greeting | LinkState::Suspect => self.limits.lost_after,
            LinkState::Lost => return u64::MAX,
        };
        let judge = self.heard_us.saturating_add(micros(after));
        if carries && self.stream.is_some() { judge.min(self.due_us()) } else { judge }
    }

    /// Lets go of what a lost peer need not get: all that is not sent, and durable messages, whose owner has them.
    fn let_go(&mut self) {
        for (message, begun) in self.requests.drain() {
            if begun {
                self.void(message.id);
                self.voids.push_back(message.id);
            }
            match self.open.remove(&message.id) {
                Some(_) => self.events.push_back(LinkEvent::Ended(message.id, End::NotSent)),
                None => self.stats.dropped += 1,
            }
        }
        let durable = self.open.iter().filter(|(_, open)| open.kind == Kind::Durable).map(|(id, _)| *id);
        for id in durable.collect::<Vec<_>>() {
            self.open.remove(&id);
            self.void(id);
            self.events.push_back(LinkEvent::Ended(id, End::Lost));
        }
    }

    /// Ends every request: the peer, or we, begin another life.
    pub(crate) fn close(&mut self) {
        self.stream = None;
        self.let_go();
        for (id, _) in std::mem::take(&mut self.open) {
            self.events.push_back(LinkEvent::Ended(id, End::Lost));
        }
        self.unacked.clear();
        self.unacked_bytes = 0;
        self.voids.clear();
        self.handling.clear();
        self.state = LinkState::Lost;
    }
}

/// Makes a withdrawn frame hold nothing but its number.
///
/// The credit it took is in `total`: the receiver counts it as if it had arrived.
fn empty(sent: &mut Sent) {
    let (seq, id, cost) = (sent.frame.seq, sent.frame.id, sent.frame.cost());
    sent.frame = Frame { seq, total: Some(cost), ..Frame::new(Kind::Void, id, Bytes::new()) };
}

/// Encodes a value of ours; it has no part that cannot be encoded.
fn write<T: serde::Serialize>(value: &T) -> Bytes {
    rmp_serde::to_vec_named(value).map(Bytes::from).unwrap_or_default()
}
