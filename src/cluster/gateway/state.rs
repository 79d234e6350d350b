//! What is known of a peer.

use std::{net::SocketAddr, time::Duration};

use crate::cluster::{identity::NodeId, link::LinkStats};

/// What a peer's stream and silence mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// There is no stream yet, or no longer, or the peer has not greeted on it.
    Joining,
    /// The peer speaks.
    Up,
    /// The peer is silent for longer than `suspect_after`.
    Suspect,
    /// The peer is silent for longer than `lost_after`; what was not sent to it ended as `Unreachable`.
    Lost,
    /// The peer has said goodbye.
    Left,
}

/// The state of a peer changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEvent {
    /// The peer in one of its lives.
    pub node: NodeId,
    /// Its state from here on.
    pub state: PeerState,
}

/// A peer at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// The peer in its latest life.
    pub node: NodeId,
    /// Its state.
    pub state: PeerState,
    /// Where its stream comes from or goes to, while there is one.
    pub address: Option<SocketAddr>,
    /// What it said it can do.
    pub capabilities: Vec<String>,
    /// How long nothing was heard of it.
    pub silent_for: Duration,
    /// Bytes held for it, both ways.
    pub held_bytes: usize,
    /// Counters of the link.
    pub link: LinkStats,
}
