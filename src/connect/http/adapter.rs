//! An upstream as an adapter: statuses and errors in the words of policies.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use stanchion_actors::{
    adapter::{Adapter, AdapterHealth, CallCtx, CredentialError, Credentials, Secret, Verdict},
    clock::Clock,
    error::{Coded, Family},
    ids::Timestamp,
    resilience::{
        breaker::FailureClass,
        retry::{RetryCause, retry_after},
    },
};

use super::{
    error::HttpError,
    request::{HeaderError, HttpRequest, HttpResponse, header},
    upstream::{Upstream, UpstreamHealth},
};

/// The header that carries the idempotency key of a call.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// What sends requests: an upstream, or what stands for one in tests.
pub trait Transport: Send + Sync + 'static {
    /// Why a request has no answer.
    type Error: std::error::Error + RetryCause + Send + Sync;

    /// Its name, for messages.
    fn name(&self) -> &str;
    /// How long a request may take.
    fn timeout(&self) -> Duration;
    /// Sends a request and reads the answer to its end.
    fn send(&self, request: HttpRequest) -> impl Future<Output = Result<HttpResponse, Self::Error>> + Send;
    /// How the other side fares.
    fn health(&self) -> AdapterHealth;
}

impl Transport for Upstream {
    type Error = HttpError;

    fn name(&self) -> &str {
        Self::name(self)
    }
    fn timeout(&self) -> Duration {
        self.attempt_timeout()
    }
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.call(request).await
    }
    fn health(&self) -> AdapterHealth {
        match Self::health(self) {
            UpstreamHealth::Up if self.is_probed() => AdapterHealth::Up,
            UpstreamHealth::Up => AdapterHealth::Unknown,
            UpstreamHealth::Down { cause, .. } => AdapterHealth::Down(cause.to_string()),
        }
    }
}

/// Why a call over HTTP has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpCallError<E: std::error::Error> {
    /// The transport's error.
    #[error("{0}")]
    Transport(#[source] E),
    /// There is no credential that holds.
    #[error(transparent)]
    Credential(CredentialError),
    /// The credential or the idempotency key cannot be a header.
    #[error(transparent)]
    Header(HeaderError),
}

impl Coded for HttpCallError<HttpError> {
    fn code(&self) -> &'static str {
        match self {
            Self::Transport(error) => error.code(),
            Self::Credential(error) => error.code(),
            Self::Header(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Transport(error) => error.family(),
            Self::Credential(error) => error.family(),
            Self::Header(error) => error.family(),
        }
    }
}

/// Calls one service over HTTP, with its credential if it has one. It is its scope that a call needs, if it has one.
pub struct HttpAdapter<T = Upstream> {
    transport: T,
    credentials: Option<Credentials>,
    scope: Option<String>,
    clock: Arc<dyn Clock>,
}

impl<T: Transport> fmt::Debug for HttpAdapter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAdapter")
            .field("name", &self.transport.name())
            .field("credentials", &self.credentials)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl<T: Transport> HttpAdapter<T> {
    /// Without credential and scope. The clock reads dates in `Retry-After`.
    pub fn new(transport: T, clock: Arc<dyn Clock>) -> Self {
        Self { transport, credentials: None, scope: None, clock }
    }

    /// Sends `Authorization: Bearer` with each request. An answer of 401 has it fetched anew, once.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Asks callers for a capability of this scope.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// What it sends through.
    #[must_use]
    pub fn transport(&self) -> &T {
        &self.transport
    }

    async fn send(
        &self,
        mut request: HttpRequest,
        secret: Option<Secret>,
    ) -> Result<HttpResponse, HttpCallError<T::Error>> {
        if let Some(secret) = secret {
            let value = format!("Bearer {}", secret.expose());
            let (name, value) = header("authorization", &value).map_err(HttpCallError::Header)?;
            request.headers.insert(name, value);
        }
        self.transport.send(request).await.map_err(HttpCallError::Transport)
    }
}

impl<T: Transport> Adapter for HttpAdapter<T> {
    type Request = HttpRequest;
    type Response = HttpResponse;
    type Error = HttpCallError<T::Error>;

    fn name(&self) -> &str {
        self.transport.name()
    }

    fn timeout(&self) -> Duration {
        self.transport.timeout()
    }

    fn scope(&self, _: &HttpRequest) -> Option<String> {
        self.scope.clone()
    }

