//! History packed into chunks of a few KiB: key entity ‖ first version, value a frame around the entries.

use bytes::Bytes;
use stanchion_actors::{
    ids::{EntityId, Timestamp, Version},
    store::{Entry, FRAME_BYTES, Head, History, StoreError, Table, decode, key, seal, unframe_shared},
};

use super::{
    chunk::Reader,
    tables::{ROW_SCHEMA, corrupt, name},
};

/// Largest chunk, unless one entry is larger.
pub(crate) const PACK_MAX_BYTES: usize = 8 * 1024;
/// A last chunk below this is rewritten together with what comes after it.
pub(crate) const PACK_REFILL_BYTES: usize = 3 * 1024;
const ITEM_HEAD_BYTES: usize = 8 + 8 + 4;

/// One entry of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) version: Version,
    /// `updated` of its head.
    pub(crate) at: Timestamp,
    pub(crate) encoded: Bytes,
}

impl Item {
    fn bytes(&self) -> usize {
        ITEM_HEAD_BYTES + self.encoded.len()
    }

    /// The entry itself.
    pub(crate) fn entry(&self, entity: EntityId) -> Result<Entry, StoreError> {
        decode(&self.encoded)
            .map_err(|e| corrupt(name(Table::History), &key::history(entity, self.version), e))
    }
}

/// Splits items, ascending by version, into rows.
pub(crate) fn pack(entity: EntityId, items: &[Item]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut row: Option<(Vec<u8>, Vec<u8>)> = None;
    for item in items {
        if row.as_ref().is_some_and(|(_, body)| body.len() + item.bytes() > PACK_MAX_BYTES) {
            rows.extend(row.take());
        }
        let (_, body) = row.get_or_insert_with(|| (key::history(entity, item.version), vec![0; FRAME_BYTES]));
        body.extend_from_slice(&item.version.0.to_be_bytes());
        body.extend_from_slice(&item.at.0.to_be_bytes());
        body.extend_from_slice(&(item.encoded.len() as u32).to_be_bytes());
        body.extend_from_slice(&item.encoded);
    }
    rows.extend(row);
    for (key, framed) in &mut rows {
        seal(key, ROW_SCHEMA, framed);
    }
    rows
}

/// Reads a row back.
pub(crate) fn unpack(key: &[u8], framed: &Bytes) -> Result<Vec<Item>, StoreError> {
    let table = name(Table::History);
    let (_, body) = unframe_shared(key, framed).map_err(|e| corrupt(table, key, e))?;
    let mut reader = Reader { rest: body };
    let mut items = Vec::new();
    while !reader.rest.is_empty() {
        let mut item = || {
            let version = Version(reader.u64()?);
            let at = Timestamp(reader.u64()? as i64);
            Ok::<_, stanchion_actors::store::CodecError>(Item { version, at, encoded: reader.blob()? })
        };
        items.push(item().map_err(|e| corrupt(table, key, e))?);
    }
    Ok(items)
}

/// First version of the entity in `key`; a key of another length is no history key.
pub(crate) fn first_version(key: &[u8]) -> Option<Version> {
    let (_, version) = key.split_first_chunk::<8>()?;
    Some(Version(u64::from_be_bytes(version.try_into().ok()?)))
}

/// Whether `item` is still kept when `head` is the last one and `checkpoint` the version of the stored state.
///
/// What recovery needs (everything after the checkpoint) is kept by every policy.
pub(crate) fn keeps(head: &Head, checkpoint: Version, version: Version, at: Timestamp) -> bool {
    version > checkpoint
        || match head.history {
            History::Last(n) => version.0.saturating_add(n) > head.version.0,
            History::ForMicros(micros) => at.0.saturating_add_unsigned(micros) > head.updated.0,
            History::Forever => true,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(version: u64, bytes: usize) -> Item {
        Item { version: Version(version), at: Timestamp(1), encoded: Bytes::from(vec![7; bytes]) }
    }

    #[test]
    fn packed_items_come_back_in_rows_of_bounded_size() {
        let items: Vec<_> =
            (1..100).map(|v| item(v, 300)).chain([item(100, 20_000), item(105, 10)]).collect();
        let rows = pack(EntityId(4), &items);
        let back: Vec<_> =
            rows.iter().flat_map(|(k, v)| unpack(k, &Bytes::from(v.clone())).unwrap()).collect();
        assert_eq!(back, items);
        let large = rows.iter().filter(|(_, v)| v.len() > PACK_MAX_BYTES).count();
        assert_eq!(large, 1, "only the entry that is larger by itself");
        for (key, value) in &rows {
            let items = unpack(key, &Bytes::from(value.clone())).unwrap();
            assert_eq!(first_version(key), Some(items[0].version));
        }
    }
}
