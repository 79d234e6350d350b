//! The bytes of a chunk of the log: frame, boot, count of positions, records.

use bytes::Bytes;
use stanchion_actors::{
    ids::{EntityId, Position},
    store::{Chain, CodecError, Entry, FRAME_BYTES, InboxItem, decode, seal, unframe_shared},
};

use super::tables::ROW_SCHEMA;

const CHAIN: u8 = 1;
const INBOX: u8 = 2;
const DONE: u8 = 3;
const DEFINITION: u8 = 4;
/// A purge of format 1: without the row of the index.
const PURGE_UNINDEXED: u8 = 5;
const PURGE: u8 = 6;

/// One record as the log keeps it; each takes one position, a chain one for every entry.
#[derive(Clone, Debug)]
pub(crate) enum LogRecord {
    /// Entries of one entity.
    Chain(EntityId, Vec<(Entry, Bytes)>),
    /// A waiting command; `named` when the entity's name is to be stored with it.
    Inbox { entity: EntityId, named: bool, item: InboxItem },
    /// A settled outgoing message.
    Done { sender: EntityId, seq: u64 },
    /// A definition.
    Definition { hash: [u8; 32], bytes: Bytes },
    /// A removed entity, with the rows that do not lie under its number: its name, its row of the index, its due rows.
    Purge { entity: EntityId, name: Vec<u8>, index: Vec<u8>, due: Vec<Vec<u8>> },
}

impl LogRecord {
    /// Positions it takes.
    pub(crate) fn positions(&self) -> u64 {
        match self {
            Self::Chain(_, entries) => entries.len() as u64,
            _ => 1,
        }
    }
}

/// Builds one chunk; the entries come encoded already.
#[derive(Debug)]
pub(crate) struct ChunkBuilder {
    body: Vec<u8>,
    count: u32,
}

const HEADER_BYTES: usize = FRAME_BYTES + 8 + 4;

impl ChunkBuilder {
    pub(crate) fn new() -> Self {
        Self { body: vec![0; HEADER_BYTES], count: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Positions taken.
    pub(crate) fn count(&self) -> u64 {
        u64::from(self.count)
    }

    pub(crate) fn clear(&mut self) {
        self.body.truncate(HEADER_BYTES);
        self.count = 0;
    }

    fn blob(&mut self, bytes: &[u8]) {
        self.body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.body.extend_from_slice(bytes);
    }

    fn start(&mut self, tag: u8, number: u64) {
        self.body.push(tag);
        self.body.extend_from_slice(&number.to_be_bytes());
        self.count += 1;
    }

    pub(crate) fn chain(&mut self, chain: &Chain) {
        self.body.push(CHAIN);
        self.body.extend_from_slice(&chain.entity().0.to_be_bytes());
        self.body.extend_from_slice(&(chain.len() as u32).to_be_bytes());
        self.count += chain.len() as u32;
        for (_, encoded) in chain.entries() {
            self.blob(encoded);
        }
    }

    pub(crate) fn inbox(&mut self, entity: EntityId, named: bool, encoded: &[u8]) {
        self.start(INBOX, entity.0);
        self.body.push(u8::from(named));
        self.blob(encoded);
    }

    pub(crate) fn done(&mut self, sender: EntityId, seq: u64) {
        self.start(DONE, sender.0);
        self.body.extend_from_slice(&seq.to_be_bytes());
    }

    pub(crate) fn definition(&mut self, hash: &[u8; 32], bytes: &[u8]) {
        self.start(DEFINITION, 0);
        self.body.extend_from_slice(hash);
        self.blob(bytes);
    }

    pub(crate) fn purge(&mut self, entity: EntityId, name: &[u8], index: &[u8], due: &[Vec<u8>]) {
        self.start(PURGE, entity.0);
        self.blob(name);
        self.blob(index);
        self.body.extend_from_slice(&(due.len() as u32).to_be_bytes());
        for key in due {
            self.blob(key);
        }
    }

    /// The framed chunk that begins at `first`.
    pub(crate) fn seal(&mut self, first: Position, boot: u64) -> &[u8] {
        if let Some(header) = self.body.get_mut(FRAME_BYTES..HEADER_BYTES) {
            let (at_boot, at_count) = header.split_at_mut(8);
            at_boot.copy_from_slice(&boot.to_be_bytes());
            at_count.copy_from_slice(&self.count.to_be_bytes());
        }
        seal(&first.0.to_be_bytes(), ROW_SCHEMA, &mut self.body);
        &self.body
    }
}

/// What a chunk says before its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkHead {
    pub(crate) boot: u64,
    pub(crate) count: u64,
}

/// Checks a chunk and reads its records.
pub(crate) fn read_chunk(first: Position, framed: &Bytes) -> Result<(ChunkHead, Vec<LogRecord>), CodecError> {
    let (_, body) = unframe_shared(&first.0.to_be_bytes(), framed)?;
    let mut reader = Reader { rest: body };
    let head = ChunkHead { boot: reader.u64()?, count: u64::from(reader.u32()?) };
    let mut records = Vec::new();
    let mut positions = 0;
    while !reader.rest.is_empty() {
        let record = reader.record()?;
        positions += record.positions();
        records.push(record);
    }
    if positions == head.count {
        Ok((head, records))
    } else {
        Err(CodecError::Decode(format!("chunk holds {positions} positions, its head says {}", head.count)))
    }
}

/// Takes values off the front of shared bytes.
pub(crate) struct Reader {
    pub(crate) rest: Bytes,
}

impl Reader {
    pub(crate) fn take(&mut self, count: usize) -> Result<Bytes, CodecError> {
        if self.rest.len() < count {
            return Err(CodecError::Decode(format!("{count} bytes wanted, {} left", self.rest.len())));
        }
        Ok(self.rest.split_to(count))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let taken = self.take(N)?;
        taken.as_ref().try_into().map_err(|_| CodecError::Decode("short".into()))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn blob(&mut self) -> Result<Bytes, CodecError> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    fn record(&mut self) -> Result<LogRecord, CodecError> {
        let [tag] = self.array()?;
        let number = EntityId(self.u64()?);
        Ok(match tag {
            CHAIN => {
                let count = self.u32()?;
                let mut entries = Vec::new();
                for _ in 0..count {
                    let encoded = self.blob()?;
                    entries.push((decode(&encoded)?, encoded));
                }
                LogRecord::Chain(number, entries)
            }
            INBOX => {
                let [named] = self.array()?;
                LogRecord::Inbox { entity: number, named: named == 1, item: decode(&self.blob()?)? }
            }
            DONE => LogRecord::Done { sender: number, seq: self.u64()? },
            DEFINITION => LogRecord::Definition { hash: self.array()?, bytes: self.blob()? },
            PURGE | PURGE_UNINDEXED => {
                let name = self.blob()?.to_vec();
                let index = if tag == PURGE { self.blob()?.to_vec() } else { Vec::new() };
                let count = self.u32()?;
                let mut due = Vec::new();
                for _ in 0..count {
                    due.push(self.blob()?.to_vec());
                }
                LogRecord::Purge { entity: number, name, index, due }
            }
            other => return Err(CodecError::Decode(format!("record tag {other} is not known"))),
        })
    }
}
