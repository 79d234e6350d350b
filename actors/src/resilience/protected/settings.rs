//! [`ProtectedSettings`]: options of services with names, from code or from a document.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{ProtectedOptions, ServicesError};
use crate::resilience::named::{self, Named};

/// Most services of one registry.
pub const PROTECTED_MAX: usize = 1_000;
/// Longest name of a service, in bytes.
pub const PROTECTED_NAME_MAX_BYTES: usize = 64;

/// Valid options of services by name. In a document: a map from names to options; a name that comes twice, a layer or a
/// field that is not known and a value of a wrong type are refused where they stand, a value outside its range where
/// its service ends. Whether fallbacks lead anywhere shows when they are set in a registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ProtectedSettings(BTreeMap<String, ProtectedOptions>);

impl ProtectedSettings {
    /// Gives a service its options.
    ///
    /// # Errors
    /// [`ServicesError`]; what was there stays.
    pub fn insert(
        &mut self,
        name: impl Into<String>,
        options: ProtectedOptions,
    ) -> Result<(), ServicesError> {
        let name = name.into();
        checked_name(&name)?;
        if self.0.contains_key(&name) {
            return Err(ServicesError::Duplicate(name));
        }
        if self.0.len() >= PROTECTED_MAX {
            return Err(ServicesError::Full);
        }
        options.validate(&name)?;
        self.0.insert(name, options);
        Ok(())
    }

    /// The services, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ProtectedOptions)> {
        self.0.iter().map(|(name, options)| (name.as_str(), options))
    }
}

pub(super) fn checked_name(name: &str) -> Result<(), ServicesError> {
    if name.is_empty() || name.len() > PROTECTED_NAME_MAX_BYTES {
        return Err(ServicesError::Name(name.chars().take(PROTECTED_NAME_MAX_BYTES).collect()));
    }
    Ok(())
}

impl Named for ProtectedSettings {
    type Item = ProtectedOptions;
    type Error = ServicesError;
    const MAP: &'static str = "a map from names to options of services";
    const ITEM: &'static str = "options of a service";

    fn put(&mut self, name: String, item: ProtectedOptions) -> Result<(), ServicesError> {
        self.insert(name, item)
    }
}

impl<'de> Deserialize<'de> for ProtectedSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        named::read(deserializer)
    }
}
