//! Dialling a node once: the first address of the name that answers.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::{
    Arrival, Greeting, TransportError,
    handshake::{self, HandshakeError},
    listen::{Door, Reception},
    prepare,
};
use crate::cluster::identity::NodeId;

/// Dials `target` (`host:port`) and proves both sides.
pub(crate) async fn dial(
    target: &str,
    door: &Door,
    reception: &impl Reception,
) -> Result<Arrival, TransportError> {
    let dials = async {
        let resolved: Vec<SocketAddr> = tokio::net::lookup_host(target)
            .await
            .map_err(|_| TransportError::Address(target.to_owned()))?
            .collect();
        let mut failed = TransportError::Address(target.to_owned());
        for address in resolved {
            match open(address, door, reception).await {
                Ok(arrival) => return Ok(arrival),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    };
    let silent = |_| Err(TransportError::Silent(door.deadline));
    let dialled = tokio::time::timeout(door.deadline, dials).await.unwrap_or_else(silent);
    match &dialled {
        Ok(_) => door.counters.joined(),
        Err(error) => door.counters.count(error),
    }
    dialled
}

async fn open(
    address: SocketAddr,
    door: &Door,
    reception: &impl Reception,
) -> Result<Arrival, TransportError> {
    door.guard.allow(address)?;
    let socket = TcpStream::connect(address).await?;
    prepare(&socket)?;
    let (mut io, binding) = door.guard.connect(socket).await?;
    let ours = Greeting::new(door.node.clone(), door.gateway).map_err(HandshakeError::from)?;
    let admit = |peer: &NodeId| reception.admit(peer, false);
    let theirs = handshake::as_client(&mut io, &ours, &binding, &door.cookie, admit).await?;
    Ok(Arrival { io, ours, theirs, is_server: false, address })
}
