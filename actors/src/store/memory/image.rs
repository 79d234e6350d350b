//! A backup of a memory store: one framed file.

use std::{fs::OpenOptions, io::Write, path::Path};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{MemoryStore, QUEUE_MAX_RECORDS, disk::Disk};
use crate::{
    ids::{EntityId, Position, Timestamp, Version},
    store::{Checkpoint, Head, StoreError, Table, decode, encode, frame, unframe},
};

const KEY: &[u8] = b"stanchion memory image";
const SCHEMA: u16 = 1;

#[derive(Serialize, Deserialize)]
struct Image {
    boot: u64,
    position: Position,
    last_entity: EntityId,
    rows: Vec<(u8, Bytes, Bytes)>,
    checkpoints: Vec<(EntityId, Checkpoint)>,
    heads: Vec<(EntityId, Head)>,
    history: Vec<(EntityId, Version, Timestamp, Bytes)>,
}

/// Writes the rows to a new file, or over an old one with `force`.
pub(super) fn write(disk: &Disk, to: &Path, force: bool) -> Result<(), StoreError> {
    let rows = Table::ALL.iter().flat_map(|table| {
        let rows = disk.table(*table).iter();
        rows.map(|(key, value)| (*table as u8, Bytes::copy_from_slice(key), value.clone()))
    });
    let history = disk.history.iter();
    let image = Image {
        boot: disk.boot,
        position: disk.position,
        last_entity: disk.last_entity,
        rows: rows.collect(),
        checkpoints: disk.checkpoints.iter().map(|(entity, c)| (*entity, c.clone())).collect(),
        heads: disk.heads.iter().map(|(entity, head)| (*entity, head.clone())).collect(),
        history: history
            .map(|(&(entity, version), (at, bytes))| (entity, version, *at, bytes.clone()))
            .collect(),
    };
    let failed = |what: &dyn std::fmt::Display| {
        StoreError::NotApplied(format!("backup to {} failed: {what}", to.display()))
    };
    let framed = frame(KEY, SCHEMA, &encode(&image).map_err(|e| failed(&e))?);
    let mut options = OpenOptions::new();
    options.write(true).truncate(force).create(force).create_new(!force);
    let mut file = options.open(to).map_err(|e| failed(&e))?;
    file.write_all(&framed).and_then(|()| file.sync_all()).map_err(|e| failed(&e))
}

impl MemoryStore {
    /// Opens a backup as a store of its own.
    ///
    /// # Errors
    /// [`StoreError::NotApplied`] when the file cannot be read, [`StoreError::Corrupt`] when it is damaged.
    pub fn restore(from: &Path) -> Result<Self, StoreError> {
        let framed = std::fs::read(from)
            .map_err(|e| StoreError::NotApplied(format!("cannot read {}: {e}", from.display())))?;
        let corrupt = |cause: &dyn std::fmt::Display| StoreError::Corrupt {
            table: "image",
            key: from.display().to_string(),
            cause: cause.to_string(),
        };
        let (_, body) = unframe(KEY, &framed).map_err(|e| corrupt(&e))?;
        let image: Image = decode(body).map_err(|e| corrupt(&e))?;
        let mut disk = Disk {
            boot: image.boot,
            position: image.position,
            last_entity: image.last_entity,
            checkpoints: image.checkpoints.into_iter().collect(),
            heads: image.heads.into_iter().collect(),
            ..Disk::default()
        };
        for (entity, version, at, bytes) in image.history {
            disk.history.insert((entity, version), (at, bytes));
        }
        for (table, key, value) in image.rows {
            let table = Table::ALL.into_iter().find(|known| *known as u8 == table);
            let table = table.ok_or_else(|| corrupt(&"a row of an unknown table"))?;
            disk.tables.entry(table).or_default().insert(key.to_vec(), value);
        }
        Ok(Self::open(disk, QUEUE_MAX_RECORDS, false))
    }
}
