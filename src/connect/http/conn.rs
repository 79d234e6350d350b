//! One connection: dialled, used by one request at a time, owned by a scope. Nothing else in the house dials HTTP.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Request, body::Body, client::conn::http1};
use hyper_util::rt::TokioIo;
use stanchion_actors::task::{TaskHandle, TaskScope};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName},
    },
};

use super::{error::ConnectError, options::Checked, request::HttpResponse};
use crate::connect::pool::Manage;

/// Opens connections to one upstream.
pub(super) struct Dial {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
    scope: TaskScope,
}

/// One connection. Dropped, it is closed at once.
pub(super) struct Conn {
    sender: http1::SendRequest<Full<Bytes>>,
    task: TaskHandle<()>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why an exchange came to nothing.
pub(super) enum ExchangeError {
    /// The connection had closed; the request was not sent.
    NotSent(Box<Request<Full<Bytes>>>),
    /// It broke in the middle.
    Broken(String),
    /// The body is over the limit.
    TooLarge,
}

impl Dial {
    /// # Errors
    /// A text: the machine's root certificates cannot be read, or the host is no name for TLS.
    pub(super) fn new(options: &Checked, scope: TaskScope) -> Result<Self, String> {
        let (base, timeout) = (&options.base, options.connect_timeout);
        // A URL of http or https has a host and a known port; an IPv6 address is dialled without its brackets.
        let host = base.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = base.port_or_known_default().unwrap_or_default();
        let tls = if base.scheme() == "https" {
            let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
            Some((TlsConnector::from(tls_config(options.roots.as_deref())?), name))
        } else {
            None
        };
        Ok(Self { host, port, tls, timeout, scope })
    }

    async fn dial(&self) -> Result<Conn, ConnectError> {
        let address = (self.host.as_str(), self.port);
        let stream =
            TcpStream::connect(address).await.map_err(|error| ConnectError::Io(error.to_string()))?;
        // Not having it costs time, not safety.
        let _ = stream.set_nodelay(true);
        let Some((connector, name)) = &self.tls else { return self.start(stream).await };
        let stream = connector.connect(name.clone(), stream).await;
        self.start(stream.map_err(|error| ConnectError::Tls(error.to_string()))?).await
    }

    async fn start<S>(&self, stream: S) -> Result<Conn, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        #[expect(clippy::disallowed_methods, reason = "the one place that opens HTTP connections")]
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| ConnectError::Io(error.to_string()))?;
        let task = self.scope.spawn("http.connection", async move {
            if let Err(error) = connection.await {
                // Whoever waits for an answer is told by its own end of the channel.
                tracing::debug!(%error, "http connection ended");
            }
        })?;
        Ok(Conn { sender, task })
    }
}

impl Manage for Dial {
    type Item = Conn;
    type Error = ConnectError;

    async fn open(&self) -> Result<Conn, ConnectError> {
        let dialled = timeout(self.timeout, self.dial()).await;
        dialled.unwrap_or(Err(ConnectError::Timeout(self.timeout)))
    }

    fn usable(&self, conn: &Conn) -> bool {
        !conn.sender.is_closed()
    }
}

impl Conn {
    /// Sends a request and reads the answer to its end.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        body_max_bytes: usize,
    ) -> Result<HttpResponse, ExchangeError> {
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                return Err(match error.take_message() {
                    Some(request) => ExchangeError::NotSent(Box::new(request)),
                    None => ExchangeError::Broken(deepest(error.error())),
                });
            }
        };
        let (head, body) = response.into_parts();
        if body.size_hint().lower() > body_max_bytes as u64 {
            return Err(ExchangeError::TooLarge);
        }
        let body = Limited::new(body, body_max_bytes).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                ExchangeError::TooLarge
            } else {
                ExchangeError::Broken(deepest(error.as_ref()))
            }
        })?;
        Ok(HttpResponse { status: head.status, headers: head.headers, body: body.to_bytes() })
    }

    /// Waits until it takes another request; `false`: it has closed.
    pub(super) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }
}

/// The innermost cause, which says most.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// TLS 1.2 and 1.3 with these roots, or the machine's.
fn tls_config(roots: Option<&[CertificateDer<'static>]>) -> Result<Arc<ClientConfig>, String> {
    let (certificates, fault) = match roots {
        Some(roots) => (roots.to_vec(), None),
        None => {
            let found = rustls_native_certs::load_native_certs();
            (found.certs, found.errors.first().map(ToString::to_string))
        }
    };
    let mut store = RootCertStore::empty();
    let (usable, _) = store.add_parsable_certificates(certificates);
    if usable == 0 {
        return Err(format!("no root certificates: {}", fault.unwrap_or_else(|| "none found".to_owned())));
    }
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(store).with_no_client_auth()))
}
