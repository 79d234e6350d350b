//! [`LimiterSettings`]: options of limiters with names, from code or from a document.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{LIMITERS_MAX, LimiterOptions, LimitersError};
use crate::resilience::named::{self, Named};

/// Longest name of a limiter, in bytes.
pub const LIMITER_NAME_MAX_BYTES: usize = 64;

/// Valid options of limiters by name. In a document: a map from names to options; a name that comes twice, a field or
/// a strategy that is not known and a value of a wrong type are refused where they stand, a value outside its range
/// where its limiter ends.
///
/// ```
/// use stanchion_actors::{ids::Timestamp, resilience::limiter::{LimiterSettings, Limiters}};
///
/// let document = r#"{
///     "search": {"strategy": {"sliding_window": {"limit": 100, "window_ms": 1000}}},
///     "mail": {"strategy": {"token_bucket": {"burst": 5, "rate": 10, "per_ms": 60000}}, "on_error": "fail_open"}
/// }"#;
/// let settings: LimiterSettings = serde_json::from_str(document)?;
/// let limiters = Limiters::new();
/// limiters.configure(&settings, Timestamp(0))?;
/// assert!(limiters.get("search").is_ok() && limiters.get("serach").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct LimiterSettings(BTreeMap<String, LimiterOptions>);

impl LimiterSettings {
    /// Gives a limiter its options.
    ///
    /// # Errors
    /// [`LimitersError`]; what was there stays.
    pub fn insert(&mut self, name: impl Into<String>, options: LimiterOptions) -> Result<(), LimitersError> {
        let name = name.into();
        checked_name(&name)?;
        if self.0.contains_key(&name) {
            return Err(LimitersError::Duplicate(name));
        }
        if self.0.len() >= LIMITERS_MAX {
            return Err(LimitersError::Full);
        }
        match options.validate() {
            Ok(()) => {
                self.0.insert(name, options);
                Ok(())
            }
            Err(error) => Err(LimitersError::Options { name, error }),
        }
    }

    /// The limiters, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &LimiterOptions)> {
        self.0.iter().map(|(name, options)| (name.as_str(), options))
    }
}

pub(super) fn checked_name(name: &str) -> Result<(), LimitersError> {
    if name.is_empty() || name.len() > LIMITER_NAME_MAX_BYTES {
        return Err(LimitersError::Name(name.chars().take(LIMITER_NAME_MAX_BYTES).collect()));
    }
    Ok(())
}

impl Named for LimiterSettings {
    type Item = LimiterOptions;
    type Error = LimitersError;
    const MAP: &'static str = "a map from names to options of limiters";
    const ITEM: &'static str = "options of a limiter";

    fn put(&mut self, name: String, item: LimiterOptions) -> Result<(), LimitersError> {
        self.insert(name, item)
    }
}

impl<'de> Deserialize<'de> for LimiterSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        named::read(deserializer)
    }
}
