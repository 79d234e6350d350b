//! Codes and families of the errors of joining a cluster; those of calls stand with [`super::CallEnd`].

use stanchion_actors::error::{Coded, Family};

use super::{
    CookieError, GatewayError, HandshakeError, LinkLimitsError, NodeNameError, RandomError, Refusal,
    TransportError,
};

impl Coded for GatewayError {
    fn code(&self) -> &'static str {
        match self {
            Self::Limits(error) => error.code(),
            Self::Transport(error) => error.code(),
            Self::Actor(_) => "cluster.actor",
            Self::Tasks(error) => error.code(),
        }
    }

    fn family(&self) -> Family {
        match self {
            Self::Limits(error) => error.family(),
            Self::Transport(error) => error.family(),
            Self::Actor(_) => Family::Unavailable,
            Self::Tasks(error) => error.family(),
        }
    }
}

impl Coded for LinkLimitsError {
    fn code(&self) -> &'static str {
        "cluster.limits"
    }

    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for NodeNameError {
    fn code(&self) -> &'static str {
        "cluster.node_name"
    }

    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for RandomError {
    fn code(&self) -> &'static str {
        "cluster.random"
    }

    fn family(&self) -> Family {
        Family::Unavailable
    }
}

impl Coded for CookieError {
    fn code(&self) -> &'static str {
        match self {
            Self::Short { .. } => "cluster.cookie_short",
            Self::NotHex => "cluster.cookie_not_hex",
            Self::File { .. } => "cluster.cookie_file",
        }
    }

    fn family(&self) -> Family {
        Family::Rejected
    }
}

impl Coded for TransportError {
    fn code(&self) -> &'static str {
        match self {
            Self::Plain(_) => "cluster.plain",
            Self::Certificate { .. } => "cluster.certificate",
            Self::ServerName(_) => "cluster.server_name",
            Self::Address(_) => "cluster.address",
            Self::Socket(_) => "cluster.socket",
            Self::Tls(_) => "cluster.tls",
            Self::Handshake(error) => error.code(),
            Self::Silent(_) => "cluster.silent",
        }
    }

    fn family(&self) -> Family {
        match self {
            Self::Plain(_) | Self::Certificate { .. } | Self::ServerName(_) | Self::Tls(_) => {
                Family::Rejected
            }
            Self::Address(_) | Self::Socket(_) | Self::Silent(_) => Family::Unavailable,
            Self::Handshake(error) => error.family(),
        }
    }
}

impl Coded for HandshakeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Stream(_) => "cluster.stream",
            Self::Malformed => "cluster.malformed",
            Self::Version { .. } => "cluster.version",
            Self::Cookie => "cluster.cookie",
            Self::Refused(Refusal::Stale) => "cluster.stale",
            Self::Refused(Refusal::Twin) => "cluster.twin",
            Self::Refused(Refusal::Duplicate) => "cluster.duplicate",
            Self::Refused(Refusal::Myself) => "cluster.myself",
            Self::Refused(Refusal::Stopping) => "cluster.peer_stopping",
            Self::Random(error) => error.code(),
        }
    }

    fn family(&self) -> Family {
        match self {
            Self::Malformed
            | Self::Version { .. }
            | Self::Cookie
            | Self::Refused(Refusal::Stale | Refusal::Twin | Refusal::Myself) => Family::Rejected,
            Self::Stream(_) | Self::Refused(Refusal::Duplicate | Refusal::Stopping) => Family::Unavailable,
            Self::Random(error) => error.family(),
        }
    }
}
