//! [`ResourceOptions`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Resource;
use crate::resilience::OptionsError;

/// Most resources.
pub(super) const MAX_RESOURCES: usize = 1_000;

/// Limits by resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceOptions {
    /// How much of each may be in use; `0` gives nothing. At most 1 000 resources; default none.
    pub limits: BTreeMap<Resource, u64>,
    /// Part of a limit, in percent, from which on the level is high: 1..=100; default 80.
    pub high_pct: u8,
}

impl Default for ResourceOptions {
    fn default() -> Self {
        Self { limits: BTreeMap::new(), high_pct: 80 }
    }
}

impl ResourceOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// [`OptionsError`] names the first field outside its range.
    pub fn validate(&self) -> Result<(), OptionsError> {
        OptionsError::check("resources", "high_pct", u64::from(self.high_pct), 1..=100)?;
        check_count(self.limits.len())?;
        self.limits.keys().try_for_each(check_name)
    }
}

pub(super) fn check_count(resources: usize) -> Result<(), OptionsError> {
    if resources > MAX_RESOURCES {
        let given = format!("{resources} resources");
        return Err(OptionsError::new("resources", "limits", given, format!("at most {MAX_RESOURCES}")));
    }
    Ok(())
}

pub(super) fn check_name(resource: &Resource) -> Result<(), OptionsError> {
    if resource.is_valid() {
        return Ok(());
    }
    let given = format!("named {:?}", resource.as_str());
    Err(OptionsError::new("resources", "limits", given, "a name of 1..=64 visible ASCII characters"))
}
