//! The handshake before any frame: who, which versions, and proof of the cookie both ways.
//!
//! ```text
//! client -> server   greeting  (versions, node, life, nonce, token, gateway)
//! server -> client   greeting
//! client -> server   proof = HMAC(cookie, "client" | TLS session | both greetings)
//! server -> client   verdict, and when it is yes: proof = HMAC(cookie, "server" | the same)
//! ```
//! Both nonces and the TLS session are in what is proven, so nothing of one handshake is of use in another.

use std::io;

use bytes::{Buf, BufMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Cookie, RandomError, random};
use crate::cluster::{
    frame::{FORMAT_VERSION, FORMAT_VERSION_MIN, StreamToken},
    identity::{NodeId, NodeIncarnation, NodeName},
};

const MAGIC: &[u8; 4] = b"STCN";
const GREETING_MAX_BYTES: usize = 512;

/// What a side says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) versions: (u16, u16),
    pub(crate) node: NodeId,
    pub(crate) nonce: [u8; 32],
    /// What packets to this side carry on this stream.
    pub(crate) token: StreamToken,
    /// Number of this side's gateway actor among its actors.
    pub(crate) gateway: u64,
}

/// Why a node refuses a peer that has the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A later life of the peer has joined.
    #[error("a later life of this node has joined")]
    Stale,
    /// Another process with the same name and life is joined: a copy of its store.
    #[error("another process with this name and life is joined")]
    Twin,
    /// There is a better stream to this peer.
    #[error("there is a stream to this node")]
    Duplicate,
    /// The peer is this node itself.
    #[error("this is the same node")]
    Myself,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The stream ended or broke.
    #[error("stream broke during the handshake: {0}")]
    Stream(#[from] io::Error),
    /// What came is no handshake.
    #[error("peer does not speak our handshake")]
    Malformed,
    /// The peer speaks other versions.
    #[error(
        "peer speaks versions {} to {} of the format, this node {FORMAT_VERSION_MIN} to {FORMAT_VERSION}",
        theirs.0, theirs.1
    )]
    Version {
        /// Oldest and newest version of the peer.
        theirs: (u16, u16),
    },
    /// The peer has another cookie.
    #[error("peer has another cookie")]
    Cookie,
    /// We refuse the peer, or it refuses us.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl Greeting {
    pub(crate) fn new(node: NodeId, gateway: u64) -> Result<Self, RandomError> {
        let token = u128::from_be_bytes(random()?);
        let versions = (FORMAT_VERSION_MIN, FORMAT_VERSION);
        Ok(Self { versions, node, nonce: random()?, token, gateway })
    }

    fn encode(&self) -> Vec<u8> {
        let name = self.node.name.as_str().as_bytes();
        let mut out = Vec::with_capacity(128 + name.len());
        out.put_slice(MAGIC);
        out.put_u16(self.versions.0);
        out.put_u16(self.versions.1);
        out.put_slice(&self.nonce);
        out.put_u128(self.token);
        out.put_u64(self.gateway);
        out.put_u64(self.node.incarnation.life);
        out.put_u64(self.node.incarnation.nonce);
        out.put_slice(name);
        out
    }

    /// Fields of a later version may follow the name's place only in a later handshake: the magic changes then.
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let magic = bytes.split_off(..MAGIC.len())?;
        if magic != MAGIC || bytes.len() < 76 {
            return None;
        }
        let versions = (bytes.get_u16(), bytes.get_u16());
        let mut nonce = [0; 32];
        bytes.copy_to_slice(&mut nonce);
        let (token, gateway) = (bytes.get_u128(), bytes.get_u64());
        let incarnation = NodeIncarnation { life: bytes.get_u64(), nonce: bytes.get_u64() };
        let name = NodeName::new(std::str::from_utf8(bytes).ok()?).ok()?;
        Some(Self { versions, node: NodeId { name, incarnation }, nonce, token, gateway })
    }

    fn check_versions(&self) -> Result<(), HandshakeError> {
        let theirs = self.versions;
        let common = theirs.0 <= FORMAT_VERSION && theirs.1 >= FORMAT_VERSION_MIN && theirs.0 <= theirs.1;
        if common { Ok(()) } else { Err(HandshakeError::Version { theirs }) }
    }
}

