//! The wire format between two gateways: packets of frames, checked field by field.
//!
//! A packet is what one message of ractor carries. Its head answers for the whole link (token, acknowledgement,
//! credit), so a packet without frames is heartbeat, acknowledgement and credit at once. Numbers are big endian.
//! Decoding refuses to trust: every length is checked before it is used, nothing panics, nothing is allocated that
//! the bytes at hand do not fill.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The newest version of the format this build speaks.
pub const FORMAT_VERSION: u16 = 1;
/// The oldest version of the format this build speaks.
pub const FORMAT_VERSION_MIN: u16 = 1;
/// Longest name of an entity on the wire, in bytes.
pub const ENTITY_MAX_BYTES: usize = 768;
/// Longest traceparent, in bytes; W3C version 00 has 55.
pub const TRACE_MAX_BYTES: usize = 64;
/// Largest packet a peer may send, in bytes.
pub const PACKET_MAX_BYTES: usize = 1 << 20;

const HAS_MORE: u8 = 1;
const HAS_ENTITY: u8 = 1 << 1;
const HAS_DEADLINE: u8 = 1 << 2;
const HAS_TRACE: u8 = 1 << 3;
const HAS_TOTAL: u8 = 1 << 4;
const FLAGS: u8 = HAS_MORE | HAS_ENTITY | HAS_DEADLINE | HAS_TRACE | HAS_TOTAL;

/// Which of the two windows a frame counts against.
///
/// Answers have a window of their own: a window full of calls whose handlers call back must not stop the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Calls, casts, durable messages and gossip.
    Requests,
    /// Replies and refusals.
    Answers,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// First frame of a stream, unnumbered: a [`Hello`].
    Hello,
    /// A request that is answered, with a deadline.
    Call,
    /// A request without an answer.
    Cast,
    /// The answer to a call, or the commit of a durable message; `id` is that of the request.
    Reply,
    /// A refusal; `id` is that of the request, the body a [`Nack`].
    Nack,
    /// A message of an outbox; answered once the receiver has committed it.
    Durable,
    /// What nodes tell each other about nodes.
    Gossip,
    /// Stands for a frame that was withdrawn; the receiver forgets the pieces of message `id`.
    Void,
    /// The peer leaves on purpose; unnumbered.
    Goodbye,
}

impl Kind {
    /// The window this kind counts against; `None` for what is never held back.
    #[must_use]
    pub const fn lane(self) -> Option<Lane> {
        match self {
            Self::Call | Self::Cast | Self::Durable | Self::Gossip => Some(Lane::Requests),
            Self::Reply | Self::Nack => Some(Lane::Answers),
            Self::Hello | Self::Void | Self::Goodbye => None,
        }
    }

    /// Whether frames of this kind are numbered, acknowledged and sent again.
    #[must_use]
    pub const fn is_sequenced(self) -> bool {
        !matches!(self, Self::Hello | Self::Goodbye)
    }

    const fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Call => 2,
            Self::Cast => 3,
            Self::Reply => 4,
            Self::Nack => 5,
            Self::Durable => 6,
            Self::Gossip => 7,
            Self::Void => 8,
            Self::Goodbye => 9,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Hello,
            2 => Self::Call,
            3 => Self::Cast,
            4 => Self::Reply,
            5 => Self::Nack,
            6 => Self::Durable,
            7 => Self::Gossip,
            8 => Self::Void,
            9 => Self::Goodbye,
            _ => return None,
        })
    }
}

/// Names one direction of one stream; drawn at random by the receiver.
pub type StreamToken = u128;

/// How much a peer may have sent since the link began; both numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit {
    /// Bytes, counted by [`Frame::cost`].
    pub bytes: u64,
    /// Frames.
    pub frames: u64,
}

/// Head of a packet: the state of the link as its sender sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The stream, as the receiver named it.
    pub token: StreamToken,
    /// When it was sent, in microseconds of the sender's own monotonic clock.
    pub sent_us: u64,
    /// Every frame up to this number has arrived.
    pub ack: u64,
    /// What the receiver of this packet may send on [`Lane::Requests`].
    pub requests: Credit,
    /// What the receiver of this packet may send on [`Lane::Answers`].
    pub answers: Credit,
}

