//! A TCP proxy between two nodes: it can stand still as a stopped process does, and break.

use std::{net::SocketAddr, sync::Arc};

use stanchion_actors::task::{CancelToken, TaskScope};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    still: watch::Sender<bool>,
    cut: Arc<std::sync::Mutex<CancelToken>>,
    _scope: TaskScope,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (still, stands) = watch::channel(false);
        let cut = Arc::new(std::sync::Mutex::new(CancelToken::new()));
        let scope = TaskScope::root("proxy");
        let (breaks, pipes) = (cut.clone(), scope.child("pipes"));
        let accepts = async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let token = breaks.lock().unwrap().clone();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                for (read, write) in [(near_read, far_write), (far_read, near_write)] {
                    let piped = pipe(read, write, stands.clone(), token.clone());
                    pipes.spawn("pipe", piped).unwrap();
                }
            }
        };
        scope.spawn("accept", accepts).unwrap();
        Self { address, still, cut, _scope: scope }
    }

    /// Passes nothing on, and takes nothing.
    pub(crate) fn stop(&self) {
        self.still.send_replace(true);
    }

    /// Goes on with what was under way.
    pub(crate) fn go_on(&self) {
        self.still.send_replace(false);
    }

    /// Breaks every connection; new ones are taken.
    pub(crate) fn cut(&self) {
        let cut = std::mem::take(&mut *self.cut.lock().unwrap());
        cut.cancel();
    }
}

async fn pipe(
    mut read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    mut still: watch::Receiver<bool>,
    cut: CancelToken,
) {
    let mut buffer = vec![0; 16_384];
    let passes = async {
        loop {
            let Ok(length @ 1..) = read.read(&mut buffer).await else { return };
            if still.wait_for(|still| !still).await.is_err()
                || write.write_all(&buffer[..length]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = passes => {}
        () = cut.cancelled() => {}
    }
}
