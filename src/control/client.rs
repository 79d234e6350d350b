//! The side that asks.

use std::{io, path::Path, time::Duration};

use tokio::net::UnixStream;

use super::{
    desk::{Gone, Sink},
    frame::{ANSWER_MAX_BYTES, Answer, FrameError, decode_answer, read_frame, write_frame},
    place::socket_path,
    problem::Problem,
    request::Request,
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens: no process with a control socket holds the store.
    #[error("no process listens at the control socket of the store")]
    NobodyListens,
    /// The socket belongs to somebody else.
    #[error("the control socket belongs to another user")]
    Foreign,
    /// The process that holds the store says what is wrong.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// The connection broke: what was asked for may have been done.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The reader of the answer is gone.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// A server that takes longer for its next line is taken for dead; a backup has no lines on its way.
const SERVER_PATIENCE: Duration = Duration::from_secs(3_600);

/// Asks the process that holds the store at `store`; gives the lines of the answer to `sink`.
///
/// # Errors
/// [`ClientError`].
///
/// # Cancel safety
/// Dropped while it waits, what was asked for may be done.
pub async fn ask(store: &Path, request: &Request, sink: &mut impl Sink) -> Result<(), ClientError> {
    let mut stream = connect(store).await?;
    write_frame(&mut stream, request).await?;
    loop {
        let read = tokio::time::timeout(SERVER_PATIENCE, read_frame(&mut stream, ANSWER_MAX_BYTES)).await;
        let bytes = read.map_err(|_| FrameError::Io(io::ErrorKind::TimedOut.into()))??;
        match decode_answer(&bytes)? {
            Answer::Line(line) => sink.put(line).await?,
            Answer::Done => return Ok(()),
            Answer::Problem(problem) => return Err(problem.into()),
        }
    }
}

async fn connect(store: &Path) -> Result<UnixStream, ClientError> {
    let stream = UnixStream::connect(socket_path(store)).await.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Foreign,
        // No socket, or one left behind by a process that died.
        _ => ClientError::NobodyListens,
    })?;
    let peer = stream.peer_cred().map_err(FrameError::Io)?;
    if peer.uid() != rustix::process::geteuid().as_raw() {
        return Err(ClientError::Foreign);
    }
    Ok(stream)
}
