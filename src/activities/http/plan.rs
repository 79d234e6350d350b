//! A request of the activity on its way, redirect after redirect.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use stanchion_actors::{entity::Failure, error::Coded};
use url::{Position, Url};

use super::{HttpInput, REDIRECT_REFUSED};
use crate::{
    activities::BAD_INPUT,
    connect::http::{HttpRequest, HttpResponse, IDEMPOTENCY_HEADER, Method, TIME_MAX_MS, idempotency_value},
};

/// Headers that do not go along to another origin.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// What is asked next, and of whom.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) method: Method,
    pub(super) url: Url,
    /// By name in lower case.
    headers: BTreeMap<String, String>,
    body: Bytes,
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::permanent(BAD_INPUT, message)
}

impl Plan {
    pub(super) fn new(input: &HttpInput, idempotency_key: &str) -> Result<Self, Failure> {
        if !(1..=TIME_MAX_MS).contains(&input.timeout_ms) {
            return Err(bad(format!("timeout_ms is {}: use 1..={TIME_MAX_MS}", input.timeout_ms)));
        }
        let method = Method::from_bytes(input.method.to_ascii_uppercase().as_bytes());
        let method = method.ok().filter(|method| *method != Method::CONNECT && *method != Method::TRACE);
        let method = method.ok_or_else(|| bad(format!("method {:?} cannot be sent", input.method)))?;
        let url = Url::parse(&input.url).map_err(|error| bad(format!("url: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad(format!("url has the scheme {:?}: use http or https", url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("url holds credentials: leave them out"));
        }
        let lower = |(name, value): (&String, &String)| (name.to_ascii_lowercase(), value.clone());
        let mut headers: BTreeMap<String, String> = input.headers.iter().map(lower).collect();
        headers.entry(IDEMPOTENCY_HEADER.to_owned()).or_insert_with(|| idempotency_value(idempotency_key));
        let body = match &input.body {
            Value::Null => Bytes::new(),
            Value::String(text) => Bytes::from(text.clone()),
            json => {
                headers.entry("content-type".to_owned()).or_insert_with(|| "application/json".to_owned());
                Bytes::from(json.to_string())
            }
        };
        Ok(Self { method, url, headers, body })
    }

    /// Scheme, host and port: the name of the upstream.
    pub(super) fn origin(&self) -> String {
        let port = self.url.port_or_known_default().unwrap_or_default();
        format!("{}:{}:{port}", self.url.scheme(), self.url.host_str().unwrap_or_default())
    }

    /// The URL up to the path.
    pub(super) fn base(&self) -> String {
        self.url[..Position::BeforePath].to_owned()
    }

    pub(super) fn request(&self) -> Result<HttpRequest, Failure> {
        let mut request =
            HttpRequest::new(self.method.clone(), &self.url[Position::BeforePath..Position::AfterQuery]);
        for (name, value) in &self.headers {
            request = request
                .header(name, value)
                .map_err(|error| Failure::permanent(error.code(), error.to_string()))?;
        }
        request.body = self.body.clone();
        Ok(request)
    }

    /// What the answer asks to be asked instead, if it does.
    ///
    /// # Source
    /// RFC 9110, 15.4; the change of POST to GET as browsers do it.
    pub(super) fn redirected(&self, answer: &HttpResponse) -> Result<Option<Self>, Failure> {
        let status = answer.status.as_u16();
        let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, answer.header("location")) else {
            return Ok(None);
        };
        let refused = |message: String| Failure::permanent(REDIRECT_REFUSED, message);
        let url =
            self.url.join(location).map_err(|error| refused(format!("redirected to no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https")
            || (self.url.scheme() == "https" && url.scheme() == "http")
        {
            return Err(refused(format!("redirected from {} to {}", self.url.scheme(), url.scheme())));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("redirected to a URL with credentials".to_owned()));
        }
        let mut next = Self { url, ..self.clone() };
        let to_get = status == 303 || (self.method == Method::POST && matches!(status, 301 | 302));
        if to_get && self.method != Method::HEAD {
            next.method = Method::GET;
            next.body = Bytes::new();
            next.headers.retain(|name, _| !name.starts_with("content-"));
        }
        if next.url.origin() != self.url.origin() {
            next.headers.retain(|name, _| !CREDENTIALS.contains(&name.as_str()));
        }
        Ok(Some(next))
    }
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, StatusCode, header::LOCATION};

    use super::*;

    fn plan(method: &str, url: &str) -> Plan {
        let headers = [("Authorization", "a"), ("Content-Type", "b"), ("X-C", "c")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let body = Value::String("body".to_owned());
        let input =
            HttpInput { method: method.to_owned(), url: url.to_owned(), headers, body, timeout_ms: 1 };
        Plan::new(&input, "key").unwrap()
    }

    fn answer(status: u16, location: &str) -> HttpResponse {
        let headers = HeaderMap::from_iter([(LOCATION, location.parse().unwrap())]);
        HttpResponse { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::new() }
    }

    fn names(plan: &Plan) -> Vec<&str> {
        plan.headers.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_redirect_keeps_or_changes_the_method_by_its_status() {
        let post = plan("post", "https://a.example/x/y?q");
        let next = |status| post.redirected(&answer(status, "../z")).unwrap().unwrap();
        for status in [301, 302, 303] {
            assert_eq!((next(status).method, next(status).body.len()), (Method::GET, 0), "{status}");
            assert_eq!(names(&next(status)), ["authorization", "idempotency-key", "x-c"]);
        }
        for status in [307, 308] {
            assert_eq!((next(status).method, next(status).body.len()), (Method::POST, 4), "{status}");
        }
        assert_eq!(next(307).url.as_str(), "https://a.example/z");
        assert!(post.redirected(&answer(304, "/")).unwrap().is_none());
        let put = plan("PUT", "http://a.example/");
        assert_eq!(put.redirected(&answer(302, "/")).unwrap().unwrap().method, Method::PUT);
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let post = plan("POST", "http://a.example/");
        for location in ["http://a.example:8080/", "https://a.example/", "//b.example/"] {
            let next = post.redirected(&answer(307, location)).unwrap().unwrap();
            assert_eq!(names(&next), ["content-type", "idempotency-key", "x-c"], "{location}");
        }
        let secure = plan("GET", "https://a.example/");
        for location in ["http://a.example/", "ftp://a.example/", "https://u:p@a.example/", "https://["] {
            let failure = secure.redirected(&answer(302, location)).map(|_| ()).unwrap_err();
            assert_eq!((failure.code.as_str(), failure.retryable), (REDIRECT_REFUSED, false), "{location}");
        }
    }
}
