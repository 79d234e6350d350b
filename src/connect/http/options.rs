//! What an upstream may be told, and what of it is wrong.

use std::{collections::BTreeMap, fmt, time::Duration};

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize};
use stanchion_actors::error::{Coded, Family};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use url::Url;

use super::{path::within, request::sendable};
use crate::connect::pool::{POOL_MAX, PoolOptions};

/// Longest time that can be set: one day, in milliseconds.
pub const TIME_MAX_MS: u64 = 86_400_000;
/// Largest body limit that can be set.
pub const BODY_MAX_BYTES: u64 = 1 << 30;

/// Settings of one upstream. Times in milliseconds, 1..=86 400 000.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamOptions {
    /// Where it is: `http` or `https`, a host, perhaps a port and a path below which all requests are.
    pub base_url: String,
    /// Connections that stay open. Default 8.
    pub size: u32,
    /// Connections beyond that, closed after their request. Default 0.
    pub overflow: u32,
    /// Callers that may wait for one. Default 1 024.
    pub max_waiting: u32,
    /// How long one waits. Default 5 s.
    pub checkout_timeout_ms: u64,
    /// Idle for this long, a connection is closed. Default 60 s; none keeps it.
    pub idle_timeout_ms: Option<u64>,
    /// Connections that the idle timeout leaves. Default 0.
    pub min_idle: u32,
    /// Open for this long, a connection is closed between requests. Default none.
    pub max_lifetime_ms: Option<u64>,
    /// How long connecting may take, TLS included. Default 5 s.
    pub connect_timeout_ms: u64,
    /// How long an attempt may take: the wait for a connection, the request and the whole answer. Default 30 s.
    pub attempt_timeout_ms: u64,
    /// Largest body of an answer. Default 8 MiB, at most 1 GiB.
    pub body_max_bytes: u64,
    /// Headers of every request; a request may set others, and replace these.
    pub headers: BTreeMap<String, String>,
    /// Certificates in PEM that are trusted for https instead of the machine's.
    pub ca_pem: Option<String>,
    /// How its health is watched; none: it is never taken for down.
    pub probe: Option<ProbeOptions>,
}

/// How the health of an upstream is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeOptions {
    /// What is asked for with GET, below the base. Any status below 500 is health.
    pub path: String,
    /// How often, in milliseconds.
    pub interval_ms: u64,
    /// How long one probe may take, in milliseconds. Default 2 s, at most the interval.
    #[serde(default = "probe_timeout_ms")]
    pub timeout_ms: u64,
}

const fn probe_timeout_ms() -> u64 {
    2_000
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            size: 8,
            overflow: 0,
            max_waiting: 1_024,
            checkout_timeout_ms: 5_000,
            idle_timeout_ms: Some(60_000),
            min_idle: 0,
            max_lifetime_ms: None,
            connect_timeout_ms: 5_000,
            attempt_timeout_ms: 30_000,
            body_max_bytes: 8 << 20,
            headers: BTreeMap::new(),
            ca_pem: None,
            probe: None,
        }
    }
}

impl fmt::Debug for UpstreamOptions {
    /// Tells the names of headers only: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamOptions")
            .field("base_url", &shown(&self.base_url))
            .field("size", &self.size)
            .field("overflow", &self.overflow)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("probe", &self.probe)
            .finish_non_exhaustive()
    }
}

/// A setting outside its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {given}: {hint}")]
#[non_exhaustive]
pub struct OptionFault {
    /// The setting.
    pub field: String,
    /// What it is; for headers, what kind of thing.
    pub given: String,
    /// What would be right.
    pub hint: String,
}

/// Every fault of the settings of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("upstream options: {}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
#[non_exhaustive]
pub struct OptionsError {
    /// The faults, at least one.
    pub faults: Vec<OptionFault>,
}

impl Coded for OptionsError {
    fn code(&self) -> &'static str {
        "http.options"
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// Settings that were checked.
#[derive(Clone)]
pub(super) struct Checked {
    pub(super) base: Url,
    pub(super) headers: HeaderMap,
    pub(super) pool: PoolOptions,
    pub(super) connect_timeout: Duration,
    pub(super) attempt_timeout: Duration,
    pub(super) body_max_bytes: usize,
    /// Trusted instead of the machine's.
    pub(super) roots: Option<Vec<CertificateDer<'static>>>,
    pub(super) probe: Option<ProbeOptions>,
}

fn wrong(field: &str, given: impl ToString, hint: impl Into<String>) -> OptionFault {
    OptionFault { field: field.to_owned(), given: given.to_string(), hint: hint.into() }
}

/// A URL without what may be secret: credentials, query, fragment.
fn shown(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "no URL".to_owned() };
    let bare = url.set_username("").is_ok() && url.set_password(None).is_ok();
    url.set_query(None);
    url.set_fragment(None);
    if bare { url.to_string() } else { format!("{}:...", url.scheme()) }
}

