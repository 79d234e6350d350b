//! What stands behind the data in a backup, so that every flipped or missing byte is found.

use bytes::Bytes;
use stanchion_actors::ids::Position;

use super::chunk::Reader;

/// Bytes under one checksum.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
/// Format of the manifest; a larger one is refused by name.
pub(crate) const BACKUP_FORMAT: u32 = 1;
/// The last bytes of a backup.
const MAGIC: &[u8; 16] = b"stanchion-backup";
/// Bytes at the end that tell where the manifest begins: its length, its checksum, the format, the magic.
pub(crate) const FOOTER_BYTES: usize = 4 + 4 + 4 + 16;

/// What a backup says of its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) id: uuid::Uuid,
    pub(crate) position: Position,
    /// Length of the data before the manifest.
    pub(crate) len: u64,
    /// crc32c of each block of [`BLOCK_BYTES`].
    pub(crate) sums: Vec<u32>,
}

/// The footer, read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) body_bytes: u32,
    sum: u32,
    pub(crate) format: u32,
}

impl Manifest {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut body = self.id.as_bytes().to_vec();
        body.extend_from_slice(&self.position.0.to_be_bytes());
        body.extend_from_slice(&self.len.to_be_bytes());
        for sum in &self.sums {
            body.extend_from_slice(&sum.to_be_bytes());
        }
        let (len, sum) = (body.len() as u32, footer_sum(&body, BACKUP_FORMAT));
        body.extend_from_slice(&len.to_be_bytes());
        body.extend_from_slice(&sum.to_be_bytes());
        body.extend_from_slice(&BACKUP_FORMAT.to_be_bytes());
        body.extend_from_slice(MAGIC);
        body
    }

    /// Reads the body that `footer` announced; `None` when it does not hold.
    pub(crate) fn read(body: &[u8], footer: Footer) -> Option<Self> {
        if footer_sum(body, footer.format) != footer.sum {
            return None;
        }
        let mut reader = Reader { rest: Bytes::copy_from_slice(body) };
        let id = uuid::Uuid::from_slice(&reader.take(16).ok()?).ok()?;
        let position = Position(reader.u64().ok()?);
        let len = reader.u64().ok()?;
        let mut sums = Vec::new();
        while !reader.rest.is_empty() {
            sums.push(reader.u32().ok()?);
        }
        Some(Self { id, position, len, sums })
    }
}

impl Footer {
    /// Reads the last [`FOOTER_BYTES`]; `None` when this is no backup, or its end is missing.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { rest: Bytes::copy_from_slice(bytes) };
        let footer =
            Self { body_bytes: reader.u32().ok()?, sum: reader.u32().ok()?, format: reader.u32().ok()? };
        (reader.rest.as_ref() == MAGIC).then_some(footer)
    }
}

fn footer_sum(body: &[u8], format: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(body), &format.to_be_bytes())
}
