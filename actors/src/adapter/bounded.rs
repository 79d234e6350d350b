//! An adapter that was checked: it has a limit in time, which holds, and asks for capabilities first.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Adapter, AdapterHealth, CallCtx, capability::CapabilityError, verdict::Verdict};
use crate::{
    clock::Clock,
    error::{Coded, Family},
    resilience::{
        breaker::{FailureClass, Outcome},
        retry::RetryCause,
    },
};

/// Longest time an adapter may give its calls.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(86_400);

/// An adapter that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// It gives its calls no time, or no limit.
    #[error("adapter {adapter} has a timeout of {timeout:?}: use more than 0, at most {CALL_TIME_MAX:?}")]
    NoTimeout {
        /// The adapter.
        adapter: String,
        /// What it says.
        timeout: Duration,
    },
    /// Its name is empty or over 128 bytes.
    #[error("{0:?} is no name of an adapter: use 1..=128 bytes")]
    Name(String),
}

impl Coded for AdapterError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoTimeout { .. } => "adapter.no_timeout",
            Self::Name(_) => "adapter.name",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// Why a call through an adapter has no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterCallError<E: std::error::Error> {
    /// The caller may not. Nothing was sent.
    #[error(transparent)]
    Capability(CapabilityError),
    /// It ran over its time; the other side may have acted upon it.
    #[error("adapter {adapter}: no answer within {after:?}")]
    Timeout {
        /// The adapter.
        adapter: Arc<str>,
        /// The limit.
        after: Duration,
    },
    /// The caller cancelled it; the other side may have acted upon it.
    #[error("adapter {adapter}: cancelled")]
    Cancelled {
        /// The adapter.
        adapter: Arc<str>,
    },
    /// The adapter's own error, with what it says about it.
    #[error("{error}")]
    Failed {
        /// The error.
        #[source]
        error: E,
        /// What it means.
        verdict: Verdict,
    },
}

impl<E: std::error::Error> AdapterCallError<E> {
    /// What it means for breakers and retries.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Capability(_) => Verdict::ignored(false),
            Self::Cancelled { .. } => Verdict::ignored(true),
            Self::Timeout { .. } => Verdict::failure(FailureClass::Timeout),
            Self::Failed { verdict, .. } => *verdict,
        }
    }
}

impl<E: std::error::Error> Coded for AdapterCallError<E> {
    fn code(&self) -> &'static str {
        match self {
            Self::Capability(error) => error.code(),
            Self::Timeout { .. } => "adapter.timeout",
            Self::Cancelled { .. } => "adapter.cancelled",
            Self::Failed { .. } => "adapter.failed",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Capability(error) => error.family(),
            Self::Timeout { .. } | Self::Cancelled { .. } => Family::Unknown,
            Self::Failed { verdict, .. } if verdict.retryable => Family::Unknown,
            Self::Failed { .. } => Family::Rejected,
        }
    }
}

impl<E: std::error::Error> RetryCause for AdapterCallError<E> {
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

/// An adapter that was checked. Clones are the same.
#[derive(Debug)]
pub struct Bounded<A> {
    shared: Arc<Checked<A>>,
}

#[derive(Debug)]
struct Checked<A> {
    adapter: A,
    name: Arc<str>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl<A> Clone for Bounded<A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<A: Adapter> Bounded<A> {
    /// Checks an adapter.
    ///
    /// # Errors
    /// - [`AdapterError::NoTimeout`]: its timeout is 0 or over a day.
    /// - [`AdapterError::Name`]: its name is empty or too long.
    pub fn new(adapter: A, clock: Arc<dyn Clock>) -> Result<Self, AdapterError> {
        let (name, timeout) = (adapter.name(), adapter.timeout());
        if name.is_empty() || name.len() > 128 {
            return Err(AdapterError::Name(name.to_owned()));
        }
        if timeout.is_zero() || timeout > CALL_TIME_MAX {
            return Err(AdapterError::NoTimeout { adapter: name.to_owned(), timeout });
        }
        let name = Arc::from(name);
        Ok(Self { shared: Arc::new(Checked { adapter, name, timeout, clock }) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The adapter itself.
    #[must_use]
    pub fn adapter(&self) -> &A {
        &self.shared.adapter
    }

    /// Calls within the adapter's time, and within the caller's if that is shorter. What the adapter takes for a
    /// failure is an error here as well, a response of that kind is not: ask [`verdict`](Self::verdict).
    ///
    /// # Errors
    /// [`AdapterCallError`].
    ///
    /// # Cancel safety
    /// That of the adapter.
    pub async fn call(
        &self,
        request: A::Request,
        ctx: &CallCtx,
    ) -> Result<A::Response, AdapterCallError<A::Error>> {
        let Checked { adapter, name, timeout: limit, clock } = &*self.shared;
        if let Some(scope) = adapter.scope(&request) {
            let token = ctx.capability.as_ref();
            let token = token
                .ok_or_else(|| CapabilityError::Missing { scope: scope.clone() })
                .map_err(AdapterCallError::Capability)?;
            token.check(&scope, clock.now()).map_err(AdapterCallError::Capability)?;
        }
        let after = ctx.timeout.map_or(*limit, |own| own.min(*limit));
        let result = tokio::select! {
            biased;
            () = ctx.cancel.cancelled() => {
                return Err(AdapterCallError::Cancelled { adapter: Arc::clone(name) });
            }
            result = timeout(after, adapter.call(request, ctx)) => result
        };
        let result = result.map_err(|_| AdapterCallError::Timeout { adapter: Arc::clone(name), after })?;
        result.map_err(|error| {
            let verdict = adapter.classify(Err(&error));
            AdapterCallError::Failed { error, verdict }
        })
    }

    /// What a call came to.
    #[must_use]
    pub fn verdict(&self, result: &Result<A::Response, AdapterCallError<A::Error>>) -> Verdict {
        match result {
            Ok(response) => self.shared.adapter.classify(Ok(response)),
            Err(error) => error.verdict(),
        }
    }

    /// How the other side fares, asked within the adapter's time.
    ///
    /// # Cancel safety
    /// That of the adapter.
    pub async fn health(&self) -> AdapterHealth {
        let asked = timeout(self.shared.timeout, self.shared.adapter.health()).await;
        asked.unwrap_or_else(|_| AdapterHealth::Down(format!("no answer within {:?}", self.shared.timeout)))
    }
}

#[cfg(test)]
#[path = "bounded_tests.rs"]
mod tests;
