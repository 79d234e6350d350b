//! Credentials that are fetched once for all who need them.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;

use super::secret::Secret;
use crate::{
    clock::Clock,
    error::{Coded, Family},
    ids::Timestamp,
};

/// A secret and its life.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The secret.
    pub secret: Secret,
    /// The first moment at which it holds no more; `None`: it holds until it is refused.
    pub expires: Option<Timestamp>,
}

/// Fetches credentials.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no credential provider",
    note = "implement `CredentialProvider::fetch`, or give a fixed secret to `Credentials::fixed`"
)]
pub trait CredentialProvider: Send + Sync + 'static {
    /// Fetches a new credential.
    ///
    /// # Errors
    /// A text for people, without the secret.
    fn fetch(&self) -> impl Future<Output = Result<Credential, String>> + Send;
}

/// Limits of [`Credentials`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialOptions {
    /// This long before it expires, one caller fetches the next while the others use what holds. Default 30 s.
    pub early: Duration,
    /// How long a fetch may take. Default 10 s.
    pub fetch_timeout: Duration,
}

impl Default for CredentialOptions {
    fn default() -> Self {
        Self { early: Duration::from_secs(30), fetch_timeout: Duration::from_secs(10) }
    }
}

/// How long an early fetch that failed is not tried again.
const EARLY_RETRY: Duration = Duration::from_secs(1);

/// Why there is no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The provider failed, for all who waited for it.
    #[error("credential {name}: {cause}")]
    Fetch {
        /// The credential's name.
        name: Arc<str>,
        /// What the provider says.
        cause: Arc<str>,
    },
    /// The provider did not answer in time.
    #[error("credential {name} was not fetched within {after:?}")]
    FetchTimeout {
        /// The credential's name.
        name: Arc<str>,
        /// The limit.
        after: Duration,
    },
    /// What was fetched has expired already.
    #[error("credential {name} has expired, and its provider has no other")]
    Expired {
        /// The credential's name.
        name: Arc<str>,
    },
    /// The other side refuses it, the one fetched anew as well.
    #[error("credential {name} is refused")]
    Refused {
        /// The credential's name.
        name: Arc<str>,
    },
}

impl Coded for CredentialError {
    fn code(&self) -> &'static str {
        match self {
            Self::Fetch { .. } => "credential.fetch",
            Self::FetchTimeout { .. } => "credential.fetch_timeout",
            Self::Expired { .. } => "credential.expired",
            Self::Refused { .. } => "credential.refused",
        }
    }
    fn family(&self) -> Family {
        match self {
            Self::Fetch { .. } | Self::FetchTimeout { .. } => Family::Unavailable,
            Self::Expired { .. } | Self::Refused { .. } => Family::Rejected,
        }
    }
}

/// A secret as it was lent, with the number of its fetch.
#[derive(Clone, Debug)]
pub struct Lent {
    /// The secret.
    pub secret: Secret,
    /// Which fetch it came from, from 1: tell it to [`Credentials::refused`].
    pub fetch: u64,
}

/// A credential for many callers. Clones are the same.
///
/// However many need one at a time, one fetches: the others wait and get the same credential, or the same error.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    provider: Box<dyn DynProvider>,
    options: CredentialOptions,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
    /// Held by the one who fetches.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    /// Fetches that ended, whichever way.
    ended: u64,
    /// The last that was fetched, with its number.
    credential: Option<(Credential, u64)>,
    /// How the last fetch failed, if it did, and when.
    failed: Option<CredentialError>,
    failed_at: Option<Timestamp>,
}

trait DynProvider: Send + Sync {
    fn fetch(&self) -> BoxFuture<'_, Result<Credential, String>>;
}

impl<P: CredentialProvider> DynProvider for P {
    fn fetch(&self) -> BoxFuture<'_, Result<Credential, String>> {
        Box::pin(CredentialProvider::fetch(self))
    }
}

/// A secret that cannot be fetched anew.
struct Fixed(Secret);

