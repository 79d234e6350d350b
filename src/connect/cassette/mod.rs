//! Cassettes: answers of a real service, recorded once and replayed in tests.
//!
//! A cassette is a file of JSON lines, one for each request that was answered: `{method, url, body_sha256, status,
//! headers, body}`; a body that is no UTF-8 is `body_hex` instead. Headers of requests are not recorded. What
//! [`Redaction`] names is not either: it is taken out before anything is written, and before requests are compared.
//!
//! ```no_run
//! # async fn show(upstream: stanchion::connect::http::Upstream) -> Result<(), Box<dyn std::error::Error>> {
//! use stanchion::connect::{cassette::{Recorder, Redaction, Replay}, http::{HttpRequest, Transport}};
//!
//! let path = std::path::Path::new("tests/cassettes/billing.jsonl");
//! let recorder = Recorder::create(upstream, path, Redaction::default())?;
//! recorder.send(HttpRequest::get("invoices/17")).await?;
//!
//! let replay = Replay::open(path, Redaction::default())?;
//! assert_eq!(replay.send(HttpRequest::get("invoices/17")).await?.status, 200);
//! replay.verify()?;
//! # Ok(()) }
//! ```

mod error;
mod line;
mod record;
mod redact;
mod replay;

pub use self::{
    error::{CassetteError, CassetteMismatch, RecordError},
    line::RequestKey,
    record::Recorder,
    redact::Redaction,
    replay::Replay,
};
