//! Joining a ractor cluster: the conversation between nodes.
//!
//! It owns the gateway, the link to each peer and the transport below; it refuses to know what an entity is, where
//! one lives, and who belongs to the cluster: that is built on the calls of the [`Gateway`].

mod coded;
pub mod frame;
mod gateway;
mod identity;
mod link;
mod node;
pub mod transport;

pub use self::{
    frame::{Nack, NackReason},
    gateway::{
        CallEnd, Gateway, GatewayError, GatewayOptions, GatewayStats, Handler, Incoming, IncomingDurable,
        Outbound, PeerEvent, PeerState, PeerView,
    },
    identity::{NODE_NAME_MAX_BYTES, NodeId, NodeIncarnation, NodeName, NodeNameError},
    link::{LinkLimits, LinkLimitsError, LinkStats},
    node::{JoinError, Node, NodeOptions, NodeOptionsError, NodeTls, PlacedRun},
    transport::{
        Cookie, CookieError, HandshakeError, RandomError, Refusal, Security, TlsFiles, TransportError,
        TransportOptions, TransportStats,
    },
};
