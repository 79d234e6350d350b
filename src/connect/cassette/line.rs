//! One line of a cassette.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::redact::Redaction;
use crate::connect::http::{HttpRequest, HttpResponse};

/// What a request is known by: two with the same are the same to a cassette.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestKey {
    /// Its method.
    pub method: String,
    /// Path and query below the base, redacted.
    pub url: String,
    /// SHA-256 of its redacted body, in hexadecimal.
    pub body_sha256: String,
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body_sha256.get(..8).unwrap_or(&self.body_sha256);
        write!(f, "{} {} (body {body})", self.method, self.url)
    }
}

impl RequestKey {
    pub(super) fn of(request: &HttpRequest, redaction: &Redaction) -> Self {
        let body = match std::str::from_utf8(&request.body) {
            Ok(text) => Sha256::digest(redaction.text(text)),
            Err(_) => Sha256::digest(&request.body),
        };
        Self {
            method: request.method.to_string(),
            url: redaction.url(&request.path),
            body_sha256: hex(&body),
        }
    }
}

/// A request and its answer, as they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    #[serde(flatten)]
    pub(super) key: RequestKey,
    status: u16,
    /// Values of one name in their order.
    headers: BTreeMap<String, Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
}

impl Line {
    pub(super) fn of(key: RequestKey, response: &HttpResponse, redaction: &Redaction) -> Self {
        let mut headers = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in &response.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers.entry(name.to_string()).or_default().push(redaction.header(name.as_str(), &value));
        }
        let (body, body_hex) = match std::str::from_utf8(&response.body) {
            Ok(text) => (Some(redaction.text(text)), None),
            Err(_) => (None, Some(hex(&response.body))),
        };
        Self { key, status: response.status.as_u16(), headers, body, body_hex }
    }

    /// The answer it tells of.
    pub(super) fn response(&self) -> Result<HttpResponse, String> {
        let status = StatusCode::from_u16(self.status).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        for (name, values) in &self.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|error| error.to_string())?;
            for value in values {
                let value = HeaderValue::try_from(value.as_str()).map_err(|error| error.to_string())?;
                headers.append(name.clone(), value);
            }
        }
        let body = match (&self.body, &self.body_hex) {
            (Some(text), None) => Bytes::from(text.clone()),
            (None, Some(digits)) => unhex(digits).ok_or("body_hex is not hexadecimal")?,
            (None, None) => Bytes::new(),
            (Some(_), Some(_)) => return Err("it has both body and body_hex".to_owned()),
        };
        Ok(HttpResponse { status, headers, body })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Bytes> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let whole = digits.len().is_multiple_of(2);
    if whole { pairs.map(byte).collect::<Option<Vec<u8>>>().map(Bytes::from) } else { None }
}
