//! Taking sockets of others: each proves itself within the deadline, or is closed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use stanchion_actors::task::{Places, TaskScope};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info};

use super::{
    Arrival, Cookie, Greeting, Guard, Refusal, TransportCounters, TransportError, handshake, prepare,
};
use crate::cluster::identity::NodeId;

/// Pause after the system refused to give a socket: it is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What both ways of getting a stream share.
pub(crate) struct Door {
    pub(crate) node: NodeId,
    /// Number of our gateway actor.
    pub(crate) gateway: u64,
    pub(crate) guard: Guard,
    pub(crate) cookie: Cookie,
    pub(crate) deadline: Duration,
    pub(crate) handshakes_max: usize,
    pub(crate) counters: Arc<TransportCounters>,
}

/// Who judges and takes proven streams.
pub(crate) trait Reception: Send + Sync + 'static {
    /// Whether a peer that has the cookie may join by a stream it dialled (`is_server`) or we did.
    fn admit(&self, peer: &NodeId, is_server: bool) -> Result<(), Refusal>;
    /// Takes a proven stream.
    fn arrived(self: Arc<Self>, arrival: Arrival);
}

/// Takes sockets until the scope ends.
pub(crate) async fn listen<R: Reception>(
    listener: TcpListener,
    door: Arc<Door>,
    reception: Arc<R>,
    scope: TaskScope,
) {
    let places = Places::new(door.handshakes_max);
    loop {
        let Ok((socket, address)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(place) = places.try_take() else {
            door.counters.busy();
            debug!(%address, "socket closed: too many handshakes");
            continue;
        };
        let (door, reception) = (door.clone(), reception.clone());
        let greets = async move {
            let _place = place;
            match serve(socket, address, &door, &*reception).await {
                Ok(arrival) => reception.arrived(arrival),
                Err(error) => {
                    door.counters.count(&error);
                    info!(%address, %error, "peer refused");
                }
            }
        };
        if scope.spawn("handshake", greets).is_err() {
            return;
        }
    }
}

async fn serve(
    socket: TcpStream,
    address: SocketAddr,
    door: &Door,
    reception: &impl Reception,
) -> Result<Arrival, TransportError> {
    let greets = async {
        prepare(&socket)?;
        let (mut io, binding) = door.guard.accept(socket).await?;
        let ours = Greeting::new(door.node.clone(), door.gateway).map_err(handshake::HandshakeError::from)?;
        let admit = |peer: &NodeId| reception.admit(peer, true);
        let theirs = handshake::as_server(&mut io, &ours, &binding, &door.cookie, admit).await?;
        Ok(Arrival { io, ours, theirs, is_server: true, address })
    };
    let silent = |_| Err(TransportError::Silent(door.deadline));
    let arrival = tokio::time::timeout(door.deadline, greets).await.unwrap_or_else(silent)?;
    door.counters.joined();
    Ok(arrival)
}