impl CredentialProvider for Fixed {
    async fn fetch(&self) -> Result<Credential, String> {
        Ok(Credential { secret: self.0.clone(), expires: None })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Credentials of a provider; fetches nothing yet. The name is for messages.
    pub fn new(
        name: impl Into<Arc<str>>,
        provider: impl CredentialProvider,
        options: CredentialOptions,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let shared = Shared {
            name: name.into(),
            provider: Box::new(provider),
            options,
            clock,
            held: Mutex::default(),
            fetching: tokio::sync::Mutex::new(()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A secret that stays what it is.
    pub fn fixed(name: impl Into<Arc<str>>, secret: Secret, clock: Arc<dyn Clock>) -> Self {
        Self::new(name, Fixed(secret), CredentialOptions::default(), clock)
    }

    /// The credential, fetched if there is none that holds.
    ///
    /// # Errors
    /// [`CredentialError`], the same for all who waited for one fetch.
    ///
    /// # Cancel safety
    /// Safe: the next that waits fetches.
    pub async fn get(&self) -> Result<Lent, CredentialError> {
        let now = self.shared.clock.now();
        let (usable, ended, failed) = {
            let held = self.shared.lock();
            (held.usable(now), held.ended, held.failed_at)
        };
        let Some((lent, expires)) = usable else { return self.shared.fetch(ended).await };
        let early = self.shared.options.early;
        let failed = failed.is_some_and(|failed| now.since(failed) < EARLY_RETRY);
        if failed || expires.is_none_or(|expires| expires.since(now) > early) {
            return Ok(lent);
        }
        // About to expire: the first who sees it fetches, and a failure is no harm yet.
        let Ok(guard) = self.shared.fetching.try_lock() else { return Ok(lent) };
        let fetched = self.shared.fetch_alone(ended).await;
        drop(guard);
        Ok(fetched.unwrap_or(lent))
    }

    /// The credential after the other side refused the one of `fetch`: fetched anew, unless somebody has done so.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Safe: the next that waits fetches.
    pub async fn refused(&self, fetch: u64) -> Result<Lent, CredentialError> {
        let (newer, ended) = {
            let held = self.shared.lock();
            let usable = held.usable(self.shared.clock.now()).map(|(lent, _)| lent);
            (usable.filter(|lent| lent.fetch > fetch), held.ended)
        };
        match newer {
            Some(lent) => Ok(lent),
            None => self.shared.fetch(ended).await,
        }
    }

    /// Calls with the credential. Refused, it is fetched anew and the call made once more; refused again, it fails.
    ///
    /// # Errors
    /// [`CredentialError`]; the call's own errors are in its output.
    ///
    /// # Cancel safety
    /// That of the call.
    pub async fn authorise<T, F>(
        &self,
        mut call: impl FnMut(Secret) -> F,
        is_refusal: impl Fn(&T) -> bool,
    ) -> Result<T, CredentialError>
    where
        F: Future<Output = T>,
    {
        let first = self.get().await?;
        let output = call(first.secret).await;
        if !is_refusal(&output) {
            return Ok(output);
        }
        let second = self.refused(first.fetch).await?;
        let output = call(second.secret).await;
        if is_refusal(&output) {
            return Err(CredentialError::Refused { name: Arc::clone(&self.shared.name) });
        }
        Ok(output)
    }
}

impl Held {
    fn usable(&self, now: Timestamp) -> Option<(Lent, Option<Timestamp>)> {
        let (credential, fetch) = self.credential.as_ref()?;
        let holds = credential.expires.is_none_or(|expires| now < expires);
        let lent = || Lent { secret: credential.secret.clone(), fetch: *fetch };
        holds.then(|| (lent(), credential.expires))
    }

    /// What the last fetch came to.
    fn outcome(&self, now: Timestamp, name: &Arc<str>) -> Result<Lent, CredentialError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let usable = self.usable(now).map(|(lent, _)| lent);
        usable.ok_or_else(|| CredentialError::Expired { name: Arc::clone(name) })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        // A holder that panicked has left a whole value: it is assigned in one step.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches, or waits for who does. `seen`: fetches that had ended when the need arose; what a later one came to
    /// is as good as one's own.
    async fn fetch(&self, seen: u64) -> Result<Lent, CredentialError> {
        let _alone = self.fetching.lock().await;
        self.fetch_alone(seen).await
    }

    async fn fetch_alone(&self, seen: u64) -> Result<Lent, CredentialError> {
        {
            let held = self.lock();
            if held.ended > seen {
                return held.outcome(self.clock.now(), &self.name);
            }
        }
        let after = self.options.fetch_timeout;
        let fetched = match tokio::time::timeout(after, self.provider.fetch()).await {
            Ok(Ok(credential)) => Ok(credential),
            Ok(Err(cause)) => {
                Err(CredentialError::Fetch { name: Arc::clone(&self.name), cause: Arc::from(cause) })
            }
            Err(_elapsed) => Err(CredentialError::FetchTimeout { name: Arc::clone(&self.name), after }),
        };
        let mut held = self.lock();
        held.ended += 1;
        match fetched {
            Ok(credential) => {
                (held.failed, held.failed_at) = (None, None);
                held.credential = Some((credential, held.ended));
            }
            Err(error) => {
                tracing::warn!(%error, "credential was not fetched");
                (held.failed, held.failed_at) = (Some(error), Some(self.clock.now()));
            }
        }
        held.outcome(self.clock.now(), &self.name)
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
