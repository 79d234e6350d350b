//! The node server of ractor below: it gets proven streams, and tells when a session on one is ready or gone.
//!
//! Its own listener cannot be left out, so it stands on a port of loopback and refuses everyone: its TLS has no
//! certificate. Its process groups and names are not used; which actor of a session is the peer's gateway is known
//! from the handshake.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Weak},
};

use ractor::{Actor, ActorCell, ActorId, ActorRef, SpawnErr, concurrency::JoinHandle};
use ractor_cluster::{
    IncomingEncryptionMode, NodeEventSubscription, NodeServer, NodeServerMessage,
    node::{NodeConnectionMode, NodeServerSessionInformation},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
        version::TLS13,
    },
};

use super::core::Core;
use crate::cluster::{frame::StreamToken, identity::NodeId, transport::Cookie};

/// Largest frame of ractor that is taken: a packet, or the list of a peer's remotable actors.
const SESSION_FRAME_MAX_BYTES: u64 = 4 << 20;

/// Starts the node server.
pub(super) async fn start(
    node: &NodeId,
    cookie: &Cookie,
) -> Result<(ActorRef<NodeServerMessage>, JoinHandle<()>), SpawnErr> {
    let nobody = nobody().map_err(|error| SpawnErr::StartupFailed(Box::new(error)))?;
    // Two nodes whose host and port are the same take each other for themselves: the host is the node's own word.
    let host = format!("{}.{:016x}", node.name, node.incarnation.nonce);
    let server = NodeServer::new(
        0,
        cookie.of_ractor(),
        node.to_string(),
        host,
        Some(IncomingEncryptionMode::Tls(nobody)),
        Some(NodeConnectionMode::Isolated),
    );
    let server = server
        .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .with_max_inbound_frame_size(SESSION_FRAME_MAX_BYTES);
    Actor::spawn(None, server, ()).await
}

/// TLS that fails for everyone.
fn nobody() -> Result<TlsAcceptor, tokio_rustls::rustls::Error> {
    #[derive(Debug)]
    struct NoCertificate;
    impl ResolvesServerCert for NoCertificate {
        fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            None
        }
    }
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = builder.with_protocol_versions(&[&TLS13])?.with_no_client_auth();
    Ok(TlsAcceptor::from(Arc::new(config.with_cert_resolver(Arc::new(NoCertificate)))))
}

/// The text by which a stream is known to the node server, and back.
pub(super) fn label(token: StreamToken) -> String {
    format!("{token:032x}")
}

fn token(label: &str) -> Option<StreamToken> {
    StreamToken::from_str_radix(label, 16).ok()
}

/// Hears of sessions.
pub(super) struct Sessions(pub(super) Weak<Core>);

impl NodeEventSubscription for Sessions {
    fn node_session_opened(&self, session: NodeServerSessionInformation) {
        if let (Some(core), Some(token)) = (self.0.upgrade(), token(&session.peer_addr)) {
            core.session_opened(token, session.actor.get_cell());
        }
    }

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        if let (Some(core), Some(token)) = (self.0.upgrade(), token(&session.peer_addr)) {
            core.session_gone(token);
        }
    }

    fn node_session_authenticated(&self, _session: NodeServerSessionInformation) {}

    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        if let (Some(core), Some(token)) = (self.0.upgrade(), token(&session.peer_addr)) {
            core.session_ready(token, &session.actor.get_cell());
        }
    }
}

/// The actor of `session` that stands for the peer's actor number `pid`.
pub(super) fn remote(session: &ActorCell, pid: u64) -> Option<ActorCell> {
    let named = |cell: &ActorCell| matches!(cell.get_id(), ActorId::Remote { pid: at, .. } if at == pid);
    session.get_children().into_iter().find(named)
}