async fn write_greeting(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let mut out = Vec::with_capacity(2 + bytes.len());
    out.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.put_slice(bytes);
    io.write_all(&out).await?;
    io.flush().await
}

async fn read_greeting(io: &mut (impl AsyncRead + Unpin)) -> Result<(Greeting, Vec<u8>), HandshakeError> {
    let length = usize::from(io.read_u16().await?);
    if length > GREETING_MAX_BYTES {
        return Err(HandshakeError::Malformed);
    }
    let mut bytes = vec![0; length];
    io.read_exact(&mut bytes).await?;
    let greeting = Greeting::decode(&bytes).ok_or(HandshakeError::Malformed)?;
    Ok((greeting, bytes))
}

const CLIENT: &[u8] = b"stanchion client";
const SERVER: &[u8] = b"stanchion server";

/// The side that dialled. `admit` judges whom we would prove ourselves to.
pub(crate) async fn as_client<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    ours: &Greeting,
    binding: &[u8],
    cookie: &Cookie,
    admit: impl FnOnce(&NodeId) -> Result<(), Refusal>,
) -> Result<Greeting, HandshakeError> {
    let said = ours.encode();
    write_greeting(io, &said).await?;
    let (theirs, heard) = read_greeting(io).await?;
    theirs.check_versions()?;
    // Before our proof: once the peer has it, it gives the stream the place of the one that stands.
    admit(&theirs.node)?;
    io.write_all(&cookie.proof(&[CLIENT, binding, &said, &heard])).await?;
    io.flush().await?;
    match io.read_u8().await? {
        0 => {}
        code => return Err(read_verdict(code)),
    }
    let mut proof = [0; 32];
    io.read_exact(&mut proof).await?;
    if !cookie.proves(&[SERVER, binding, &said, &heard], &proof) {
        return Err(HandshakeError::Cookie);
    }
    Ok(theirs)
}

/// The side that was dialled. `admit` judges the peer once it has proven the cookie.
pub(crate) async fn as_server<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    ours: &Greeting,
    binding: &[u8],
    cookie: &Cookie,
    admit: impl FnOnce(&NodeId) -> Result<(), Refusal>,
) -> Result<Greeting, HandshakeError> {
    let (theirs, heard) = read_greeting(io).await?;
    let said = ours.encode();
    write_greeting(io, &said).await?;
    theirs.check_versions()?;
    let mut proof = [0; 32];
    io.read_exact(&mut proof).await?;
    let judged = if cookie.proves(&[CLIENT, binding, &heard, &said], &proof) {
        admit(&theirs.node).map_err(HandshakeError::Refused)
    } else {
        Err(HandshakeError::Cookie)
    };
    if let Err(error) = judged {
        io.write_all(&[verdict(&error)]).await?;
        io.flush().await?;
        return Err(error);
    }
    let mut yes = vec![0];
    yes.extend(cookie.proof(&[SERVER, binding, &heard, &said]));
    io.write_all(&yes).await?;
    io.flush().await?;
    Ok(theirs)
}

fn verdict(error: &HandshakeError) -> u8 {
    match error {
        HandshakeError::Refused(Refusal::Stale) => 2,
        HandshakeError::Refused(Refusal::Twin) => 3,
        HandshakeError::Refused(Refusal::Duplicate) => 4,
        HandshakeError::Refused(Refusal::Myself) => 5,
        HandshakeError::Refused(Refusal::Stopping) => 6,
        HandshakeError::Cookie
        | HandshakeError::Stream(_)
        | HandshakeError::Malformed
        | HandshakeError::Version { .. }
        | HandshakeError::Random(_) => 1,
    }
}

fn read_verdict(code: u8) -> HandshakeError {
    match code {
        1 => HandshakeError::Cookie,
        2 => HandshakeError::Refused(Refusal::Stale),
        3 => HandshakeError::Refused(Refusal::Twin),
        4 => HandshakeError::Refused(Refusal::Duplicate),
        5 => HandshakeError::Refused(Refusal::Myself),
        6 => HandshakeError::Refused(Refusal::Stopping),
        _ => HandshakeError::Malformed,
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
