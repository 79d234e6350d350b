//! Who is not let in, and what is not believed.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use stanchion::{
    bytes::Bytes,
    cluster::{
        Cookie, Gateway, GatewayError, GatewayOptions, NodeName, PeerState, Security, TlsFiles,
        TransportError, TransportOptions, TransportStats,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::kit::{Node, options, patient};

/// Waits until a counter of `node` says so.
async fn counts(node: &Node, enough: impl Fn(&TransportStats) -> bool) {
    patient(async {
        while !enough(&node.gateway.stats().transport) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// An authority in `folder`, and what nodes under it are signed with.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join("authority.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// Files of a node whose certificate is for `server_name`.
    fn files(&self, node: &str, server_name: &str) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![server_name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let at = |end: &str| self.folder.join(format!("{node}{end}"));
        std::fs::write(at(".pem"), certificate.pem()).unwrap();
        std::fs::write(at(".key"), key.serialize_pem()).unwrap();
        TlsFiles {
            authority: self.folder.join("authority.pem"),
            certificate: at(".pem"),
            key: at(".key"),
            server_name: "cluster.test".to_owned(),
        }
    }
}

fn with_tls(name: &str, files: TlsFiles) -> GatewayOptions {
    let transport = TransportOptions { security: Security::Tls(files), ..TransportOptions::default() };
    GatewayOptions { transport, ..options(name, 1) }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_authority_join_by_tls_and_talk() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ours");
    let a = Node::start(with_tls("a", authority.files("a", "cluster.test"))).await;
    let b = Node::start(with_tls("b", authority.files("b", "cluster.test"))).await;
    a.dial(&b);
    a.sees(&b.name(), PeerState::Up).await;
    b.sees(&a.name(), PeerState::Up).await;
    assert_eq!(a.call(&b.name(), "echo", "secret").await, Ok(Bytes::from("secret")));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_or_for_another_name_is_refused_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "theirs"));
    let a = Node::start(with_tls("a", ours.files("a", "cluster.test"))).await;
    // The dialled side is wrong: the client finds it.
    let wrong_name = Node::start(with_tls("b", ours.files("b", "another.test"))).await;
    let stranger = Node::start(with_tls("c", theirs.files("c", "cluster.test"))).await;
    a.dial(&wrong_name);
    a.dial(&stranger);
    counts(&a, |stats| stats.tls >= 2).await;
    // The dialling side is wrong, and trusts us: the server finds it.
    let mut files = theirs.files("d", "cluster.test");
    files.authority = folder.path().join("ours/authority.pem");
    let intruder = Node::start(with_tls("d", files)).await;
    let before = a.gateway.stats().transport.tls;
    intruder.dial(&a);
    counts(&a, |stats| stats.tls > before + 1).await;
    // A peer without TLS is none at all.
    let plain = Node::plain("e").await;
    plain.dial(&a);
    counts(&plain, |stats| stats.malformed > 0).await;
    for node in [a, wrong_name, stranger, intruder, plain] {
        assert!(node.gateway.peers().is_empty());
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cookie_is_refused_and_counted_on_both_sides() {
    let a = Node::plain("a").await;
    let b = Node::start(GatewayOptions { cookie: Cookie::random().unwrap(), ..options("b", 1) }).await;
    b.dial(&a);
    counts(&a, |stats| stats.cookie > 0).await;
    counts(&b, |stats| stats.cookie > 0).await;
    for node in [a, b] {
        assert!(node.gateway.peers().is_empty());
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_tcp_outside_loopback_is_refused_by_name_unless_it_is_asked_for() {
    let everywhere = Some(SocketAddr::from(([0, 0, 0, 0], 0)));
    let scope = stanchion_actors::task::TaskScope::root("plain");
    let handler = std::sync::Arc::new(Nobody);
    let refused =
        Gateway::start(GatewayOptions { listen: everywhere, ..options("a", 1) }, handler, &scope).await;
    assert!(matches!(refused, Err(GatewayError::Transport(TransportError::Plain(_)))), "{refused:?}");
    let insecure =
        TransportOptions { security: Security::Plain { insecure: true }, ..TransportOptions::default() };
    let open =
        Node::start(GatewayOptions { listen: everywhere, transport: insecure, ..options("b", 1) }).await;
    open.stop().await;
    // Nor is an address outside loopback dialled.
    let a = Node::plain("a").await;
    a.gateway.dial("192.0.2.1:9");
    counts(&a, |stats| stats.socket > 0).await;
    a.stop().await;
}

struct Nobody;
impl stanchion::cluster::Handler for Nobody {
    fn on_call(
        &self,
        _: &stanchion::cluster::NodeId,
        _: stanchion::cluster::Incoming,
    ) -> futures_util::future::BoxFuture<'static, Result<Bytes, stanchion::cluster::Nack>> {
        Box::pin(std::future::pending())
    }
    fn on_cast(
        &self,
        _: &stanchion::cluster::NodeId,
        _: stanchion::cluster::Incoming,
    ) -> futures_util::future::BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    fn on_durable(
        &self,
        _: &stanchion::cluster::NodeId,
        _: stanchion::cluster::IncomingDurable,
    ) -> futures_util::future::BoxFuture<'static, Result<(), stanchion::cluster::Nack>> {
        Box::pin(std::future::pending())
    }
    fn on_gossip(&self, _: &stanchion::cluster::NodeId, _: Bytes) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_are_gone_after_the_deadline_and_nodes_join_all_the_while() {
    let deadline = Duration::from_millis(700);
    let transport =
        TransportOptions { handshake_deadline: deadline, handshakes_max: 150, ..TransportOptions::default() };
    let a = Node::start(GatewayOptions { transport, ..options("a", 1) }).await;
    let address = a.gateway.address().unwrap();
    let began = Instant::now();
    let mut sockets = Vec::new();
    for _ in 0..200 {
        sockets.push(TcpStream::connect(address).await.unwrap());
    }
    for mut socket in sockets {
        // The end of the stream, or its reset.
        let _ = patient(socket.read_u8()).await.unwrap_err();
    }
    let took = began.elapsed();
    assert!(took < deadline + Duration::from_secs(2), "{took:?}");
    counts(&a, |stats| stats.silent + stats.busy == 200).await;
    let stats = a.gateway.stats().transport;
    assert!(stats.busy >= 50, "{stats:?}");
    let b = Node::plain("b").await;
    b.dial(&a);
    a.sees(&b.name(), PeerState::Up).await;
    a.stop().await;
    b.stop().await;
}

/// A small deterministic generator.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| byte()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_and_truncated_and_replayed_handshakes_are_refused_and_counted_without_a_panic() {
    let a = Node::plain("a").await;
    let address = a.gateway.address().unwrap();
    // What a real client said once, recorded by somebody in the middle.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let b = Node::plain("b").await;
    b.gateway.dial(listener.local_addr().unwrap().to_string());
    let (mut client, _) = listener.accept().await.unwrap();
    let mut recorded = vec![0; 64];
    client.read_exact(&mut recorded).await.unwrap();
    drop((client, listener));
    let mut sent = 0;
    for seed in 0..60 {
        let bytes = match seed % 3 {
            0 => noise(seed, 200),
            1 => recorded[..(seed as usize % 64)].to_vec(),
            _ => [recorded.clone(), noise(seed, 60)].concat(),
        };
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut rest = vec![];
        let _ = patient(socket.read_to_end(&mut rest)).await;
        sent += 1;
    }
    counts(&a, |stats| stats.malformed + stats.cookie + stats.silent >= sent).await;
    assert!(a.gateway.peers().is_empty());
    b.dial(&a);
    a.sees(&b.name(), PeerState::Up).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_in_the_name_of_a_proven_peer_is_counted_and_has_no_effect() {
    let (a, mut b) = crate::kit::pair().await;
    let gateways: Vec<_> = ractor::registry::pid_registry::get_all_pids();
    let gateways: Vec<_> = gateways.into_iter().filter(ractor::ActorCell::supports_remoting).collect();
    assert!(gateways.len() >= 2);
    let before = b.gateway.stats();
    for seed in 0..300 {
        let mut args = noise(seed, 300);
        if seed % 2 == 0 {
            // Of our version: the head can be read.
            args[..2].copy_from_slice(&[0, 1]);
        }
        for gateway in &gateways {
            let variant = "packet".to_owned();
            let message =
                ractor::message::SerializedMessage::Cast { variant, args: args.clone(), metadata: None };
            let _ = gateway.send_serialized(message);
        }
    }
    let marker: NodeName = b.name();
    assert_eq!(a.call(&marker, "echo", "still").await, Ok(Bytes::from("still")));
    patient(async {
        while b.gateway.stats().malformed < before.malformed + 300 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(b.next().await, crate::kit::Seen::Call("echo".into(), "still".into()));
    a.stop().await;
    b.stop().await;
}
