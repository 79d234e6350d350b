//! The listener that ractor_cluster cannot be without: whoever finds it reaches nobody through it.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use ractor::{Actor, ActorRef};
use ractor_cluster::{
    NodeEventSubscription, NodeServer, NodeServerMessage, node::NodeServerSessionInformation,
};
use stanchion::cluster::PeerState;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto, pki_types::ServerName},
};

use crate::{
    kit::{Node, name, patient},
    stopped::Stopped,
};

/// Addresses of loopback on which a process listens.
fn listeners_of(pid: u32) -> BTreeSet<SocketAddr> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    let inodes: BTreeSet<String> = links
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    // Local address, state (0A listens) and inode.
    rows.filter(|row| row[3] == "0A" && inodes.contains(row[9]))
        .map(|row| {
            let (host, port) = row[1].split_once(':').unwrap();
            let host = u32::from_str_radix(host, 16).unwrap().to_le_bytes();
            SocketAddr::from((host, u16::from_str_radix(port, 16).unwrap()))
        })
        .collect()
}

/// Tells what becomes of sessions.
struct Tell(mpsc::UnboundedSender<&'static str>);

impl Tell {
    fn tell(&self, what: &'static str) {
        // The test may have ended.
        let _ = self.0.send(what);
    }
}

impl NodeEventSubscription for Tell {
    fn node_session_opened(&self, _: NodeServerSessionInformation) {
        self.tell("opened");
    }
    fn node_session_disconnected(&self, _: NodeServerSessionInformation) {
        self.tell("gone");
    }
    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {
        self.tell("in");
    }
    fn node_session_ready(&self, _: NodeServerSessionInformation) {
        self.tell("in");
    }
}

/// What the nodes of these tests give to ractor as its cookie.
fn cookie_below() -> String {
    let label = b"stanchion ractor cookie";
    let parts = [&(label.len() as u64).to_be_bytes()[..], label].concat();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[7; 32]);
    let tag = ring::hmac::sign(&key, ring::digest::digest(&ring::digest::SHA256, &parts).as_ref());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn raw_node(cookie: &str) -> ActorRef<NodeServerMessage> {
    let server = NodeServer::new(0, cookie.to_owned(), "raw".to_owned(), "raw.local".to_owned(), None, None);
    Actor::spawn(None, server, ()).await.unwrap().0
}

/// Says something, and waits until the other side closes; what it answered.
async fn says(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // It may have had enough before.
    let _ = (socket.write_all(bytes).await, socket.shutdown().await);
    let mut answer = Vec::new();
    // The end of the stream, or its reset.
    let _ = patient(socket.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reaches_an_actor_through_the_listener_of_ractor_below() {
    let node = Stopped::start();
    let gateway: SocketAddr = node.line("address ").parse().unwrap();
    let mut others = listeners_of(node.pid());
    assert!(others.remove(&gateway), "{others:?} without {gateway}");
    assert_eq!(others.len(), 1, "ractor's own, and no other: {others:?}");
    let below = others.pop_first().unwrap();
    assert!(below.ip().is_loopback(), "{below}");
    // Noise, and the first frame of a session of ractor in plain text.
    for length in [0, 1, 8, 300, 70_000] {
        let noise: Vec<u8> = (0..length).map(|at: u32| (at * 31 % 251) as u8).collect();
        let answer = says(below, &noise).await;
        assert!(answer.len() < 32, "no more than an alert of TLS: {answer:?}");
    }
    // A node of ractor: no cookie gets it anywhere, not even the one that sessions of the cluster prove to each other.
    for cookie in ["cookie".to_owned(), cookie_below()] {
        let raw = raw_node(&cookie).await;
        let (told, mut events) = mpsc::unbounded_channel();
        let subscription = Box::new(Tell(told));
        raw.cast(NodeServerMessage::SubscribeToEvents { id: "test".to_owned(), subscription }).unwrap();
        let _session = ractor_cluster::client_connect(&raw, below).await;
        let mut seen = vec![];
        while seen.last() != Some(&"gone") {
            seen.push(patient(events.recv()).await.unwrap());
        }
        assert!(!seen.contains(&"in"), "{seen:?}");
        raw.stop(None);
    }
    // By TLS: there is no certificate, so not even a handshake ends.
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let socket = TcpStream::connect(below).await.unwrap();
    let shaken =
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("cluster.test").unwrap(), socket);
    let error = patient(shaken).await.unwrap_err();
    assert!(!error.to_string().contains("certificate"), "there was one: {error}");
    // It is as well as before, and has run nothing.
    let a = Node::plain("a").await;
    a.gateway.dial(gateway.to_string());
    a.sees(&name("b"), PeerState::Up).await;
    assert!(a.call(&name("b"), "echo", "mine").await.is_ok());
    assert_eq!(node.line("ran "), "mine");
    a.stop().await;
}
