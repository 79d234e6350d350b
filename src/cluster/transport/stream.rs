//! The stream as ractor gets it: it can be cut from outside, and silence cuts it.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use stanchion_actors::task::CancelToken;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf},
    time::{Instant, Sleep},
};

use super::security::Io;

/// A connected stream with a cut.
pub(crate) struct CutStream {
    io: Box<dyn Io>,
    cut: CancelToken,
    idle: Duration,
    label: String,
}

impl CutStream {
    /// Wraps a stream: `cut` ends it, and so does silence of the peer for `idle`.
    pub(crate) fn new(io: Box<dyn Io>, cut: CancelToken, idle: Duration, label: String) -> Self {
        Self { io, cut, idle, label }
    }
}

impl ClusterBidiStream for CutStream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (read, write) = tokio::io::split(self.io);
        let reader = CutRead {
            read,
            cut: waits(&self.cut),
            idle: self.idle,
            silence: Box::pin(tokio::time::sleep(self.idle)),
            token: self.cut.clone(),
        };
        (Box::new(reader), Box::new(CutWrite { write, cut: waits(&self.cut) }))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

fn waits(cut: &CancelToken) -> BoxFuture<'static, ()> {
    let cut = cut.clone();
    Box::pin(async move { cut.cancelled().await })
}

struct CutRead {
    read: ReadHalf<Box<dyn Io>>,
    cut: BoxFuture<'static, ()>,
    idle: Duration,
    silence: Pin<Box<Sleep>>,
    token: CancelToken,
}

impl AsyncRead for CutRead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.token.is_cancelled() || self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "stream was cut")));
        }
        match Pin::new(&mut self.read).poll_read(cx, buf) {
            Poll::Ready(done) => {
                let next = Instant::now() + self.idle;
                self.silence.as_mut().reset(next);
                Poll::Ready(done)
            }
            Poll::Pending if self.silence.as_mut().poll(cx).is_ready() => {
                self.token.cancel();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "peer is silent")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

struct CutWrite {
    write: WriteHalf<Box<dyn Io>>,
    cut: BoxFuture<'static, ()>,
}

impl CutWrite {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => {
                self.cut = Box::pin(std::future::ready(()));
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "stream was cut"))
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncWrite for CutWrite {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.write).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn cut_pair(idle: Duration) -> (BoxRead, BoxWrite, tokio::io::DuplexStream, CancelToken) {
        let (near, far) = tokio::io::duplex(64);
        let cut = CancelToken::new();
        let stream = CutStream::new(Box::new(near), cut.clone(), idle, "peer".to_owned());
        let (read, write) = Box::new(stream).split();
        (read, write, far, cut)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_ends_the_stream_after_the_idle_time_and_bytes_put_it_off() {
        let (mut read, _write, mut far, cut) = cut_pair(Duration::from_secs(5));
        let began = Instant::now();
        tokio::time::sleep(Duration::from_secs(4)).await;
        far.write_all(b"x").await.unwrap();
        assert_eq!(read.read_u8().await.unwrap(), b'x');
        let error = read.read_u8().await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 9));
        assert!(cut.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_wakes_the_reader_and_a_writer_that_is_stuck() {
        let (mut read, mut write, _far, cut) = cut_pair(Duration::from_secs(500));
        let stuck = async { write.write_all(&[0; 1_000]).await.unwrap_err().kind() };
        let reads = async { read.read_u8().await.unwrap_err().kind() };
        let cuts = async { cut.cancel() };
        let (written, was_read, ()) = tokio::join!(stuck, reads, cuts);
        assert_eq!((written, was_read), (io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionAborted));
    }
}
