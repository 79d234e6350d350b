//! Jobs as private rows: what an entry changes, and how an activation reads it back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    job::{Job, JobState},
    partition::{Fixed, Partition},
};
use crate::{
    entity::Unreadable,
    store::{CodecError, RowOp, decode, encode},
};

/// First byte of the key of a job's row; the rest is its number.
const JOB: u8 = b'a';
/// First byte of the key of a rate's row; the rest is the key it is of.
const RATE: u8 = b'b';
/// First byte after the rows that an activation reads.
const READ_END: u8 = b'c';
/// First byte of the key of an output.
const OUTPUT: u8 = b'o';
/// First byte of the key of a payload.
const PAYLOAD: u8 = b'p';

fn numbered(tag: u8, seq: u64) -> Bytes {
    let mut key = Vec::with_capacity(9);
    key.push(tag);
    key.extend_from_slice(&seq.to_be_bytes());
    Bytes::from(key)
}

/// Key of the row of a job.
pub(super) fn job_row(seq: u64) -> Bytes {
    numbered(JOB, seq)
}

/// Key of the row of a job's payload.
pub(super) fn payload_row(seq: u64) -> Bytes {
    numbered(PAYLOAD, seq)
}

/// Key of the row of a job's output.
pub(super) fn output_row(seq: u64) -> Bytes {
    numbered(OUTPUT, seq)
}

/// First key after all rows of jobs.
pub(super) fn jobs_end() -> Bytes {
    Bytes::from_static(&[RATE])
}

/// Keys that an activation reads.
pub(super) fn read_range() -> (Bytes, Bytes) {
    (Bytes::from_static(&[JOB]), Bytes::from_static(&[READ_END]))
}

/// What one decision changes in rows.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Anything at all.
    touched: bool,
    /// Jobs whose row is written as they stand at the end.
    jobs: BTreeSet<u64>,
    rows: BTreeMap<Bytes, Option<Bytes>>,
    fault: Option<CodecError>,
}

impl Changes {
    pub(super) fn touch(&mut self) {
        self.touched = true;
    }

    pub(super) fn job(&mut self, seq: u64) {
        self.touched = true;
        self.jobs.insert(seq);
    }

    pub(super) fn payload(&mut self, seq: u64, payload: Option<Bytes>) {
        self.rows.insert(payload_row(seq), payload);
    }

    pub(super) fn output(&mut self, seq: u64, output: Bytes) {
        self.rows.insert(output_row(seq), Some(output));
    }

    pub(super) fn ended(&mut self, job: &Job) {
        self.touched = true;
        self.jobs.remove(&job.seq);
        match encode(job) {
            Ok(row) => drop(self.rows.insert(job_row(job.seq), Some(Bytes::from(row)))),
            Err(fault) => self.fault = Some(fault),
        }
    }

    pub(super) fn forget(&mut self, seq: u64, payload: bool, output: bool) {
        self.touched = true;
        self.jobs.remove(&seq);
        self.rows.insert(job_row(seq), None);
        if payload {
            self.rows.insert(payload_row(seq), None);
        }
        if output {
            self.rows.insert(output_row(seq), None);
        }
    }

    pub(super) fn arrival(&mut self, key: &str, arrival: Option<i64>) {
        self.touched = true;
        let mut row = vec![RATE];
        row.extend_from_slice(key.as_bytes());
        self.rows.insert(Bytes::from(row), arrival.map(|at| Bytes::copy_from_slice(&at.to_be_bytes())));
    }
}

impl Partition {
    /// What was changed since the last time; `None`: nothing.
    pub(super) fn take_changes(&mut self) -> Result<Option<Vec<RowOp>>, CodecError> {
        let changes = std::mem::take(&mut self.changes);
        if let Some(fault) = changes.fault {
            return Err(fault);
        }
        if !changes.touched {
            return Ok(None);
        }
        let mut rows: Vec<RowOp> =
            changes.rows.into_iter().map(|(key, value)| RowOp { key, value }).collect();
        for seq in changes.jobs {
            if let Some(job) = self.jobs.get(&seq) {
                rows.push(RowOp { key: job_row(seq), value: Some(Bytes::from(encode(job)?)) });
            }
        }
        Ok(Some(rows))
    }

    /// What every entry holds whole.
    pub(super) fn encode_fixed(&self) -> Result<Bytes, CodecError> {
        encode(&self.fixed).map(Bytes::from)
    }

    /// The partition before its rows are given back.
    pub(super) fn restore_fixed(bytes: &[u8]) -> Result<Self, Unreadable> {
        let fixed: Fixed = decode(bytes).map_err(|e| Unreadable(e.to_string()))?;
        Ok(Self { fixed, ..Self::default() })
    }

    /// Takes back a row that [`read_range`] asked for.
    pub(super) fn restore_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Unreadable> {
        match key.split_first() {
            Some((&RATE, name)) => {
                let at = <[u8; 8]>::try_from(value).map_err(|_| Unreadable("a rate is damaged".into()))?;
                let name = std::str::from_utf8(name).map_err(|e| Unreadable(e.to_string()))?;
                self.arrivals.insert(Arc::from(name), i64::from_be_bytes(at));
            }
            _ => {
                let job: Job = decode(value).map_err(|e| Unreadable(format!("a job: {e}")))?;
                self.restore_job(job);
            }
        }
        Ok(())
    }

    fn restore_job(&mut self, job: Job) {
        if let Some(unique) = &job.unique {
            self.unique.entry(Arc::clone(&unique.key)).or_default().insert(job.seq);
        }
        match &job.state {
            JobState::Done(at) => self.remember_ended(&job, *at, false),
            JobState::Cancelled(at) => self.remember_ended(&job, *at, true),
            JobState::Waiting(_) | JobState::Leased(_) | JobState::Dead { .. } => {
                self.index(&job);
                self.jobs.insert(job.seq, job);
            }
        }
    }

    /// Checks that no job is missing and none is too many.
    pub(super) fn check_sum(&self) -> Result<(), Unreadable> {
        let tally = &self.fixed.tally;
        let found = tally.done + tally.cancelled + tally.purged + self.jobs.len() as u64;
        if found == tally.enqueued {
            return Ok(());
        }
        Err(Unreadable(format!("{} jobs were enqueued and {found} are accounted for", tally.enqueued)))
    }
}
