//! What happened: for subscribers, given back by the operation that caused it.

use super::NodeId;
use crate::balance::InstanceId;

/// A change of what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiscoveryEvent {
    /// An instance is there: new, or back after it was gone.
    Added {
        /// The instance.
        id: InstanceId,
        /// Its node.
        node: NodeId,
    },
    /// What it says of itself has changed, or it is no longer suspect.
    Changed {
        /// The instance.
        id: InstanceId,
    },
    /// It missed heartbeats: no new work.
    Suspect {
        /// The instance.
        id: InstanceId,
    },
    /// It is gone.
    Gone {
        /// The instance.
        id: InstanceId,
        /// Its node.
        node: NodeId,
        /// Why.
        reason: GoneReason,
    },
}

/// Why an instance is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GoneReason {
    /// It took its leave.
    Deregistered,
    /// Its lease is over.
    Expired,
    /// Its node is down.
    NodeDown,
    /// Another one has its id: a later life of its node, or whoever came after its end.
    Replaced,
}
