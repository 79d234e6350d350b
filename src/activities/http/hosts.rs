//! Hosts that may be reached, by name.

use stanchion_actors::error::{Coded, Family};
use url::{Host, Url};

/// Most hosts in a list.
pub const HOSTS_MAX: usize = 1_024;

/// A list of hosts that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// An entry is no host.
    #[error("{entry:?} is no host: {hint}")]
    Host {
        /// The entry.
        entry: String,
        /// What would be right.
        hint: String,
    },
    /// There are too many.
    #[error("{0} hosts, at most {HOSTS_MAX} are allowed")]
    TooMany(usize),
}

impl Coded for HostError {
    fn code(&self) -> &'static str {
        match self {
            Self::Host { .. } => "http.allowed_host",
            Self::TooMany(_) => "http.allowed_hosts",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// Hosts that may be reached. `HOST` allows the ports 80 for http and 443 for https, `HOST:PORT` that port alone.
/// There are no patterns: a name allows itself, neither what is below it nor its addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedHosts(Vec<(Host<String>, Option<u16>)>);

impl AllowedHosts {
    /// Reads a list.
    ///
    /// # Errors
    /// [`HostError`] names the first entry that is no host.
    pub fn parse<S: AsRef<str>>(entries: impl IntoIterator<Item = S>) -> Result<Self, HostError> {
        let hosts: Vec<_> =
            entries.into_iter().map(|entry| host(entry.as_ref())).collect::<Result<_, _>>()?;
        if hosts.len() > HOSTS_MAX { Err(HostError::TooMany(hosts.len())) } else { Ok(Self(hosts)) }
    }

    /// Whether a URL may be reached.
    #[must_use]
    pub fn allow(&self, url: &Url) -> bool {
        let Some(host) = url.host().map(|host| host.to_owned()) else { return false };
        self.0.iter().any(|(allowed, port)| {
            let right_port = match port {
                Some(port) => url.port_or_known_default() == Some(*port),
                None => url.port().is_none(),
            };
            *allowed == host && right_port && matches!(url.scheme(), "http" | "https")
        })
    }

    /// Whether nothing may be reached.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn host(entry: &str) -> Result<(Host<String>, Option<u16>), HostError> {
    let fault = |hint: &str| HostError::Host { entry: entry.to_owned(), hint: hint.to_owned() };
    let (name, port) = match entry.rsplit_once(':') {
        // Colons within brackets belong to an IPv6 address.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (entry, None),
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return Err(fault("the port is 1..=65535; an IPv6 address is in brackets")),
    };
    if name.contains('*') {
        return Err(fault("there are no patterns: name each host"));
    }
    let host = Host::parse(name).map_err(|error| fault(&format!("{error}; use HOST or HOST:PORT")))?;
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_allows_itself_and_nothing_else() {
        let hosts = AllowedHosts::parse(["a.example", "B.example:8080", "[::1]:80", "127.0.0.1"]).unwrap();
        let allowed = |url: &str| hosts.allow(&Url::parse(url).unwrap());
        for url in [
            "http://a.example/x",
            "https://A.example",
            "https://a.example:443",
            "http://b.example:8080",
            "https://b.example:8080",
            "http://[::1]",
            "http://127.0.0.1",
            "http://127.1",
        ] {
            assert!(allowed(url), "{url}");
        }
        for url in [
            "http://a.example:8080",
            "http://a.example:443",
            "http://b.example",
            "http://x.a.example",
            "http://a.example.evil.example",
            "http://a.example@evil.example",
            "https://[::1]",
            "http://127.0.0.2",
            "mailto:a.example",
        ] {
            assert!(!allowed(url), "{url}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for entry in ["", "a.example:0", "a.example:x", "::1", "http://a.example", "a/b", "*.example", "a b"]
        {
            assert!(matches!(AllowedHosts::parse([entry]), Err(HostError::Host { .. })), "{entry}");
        }
    }
}
