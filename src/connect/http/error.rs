//! Why a request has no answer.

use std::{sync::Arc, time::Duration};

use stanchion_actors::{
    error::{Coded, Family},
    resilience::{
        breaker::{FailureClass, Outcome},
        retry::RetryCause,
    },
};

use super::{options::OptionsError, path::PathError, request::HeaderError};
use stanchion_actors::task::SpawnError;

/// Why no connection opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name does not resolve, or nobody listens.
    #[error("no connection: {0}")]
    Io(String),
    /// The other side's certificate or protocol does not hold.
    #[error("no TLS: {0}")]
    Tls(String),
    /// It took too long.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// The tasks of this upstream have ended.
    #[error("no connection: {0}")]
    Ended(#[from] SpawnError),
}

/// Why a request has no answer. Neither headers, nor queries, nor bodies are told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No upstream of the name is registered.
    #[error("upstream {0:?} is not registered")]
    UnknownUpstream(String),
    /// The path is refused. Nothing was sent.
    #[error("upstream {upstream}: {error}")]
    Path {
        /// The upstream.
        upstream: Arc<str>,
        /// The fault.
        #[source]
        error: PathError,
    },
    /// A header is refused. Nothing was sent.
    #[error("upstream {upstream}: {error}")]
    Header {
        /// The upstream.
        upstream: Arc<str>,
        /// The fault.
        #[source]
        error: HeaderError,
    },
    /// Its probes fail. Nothing was sent.
    #[error("upstream {upstream} is down ({cause}): its next probe is due in {retry_in:?} at most")]
    UpstreamDown {
        /// The upstream.
        upstream: Arc<str>,
        /// What the last probe came to.
        cause: Arc<str>,
        /// When the next probe is due at the latest.
        retry_in: Duration,
    },
    /// No connection came free in time. Nothing was sent.
    #[error("upstream {upstream}: no connection came free in {waited:?}")]
    CheckoutTimeout {
        /// The upstream.
        upstream: Arc<str>,
        /// How long it waited.
        waited: Duration,
    },
    /// Too many wait for a connection. Nothing was sent.
    #[error("upstream {upstream}: {waiting} wait for a connection already")]
    TooManyWaiting {
        /// The upstream.
        upstream: Arc<str>,
        /// How many wait.
        waiting: u32,
    },
    /// It drains, or is drained. Nothing was sent.
    #[error("upstream {upstream} is draining")]
    Draining {
        /// The upstream.
        upstream: Arc<str>,
    },
    /// No connection opened. Nothing was sent.
    #[error("upstream {upstream}: {error}")]
    Connect {
        /// The upstream.
        upstream: Arc<str>,
        /// Why.
        #[source]
        error: ConnectError,
    },
    /// The connection broke. The request may have been acted upon.
    #[error("upstream {upstream}: the connection broke: {cause}")]
    Broken {
        /// The upstream.
        upstream: Arc<str>,
        /// How.
        cause: String,
    },
    /// The attempt ran over its time. Sent, the request may have been acted upon.
    #[error("upstream {upstream}: no answer within {after:?}")]
    AttemptTimeout {
        /// The upstream.
        upstream: Arc<str>,
        /// The limit.
        after: Duration,
        /// Whether anything was sent.
        sent: bool,
    },
    /// The answer's body is over the limit. The request has been acted upon.
    #[error("upstream {upstream}: the answer has more than {limit} bytes")]
    BodyTooLarge {
        /// The upstream.
        upstream: Arc<str>,
        /// The limit.
        limit: usize,
    },
    /// A drain ran over its time and cut the connection. The request may have been acted upon.
    #[error("upstream {upstream}: cut by its drain")]
    Cut {
        /// The upstream.
        upstream: Arc<str>,
    },
}

