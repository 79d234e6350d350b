//! One upstream: its pool, its health and its tasks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request,
    header::{HOST, HeaderValue},
};
use stanchion_actors::{
    health::Vital,
    task::{CancelToken, TaskScope},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};
use url::{Position, Url};

use super::{
    conn::{Dial, ExchangeError},
    counts::Counts,
    error::{HttpError, RegisterError},
    options::{Checked, UpstreamOptions},
    path::within,
    probe,
    request::{HttpRequest, HttpResponse},
};
use crate::connect::pool::{CheckoutError, DrainReport, Pool, PoolSizeError, PoolStats, Pooled};

/// How long an answered connection may take to be ready for the next request, before it is closed.
const SETTLE: Duration = Duration::from_millis(100);

/// How an upstream fares, by its probes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamHealth {
    /// Nothing is known against it.
    Up,
    /// Its last probe failed.
    Down {
        /// What the probe came to.
        cause: Arc<str>,
        /// When it was found down.
        since: Instant,
    },
}

/// Numbers of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamStats {
    /// Its connections and those that wait for one.
    pub pool: PoolStats,
    /// Requests that were answered, whatever the status, ever.
    pub answered: u64,
    /// Requests that have no answer, refused ones included, ever.
    pub errors: u64,
    /// Of these, attempts that ran over their time, ever.
    pub timeouts: u64,
    /// Probes that failed, ever.
    pub probes_failed: u64,
}

/// One upstream that is registered. Clones are the same.
#[derive(Clone)]
pub struct Upstream {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) options: Checked,
    host: HeaderValue,
    pub(super) pool: Pool<Dial>,
    pub(super) health: watch::Sender<UpstreamHealth>,
    /// Rung when a request found no connection: the next probe runs at once.
    pub(super) suspicion: Notify,
    pub(super) counts: Counts,
    cut: CancelToken,
    scope: TaskScope,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.scope.end();
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.shared.name)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Upstream {
    pub(super) fn start(
        name: &str,
        options: &UpstreamOptions,
        owner: &TaskScope,
        vital: Option<Vital>,
    ) -> Result<Self, RegisterError> {
        let faulty = |error| RegisterError::Options { upstream: name.to_owned(), error };
        let options = options.check().map_err(faulty)?;
        let scope = owner.child(name);
        let roots = |cause| RegisterError::Roots { upstream: name.to_owned(), cause };
        let dial = Dial::new(&options, scope.clone()).map_err(roots)?;
        // Checked above: a pool of this size exists, and a host is a header value.
        let pool = Pool::new(dial, options.pool).map_err(|error| roots(error.to_string()))?;
        let host = HeaderValue::try_from(&options.base[Position::BeforeHost..Position::AfterPort]);
        let host = host.map_err(|error| roots(error.to_string()))?;
        let shared = Arc::new(Shared {
            name: Arc::from(name),
            options,
            host,
            pool,
            health: watch::Sender::new(UpstreamHealth::Up),
            suspicion: Notify::new(),
            counts: Counts::new(vital),
            cut: CancelToken::new(),
            scope,
        });
        probe::start(&shared, &shared.scope)?;
        Ok(Self { shared })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Sends a request and reads the answer to its end. Redirects are not followed: they are answers.
    ///
    /// # Errors
    /// [`HttpError`]; its family says whether the request may have been acted upon.
    ///
    /// # Cancel safety
    /// The connection is closed and its place given back; the other side may have acted upon the request.
    pub async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.call_within(request, self.shared.options.attempt_timeout).await
    }

    /// [`call`](Self::call) with a shorter time; a longer one than that of the upstream is cut to it.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    pub async fn call_within(
        &self,
        request: HttpRequest,
        attempt_timeout: Duration,
    ) -> Result<HttpResponse, HttpError> {
        let within = attempt_timeout.min(self.shared.options.attempt_timeout);
        let result = self.shared.attempt(request, within).await;
        let pool = self.shared.pool.stats();
        self.shared.counts.count(&result, &pool);
        result
    }

    /// Changes the number of connections; a shrink takes effect as requests end.
    ///
    /// # Errors
    /// [`PoolSizeError`]: `size + overflow` is 0 or over 65 536.
    pub fn resize(&self, size: u32, overflow: u32) -> Result<(), PoolSizeError> {
        self.shared.pool.resize(size, overflow)
    }

    /// Takes no more requests, refuses those that wait, waits up to `within` for those that run, then cuts them.
    ///
    /// # Cancel safety
    /// It takes no more requests; those that run are not cut.
    pub async fn drain(&self, within: Duration) -> DrainReport {
        let report = self.shared.pool.drain(within).await;
        self.shared.cut.cancel();
        self.shared.scope.close();
        report
    }

    /// Its numbers at this moment.
    #[must_use]
    pub fn stats(&self) -> UpstreamStats {
        self.shared.counts.stats(self.shared.pool.stats())
    }

    /// How it fares.
    #[must_use]
    pub fn health(&self) -> UpstreamHealth {
        self.shared.health.borrow().clone()
    }

    /// Waits until it is up (`true`) or down (`false`).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn until_up(&self, up: bool) {
        let mut health = self.shared.health.subscribe();
        // The sender lives as long as `self`.
        let _ = health.wait_for(|health| matches!(health, UpstreamHealth::Up) == up).await;
    }

    /// Whether its health is watched.
    #[must_use]
    pub fn is_probed(&self) -> bool {
        self.shared.options.probe.is_some()
    }

    /// How long an attempt may take.
    #[must_use]
    pub fn attempt_timeout(&self) -> Duration {
        self.shared.options.attempt_timeout
    }
}

