//! The redo log: one row a chunk, one flush a commit, trimmed within later commits.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable};
use stanchion_actors::ids::Position;

use super::tables::{LOG, LogMeta, owned, put_meta};

/// Most chunks removed within one commit, which adds one: a chunk that is removed is read first, so that the callers
/// of one commit must not pay for a whole generation.
const TRIM_MAX_CHUNKS: usize = 4;

/// One chunk that is in the log.
#[derive(Clone, Copy, Debug)]
struct Held {
    first: Position,
    last: Position,
}

/// The open log.
#[derive(Debug)]
pub(crate) struct RedoLog {
    db: Arc<Database>,
    meta: LogMeta,
    held: VecDeque<Held>,
}

impl RedoLog {
    pub(crate) fn new(db: Arc<Database>, meta: LogMeta) -> Self {
        Self { db, meta, held: VecDeque::new() }
    }

    /// Knows of a chunk found at recovery.
    pub(crate) fn hold(&mut self, first: Position, last: Position) {
        self.held.push_back(Held { first, last });
    }

    /// Writes the meta row in a commit of its own. The commit before it is then no longer the last one, which redb
    /// takes back when its pages are damaged: damage to it is found from here on.
    pub(crate) fn seal(&self) -> Result<(), redb::Error> {
        let txn = self.db.begin_write()?;
        txn.open_table(LOG)?;
        put_meta(&txn, &self.meta)?;
        txn.commit()?;
        Ok(())
    }

    /// Appends the chunk of `first..=last` and removes chunks up to `folded`: one commit, one flush.
    pub(crate) fn append(
        &mut self,
        first: Position,
        last: Position,
        chunk: &[u8],
        folded: Position,
    ) -> Result<(), redb::Error> {
        let txn = self.db.begin_write()?;
        let trimmed = {
            let mut table = txn.open_table(LOG)?;
            table.insert(first.0, chunk)?;
            let mut trimmed = None;
            for held in self.held.iter().take(TRIM_MAX_CHUNKS).take_while(|held| held.last <= folded) {
                table.remove(held.first.0)?;
                trimmed = Some(held.last);
            }
            trimmed
        };
        if let Some(trimmed) = trimmed {
            self.meta.trimmed = self.meta.trimmed.max(trimmed);
            put_meta(&txn, &self.meta)?;
        }
        txn.commit()?;
        if let Some(trimmed) = trimmed {
            while self.held.front().is_some_and(|held| held.last <= trimmed) {
                self.held.pop_front();
            }
        }
        self.hold(first, last);
        Ok(())
    }

    /// The database, for reading beside the writer.
    pub(crate) fn database(&self) -> Arc<Database> {
        self.db.clone()
    }
}

/// Every chunk of a log, in order.
pub(crate) fn read_chunks(db: &impl ReadableDatabase) -> Result<Vec<(Position, Bytes)>, redb::Error> {
    let table = match db.begin_read()?.open_table(LOG) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut chunks = Vec::new();
    for row in table.iter()? {
        let (first, chunk) = row?;
        chunks.push((Position(first.value()), owned(chunk.value())));
    }
    Ok(chunks)
}

/// Fills a new log in one commit.
pub(crate) fn write_log(
    db: &Database,
    meta: &LogMeta,
    chunks: &[(Position, Bytes)],
) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    {
        let mut table = txn.open_table(LOG)?;
        for (first, chunk) in chunks {
            table.insert(first.0, chunk.as_ref())?;
        }
    }
    put_meta(&txn, meta)?;
    txn.commit()?;
    Ok(())
}
