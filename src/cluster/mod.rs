//! Joining a ractor cluster: the conversation between nodes.
//!
//! It owns the gateway, the link to each peer and the transport below; it refuses to know what an entity is, where
//! one lives, and who belongs to the cluster: that is built on [`frame`] and the gateway's calls.

pub mod frame;
mod identity;
mod link;
pub mod transport;

pub use self::link::{LinkLimits, LinkLimitsError, LinkStats};
