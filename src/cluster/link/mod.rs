//! One link to one life of one peer: a pure state machine, time as an argument, no I/O.
//!
//! It outlives streams: what was sent and not acknowledged is sent again on the next stream to the same life of the
//! peer, and the receiver drops what it has. When either side begins another life, both begin another link. Memory is
//! bounded on both sides: by the queue here, by the window the peer grants there.

mod event;
mod inbound;
mod limits;
mod outbound;
mod transit;

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
    inbound::{LaneIn, Whole},
    outbound::{LaneOut, Message},
    transit::Transit,
};
use crate::cluster::frame::{
    Credit, ENTITY_MAX_BYTES, Frame, Head, Hello, Kind, Lane, Nack, NackReason, Packet, StreamToken,
    TRACE_MAX_BYTES,
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
        self.take_back(id)
    }

    /// Removes what is left of request `id` from what is sent or sent again.
    fn take_back(&mut self, id: u64) -> End {
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

    /// Takes what the peer sent. After a fault the stream is to be closed.
    pub(crate) fn receive(&mut self, packet: Packet, now_us: u64) -> Result<(), Fault> {
        let Packet { head, frames } = packet;
        let late_us = self.transit.excess_us(head.sent_us, now_us);
        self.take_head(&head)?;
        for frame in frames {
            self.take_frame(frame, late_us, now_us)?;
        }
        self.heard_us = now_us;
        if self.stream.as_ref().is_some_and(|stream| stream.heard_hello) {
            self.turn(LinkState::Up);
        }
        Ok(())
    }

    fn take_head(&mut self, head: &Head) -> Result<(), Fault> {
        if head.ack >= self.next_seq {
            return Err(Fault::Ack);
        }
        while self.unacked.front().is_some_and(|sent| sent.frame.seq <= head.ack) {
            if let Some(sent) = self.unacked.pop_front() {
                self.unacked_bytes = self.unacked_bytes.saturating_sub(sent.frame.body.len());
                self.resent = self.resent.saturating_sub(1);
            }
        }
        self.requests.grant(head.requests);
        self.answers.grant(head.answers);
        Ok(())
    }

    fn take_frame(&mut self, frame: Frame, late_us: u64, now_us: u64) -> Result<(), Fault> {
        let heard = self.stream.as_ref().is_some_and(|stream| stream.heard_hello);
        if (frame.kind == Kind::Hello) == heard {
            return Err(Fault::Greeting);
        }
        match frame.kind {
            Kind::Hello => self.greet(&frame.body),
            Kind::Goodbye => {
                self.events.push_back(LinkEvent::Goodbye);
                Ok(())
            }
            Kind::Call
            | Kind::Cast
            | Kind::Reply
            | Kind::Nack
            | Kind::Durable
            | Kind::Gossip
            | Kind::Void => self.take_numbered(frame, late_us, now_us),
        }
    }

    fn greet(&mut self, body: &[u8]) -> Result<(), Fault> {
        let hello: Hello = rmp_serde::from_slice(body).map_err(|_| Fault::Greeting)?;
        self.peer_message_max = usize::try_from(hello.message_max_bytes).unwrap_or(usize::MAX);
        if let Some(stream) = &mut self.stream {
            stream.heard_hello = true;
        }
        self.events.push_back(LinkEvent::Greeted(hello));
        Ok(())
    }

    fn take_numbered(&mut self, frame: Frame, late_us: u64, now_us: u64) -> Result<(), Fault> {
        if frame.seq <= self.last_received {
            self.stats.duplicates += 1;
            self.owe_ack(now_us);
            return Ok(());
        }
        if frame.seq != self.last_received + 1 {
            return Err(Fault::Gap);
        }
        let deadline_us = frame.deadline_us.map(|left| now_us.saturating_add(left.saturating_sub(late_us)));
        let message_max = self.limits.message_max_bytes;
        let seq = frame.seq;
        let whole = match frame.kind.lane() {
            Some(Lane::Requests) => self.requests_in.accept(frame, deadline_us, message_max)?,
            Some(Lane::Answers) => self.answers_in.accept(frame, None, message_max)?,
            None => {
                self.requests_in.withdrawn(frame.id, frame.total)?;
                None
            }
        };
        self.last_received = seq;
        self.stats.frames_received += 1;
        self.owe_ack(now_us);
        if let Some(whole) = whole {
            self.deliver(whole, now_us);
        }
        Ok(())
    }

    fn owe_ack(&mut self, now_us: u64) {
        self.ack_owed_frames += 1;
        self.ack_owed_us.get_or_insert(now_us);
    }

    fn deliver(&mut self, whole: Whole, now_us: u64) {
        let Whole { kind, id, entity, deadline_us, traceparent, body, cost } = whole;
        match kind {
            Kind::Reply | Kind::Nack => {
                self.answers_in.release(cost);
                self.end_by_answer(kind, id, body);
            }
            _ if deadline_us.is_some_and(|deadline| deadline <= now_us) => {
                self.stats.expired_in += 1;
                self.handling.insert(id, cost);
                if matches!(kind, Kind::Call | Kind::Durable) {
                    self.answer(id, Err(Nack::new(NackReason::Expired, "the deadline passed under way")));
                } else {
                    self.finished(id);
                }
            }
            _ => {
                self.handling.insert(id, cost);
                let request = Request { kind, id, entity, deadline_us, traceparent, body };
                self.events.push_back(LinkEvent::Request(request));
            }
        }
    }

    fn end_by_answer(&mut self, kind: Kind, id: u64, body: Bytes) {
        if self.open.remove(&id).is_none() {
            return;
        }
        let unreadable = || Nack::new(NackReason::Unknown, "the refusal cannot be read");
        let end = match kind {
            Kind::Reply => End::Reply(body),
            _ => End::Nack(rmp_serde::from_slice(&body).unwrap_or_else(|_| unreadable())),
        };
        self.events.push_back(LinkEvent::Ended(id, end));
    }

    /// The next packet for the stream, if there is something to say. To be asked until there is nothing.
    pub(crate) fn transmit(&mut self, now_us: u64) -> Option<Packet> {
        let stream = self.stream.as_mut()?;
        let (token, heard) = (stream.token, stream.heard_hello);
        let mut frames = Vec::new();
        if !stream.said_hello {
            stream.said_hello = true;
            frames.push(Frame::new(Kind::Hello, 0, write(&self.hello)));
        }
        if heard {
            self.fill(&mut frames, now_us);
        }
        if frames.is_empty() && now_us < self.due_us() {
            return None;
        }
        Some(Packet { head: self.head(token, now_us), frames })
    }

    /// Says goodbye on the stream.
    pub(crate) fn goodbye(&mut self, now_us: u64) -> Option<Packet> {
        let token = self.stream.as_ref()?.token;
        Some(Packet {
            head: self.head(token, now_us),
            frames: vec![Frame::new(Kind::Goodbye, 0, Bytes::new())],
        })
    }

    fn head(&mut self, token: StreamToken, now_us: u64) -> Head {
        self.said_us = now_us;
        self.ack_owed_us = None;
        self.ack_owed_frames = 0;
        let window = self.window();
        Head {
            token,
            sent_us: now_us,
            ack: self.last_received,
            requests: self.requests_in.announce(window),
            answers: self.answers_in.announce(window),
        }
    }

    fn window(&self) -> Credit {
        Credit { bytes: self.limits.window_bytes, frames: self.limits.window_frames }
    }

    /// When a packet without frames is due: heartbeat, acknowledgement or credit.
    fn due_us(&self) -> u64 {
        let window = self.window();
        let owes = self.requests_in.owes_credit(window) || self.answers_in.owes_credit(window);
        if owes || self.ack_owed_frames > window.frames / 4 {
            return 0;
        }
        let ack = self.ack_owed_us.map(|since| since.saturating_add(micros(self.limits.ack_delay)));
        let heartbeat = self.said_us.saturating_add(micros(self.limits.heartbeat));
        ack.map_or(heartbeat, |ack| ack.min(heartbeat))
    }

    fn fill(&mut self, frames: &mut Vec<Frame>, now_us: u64) {
        let mut bytes = 0;
        while bytes < self.limits.packet_bytes {
            let Some(frame) = self.next_frame(now_us) else {
                break;
            };
            bytes += frame.body.len() + 128;
            frames.push(frame);
        }
    }

    fn next_frame(&mut self, now_us: u64) -> Option<Frame> {
        if let Some(sent) = self.unacked.get_mut(self.resent) {
            self.resent += 1;
            self.stats.frames_resent += 1;
            return Some(again(sent, &mut self.unacked_bytes, now_us));
        }
        if let Some(id) = self.voids.pop_front() {
            return Some(self.number(Frame::new(Kind::Void, id, Bytes::new()), None));
        }
        for message in self.requests.take_expired(now_us) {
            self.stats.expired_out += 1;
            if self.open.remove(&message.id).is_some() {
                self.events.push_back(LinkEvent::Ended(message.id, End::Expired));
            }
        }
        let piece_bytes = self.limits.piece_bytes;
        if let Some(taken) = self.answers.take(piece_bytes, now_us) {
            if taken.complete {
                self.finished(taken.frame.id);
            }
            return Some(self.number(taken.frame, None));
        }
        let taken = self.requests.take(piece_bytes, now_us)?;
        if let Some(open) = self.open.get_mut(&taken.frame.id).filter(|_| taken.complete) {
            open.sent = true;
        }
        Some(self.number(taken.frame, taken.deadline_us))
    }

    fn number(&mut self, mut frame: Frame, deadline_us: Option<u64>) -> Frame {
        frame.seq = self.next_seq;
        self.next_seq += 1;
        self.stats.frames_sent += 1;
        self.unacked_bytes += frame.body.len();
        self.unacked.push_back(Sent { frame: frame.clone(), deadline_us });
        self.resent += 1;
        frame
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

/// The frame to be sent again: what is left of its deadline changes, and one that expired goes empty.
fn again(sent: &mut Sent, unacked_bytes: &mut usize, now_us: u64) -> Frame {
    if let Some(deadline) = sent.deadline_us {
        sent.frame.deadline_us = Some(deadline.saturating_sub(now_us));
        if deadline <= now_us && !sent.frame.more {
            *unacked_bytes = unacked_bytes.saturating_sub(sent.frame.body.len());
            empty(sent);
        }
    }
    sent.frame.clone()
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
