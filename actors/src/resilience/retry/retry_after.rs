//! The header `Retry-After`.

use std::time::{Duration, UNIX_EPOCH};

use super::policy::TEN_YEARS_MS;
use crate::ids::Timestamp;

/// Longest value looked at, in bytes.
const MAX_BYTES: usize = 64;

/// The wait that a `Retry-After` asks for: seconds, or an HTTP-date in any of its three forms; at most ten years.
///
/// `None` where it asks for nothing: `0`, a date that is not in the future, and what is neither. The caller's own
/// delay holds then.
///
/// # Source
/// RFC 9110, 10.2.3 and 5.6.7.
#[must_use]
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() || value.len() > MAX_BYTES {
        return None;
    }
    let wait = if value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only too large a number of digits does not parse.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let at = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Timestamp(i64::try_from(at.as_micros()).ok()?).since(now)
    };
    (!wait.is_zero()).then(|| wait.min(Duration::from_millis(TEN_YEARS_MS)))
}
