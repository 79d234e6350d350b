//! What does not go into a cassette.

use std::collections::BTreeSet;

use stanchion_actors::adapter::Secret;

/// What stands where something was taken out.
pub(super) const REDACTED: &str = "[redacted]";

/// What is taken out of a cassette. By default: headers and query parameters that carry credentials by custom.
#[derive(Clone, Debug)]
pub struct Redaction {
    /// Headers of answers, in lower case.
    pub headers: BTreeSet<String>,
    /// Parameters of queries, by name.
    pub query: BTreeSet<String>,
    /// Texts, wherever they appear in URLs, headers and bodies.
    pub secrets: Vec<Secret>,
}

impl Default for Redaction {
    fn default() -> Self {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            headers: set(&[
                "authorization",
                "cookie",
                "proxy-authorization",
                "set-cookie",
                "www-authenticate",
                "x-api-key",
                "x-auth-token",
            ]),
            query: set(&["access_token", "api_key", "apikey", "key", "password", "secret", "sig", "token"]),
            secrets: Vec::new(),
        }
    }
}

impl Redaction {
    /// A text without secrets.
    pub(super) fn text(&self, text: &str) -> String {
        let known = self.secrets.iter().map(Secret::expose).filter(|secret| !secret.is_empty());
        known.fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
    }

    /// The value of a header of an answer.
    pub(super) fn header(&self, name: &str, value: &str) -> String {
        if self.headers.contains(name) { REDACTED.to_owned() } else { self.text(value) }
    }

    /// Path and query of a request.
    pub(super) fn url(&self, url: &str) -> String {
        let Some((path, query)) = url.split_once('?') else { return self.text(url) };
        let parts = query.split('&').map(|part| match part.split_once('=') {
            Some((name, _)) if self.query.contains(&name.to_ascii_lowercase()) => {
                format!("{name}={REDACTED}")
            }
            _ => part.to_owned(),
        });
        self.text(&format!("{path}?{}", parts.collect::<Vec<_>>().join("&")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_urls_headers_and_texts() {
        let redaction =
            Redaction { secrets: vec![Secret::new("hush"), Secret::new("")], ..Redaction::default() };
        assert_eq!(
            redaction.url("a/hush?Token=1&x=hush&token"),
            "a/[redacted]?Token=[redacted]&x=[redacted]&token"
        );
        assert_eq!(redaction.header("set-cookie", "x"), "[redacted]");
        assert_eq!(redaction.header("etag", "a hush b"), "a [redacted] b");
        assert_eq!(redaction.url("plain"), "plain");
    }
}
