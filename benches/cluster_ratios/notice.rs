//! How long it takes to notice that a peer is killed, stopped or cut off, with the settings nobody changed.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use stanchion::{
    System,
    cluster::{Node, PeerState},
};
use stanchion_actors::task::TaskScope;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{Server, cells};

/// What happens to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Killed,
    Stopped,
    /// Packets are lost both ways: a proxy that stands still.
    Partitioned,
}

async fn until(node: &Node, gone: impl Fn(PeerState) -> bool) {
    while !node.peers().iter().any(|peer| gone(peer.state)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn signal(server: &Server, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), server.0.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// A proxy to the peer that stands still when it is told.
async fn proxy(peer: String, still: watch::Receiver<bool>, scope: &TaskScope) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let pipes = scope.clone();
    let accepts = async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(&peer).await.unwrap();
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            for (mut read, mut write) in [(near_read, far_write), (far_read, near_write)] {
                let mut still = still.clone();
                let pipe = async move {
                    let mut buffer = vec![0; 16_384];
                    while let Ok(length @ 1..) = read.read(&mut buffer).await {
                        if still.wait_for(|still| !still).await.is_err()
                            || write.write_all(&buffer[..length]).await.is_err()
                        {
                            return;
                        }
                    }
                };
                let _piped = pipes.spawn("pipe", pipe);
            }
        }
    };
    let _accepting = scope.spawn("proxy", accepts).unwrap();
    address
}

/// Time until the peer is not known to be up any more, and until it is given up.
pub(crate) async fn measure(fate: Fate) -> (Duration, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let scope = TaskScope::root("notice");
    let (server, address) = cells::peer(dir.path(), 0);
    let (stands, still) = watch::channel(false);
    let system = System::builder().open_memory().await.unwrap();
    let node = cells::join(&system, &proxy_if(fate, address, still, &scope).await).await;
    // In the middle between two heartbeats, at random enough.
    tokio::time::sleep(Duration::from_millis(700 + u64::from(std::process::id()) % 600)).await;
    let began = Instant::now();
    match fate {
        Fate::Killed => signal(&server, "KILL"),
        Fate::Stopped => signal(&server, "STOP"),
        Fate::Partitioned => drop(stands.send_replace(true)),
    }
    until(&node, |state| state != PeerState::Up).await;
    let suspected = began.elapsed();
    until(&node, |state| matches!(state, PeerState::Lost) || fate == Fate::Killed).await;
    let lost = began.elapsed();
    if fate == Fate::Stopped {
        signal(&server, "CONT");
    }
    scope.end();
    node.leave().await;
    let _ended = system.stop(Duration::ZERO).await.unwrap();
    (suspected, lost)
}

async fn proxy_if(fate: Fate, address: String, still: watch::Receiver<bool>, scope: &TaskScope) -> String {
    if fate == Fate::Partitioned { proxy(address, still, scope).await } else { address }
}