/// One message, or one piece of a large one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Its number within the link, from 1; 0 for what is not numbered.
    pub seq: u64,
    /// Number of the message; answers carry that of the request.
    pub id: u64,
    /// The entity it is for, as the layer above writes it; only in the first piece.
    pub entity: Option<Arc<str>>,
    /// What is left of the deadline as it is sent, in microseconds; only in the first piece.
    pub deadline_us: Option<u64>,
    /// W3C trace context; only in the first piece.
    pub traceparent: Option<Arc<str>>,
    /// Bytes of the whole body, in the first of several pieces.
    pub total: Option<u64>,
    /// Whether another piece of the same message follows.
    pub more: bool,
    /// The payload, or a piece of it.
    pub body: Bytes,
}

impl Frame {
    /// A frame of `kind` for message `id` with nothing else in it.
    #[must_use]
    pub fn new(kind: Kind, id: u64, body: Bytes) -> Self {
        Self {
            kind,
            seq: 0,
            id,
            entity: None,
            deadline_us: None,
            traceparent: None,
            total: None,
            more: false,
            body,
        }
    }

    /// What it counts against a window: its payload and its names, and a flat share for its head.
    #[must_use]
    pub fn cost(&self) -> u64 {
        let names = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        let bytes = self.body.len() + names(&self.entity) + names(&self.traceparent);
        FRAME_HEAD_BYTES + bytes as u64
    }
}

/// What the head of a frame counts.
pub const FRAME_HEAD_BYTES: u64 = 48;

/// A head and its frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// The head.
    pub head: Head,
    /// The frames, in the order they were sent.
    pub frames: Vec<Frame>,
}

/// First words of a node on a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest and newest version of the format the node speaks.
    pub versions: (u16, u16),
    /// The node's name.
    pub node: Arc<str>,
    /// Which life of the node this is.
    pub incarnation: (u64, u64),
    /// Largest message the node takes, in bytes.
    pub message_max_bytes: u64,
    /// What the node can do, as the layer above writes it.
    pub capabilities: Vec<String>,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum NackReason {
    /// No such kind of entity or request on this node.
    UnknownKind,
    /// No such entity on this node.
    UnknownEntity,
    /// The receiver has no room; not applied.
    Overloaded,
    /// The message is older than what the receiver remembers; not applied.
    TooOld,
    /// The message is larger than the receiver takes.
    TooLarge,
    /// The receiver does not speak this version of the message.
    Version,
    /// The deadline passed before it was delivered; not applied.
    Expired,
    /// The node is stopping; not applied.
    Draining,
    /// It cannot be applied now; not applied.
    Unavailable,
    /// It may have been applied.
    Unknown,
}

/// A refusal with its cause in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("refused as {reason:?}: {detail}")]
pub struct Nack {
    /// The cause.
    pub reason: NackReason,
    /// The cause in words, for people.
    pub detail: String,
}

