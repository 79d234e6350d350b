//! Asks a host over HTTP.

mod hosts;
mod plan;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stanchion_actors::{
    adapter::Verdict,
    agent::Activity,
    clock::{Clock, SystemClock},
    entity::{ActivityCtx, Failure},
    error::Coded,
    resilience::retry::RetryCause,
    task::TaskScope,
};
use tokio::time::Instant;

pub use self::hosts::{AllowedHosts, HOSTS_MAX, HostError};
use self::plan::Plan;
use crate::connect::http::{
    Http, HttpError, HttpResponse, OptionsError, RegisterError, TIME_MAX_MS, Upstream, UpstreamOptions,
    status_verdict,
};

/// Redirects that are followed.
pub const REDIRECTS_MAX: u32 = 5;
/// Largest body of an answer by default: it becomes part of the state of the run.
pub const BODY_MAX_BYTES: u64 = 1 << 20;

/// Code of a host that is not allowed.
const HOST_REFUSED: &str = "http.host_refused";
/// Code of a redirect that is not followed.
const REDIRECT_REFUSED: &str = "http.redirect_refused";
/// Code of too many redirects.
const TOO_MANY_REDIRECTS: &str = "http.too_many_redirects";

/// Asks a host over HTTP: `http.request`. It reaches hosts that were allowed by name, and no others.
///
/// The idempotency key of the attempt goes along as `Idempotency-Key`, the same for all attempts. An answer from 400
/// on fails the attempt with the code `http.status_` and its number: whether it may be tried again, and not before
/// when, is decided as by [`status_verdict`]. Redirects are followed to hosts that are allowed, and never from https to
/// http; to another origin, headers that may carry credentials do not go along.
///
/// Inputs are recorded: secrets do not belong in them. Give those to the upstream's headers with
/// [`with_options`](Self::with_options).
#[derive(Debug)]
pub struct HttpRequests {
    hosts: AllowedHosts,
    options: UpstreamOptions,
    http: Http,
    // Dropped last: its tasks are the connections.
    _scope: TaskScope,
}

/// Input of [`HttpRequests`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpInput {
    /// Its method; GET if none is given.
    #[serde(default = "get")]
    pub method: String,
    /// An absolute URL of http or https.
    pub url: String,
    /// Headers, by name.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A text is sent as it is; anything else as JSON, under that content type unless `headers` says otherwise.
    #[serde(default)]
    pub body: Value,
    /// How long all of it may take, redirects included. Default 30 s.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

fn get() -> String {
    "GET".to_owned()
}

const fn timeout_ms() -> u64 {
    30_000
}

/// Output of [`HttpRequests`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpOutput {
    /// The status, below 400.
    pub status: u16,
    /// Headers by name in lower case; several of one name are joined by `, `.
    pub headers: BTreeMap<String, String>,
    /// JSON if the content type says so and it is; otherwise a text, with what is no UTF-8 replaced.
    pub body: Value,
}

impl HttpRequests {
    /// Reaches these hosts, with eight connections each and answers of at most 1 MiB.
    #[must_use]
    pub fn new(hosts: AllowedHosts) -> Self {
        let scope = TaskScope::root("http.request");
        let options = UpstreamOptions {
            attempt_timeout_ms: TIME_MAX_MS,
            body_max_bytes: BODY_MAX_BYTES,
            ..UpstreamOptions::default()
        };
        Self { hosts, options, http: Http::new(&scope), _scope: scope }
    }

    /// With other settings for each host. Their base URL is not used; their attempt timeout bounds that of inputs.
    ///
    /// # Errors
    /// [`OptionsError`] names all faults.
    pub fn with_options(mut self, options: UpstreamOptions) -> Result<Self, OptionsError> {
        UpstreamOptions { base_url: "http://localhost".to_owned(), ..options.clone() }.validate()?;
        self.options = options;
        Ok(self)
    }

    /// The connections to a host, made at the first request for it.
    fn upstream(&self, plan: &Plan) -> Result<Upstream, Failure> {
        let name = plan.origin();
        match self.http.upstream(&name) {
            Ok(upstream) => Ok(upstream),
            Err(_unknown) => {
                let options = UpstreamOptions { base_url: plan.base(), ..self.options.clone() };
                match self.http.register(&name, &options) {
                    Ok(upstream) => Ok(upstream),
                    // Another attempt was first.
                    Err(RegisterError::Duplicate(_)) => self.http.upstream(&name).map_err(failure),
                    Err(error) => Err(coded(&error, error.retryable())),
                }
            }
        }
    }

    async fn ask(&self, mut plan: Plan, within: Duration) -> Result<HttpOutput, Failure> {
        let deadline = Instant::now() + within;
        for _ in 0..=REDIRECTS_MAX {
            if !self.hosts.allow(&plan.url) {
                let message = format!("{} is not allowed: allow it by name", plan.origin());
                return Err(Failure::permanent(HOST_REFUSED, message));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.upstream(&plan)?.call_within(plan.request()?, left).await.map_err(failure)?;
            match plan.redirected(&answer)? {
                Some(next) if self.hosts.allow(&next.url) => plan = next,
                Some(next) => {
                    let message = format!("redirected to {}, which is not allowed", next.origin());
                    return Err(Failure::permanent(REDIRECT_REFUSED, message));
                }
                None => return output(&plan, &answer),
            }
        }
        Err(Failure::permanent(TOO_MANY_REDIRECTS, format!("more than {REDIRECTS_MAX} redirects")))
    }
}

impl Activity for HttpRequests {
    const NAME: &'static str = "http.request";
    type Input = HttpInput;
    type Output = HttpOutput;

    async fn run(&self, ctx: ActivityCtx, input: HttpInput) -> Result<HttpOutput, Failure> {
        let plan = Plan::new(&input, &ctx.idempotency_key)?;
        tokio::select! {
            output = self.ask(plan, Duration::from_millis(input.timeout_ms)) => output,
            () = ctx.cancel.cancelled() => Err(Failure::retryable(Failure::CANCELLED, "cancelled while it waited")),
        }
    }
}

fn output(plan: &Plan, answer: &HttpResponse) -> Result<HttpOutput, Failure> {
    let status = answer.status.as_u16();
    if status >= 400 {
        let Verdict { retryable, retry_after, .. } = status_verdict(answer, SystemClock.now());
        return Err(Failure {
            code: format!("http.status_{status}"),
            message: format!("{} {} answered {}", plan.method, plan.origin(), answer.status),
            retryable,
            retry_after_ms: retry_after.map(millis),
        });
    }
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in &answer.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let entry = headers.entry(name.to_string()).or_default();
        if !entry.is_empty() {
            entry.push_str(", ");
        }
        entry.push_str(&value);
    }
    let json = headers.get("content-type").is_some_and(|kind| is_json(kind));
    let parsed = json.then(|| serde_json::from_slice(&answer.body).ok()).flatten();
    let body = parsed.unwrap_or_else(|| Value::String(String::from_utf8_lossy(&answer.body).into_owned()));
    Ok(HttpOutput { status, headers, body })
}

/// `application/json`, and what is based on it.
fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

fn failure(error: HttpError) -> Failure {
    let retry_after_ms = error.asked_wait().map(millis);
    Failure { retry_after_ms, ..coded(&error, error.may_retry()) }
}

fn coded(error: &impl Coded, retryable: bool) -> Failure {
    Failure { code: error.code().to_owned(), message: error.to_string(), retryable, retry_after_ms: None }
}
