//! A real HTTP server that counts on its own side, and misbehaves on request.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};

use crate::kit;

/// What a server saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Connections accepted, ever.
    pub(crate) opened: AtomicU32,
    /// Connections open at this moment.
    pub(crate) open: AtomicU32,
    /// The most that were open at a time.
    pub(crate) most: AtomicU32,
    /// Requests, in the order in which their heads were read.
    pub(crate) requests: Mutex<Vec<Asked>>,
    /// Status of `/health`.
    pub(crate) health: AtomicU32,
    /// Answers of `/flaky` that are 401 before it is 200 for the token.
    pub(crate) token: Mutex<String>,
    release: Semaphore,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A server; dropped, it is gone with all its connections.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen {
            opened: AtomicU32::default(),
            open: AtomicU32::default(),
            most: AtomicU32::default(),
            requests: Mutex::default(),
            health: AtomicU32::new(200),
            token: Mutex::default(),
            release: Semaphore::new(0),
        });
        let task = kit::task(accept(listener, Arc::clone(&seen)));
        Self { address, seen, task }
    }

    /// Kills the server, and waits until its connections are closed.
    pub(crate) async fn kill(self) -> SocketAddr {
        self.task.abort();
        let seen = Arc::clone(&self.seen);
        kit::until("the server is gone", || seen.open.load(SeqCst) == 0 && self.task.is_finished()).await;
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets `count` requests for `/hold` be answered.
    pub(crate) fn release(&self, count: usize) {
        self.seen.release.add_permits(count);
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().iter().map(|asked| asked.path.clone()).collect()
    }

    pub(crate) fn asked(&self) -> usize {
        self.seen.requests.lock().unwrap().len()
    }

    pub(crate) fn opened(&self) -> u32 {
        self.seen.opened.load(SeqCst)
    }

    pub(crate) fn open(&self) -> u32 {
        self.seen.open.load(SeqCst)
    }
}

struct Open(Arc<Seen>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.opened.fetch_add(1, SeqCst);
        let open = seen.open.fetch_add(1, SeqCst) + 1;
        seen.most.fetch_max(open, SeqCst);
        let guard = Open(Arc::clone(&seen));
        connections.spawn(async move {
            let seen = Arc::clone(&guard.0);
            // The other side may go at any time.
            let _ = serve(stream, &seen).await;
            drop(guard);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(asked) = read(&mut stream, &mut buffer).await? {
        seen.requests.lock().unwrap().push(asked.clone());
        let path = asked.path.split('?').next().unwrap_or_default();
        match path {
            "/hold" => {
                // A caller that leaves ends the wait as well; being readable alone may be of what was read already.
                let mut more = [0];
                tokio::select! {
                    permit = seen.release.acquire() => permit.unwrap().forget(),
                    _ = stream.peek(&mut more) => return Ok(()),
                }
                answer(&mut stream, 200, "", "held").await?;
            }
            "/silent" => {
                stream.peek(&mut [0]).await?;
                return Ok(());
            }
            "/reset" => {
                stream.set_zero_linger()?;
                return Ok(());
            }
            "/cut" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await?;
                return Ok(());
            }
            "/close" => {
                answer(&mut stream, 200, "Connection: close\r\n", "bye").await?;
                return Ok(());
            }
            "/big" => answer(&mut stream, 200, "", &"x".repeat(100_000)).await?,
            "/chunked" => {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                let chunk = format!("{:x}\r\n{}\r\n", 50_000, "x".repeat(50_000));
                stream.write_all(format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes()).await?;
            }
            "/busy" => answer(&mut stream, 429, "Retry-After: 7\r\n", "slow down").await?,
            "/away" => answer(&mut stream, 302, "Location: http://elsewhere.example/\r\n", "").await?,
            "/around" => answer(&mut stream, 307, "Location: /echo?round\r\n", "").await?,
            "/loop" => answer(&mut stream, 302, "Location: /loop\r\n", "").await?,
            "/guarded" => {
                let wanted = format!("authorization: bearer {}\r\n", seen.token.lock().unwrap());
                let known = asked.head.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase());
                answer(&mut stream, if known { 200 } else { 401 }, "", "").await?;
            }
            "/health" => {
                let status = seen.health.load(SeqCst);
                answer(&mut stream, status, "", "").await?;
            }
            "/echo" => answer(&mut stream, 200, "X-Echo: yes\r\n", &asked.body).await?,
            _ => match path.strip_prefix("/status/").and_then(|status| status.parse().ok()) {
                Some(status) => answer(&mut stream, status, "", "").await?,
                None => answer(&mut stream, 200, "", "ok").await?,
            },
        }
    }
    Ok(())
}

async fn answer(stream: &mut TcpStream, status: u32, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let text = format!("HTTP/1.1 {status} Text\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await
}

/// Reads one request; `None` at the end.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Asked>> {
    loop {
        if let Some(asked) = parse(buffer) {
            return Ok(Some(asked));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(buffer: &mut Vec<u8>) -> Option<Asked> {
    let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&buffer[..end + 2]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let whole = end + 4 + length.unwrap_or(0_usize);
    if buffer.len() < whole {
        return None;
    }
    let body = String::from_utf8_lossy(&buffer[end + 4..whole]).into_owned();
    buffer.drain(..whole);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    Some(Asked { path, head, body })
}

/// A listener that takes connections and says nothing on them.
pub(crate) struct Mute {
    pub(crate) address: SocketAddr,
    _listener: std::net::TcpListener,
}

impl Mute {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self { address: listener.local_addr().unwrap(), _listener: listener }
    }
}

/// The limit of a test's wait for what takes no time.
pub(crate) const SOON: Duration = Duration::from_secs(10);
