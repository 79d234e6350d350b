//! Adapters: calls to the outside in a form that policies understand.
//!
//! It owns the shape of a call, its limits, credentials and capabilities; it refuses to know any protocol. What talks
//! HTTP implements [`Adapter`] elsewhere.

mod bounded;
mod capability;
mod credentials;
mod secret;
#[cfg(feature = "testing")]
mod stub;
mod verdict;

use std::{future::Future, time::Duration};

#[cfg(feature = "testing")]
pub use self::stub::{Stub, StubError, StubFaults};
pub use self::{
    bounded::{AdapterCallError, AdapterError, Bounded, CALL_TIME_MAX},
    capability::{CapabilityError, CapabilityToken},
    credentials::{Credential, CredentialError, CredentialOptions, CredentialProvider, Credentials, Lent},
    secret::Secret,
    verdict::Verdict,
};
use crate::task::CancelToken;

/// A way to call one service outside. [`Bounded`] makes it usable.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an adapter",
    note = "implement `Adapter` for it: a name, a timeout, `call`, `classify` and `health`"
)]
pub trait Adapter: Send + Sync + 'static {
    /// What it is asked.
    type Request: Send;
    /// What it answers.
    type Response: Send + Sync;
    /// Why it has no answer.
    type Error: std::error::Error + Send + Sync;

    /// Its name, for messages: 1..=128 bytes.
    fn name(&self) -> &str;

    /// How long a call may take: more than 0, at most a day. There is no call without a limit.
    fn timeout(&self) -> Duration;

    /// The scope that a request needs; none by default.
    fn scope(&self, request: &Self::Request) -> Option<String> {
        let _ = request;
        None
    }

    /// Makes one attempt.
    fn call(
        &self,
        request: Self::Request,
        ctx: &CallCtx,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;

    /// Says what a call came to. A response may be a failure too.
    fn classify(&self, result: Result<&Self::Response, &Self::Error>) -> Verdict;

    /// Asks how the other side fares.
    fn health(&self) -> impl Future<Output = AdapterHealth> + Send;
}

/// How the other side of an adapter fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdapterHealth {
    /// It answers.
    Up,
    /// It does not, or says so.
    Down(String),
    /// Nobody knows.
    Unknown,
}

/// What a call brings along.
#[derive(Clone, Debug, Default)]
pub struct CallCtx {
    /// The same for all attempts: given to the other side where it takes one.
    pub idempotency_key: Option<String>,
    /// What the caller may do.
    pub capability: Option<CapabilityToken>,
    /// A shorter time than the adapter's.
    pub timeout: Option<Duration>,
    /// Asked to stop.
    pub cancel: CancelToken,
}
