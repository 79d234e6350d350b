//! Tables of the two files, and the row each keeps about itself.

use bytes::Bytes;
use redb::{ReadableDatabase, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};
use stanchion_actors::{
    ids::Position,
    store::{StoreError, Table, decode, encode, frame, unframe},
};

/// Format of the files; a larger one is refused by name.
pub const FILE_FORMAT: u32 = 2;
/// Schema of framed rows whose body has one shape.
pub(crate) const ROW_SCHEMA: u16 = 1;

/// A table of rows.
pub(crate) type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The log: first position → chunk.
pub(crate) const LOG: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("log");
/// What a file keeps about itself.
const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
const META_KEY: &str = "store";

/// Removed entities whose rows are not all removed yet: entity → nothing.
pub(crate) const GONE: Rows = TableDefinition::new("gone");

/// The table in the data file.
pub(crate) const fn rows(table: Table) -> Rows {
    TableDefinition::new(name(table))
}

/// Its name in the file and in errors.
pub(crate) const fn name(table: Table) -> &'static str {
    match table {
        Table::Name => "name",
        Table::Entity => "e",
        Table::History => "history",
        Table::Due => "due",
        Table::Work => "work",
        Table::Definition => "definition",
        Table::Index => "index",
        Table::Feed => "feed",
    }
}

/// What the data file knows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DataMeta {
    /// Random at creation; the log carries the same.
    #[serde(rename = "id")]
    pub(crate) id: uuid::Uuid,
    /// [`FILE_FORMAT`] of the program that wrote it.
    #[serde(rename = "f")]
    pub(crate) format: u32,
    /// Last boot known here.
    #[serde(rename = "b")]
    pub(crate) boot: u64,
    /// Whether everything is folded and the log may be missing.
    #[serde(rename = "c")]
    pub(crate) clean: bool,
    /// Everything up to here is folded.
    #[serde(rename = "p")]
    pub(crate) folded: Position,
    /// Next entity number.
    #[serde(rename = "n")]
    pub(crate) next_entity: u64,
    /// Whether `index` holds every entity; false in a file of format 1 until it is built.
    #[serde(rename = "x", default)]
    pub(crate) indexed: bool,
}

impl DataMeta {
    /// Whether the file has the table: what an older program wrote lacks the newer ones.
    pub(crate) fn has(&self, table: Table) -> bool {
        self.format >= 2 || !matches!(table, Table::Index | Table::Feed)
    }
}

/// What the log knows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogMeta {
    /// That of the data file.
    #[serde(rename = "id")]
    pub(crate) id: uuid::Uuid,
    /// [`FILE_FORMAT`] of the program that wrote it.
    #[serde(rename = "f")]
    pub(crate) format: u32,
    /// Boot of the last opening.
    #[serde(rename = "b")]
    pub(crate) boot: u64,
    /// Chunks up to here are removed.
    #[serde(rename = "t")]
    pub(crate) trimmed: Position,
}

impl LogMeta {
    /// Of a new log that goes on where the data ends.
    pub(crate) fn after(data: &DataMeta) -> Self {
        Self { id: data.id, format: FILE_FORMAT, boot: data.boot, trimmed: data.folded }
    }
}

/// Writes the meta row within `txn`.
pub(crate) fn put_meta<T: Serialize>(txn: &WriteTransaction, meta: &T) -> Result<(), redb::Error> {
    let body = encode(meta).map_err(|e| redb::Error::Corrupted(e.to_string()))?;
    let framed = frame(META_KEY.as_bytes(), ROW_SCHEMA, &body);
    txn.open_table(META)?.insert(META_KEY, framed.as_slice())?;
    Ok(())
}

/// Reads the meta row; `None` when the file has none.
pub(crate) fn get_meta<T: serde::de::DeserializeOwned>(
    db: &impl ReadableDatabase,
) -> Result<Option<T>, redb::Error> {
    let table = match db.begin_read()?.open_table(META) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(row) = table.get(META_KEY)? else { return Ok(None) };
    let (_, body) =
        unframe(META_KEY.as_bytes(), row.value()).map_err(|e| redb::Error::Corrupted(e.to_string()))?;
    decode(body).map(Some).map_err(|e| redb::Error::Corrupted(e.to_string()))
}

/// A stored row does not hold.
pub(crate) fn corrupt(table: &'static str, key: &[u8], cause: impl ToString) -> StoreError {
    StoreError::Corrupt { table, key: hex(key), cause: cause.to_string() }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads and decodes a framed row.
pub(crate) fn decode_row<T: serde::de::DeserializeOwned>(
    table: Table,
    key: &[u8],
    framed: &[u8],
) -> Result<T, StoreError> {
    let (_, body) = unframe(key, framed).map_err(|e| corrupt(name(table), key, e))?;
    decode(body).map_err(|e| corrupt(name(table), key, e))
}

/// The first key after every key that starts with `prefix`; `None` when there is none.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if last < u8::MAX {
            next.push(last + 1);
            return Some(next);
        }
    }
    None
}

/// A failed read of the data file.
pub(crate) fn read_error(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(cause) => corrupt("file", &[], cause),
        error => StoreError::NotApplied(format!("the data file cannot be read: {error}")),
    }
}

/// Copies out of a page.
pub(crate) fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
