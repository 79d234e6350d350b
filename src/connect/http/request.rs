//! What is asked and answered.

use std::fmt;

use bytes::Bytes;
use hyper::{
    HeaderMap, Method, StatusCode,
    header::{HeaderName, HeaderValue},
};
use stanchion_actors::error::{Coded, Family};

/// A request to an upstream, before it has a connection.
#[derive(Clone)]
pub struct HttpRequest {
    /// Its method.
    pub method: Method,
    /// Path and query below the base of the upstream.
    pub path: String,
    /// Its headers, beside those of the upstream.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A header that cannot be sent. Its value is not told: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The name is no header name.
    #[error("{0:?} is no header name")]
    Name(String),
    /// The value holds a line break or another character that no header holds.
    #[error("the value of header {0} holds a line break or another character that no header holds")]
    Value(String),
    /// The header belongs to the connection.
    #[error("header {0} belongs to the connection: leave it out")]
    Reserved(String),
}

impl Coded for HeaderError {
    fn code(&self) -> &'static str {
        match self {
            Self::Name(_) => "http.header_name",
            Self::Value(_) => "http.header_value",
            Self::Reserved(_) => "http.header_reserved",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// Headers that say where the request ends and where it goes: set by the connection alone.
const RESERVED: [&str; 6] =
    ["host", "connection", "content-length", "transfer-encoding", "upgrade", "keep-alive"];

impl HttpRequest {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A GET.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A POST of a body.
    #[must_use]
    pub fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::new(Method::POST, path) }
    }

    /// Sets a header.
    ///
    /// # Errors
    /// [`HeaderError`]: name or value cannot be sent, or the header belongs to the connection.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, HeaderError> {
        let (name, value) = header(name, value)?;
        self.headers.insert(name, value);
        Ok(self)
    }
}

/// A header that may be sent; its value is kept out of texts.
pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HeaderError> {
    let key = HeaderName::try_from(name).map_err(|_| HeaderError::Name(name.to_owned()))?;
    sendable(&key)?;
    let mut value = HeaderValue::try_from(value).map_err(|_| HeaderError::Value(name.to_owned()))?;
    value.set_sensitive(true);
    Ok((key, value))
}

/// Refuses headers that belong to the connection.
pub(super) fn sendable(name: &HeaderName) -> Result<(), HeaderError> {
    let reserved = RESERVED.contains(&name.as_str());
    if reserved { Err(HeaderError::Reserved(name.to_string())) } else { Ok(()) }
}

impl fmt::Debug for HttpRequest {
    /// Tells no header values, no query and no body: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("path", &self.path.split('?').next().unwrap_or_default())
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// An answer, read to its end.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Its status, whatever it is: an answer of 500 is an answer.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl HttpResponse {
    /// The text of a header, if it is there and a text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for HttpResponse {
    /// Tells no header values and no body: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}
