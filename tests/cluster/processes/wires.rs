//! The wires between nodes: a TCP proxy for every node and everyone who dials it, each direction under control.

use std::{net::SocketAddr, sync::Mutex, time::Duration};

use stanchion_actors::task::{CancelToken, TaskScope};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What happens to bytes in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Pass,
    /// Nothing moves; what is under way goes on later.
    Hold,
    /// Each piece waits so long.
    Slow(Duration),
    /// As `Hold`, and new connections are not taken.
    Closed,
}

/// Connections from one to another.
struct Wire {
    flow: watch::Sender<Flow>,
    cut: Mutex<CancelToken>,
    address: SocketAddr,
}

/// Wires between any two of `count`.
pub(crate) struct Wires {
    wires: Vec<Vec<Wire>>,
    targets: Vec<watch::Sender<Option<SocketAddr>>>,
    _scope: TaskScope,
}

impl Wires {
    pub(crate) async fn between(count: usize) -> std::sync::Arc<Self> {
        let scope = TaskScope::root("wires");
        let targets: Vec<_> = (0..count).map(|_| watch::channel(None).0).collect();
        let mut listeners = Vec::new();
        let mut wires = Vec::new();
        for from in 0..count {
            let mut row = Vec::new();
            for to in 0..count {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                listeners.push((from, to, listener));
                let cut = Mutex::new(CancelToken::new());
                row.push(Wire { flow: watch::channel(Flow::Pass).0, cut, address });
            }
            wires.push(row);
        }
        let pipes = scope.child("pipes");
        let wires = std::sync::Arc::new(Self { wires, targets, _scope: scope });
        for (from, to, listener) in listeners {
            let (weak, pipes_of) = (std::sync::Arc::downgrade(&wires), pipes.clone());
            let accepts = async move {
                while let Ok((near, _)) = listener.accept().await {
                    let Some(wires) = weak.upgrade() else { return };
                    wires.connect(from, to, near, &pipes_of).await;
                }
            };
            wires._scope.spawn("accept", accepts).unwrap();
        }
        wires
    }

    async fn connect(&self, from: usize, to: usize, near: TcpStream, pipes: &TaskScope) {
        let (there, back) = (&self.wires[from][to], &self.wires[to][from]);
        let closed = [there, back].iter().any(|wire| *wire.flow.borrow() == Flow::Closed);
        let target = *self.targets[to].borrow();
        let (false, Some(target)) = (closed, target) else { return };
        let token = there.cut.lock().unwrap().clone();
        let Ok(far) = TcpStream::connect(target).await else { return };
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        let ways = [(near_read, far_write, &there.flow), (far_read, near_write, &back.flow)];
        for (read, write, flow) in ways {
            // The scope ends with the test.
            let _ = pipes.spawn("pipe", pipe(read, write, flow.subscribe(), token.clone()));
        }
    }

    /// Where `from` dials `to`.
    pub(crate) fn address(&self, from: usize, to: usize) -> String {
        self.wires[from][to].address.to_string()
    }

    /// Where `to` listens from now on.
    pub(crate) fn lead(&self, to: usize, target: SocketAddr) {
        self.targets[to].send_replace(Some(target));
    }

    /// What happens to bytes from one to another.
    pub(crate) fn set(&self, from: usize, to: usize, flow: Flow) {
        self.wires[from][to].flow.send_replace(flow);
    }

    /// Breaks every connection between two.
    pub(crate) fn cut(&self, one: usize, other: usize) {
        for wire in [&self.wires[one][other], &self.wires[other][one]] {
            std::mem::take(&mut *wire.cut.lock().unwrap()).cancel();
        }
    }
}

async fn pipe(
    mut read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    cut: CancelToken,
) {
    let mut buffer = vec![0; 16_384];
    let passes = async {
        loop {
            let Ok(length @ 1..) = read.read(&mut buffer).await else { return };
            let moves = |flow: &Flow| matches!(flow, Flow::Pass | Flow::Slow(_));
            let Ok(flow) = flow.wait_for(moves).await.map(|flow| *flow) else { return };
            if let Flow::Slow(wait) = flow {
                tokio::time::sleep(wait).await;
            }
            if write.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = passes => {}
        () = cut.cancelled() => {}
    }
}
