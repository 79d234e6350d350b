//! A protected call through an adapter.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{Protected, ProtectedCtx, ProtectedError, ProtectedValue};
use crate::{
    adapter::{Adapter, AdapterCallError, Bounded, CallCtx, Verdict},
    error::{Coded, Family},
    resilience::{
        breaker::{FailureClass, Outcome},
        retry::RetryCause,
    },
};

/// Why a call through an adapter failed: it has no response, or one that its adapter takes for a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdapterFault<R, E: std::error::Error> {
    /// There is no response.
    Call(AdapterCallError<E>),
    /// The response is a failure: a status of 503, say.
    Answered {
        /// The response.
        response: R,
        /// What it means.
        verdict: Verdict,
    },
}

impl<R, E: std::error::Error> AdapterFault<R, E> {
    /// What it means.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Call(error) => error.verdict(),
            Self::Answered { verdict, .. } => *verdict,
        }
    }
}

impl<R, E: std::error::Error> fmt::Display for AdapterFault<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Answered { verdict, .. } => {
                let again = if verdict.retryable { "may be tried again" } else { "is final" };
                write!(f, "the other side answered with a failure that {again}")
            }
        }
    }
}

impl<R: fmt::Debug, E: std::error::Error + 'static> std::error::Error for AdapterFault<R, E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Call(error) => error.source(),
            Self::Answered { .. } => None,
        }
    }
}

impl<R, E: std::error::Error> Coded for AdapterFault<R, E> {
    fn code(&self) -> &'static str {
        match self {
            Self::Call(error) => error.code(),
            Self::Answered { .. } => "adapter.answered",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Call(error) => error.family(),
            Self::Answered { verdict, .. } if verdict.retryable => Family::Unknown,
            Self::Answered { .. } => Family::Rejected,
        }
    }
}

impl<R, E: std::error::Error> RetryCause for AdapterFault<R, E> {
    fn cause_code(&self) -> &str {
        self.code()
    }
    fn may_retry(&self) -> bool {
        self.verdict().retryable
    }
    fn class(&self) -> Option<FailureClass> {
        self.verdict().class()
    }
    fn outcome(&self) -> Outcome {
        self.verdict().outcome
    }
    fn asked_wait(&self) -> Option<Duration> {
        self.verdict().retry_after
    }
}

/// A protected call through the adapter `A`.
pub type ProtectedResponse<A> = Result<
    ProtectedValue<<A as Adapter>::Response>,
    ProtectedError<AdapterFault<<A as Adapter>::Response, <A as Adapter>::Error>>,
>;

impl Protected {
    /// Calls an adapter through every layer. What the adapter takes for a failure is one, a response too; each attempt
    /// has the shortest of the times of layer, adapter and `call`, and the same idempotency key.
    ///
    /// # Errors
    /// [`ProtectedError`].
    ///
    /// # Cancel safety
    /// As [`Protected::call`], and that of the adapter.
    pub async fn call_adapter<A: Adapter<Request: Clone + Sync>>(
        &self,
        ctx: &ProtectedCtx<'_>,
        adapter: &Bounded<A>,
        request: &A::Request,
        call: &CallCtx,
    ) -> ProtectedResponse<A> {
        let attempt = async |attempt: super::Attempt| {
            let left = attempt.deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let timeout = call.timeout.into_iter().chain(left).min();
            let own = CallCtx { timeout, ..call.clone() };
            let response = adapter.call(request.clone(), &own).await.map_err(AdapterFault::Call)?;
            let verdict = adapter.adapter().classify(Ok(&response));
            match verdict.outcome {
                Outcome::Success => Ok(response),
                Outcome::Failure(_) | Outcome::Ignored => Err(AdapterFault::Answered { response, verdict }),
            }
        };
        self.call(ctx, attempt).await
    }
}
