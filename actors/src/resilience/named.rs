//! Documents that are a map from names to settings: read one by one, so that an error names its place.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Settings by name.
pub(super) trait Named: Default {
    /// The settings of one name.
    type Item: for<'de> Deserialize<'de>;
    /// Why one is refused.
    type Error: fmt::Display;
    /// What the map is, for errors.
    const MAP: &'static str;
    /// What one of them is, for errors.
    const ITEM: &'static str;

    /// Takes one in, checked; refuses a name that is there.
    fn put(&mut self, name: String, item: Self::Item) -> Result<(), Self::Error>;
}

/// Reads the map.
pub(super) fn read<'de, M: Named, D: Deserializer<'de>>(deserializer: D) -> Result<M, D::Error> {
    deserializer.deserialize_map(Reader(PhantomData))
}

struct Reader<M>(PhantomData<M>);

impl<'de, M: Named> Visitor<'de> for Reader<M> {
    type Value = M;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(M::MAP)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<M, A::Error> {
        let mut all = M::default();
        while let Some(name) = map.next_key::<String>()? {
            map.next_value_seed(Entry { name, all: &mut all })?;
        }
        Ok(all)
    }
}

/// Reads one and checks it while the reader is still in it: that is the place its error names.
struct Entry<'a, M> {
    name: String,
    all: &'a mut M,
}

impl<'de, M: Named> DeserializeSeed<'de> for Entry<'_, M> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, M: Named> Visitor<'de> for Entry<'_, M> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(M::ITEM)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let item = M::Item::deserialize(MapAccessDeserializer::new(map))?;
        self.all.put(self.name, item).map_err(A::Error::custom)
    }
}