impl Nack {
    /// A refusal for `reason`.
    #[must_use]
    pub fn new(reason: NackReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The packet is larger than allowed.
    #[error("packet has {0} bytes, at most {PACKET_MAX_BYTES} are allowed")]
    TooLarge(usize),
    /// The packet is of a version this build does not speak.
    #[error("packet is of format {0}, this node speaks {FORMAT_VERSION_MIN} to {FORMAT_VERSION}")]
    Version(u16),
    /// The bytes end within a field.
    #[error("packet ends within {0}")]
    Truncated(&'static str),
    /// A field holds what it may not.
    #[error("{0} is out of its range")]
    Malformed(&'static str),
}

/// Writes a packet.
#[must_use]
pub fn encode(packet: &Packet) -> Vec<u8> {
    let bodies: usize = packet.frames.iter().map(|frame| frame.body.len() + 128).sum();
    let mut out = BytesMut::with_capacity(80 + bodies);
    out.put_u16(FORMAT_VERSION);
    out.put_u128(packet.head.token);
    out.put_u64(packet.head.sent_us);
    out.put_u64(packet.head.ack);
    for credit in [packet.head.requests, packet.head.answers] {
        out.put_u64(credit.bytes);
        out.put_u64(credit.frames);
    }
    for frame in &packet.frames {
        encode_frame(frame, &mut out);
    }
    out.into()
}

fn encode_frame(frame: &Frame, out: &mut BytesMut) {
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    let flags = flag(frame.more, HAS_MORE)
        | flag(frame.entity.is_some(), HAS_ENTITY)
        | flag(frame.deadline_us.is_some(), HAS_DEADLINE)
        | flag(frame.traceparent.is_some(), HAS_TRACE)
        | flag(frame.total.is_some(), HAS_TOTAL);
    out.put_u8(frame.kind.code());
    out.put_u8(flags);
    out.put_u64(frame.seq);
    out.put_u64(frame.id);
    for text in [&frame.entity, &frame.traceparent].into_iter().flatten() {
        out.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
        out.put_slice(text.as_bytes());
    }
    for number in [frame.deadline_us, frame.total].into_iter().flatten() {
        out.put_u64(number);
    }
    out.put_u32(u32::try_from(frame.body.len()).unwrap_or(u32::MAX));
    out.put_slice(&frame.body);
}

/// Reads a packet.
///
/// # Errors
/// [`DecodeError`] when the bytes are no packet; the stream they came from is at fault and should be closed.
pub fn decode(bytes: Bytes) -> Result<Packet, DecodeError> {
    if bytes.len() > PACKET_MAX_BYTES {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let mut reader = Reader(bytes);
    let version = reader.u16("version")?;
    if !(FORMAT_VERSION_MIN..=FORMAT_VERSION).contains(&version) {
        return Err(DecodeError::Version(version));
    }
    let head = Head {
        token: reader.u128("token")?,
        sent_us: reader.u64("time")?,
        ack: reader.u64("ack")?,
        requests: reader.credit()?,
        answers: reader.credit()?,
    };
    let mut frames = Vec::new();
    while !reader.0.is_empty() {
        frames.push(reader.frame()?);
    }
    Ok(Packet { head, frames })
}

/// Takes fields from the front.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, length: usize, what: &'static str) -> Result<Bytes, DecodeError> {
        if self.0.len() < length {
            return Err(DecodeError::Truncated(what));
        }
        Ok(self.0.split_to(length))
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N, what)?;
        <[u8; N]>::try_from(bytes.as_ref()).map_err(|_| DecodeError::Truncated(what))
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array(what)?))
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    fn u128(&mut self, what: &'static str) -> Result<u128, DecodeError> {
        Ok(u128::from_be_bytes(self.array(what)?))
    }

    fn credit(&mut self) -> Result<Credit, DecodeError> {
        Ok(Credit { bytes: self.u64("credit")?, frames: self.u64("credit")? })
    }

    fn text(&mut self, limit: usize, what: &'static str) -> Result<Arc<str>, DecodeError> {
        let length = usize::from(self.u16(what)?);
        if length > limit {
            return Err(DecodeError::Malformed(what));
        }
        let bytes = self.take(length, what)?;
        std::str::from_utf8(&bytes).map(Arc::from).map_err(|_| DecodeError::Malformed(what))
    }

    fn frame(&mut self) -> Result<Frame, DecodeError> {
        let kind = Kind::of(self.u8("kind")?).ok_or(DecodeError::Malformed("kind"))?;
        let flags = self.u8("flags")?;
        if flags & !FLAGS != 0 {
            return Err(DecodeError::Malformed("flags"));
        }
        let (seq, id) = (self.u64("sequence")?, self.u64("id")?);
        if (seq != 0) != kind.is_sequenced() {
            return Err(DecodeError::Malformed("sequence"));
        }
        let has = |flag: u8| flags & flag != 0;
        let entity = has(HAS_ENTITY).then(|| self.text(ENTITY_MAX_BYTES, "entity")).transpose()?;
        let traceparent = has(HAS_TRACE).then(|| self.text(TRACE_MAX_BYTES, "traceparent")).transpose()?;
        let deadline_us = has(HAS_DEADLINE).then(|| self.u64("deadline")).transpose()?;
        let total = has(HAS_TOTAL).then(|| self.u64("total")).transpose()?;
        let length = u32::from_be_bytes(self.array("body")?) as usize;
        let body = self.take(length, "body")?;
        Ok(Frame { kind, seq, id, entity, deadline_us, traceparent, total, more: has(HAS_MORE), body })
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