impl HttpError {
    /// What kind of failure it is; `None`: it says nothing about the other side.
    #[must_use]
    pub fn failure_class(&self) -> Option<FailureClass> {
        match self {
            Self::UnknownUpstream(_)
            | Self::Path { .. }
            | Self::Header { .. }
            | Self::UpstreamDown { .. }
            | Self::CheckoutTimeout { .. }
            | Self::TooManyWaiting { .. }
            | Self::Draining { .. }
            | Self::Cut { .. } => None,
            Self::AttemptTimeout { sent: false, .. } => None,
            Self::AttemptTimeout { sent: true, .. }
            | Self::Connect { error: ConnectError::Timeout(_), .. } => Some(FailureClass::Timeout),
            Self::Connect { error: ConnectError::Ended(_), .. } => None,
            Self::Connect { error: ConnectError::Io(_) | ConnectError::Tls(_), .. } | Self::Broken { .. } => {
                Some(FailureClass::Network)
            }
            Self::BodyTooLarge { .. } => Some(FailureClass::Application),
        }
    }
}

impl Coded for HttpError {
    fn code(&self) -> &'static str {
        match self {
            Self::UnknownUpstream(_) => "http.unknown_upstream",
            Self::Path { error, .. } => error.code(),
            Self::Header { error, .. } => error.code(),
            Self::UpstreamDown { .. } => "http.upstream_down",
            Self::CheckoutTimeout { .. } => "http.checkout_timeout",
            Self::TooManyWaiting { .. } => "http.too_many_waiting",
            Self::Draining { .. } => "http.draining",
            Self::Connect { .. } => "http.connect",
            Self::Broken { .. } => "http.broken",
            Self::AttemptTimeout { .. } => "http.attempt_timeout",
            Self::BodyTooLarge { .. } => "http.body_too_large",
            Self::Cut { .. } => "http.cut",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::UnknownUpstream(_) | Self::Path { .. } | Self::Header { .. } => Family::Rejected,
            Self::UpstreamDown { .. }
            | Self::CheckoutTimeout { .. }
            | Self::TooManyWaiting { .. }
            | Self::Draining { .. }
            | Self::Connect { .. }
            | Self::AttemptTimeout { sent: false, .. } => Family::Unavailable,
            Self::AttemptTimeout { sent: true, .. }
            | Self::Broken { .. }
            | Self::BodyTooLarge { .. }
            | Self::Cut { .. } => Family::Unknown,
        }
    }
}

impl RetryCause for HttpError {
    fn cause_code(&self) -> &str {
        self.code()
    }
    fn may_retry(&self) -> bool {
        // A body over the limit is as large the next time.
        self.family() != Family::Rejected && !matches!(self, Self::BodyTooLarge { .. })
    }
    fn class(&self) -> Option<FailureClass> {
        self.failure_class()
    }
    fn outcome(&self) -> Outcome {
        // Without a class it was the request's own fault, or was not sent.
        self.failure_class().map_or(Outcome::Ignored, Outcome::Failure)
    }
    fn asked_wait(&self) -> Option<Duration> {
        match self {
            Self::UpstreamDown { retry_in, .. } => Some(*retry_in),
            _ => None,
        }
    }
}

/// Why an upstream is not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is empty, over 128 bytes, or holds others than letters, digits and `-_.:[]`.
    #[error("{0:?} is no name of an upstream: use 1..=128 letters, digits and -_.:[]")]
    Name(String),
    /// The name is in use.
    #[error("upstream {0:?} is registered twice: give one of them another name")]
    Duplicate(String),
    /// Settings are at fault.
    #[error("upstream {upstream:?}: {error}")]
    Options {
        /// The upstream.
        upstream: String,
        /// Every fault.
        #[source]
        error: OptionsError,
    },
    /// The machine's root certificates cannot be read.
    #[error("upstream {upstream:?} needs TLS: {cause}")]
    Roots {
        /// The upstream.
        upstream: String,
        /// Why not.
        cause: String,
    },
    /// Its tasks have no living owner.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

impl Coded for RegisterError {
    fn code(&self) -> &'static str {
        match self {
            Self::Name(_) => "http.upstream_name",
            Self::Duplicate(_) => "http.duplicate_upstream",
            Self::Options { error, .. } => error.code(),
            Self::Roots { .. } => "http.roots",
            Self::Spawn(error) => error.code(),
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Name(_) | Self::Duplicate(_) | Self::Options { .. } => Family::Rejected,
            Self::Roots { .. } => Family::Unavailable,
            Self::Spawn(error) => error.family(),
        }
    }
}
