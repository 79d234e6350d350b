//! [`ProtectedSettings`]: options of services with names, from code or from a document.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{ProtectedOptions, ServicesError};

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

/// Reads the map.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = ProtectedSettings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from names to options of services")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ProtectedSettings, A::Error> {
        let mut settings = ProtectedSettings::default();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value_seed(Entry { name, settings: &mut settings })?;
        }
        Ok(settings)
    }
}

/// Reads the options of one service and checks them while the reader is still in them: that is the place its error
/// names.
struct Entry<'a> {
    name: String,
    settings: &'a mut ProtectedSettings,
}

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("options of a service")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let options = ProtectedOptions::deserialize(MapAccessDeserializer::new(map))?;
        self.settings.insert(self.name, options).map_err(A::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ProtectedSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}
