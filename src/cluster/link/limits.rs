//! Bounds of a link.

use std::time::Duration;

use crate::cluster::frame::{ENTITY_MAX_BYTES, FRAME_HEAD_BYTES, PACKET_MAX_BYTES, TRACE_MAX_BYTES};

/// Bounds of one link to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// Largest message, in bytes: 1..; default 16 MiB. Over it: `TooLarge`.
    pub message_max_bytes: usize,
    /// Bytes of requests that wait or are not acknowledged; default 32 MiB. Over it: `Overloaded`.
    pub queue_max_bytes: usize,
    /// Requests that wait, are not acknowledged or not answered; default 65 536. Over it: `Overloaded`.
    pub queue_max_messages: usize,
    /// Bytes a peer may have in flight to us in each lane; default 4 MiB.
    pub window_bytes: u64,
    /// Frames a peer may have in flight to us in each lane; default 4 096.
    pub window_frames: u64,
    /// Size of a piece of a large message; default 64 KiB.
    pub piece_bytes: usize,
    /// Size at which a packet is full; default 128 KiB.
    pub packet_bytes: usize,
    /// Silence after which we say something; default 500 ms.
    pub heartbeat: Duration,
    /// Silence after which a peer is suspect; default 2 s.
    pub suspect_after: Duration,
    /// Silence after which a peer is lost and its stream closed; default 5 s.
    pub lost_after: Duration,
    /// Longest wait of an acknowledgement for something to travel with; default 20 ms.
    pub ack_delay: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            message_max_bytes: 16 << 20,
            queue_max_bytes: 32 << 20,
            queue_max_messages: 65_536,
            window_bytes: 4 << 20,
            window_frames: 4_096,
            piece_bytes: 64 << 10,
            packet_bytes: 128 << 10,
            heartbeat: Duration::from_millis(500),
            suspect_after: Duration::from_secs(2),
            lost_after: Duration::from_secs(5),
            ack_delay: Duration::from_millis(20),
        }
    }
}

/// Why limits cannot work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("link limits do not fit together: {0}")]
pub struct LinkLimitsError(pub &'static str);

impl LinkLimits {
    /// Checks that a link with these limits can make progress.
    ///
    /// # Errors
    /// [`LinkLimitsError`] names the rule that is broken.
    pub fn validate(&self) -> Result<(), LinkLimitsError> {
        let piece = self.piece_bytes as u64 + FRAME_HEAD_BYTES + (ENTITY_MAX_BYTES + TRACE_MAX_BYTES) as u64;
        let rules = [
            (self.piece_bytes > 0 && self.message_max_bytes > 0, "sizes must not be 0"),
            (
                self.window_frames > 0 && self.window_bytes >= piece,
                "the window must hold a piece and its names",
            ),
            (self.queue_max_bytes >= self.message_max_bytes, "the queue must hold the largest message"),
            (self.queue_max_messages > 0, "the queue must hold a message"),
            (
                self.packet_bytes + self.piece_bytes + 4096 <= PACKET_MAX_BYTES,
                "packet and piece must fit into 1 MiB",
            ),
            (self.heartbeat < self.suspect_after, "heartbeats must be more frequent than suspicion"),
            (self.suspect_after < self.lost_after, "a peer is suspect before it is lost"),
            (!self.heartbeat.is_zero(), "heartbeats need an interval"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(LinkLimitsError(rule)),
            None => Ok(()),
        }
    }
}

/// Microseconds of a duration; saturates.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
