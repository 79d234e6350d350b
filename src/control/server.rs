//! The side that holds the store.

use std::{
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use stanchion_actors::task::TaskScope;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

use super::{
    desk::{Desk, Gone, Sink, Stop, answer},
    frame::{Answer, FrameError, REQUEST_MAX_BYTES, decode_request, read_frame, write_frame},
    place::socket_path,
    problem::Problem,
};

/// Connections served at once; further ones wait.
const CONNECTIONS_MAX: usize = 32;
/// A peer must have sent its request by then, and have taken each line within it.
const PEER_PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be taken.
const RETRY: Duration = Duration::from_millis(100);

/// The socket, removed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    path: PathBuf,
    scope: TaskScope,
}

impl Server {
    /// Opens the socket of the store at `store` and answers until it is dropped. A socket that is there belongs to a
    /// process that died: the store's lock decides who lives.
    pub(crate) fn start(store: &Path, desk: Desk, tasks: &TaskScope) -> io::Result<Self> {
        let path = socket_path(store);
        let listener = bind(&path)?;
        let scope = tasks.child("control");
        let server = Self { path, scope: scope.clone() };
        let accepting = scope.clone();
        scope.spawn("control-accept", accept(listener, desk, accepting)).map_err(io::Error::other)?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        self.scope.end();
    }
}

/// Binds under another name first: nobody meets the socket before its mode is set, and a stale one is replaced at
/// once.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        let what = format!("{} is there and is no socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

async fn accept(listener: UnixListener, desk: Desk, scope: TaskScope) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Closed never: this task owns it.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = desk.clone();
                let spawned = scope.spawn("control", async move {
                    if let Err(error) = serve(stream, &desk).await {
                        tracing::debug!(%error, "control connection ended early");
                    }
                    drop(place);
                });
                drop(spawned);
            }
            Err(error) => {
                tracing::warn!(%error, "control connection not taken");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, desk: &Desk) -> Result<(), FrameError> {
    if stream.peer_cred()?.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
    }
    let read = tokio::time::timeout(PEER_PATIENCE, read_frame(&mut stream, REQUEST_MAX_BYTES)).await;
    let read = read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    let end = match read.and_then(|bytes| decode_request(&bytes)) {
        Ok(request) => match answer(desk, request, &mut Wire(&mut stream)).await {
            Ok(()) => Answer::Done,
            Err(Stop::Problem(problem)) => Answer::Problem(problem),
            Err(Stop::Gone(Gone)) => return Ok(()),
        },
        Err(FrameError::Io(error)) => return Err(error.into()),
        Err(error) => Answer::Problem(Problem::rejected(
            "control.bad_request",
            error.to_string(),
            "the control socket",
            "use a program of the same version on both sides",
        )),
    };
    send(&mut stream, &end).await
}

struct Wire<'a>(&'a mut UnixStream);

impl Sink for Wire<'_> {
    async fn put(&mut self, line: String) -> Result<(), Gone> {
        send(self.0, &Answer::Line(line)).await.map_err(|_| Gone)
    }
}

async fn send(stream: &mut UnixStream, answer: &Answer) -> Result<(), FrameError> {
    let sent = tokio::time::timeout(PEER_PATIENCE, write_frame(stream, answer)).await;
    sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}
