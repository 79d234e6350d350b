//! What a gateway hands to the layer above.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;

use crate::cluster::{frame::Nack, identity::NodeId};

/// A request of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The entity it is for, as the sender's side wrote it.
    pub entity: Option<Arc<str>>,
    /// The payload.
    pub body: Bytes,
    /// What is left of the deadline; calls always have one.
    pub time_left: Option<Duration>,
    /// W3C trace context of the sender.
    pub traceparent: Option<Arc<str>>,
}

/// A message out of the outbox of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncomingDurable {
    /// Who numbers it, as the sender's side wrote it.
    pub origin: Bytes,
    /// Its number within the origin.
    pub seq: u64,
    /// The message.
    pub message: Incoming,
}

/// Takes what peers send.
///
/// The methods are called in order of arrival, one after the other for each peer; the futures they return run beside
/// each other. What must keep its order is therefore decided before the method returns: it puts the work into its
/// place, the future waits for the end. The methods must not block. A panic is answered as `Unknown`.
pub trait Handler: Send + Sync + 'static {
    /// A call. `Err` refuses it; a reason of [`Nack`] says whether it was applied.
    fn on_call(&self, from: &NodeId, call: Incoming) -> BoxFuture<'static, Result<Bytes, Nack>>;

    /// A cast; its place in the window is free once the future ends.
    fn on_cast(&self, from: &NodeId, cast: Incoming) -> BoxFuture<'static, ()>;

    /// A durable message: `Ok` once it is committed, also when it was committed before.
    fn on_durable(&self, from: &NodeId, durable: IncomingDurable) -> BoxFuture<'static, Result<(), Nack>>;

    /// What a peer says about nodes.
    fn on_gossip(&self, from: &NodeId, body: Bytes);
}

/// Origin and number travel in front of a durable message.
pub(super) fn pack(origin: &[u8], seq: u64, body: &[u8]) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(10 + origin.len() + body.len());
    out.put_u16(u16::try_from(origin.len()).ok()?);
    out.put_slice(origin);
    out.put_u64(seq);
    out.put_slice(body);
    Some(out.freeze())
}

/// The reverse of [`pack`]: origin, number and message.
pub(super) fn unpack(mut bytes: Bytes) -> Option<(Bytes, u64, Bytes)> {
    let length = usize::from(bytes.try_get_u16().ok()?);
    if bytes.len() < length {
        return None;
    }
    let origin = bytes.split_to(length);
    let seq = bytes.try_get_u64().ok()?;
    Some((origin, seq, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durable_message_unpacks_to_what_was_packed_and_a_short_one_is_refused() {
        let packed = pack(b"origin", 7, b"body").unwrap();
        assert_eq!(unpack(packed.clone()), Some(("origin".into(), 7, "body".into())));
        for length in 0..16 {
            assert_eq!(unpack(packed.slice(..length)), None, "{length}");
        }
    }
}