impl UpstreamOptions {
    /// Defaults for all but where it is.
    #[must_use]
    pub fn of(base_url: impl Into<String>) -> Self {
        Self { base_url: base_url.into(), ..Self::default() }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// [`OptionsError`] names all faults.
    pub fn validate(&self) -> Result<(), OptionsError> {
        self.check().map(drop)
    }

    pub(super) fn check(&self) -> Result<Checked, OptionsError> {
        let mut faults = Vec::new();
        let base = self.base().map_err(|fault| faults.push(fault)).ok();
        let headers = self.header_map(&mut faults);
        let roots = self.roots().map_err(|fault| faults.push(fault)).unwrap_or_default();
        self.check_numbers(&mut faults);
        if let (Some(probe), Some(base)) = (&self.probe, &base)
            && let Err(error) = within(base, &probe.path)
        {
            faults.push(wrong("probe.path", "no path below the base", error.to_string()));
        }
        match base {
            Some(base) if faults.is_empty() => Ok(Checked {
                base,
                headers,
                pool: self.pool(),
                connect_timeout: Duration::from_millis(self.connect_timeout_ms),
                attempt_timeout: Duration::from_millis(self.attempt_timeout_ms),
                body_max_bytes: usize::try_from(self.body_max_bytes).unwrap_or(usize::MAX),
                roots,
                probe: self.probe.clone(),
            }),
            _ => Err(OptionsError { faults }),
        }
    }

    fn pool(&self) -> PoolOptions {
        PoolOptions {
            size: self.size,
            overflow: self.overflow,
            max_waiting: self.max_waiting,
            checkout_timeout: Duration::from_millis(self.checkout_timeout_ms),
            idle_timeout: self.idle_timeout_ms.map(Duration::from_millis),
            min_idle: self.min_idle,
            max_lifetime: self.max_lifetime_ms.map(Duration::from_millis),
        }
    }

    fn base(&self) -> Result<Url, OptionFault> {
        let fault = |hint: &str| wrong("base_url", shown(&self.base_url), hint);
        let mut url = Url::parse(&self.base_url).map_err(|error| fault(&format!("{error}: name one")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fault("use http or https"));
        }
        if url.port() == Some(0) {
            return Err(fault("port 0 is no port"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fault("it holds credentials: give them through a provider"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(fault("leave out the query and the fragment"));
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(url)
    }

    fn roots(&self) -> Result<Option<Vec<CertificateDer<'static>>>, OptionFault> {
        let Some(pem) = &self.ca_pem else { return Ok(None) };
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let certificates = read.ok().filter(|certificates| !certificates.is_empty());
        let hint = "give one or more certificates in PEM";
        certificates.map(Some).ok_or_else(|| wrong("ca_pem", "no list of certificates", hint))
    }

    fn header_map(&self, faults: &mut Vec<OptionFault>) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            match (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
                (Ok(name), Ok(_)) if sendable(&name).is_err() => {
                    faults.push(wrong("headers", format!("{name:?}"), "it belongs to the connection"));
                }
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    map.insert(name, value);
                }
                (Err(_), _) => faults.push(wrong("headers", format!("{name:?}"), "it is no header name")),
                (Ok(name), Err(_)) => {
                    let hint = "use visible characters, without line breaks";
                    faults.push(wrong(&format!("headers.{name}"), "no header value", hint));
                }
            }
        }
        map
    }

    fn check_numbers(&self, faults: &mut Vec<OptionFault>) {
        let sum = u64::from(self.size) + u64::from(self.overflow);
        if sum == 0 || sum > u64::from(POOL_MAX) {
            let hint = format!("size and overflow are 1..={POOL_MAX} in sum");
            faults.push(wrong("size", sum, hint));
        }
        if self.min_idle > self.size {
            faults.push(wrong("min_idle", self.min_idle, "use at most the size"));
        }
        let probe = self.probe.as_ref();
        let times = [
            ("checkout_timeout_ms", Some(self.checkout_timeout_ms)),
            ("idle_timeout_ms", self.idle_timeout_ms),
            ("max_lifetime_ms", self.max_lifetime_ms),
            ("connect_timeout_ms", Some(self.connect_timeout_ms)),
            ("attempt_timeout_ms", Some(self.attempt_timeout_ms)),
            ("probe.interval_ms", probe.map(|probe| probe.interval_ms)),
            ("probe.timeout_ms", probe.map(|probe| probe.timeout_ms)),
        ];
        for (field, ms) in times {
            if let Some(ms) = ms.filter(|ms| !(1..=TIME_MAX_MS).contains(ms)) {
                faults.push(wrong(field, ms, format!("use 1..={TIME_MAX_MS}")));
            }
        }
        if self.body_max_bytes == 0 || self.body_max_bytes > BODY_MAX_BYTES {
            faults.push(wrong("body_max_bytes", self.body_max_bytes, format!("use 1..={BODY_MAX_BYTES}")));
        }
    }
}