impl Shared {
    async fn attempt(&self, request: HttpRequest, within: Duration) -> Result<HttpResponse, HttpError> {
        let request = self.encode(request)?;
        self.refuse_while_down()?;
        let sent = AtomicBool::new(false);
        let upstream = || Arc::clone(&self.name);
        let work = async {
            let conn = self.pool.checkout().await.map_err(|error| self.no_connection(error))?;
            self.exchange(conn, request, &sent).await
        };
        tokio::select! {
            biased;
            () = self.cut.cancelled() => {
                let cut = sent.load(Ordering::Relaxed);
                Err(if cut { HttpError::Cut { upstream: upstream() } } else { HttpError::Draining { upstream: upstream() } })
            }
            result = timeout(within, work) => result.unwrap_or_else(|_| {
                let sent = sent.load(Ordering::Relaxed);
                Err(HttpError::AttemptTimeout { upstream: upstream(), after: within, sent })
            }),
        }
    }

    /// Uses a connection. A request that a closing connection did not take goes out on another.
    pub(super) async fn exchange(
        &self,
        mut conn: Pooled<Dial>,
        mut request: Request<Full<Bytes>>,
        sent: &AtomicBool,
    ) -> Result<HttpResponse, HttpError> {
        let limit = self.options.body_max_bytes;
        // One that was idle may have closed in this moment: as many as were idle, and a new one.
        let mut left = self.pool.stats().idle + 2;
        loop {
            sent.store(true, Ordering::Relaxed);
            let upstream = || Arc::clone(&self.name);
            match conn.exchange(request, limit).await {
                Ok(response) => {
                    if timeout(SETTLE, conn.ready()).await.unwrap_or(false) {
                        conn.give_back();
                    }
                    return Ok(response);
                }
                Err(ExchangeError::NotSent(back)) if left > 0 => {
                    sent.store(false, Ordering::Relaxed);
                    drop(conn);
                    left -= 1;
                    request = *back;
                    conn = self.pool.checkout().await.map_err(|error| self.no_connection(error))?;
                }
                Err(ExchangeError::NotSent(_)) => {
                    self.suspicion.notify_one();
                    let cause = "it closed before each attempt to send".to_owned();
                    return Err(HttpError::Broken { upstream: upstream(), cause });
                }
                Err(ExchangeError::Broken(cause)) => {
                    self.suspicion.notify_one();
                    return Err(HttpError::Broken { upstream: upstream(), cause });
                }
                Err(ExchangeError::TooLarge) => {
                    return Err(HttpError::BodyTooLarge { upstream: upstream(), limit });
                }
            }
        }
    }

    fn no_connection(&self, error: CheckoutError<super::ConnectError>) -> HttpError {
        let upstream = Arc::clone(&self.name);
        match error {
            CheckoutError::Timeout { waited } => HttpError::CheckoutTimeout { upstream, waited },
            CheckoutError::Full { waiting } => HttpError::TooManyWaiting { upstream, waiting },
            CheckoutError::Draining => HttpError::Draining { upstream },
            CheckoutError::Open(error) => {
                self.suspicion.notify_one();
                HttpError::Connect { upstream, error }
            }
        }
    }

    fn refuse_while_down(&self) -> Result<(), HttpError> {
        match (&*self.health.borrow(), &self.options.probe) {
            (UpstreamHealth::Down { cause, .. }, Some(probe)) => Err(HttpError::UpstreamDown {
                upstream: Arc::clone(&self.name),
                cause: Arc::clone(cause),
                retry_in: Duration::from_millis(probe.interval_ms),
            }),
            (UpstreamHealth::Up | UpstreamHealth::Down { .. }, _) => Ok(()),
        }
    }

    fn encode(&self, request: HttpRequest) -> Result<Request<Full<Bytes>>, HttpError> {
        let path = |error| HttpError::Path { upstream: Arc::clone(&self.name), error };
        let url = within(&self.options.base, &request.path).map_err(path)?;
        for name in request.headers.keys() {
            // A map can be filled by others than `HttpRequest::header`.
            super::request::sendable(name)
                .map_err(|error| HttpError::Header { upstream: Arc::clone(&self.name), error })?;
        }
        Ok(self.request(request.method, &url, request.headers, request.body))
    }

    pub(super) fn request(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut encoded = Request::new(Full::new(body));
        *encoded.method_mut() = method;
        // A URL's path and query are a URI's.
        *encoded.uri_mut() = url[Position::BeforePath..Position::AfterQuery].parse().unwrap_or_default();
        *encoded.headers_mut() = self.options.headers.clone();
        encoded.headers_mut().extend(headers);
        encoded.headers_mut().insert(HOST, self.host.clone());
        encoded
    }

    /// Takes an idle connection or a new one without waiting for others; `None`: all are in use.
    pub(super) async fn spare(&self) -> Result<Option<Pooled<Dial>>, CheckoutError<super::ConnectError>> {
        self.pool.try_checkout().await
    }
}