    async fn call(
        &self,
        mut request: HttpRequest,
        ctx: &CallCtx,
    ) -> Result<HttpResponse, HttpCallError<T::Error>> {
        if let Some(key) = &ctx.idempotency_key
            && !request.headers.contains_key(IDEMPOTENCY_HEADER)
        {
            let key = idempotency_value(key);
            let (name, value) = header(IDEMPOTENCY_HEADER, &key).map_err(HttpCallError::Header)?;
            request.headers.insert(name, value);
        }
        let Some(credentials) = &self.credentials else { return self.send(request, None).await };
        let refused = |result: &Result<HttpResponse, _>| {
            result.as_ref().is_ok_and(|response| response.status.as_u16() == 401)
        };
        let call = |secret| self.send(request.clone(), Some(secret));
        let authorised = credentials.authorise(call, refused).await;
        authorised.unwrap_or_else(|error| Err(HttpCallError::Credential(error)))
    }

    fn classify(&self, result: Result<&HttpResponse, &HttpCallError<T::Error>>) -> Verdict {
        match result {
            Ok(response) => status_verdict(response, self.clock.now()),
            Err(HttpCallError::Transport(error)) => error_verdict(error),
            Err(HttpCallError::Credential(error)) => Verdict::ignored(error.retryable()),
            Err(HttpCallError::Header(_)) => Verdict::ignored(false),
        }
    }

    async fn health(&self) -> AdapterHealth {
        self.transport.health()
    }
}

/// A key as the value of a header: what no header holds is percent-encoded, and the percent sign with it.
pub(crate) fn idempotency_value(key: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'!'..=b'~' if byte != b'%' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    key.bytes().map(encoded).collect()
}

/// What an error of a transport means.
pub(crate) fn error_verdict(error: &impl RetryCause) -> Verdict {
    let verdict = match error.class() {
        Some(class) => Verdict { retryable: error.may_retry(), ..Verdict::failure(class) },
        None => Verdict::ignored(error.may_retry()),
    };
    verdict.after(error.asked_wait())
}

/// What an answer means.
///
/// Up to 399 it is a success. 408 and 504 are timeouts, other statuses from 500 on failures of the application; both
/// may be tried again, but for 501 and 505. 425 and 429 ask for patience and other statuses of 4xx blame the request:
/// neither says anything about the other side's health. A `Retry-After` counts with each that may be tried again.
///
/// # Source
/// RFC 9110, 15; RFC 6585, 4; RFC 8470, 5.2.
#[must_use]
pub fn status_verdict(response: &HttpResponse, now: Timestamp) -> Verdict {
    let verdict = match response.status.as_u16() {
        ..400 => return Verdict::SUCCESS,
        408 | 504 => Verdict::failure(FailureClass::Timeout),
        425 | 429 => Verdict::ignored(true),
        400..500 => return Verdict::ignored(false),
        501 | 505 => return Verdict::failure(FailureClass::Application).permanent(),
        500.. => Verdict::failure(FailureClass::Application),
    };
    verdict.after(response.header("retry-after").and_then(|value| retry_after(value, now)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};
    use stanchion_actors::resilience::breaker::Outcome;

    use super::*;

    fn verdict(status: u16, retry_after: Option<&'static str>) -> Verdict {
        let mut headers = HeaderMap::new();
        headers.extend(retry_after.map(|value| (hyper::header::RETRY_AFTER, value.parse().unwrap())));
        let status = StatusCode::from_u16(status).unwrap();
        let response = HttpResponse { status, headers, body: Bytes::new() };
        status_verdict(&response, Timestamp(784_111_770_000_000))
    }

    #[test]
    fn each_idempotency_key_is_a_header_of_its_own() {
        assert_eq!(idempotency_value("run-7/step:2"), "run-7/step:2");
        assert_eq!(idempotency_value("é%\r\n "), "%C3%A9%25%0D%0A%20");
    }

    #[test]
    fn statuses_have_their_classes() {
        let application = Verdict::failure(FailureClass::Application);
        let timeout = Verdict::failure(FailureClass::Timeout);
        for (status, expected) in [
            (200, Verdict::SUCCESS),
            (304, Verdict::SUCCESS),
            (400, Verdict::ignored(false)),
            (401, Verdict::ignored(false)),
            (404, Verdict::ignored(false)),
            (408, timeout),
            (425, Verdict::ignored(true)),
            (429, Verdict::ignored(true)),
            (500, application),
            (501, application.permanent()),
            (502, application),
            (503, application),
            (504, timeout),
            (505, application.permanent()),
            (599, application),
        ] {
            assert_eq!(verdict(status, None), expected, "{status}");
        }
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept_where_another_attempt_may_help() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(verdict(429, Some("7")).retry_after, seconds(7));
        assert_eq!(verdict(503, Some("Sun, 06 Nov 1994 08:49:37 GMT")).retry_after, seconds(7));
        assert_eq!(verdict(503, Some("soon")).retry_after, None);
        assert_eq!(verdict(404, Some("7")).retry_after, None);
        assert_eq!(verdict(503, Some("7")).outcome, Outcome::Failure(FailureClass::Application));
    }
}
