//! What a link tells its owner.

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::frame::{Hello, Kind, Nack};

/// What is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) kind: Kind,
    pub(crate) entity: Option<Arc<str>>,
    /// On our own clock.
    pub(crate) deadline_us: Option<u64>,
    pub(crate) traceparent: Option<Arc<str>>,
    pub(crate) body: Bytes,
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is larger than we send or the peer takes.
    TooLarge { bytes: usize, limit: usize },
    /// A name in it does not fit into a frame.
    Name,
    /// The queue is full.
    Overloaded { bytes: usize, messages: usize },
    /// The peer is lost.
    Unreachable,
}

/// A request that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    /// Number by which it is answered or finished.
    pub(crate) id: u64,
    pub(crate) entity: Option<Arc<str>>,
    /// On our own clock.
    pub(crate) deadline_us: Option<u64>,
    pub(crate) traceparent: Option<Arc<str>>,
    pub(crate) body: Bytes,
}

/// How a request of ours ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer answered.
    Reply(Bytes),
    /// The peer refused.
    Nack(Nack),
    /// It was never wholly sent: its deadline passed.
    Expired,
    /// It was never wholly sent: the peer is lost, or begins another life.
    NotSent,
    /// It was sent, and the peer began another life or is lost.
    Lost,
}

/// What the silence of a peer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LinkState {
    /// Waiting for a stream, or for the peer's first words on it.
    Greeting,
    /// The peer speaks.
    Up,
    /// The peer is silent for longer than `suspect_after`.
    Suspect,
    /// The peer is silent for longer than `lost_after`: close its stream.
    Lost,
}

/// What happened on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    /// The peer's first words on a stream.
    Greeted(Hello),
    /// A request arrived, whole, in order and in time.
    Request(Request),
    /// A request of ours ended; each ends once.
    Ended(u64, End),
    /// The state changed.
    State(LinkState),
    /// The peer leaves on purpose.
    Goodbye,
}

/// What a peer did that no peer may do; its stream is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum Fault {
    /// It spoke before it greeted, or greeted twice, or what it said was no greeting.
    #[error("peer did not greet as it should")]
    Greeting,
    /// It left numbers out.
    #[error("peer left out frames")]
    Gap,
    /// It acknowledged what was never sent.
    #[error("peer acknowledged frames that were never sent")]
    Ack,
    /// It sent more than it was granted.
    #[error("peer sent more than it was granted")]
    Credit,
    /// The pieces of a message do not fit together.
    #[error("peer sent pieces that do not fit together")]
    Pieces,
    /// A message is larger than it was told.
    #[error("peer sent a message over the limit")]
    Size,
}

/// Counters of a link; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Numbered frames sent for the first time.
    pub frames_sent: u64,
    /// Numbered frames sent again after a reconnect.
    pub frames_resent: u64,
    /// Numbered frames that arrived for the first time.
    pub frames_received: u64,
    /// Numbered frames that had arrived before.
    pub duplicates: u64,
    /// Requests that came after their deadline: not delivered, answered `Expired`.
    pub expired_in: u64,
    /// Requests of ours whose deadline passed before they were sent.
    pub expired_out: u64,
    /// Requests refused because the queue was full.
    pub overloaded: u64,
    /// Casts and gossip dropped because the peer was lost before they were sent.
    pub dropped: u64,
}
