//! HTTP upstreams by name, each with connections of its own.
//!
//! It owns every HTTP connection of the process: how many, how old, for whom. It speaks HTTP/1.1, over TLS where the
//! base URL says so. One request uses one connection at a time, so that `size + overflow` bounds both. It follows no
//! redirects, keeps no cookies and uses no proxies.
//!
//! ```no_run
//! # async fn show(scope: &stanchion_actors::task::TaskScope) -> Result<(), Box<dyn std::error::Error>> {
//! use stanchion::connect::http::{Http, HttpRequest, UpstreamOptions};
//!
//! let http = Http::new(scope);
//! http.register("billing", &UpstreamOptions { size: 4, ..UpstreamOptions::of("https://billing.example/v1") })?;
//! let answer = http.call("billing", HttpRequest::get("invoices/17")).await?;
//! assert!(answer.status.is_success());
//! # Ok(()) }
//! ```

mod adapter;
mod conn;
mod counts;
mod error;
mod options;
mod path;
mod probe;
mod request;
mod upstream;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use futures_util::future::join_all;
pub use hyper::{HeaderMap, Method, StatusCode, header};
use stanchion_actors::{env::Env, task::TaskScope};

#[cfg(feature = "activities")]
pub(crate) use self::adapter::idempotency_value;
pub use self::{
    adapter::{HttpAdapter, HttpCallError, IDEMPOTENCY_HEADER, Transport, status_verdict},
    error::{ConnectError, HttpError, RegisterError},
    options::{BODY_MAX_BYTES, OptionFault, OptionsError, ProbeOptions, TIME_MAX_MS, UpstreamOptions},
    path::{PATH_MAX_BYTES, PathError},
    request::{HeaderError, HttpRequest, HttpResponse},
    upstream::{Upstream, UpstreamHealth, UpstreamStats},
};
use super::pool::DrainReport;

/// Upstreams by name. Clones are the same; the last one dropped closes all connections.
#[derive(Clone, Debug)]
pub struct Http {
    shared: Arc<Registered>,
}

#[derive(Debug)]
struct Registered {
    scope: TaskScope,
    /// Where health and numbers are written down as well.
    env: Option<Weak<Env>>,
    upstreams: RwLock<BTreeMap<String, Upstream>>,
}

impl Http {
    /// Without upstreams; the tasks of those to come live below `owner`.
    #[must_use]
    pub fn new(owner: &TaskScope) -> Self {
        Self::with(owner, None)
    }

    /// As [`new`](Self::new), as a part of a system: each upstream is listed in its health and statistics, under the name
    /// `http/` and its own.
    #[must_use]
    pub fn of(env: &Arc<Env>) -> Self {
        Self::with(env.tasks(), Some(Arc::downgrade(env)))
    }

    fn with(owner: &TaskScope, env: Option<Weak<Env>>) -> Self {
        let shared = Registered { scope: owner.child("http"), env, upstreams: RwLock::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Registers an upstream; opens no connection but for its probe.
    ///
    /// # Errors
    /// [`RegisterError`]: the name is bad or in use, settings are at fault (all are named), or nothing can be run.
    pub fn register(&self, name: &str, options: &UpstreamOptions) -> Result<Upstream, RegisterError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:[]".contains(c);
        if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
            return Err(RegisterError::Name(name.to_owned()));
        }
        let mut upstreams = self.shared.upstreams.write().unwrap_or_else(PoisonError::into_inner);
        if upstreams.contains_key(name) {
            return Err(RegisterError::Duplicate(name.to_owned()));
        }
        let env = self.shared.env.as_ref().and_then(Weak::upgrade);
        let vital = env.map(|env| env.vitals().begin(&format!("http/{name}")));
        let upstream = Upstream::start(name, options, &self.shared.scope, vital)?;
        upstreams.insert(name.to_owned(), upstream.clone());
        Ok(upstream)
    }

    /// The upstream of this name.
    ///
    /// # Errors
    /// [`HttpError::UnknownUpstream`].
    pub fn upstream(&self, name: &str) -> Result<Upstream, HttpError> {
        let upstreams = self.shared.upstreams.read().unwrap_or_else(PoisonError::into_inner);
        upstreams.get(name).cloned().ok_or_else(|| HttpError::UnknownUpstream(name.to_owned()))
    }

    /// [`Upstream::call`] by name.
    ///
    /// # Errors
    /// [`HttpError`].
    ///
    /// # Cancel safety
    /// As [`Upstream::call`].
    pub async fn call(&self, upstream: &str, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.upstream(upstream)?.call(request).await
    }

    /// The numbers of all upstreams, by name.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<String, UpstreamStats> {
        self.all().into_iter().map(|upstream| (upstream.name().to_owned(), upstream.stats())).collect()
    }

    /// Drains all upstreams at once, each within the same time.
    ///
    /// # Cancel safety
    /// As [`Upstream::drain`].
    pub async fn drain(&self, within: Duration) -> BTreeMap<String, DrainReport> {
        let drains = self
            .all()
            .into_iter()
            .map(|upstream| async move { (upstream.name().to_owned(), upstream.drain(within).await) });
        join_all(drains).await.into_iter().collect()
    }

    fn all(&self) -> Vec<Upstream> {
        let upstreams = self.shared.upstreams.read().unwrap_or_else(PoisonError::into_inner);
        upstreams.values().cloned().collect()
    }
}
