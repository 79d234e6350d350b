//! How handshakes ended.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{HandshakeError, TransportError};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// How handshakes of both directions ended; the numbers only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct TransportStats {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct TransportCounters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl TransportCounters {
            pub(crate) fn snapshot(&self) -> TransportStats {
                TransportStats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Proven streams.
    joined,
    /// Sockets closed at once because too many were in their handshake.
    busy,
    /// Peers that did not finish within the deadline.
    silent,
    /// Peers with another cookie.
    cookie,
    /// Peers that TLS refused.
    tls,
    /// Peers of another version.
    version,
    /// Peers refused although they have the cookie: stale, twins, duplicates.
    refused,
    /// Peers that broke off or spoke something else.
    malformed,
    /// Sockets that failed.
    socket,
}

impl TransportCounters {
    pub(super) fn count(&self, error: &TransportError) {
        let counter = match error {
            TransportError::Silent(_) => &self.silent,
            TransportError::Tls(_) => &self.tls,
            TransportError::Handshake(HandshakeError::Cookie) => &self.cookie,
            TransportError::Handshake(HandshakeError::Version { .. }) => &self.version,
            TransportError::Handshake(HandshakeError::Refused(_)) => &self.refused,
            TransportError::Handshake(
                HandshakeError::Malformed | HandshakeError::Stream(_) | HandshakeError::Random(_),
            ) => &self.malformed,
            TransportError::Plain(_)
            | TransportError::Certificate { .. }
            | TransportError::ServerName(_)
            | TransportError::Address(_)
            | TransportError::Socket(_) => &self.socket,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn joined(&self) {
        self.joined.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn busy(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }
}
