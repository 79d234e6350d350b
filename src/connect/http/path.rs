//! Paths of requests: below the base of their upstream, and nowhere else.

use stanchion_actors::error::{Coded, Family};
use url::Url;

/// Longest path and query of a request, in bytes.
pub const PATH_MAX_BYTES: usize = 8_192;

/// Why a path is refused. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It names a scheme or another host.
    #[error("the path names a scheme or a host: give what follows the base URL")]
    Absolute,
    /// It leads out of the base.
    #[error("the path leads out of the base URL")]
    Escapes,
    /// It holds a control character, a space or a backslash.
    #[error("the path holds a character that no URL holds: encode it")]
    BadCharacter,
    /// It is over the limit.
    #[error("the path has {0} bytes, at most {PATH_MAX_BYTES} are allowed")]
    TooLong(usize),
}

impl Coded for PathError {
    fn code(&self) -> &'static str {
        match self {
            Self::Absolute => "http.path_absolute",
            Self::Escapes => "http.path_escapes",
            Self::BadCharacter => "http.path_character",
            Self::TooLong(_) => "http.path_too_long",
        }
    }
    fn family(&self) -> Family {
        Family::Rejected
    }
}

/// The URL of a path below a base; the base ends with `/`.
///
/// A leading `/` counts from the root of the host, and so is refused unless the base has no path of its own. `..` is
/// refused in each spelling, even where it would stay below the base.
pub(super) fn within(base: &Url, path: &str) -> Result<Url, PathError> {
    if path.len() > PATH_MAX_BYTES {
        return Err(PathError::TooLong(path.len()));
    }
    if path.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(PathError::BadCharacter);
    }
    let bare = path.split(['?', '#']).next().unwrap_or_default();
    if bare.starts_with("//") || bare.split('/').next().is_some_and(|first| first.contains(':')) {
        return Err(PathError::Absolute);
    }
    if bare.split('/').any(is_parent) {
        return Err(PathError::Escapes);
    }
    let mut url = base.join(path).map_err(|_| PathError::Absolute)?;
    if url.origin() != base.origin() {
        return Err(PathError::Absolute);
    }
    if !url.path().starts_with(base.path()) {
        return Err(PathError::Escapes);
    }
    url.set_fragment(None);
    Ok(url)
}

/// Whether a segment is `..`, perhaps with its dots or slashes encoded.
fn is_parent(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    plain.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(base: &str, path: &str) -> Result<String, PathError> {
        within(&Url::parse(base).unwrap(), path).map(String::from)
    }

    #[test]
    fn a_path_below_the_base_is_joined() {
        let url = |path| of("http://a.example/api/", path).unwrap();
        assert_eq!(url("v1/x?y=/../z"), "http://a.example/api/v1/x?y=/../z");
        assert_eq!(url("/api/v1"), "http://a.example/api/v1");
        assert_eq!(url(""), "http://a.example/api/");
        assert_eq!(url("x#part"), "http://a.example/api/x");
        assert_eq!(of("http://a.example/", "/x").unwrap(), "http://a.example/x");
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        let refused = |path| of("http://a.example/api/", path).unwrap_err();
        for path in ["http://b.example/", "//b.example/x", "https:x", "mailto:x"] {
            assert_eq!(refused(path), PathError::Absolute, "{path}");
        }
        for path in ["..", "../x", "v1/../../x", "%2e%2E/x", ".%2e", "a/..%2fx", "..%5Cx", "/other", "/"] {
            assert_eq!(refused(path), PathError::Escapes, "{path}");
        }
        for path in ["x\r\ny", "x y", "..\\x", "\t//b.example", "\u{a0}"] {
            assert_eq!(refused(path), PathError::BadCharacter, "{path:?}");
        }
        assert_eq!(refused(&"x".repeat(9_000)), PathError::TooLong(9_000));
    }
}
