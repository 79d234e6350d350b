//! Streams between nodes: TLS or plain, proven by the cookie, within a deadline, with an end.
//!
//! It owns sockets until they are proven; it refuses to know frames and links. What comes out goes to ractor as one
//! of its external streams.

mod cookie;
mod dial;
mod handshake;
mod listen;
mod random;
mod security;
mod stats;
mod stream;

use std::{io, net::SocketAddr, time::Duration};

pub use self::{
    cookie::{COOKIE_MIN_BYTES, Cookie, CookieError},
    handshake::{HandshakeError, Refusal},
    random::RandomError,
    security::{Security, TlsFiles},
    stats::TransportStats,
};
pub(crate) use self::{
    dial::dial,
    handshake::Greeting,
    listen::{Door, Reception, listen},
    random::{draw, random},
    security::{Guard, Io},
    stream::CutStream,
};
pub(crate) use stats::TransportCounters;

/// Settings of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportOptions {
    /// How streams are protected; default plain, on loopback only.
    pub security: Security,
    /// Longest time of TLS and handshake together; default 5 s.
    pub handshake_deadline: Duration,
    /// Handshakes of others at one time; more are closed at once; default 256.
    pub handshakes_max: usize,
    /// First delay before dialling again; default 100 ms.
    pub redial_first: Duration,
    /// Longest delay before dialling again; default 5 s.
    pub redial_max: Duration,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            security: Security::Plain { insecure: false },
            handshake_deadline: Duration::from_secs(5),
            handshakes_max: 256,
            redial_first: Duration::from_millis(100),
            redial_max: Duration::from_secs(5),
        }
    }
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Plain TCP outside loopback.
    #[error("plain TCP to {0} is refused: use TLS, or set insecure = true if the network is trusted")]
    Plain(SocketAddr),
    /// A file of certificates or keys cannot be used.
    #[error("certificate file {path} cannot be used: {cause}")]
    Certificate {
        /// The file.
        path: String,
        /// The cause.
        cause: String,
    },
    /// The name in the settings is no name of a certificate.
    #[error("{0:?} is not a name a certificate can be for")]
    ServerName(String),
    /// The address means nothing.
    #[error("address {0:?} cannot be resolved")]
    Address(String),
    /// The socket cannot be made.
    #[error("socket failed: {0}")]
    Socket(#[from] io::Error),
    /// TLS refused: a wrong certificate, or none.
    #[error("TLS refused: {0}")]
    Tls(#[source] io::Error),
    /// The handshake refused.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The handshake took too long.
    #[error("peer did not finish the handshake within {0:?}")]
    Silent(Duration),
}

/// A stream whose peer has proven the cookie.
pub(crate) struct Arrival {
    pub(crate) io: Box<dyn Io>,
    pub(crate) ours: Greeting,
    pub(crate) theirs: Greeting,
    /// Whether the peer dialled.
    pub(crate) is_server: bool,
    pub(crate) address: SocketAddr,
}

/// Sets what every socket of ours has: no delay of small packets, and probes of an idle peer by the system.
fn prepare(socket: &tokio::net::TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    #[cfg(unix)]
    {
        use rustix::net::sockopt;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, Duration::from_secs(10))?;
        sockopt::set_tcp_keepintvl(socket, Duration::from_secs(5))?;
        sockopt::set_tcp_keepcnt(socket, 3)?;
    }
    Ok(())
}
