//! Snapshots: named MessagePack with packed arrays, and a reader that trusts nothing.

use super::codes::StepCode;
use super::event::{EndCause, RunError, StepError};
use super::state::{ERRORS_KEPT_MAX, Kept, Phase, RunState, Trouble, Undoing};
use crate::workflow::definition::ValidDefinition;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Why bytes are not a snapshot of a run of this definition.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Not the encoding of a snapshot.
    #[error("not a run snapshot")]
    Decode(#[from] rmp_serde::decode::Error),
    /// The parts do not fit each other or the definition.
    #[error("inconsistent run snapshot: {0}")]
    Inconsistent(&'static str),
}

/// The stored form. Arrays over all steps are bytes: codes one byte each, numbers as LEB128.
#[derive(Serialize, Deserialize)]
struct Packed {
    #[serde(rename = "p")]
    phase: Phase,
    #[serde(rename = "w")]
    workers: u32,
    #[serde(rename = "t")]
    started_us: i64,
    #[serde(rename = "ct")]
    clock_us: i64,
    #[serde(rename = "c", with = "serde_bytes")]
    codes: Vec<u8>,
    #[serde(rename = "a", with = "serde_bytes")]
    attempts: Vec<u8>,
    #[serde(rename = "r", with = "serde_bytes")]
    ready: Vec<u8>,
    #[serde(rename = "d", with = "serde_bytes")]
    doomed: Vec<u8>,
    /// Step, and due time relative to `clock_us`, zigzag.
    #[serde(rename = "wt", with = "serde_bytes")]
    waiting: Vec<u8>,
    #[serde(rename = "wb", with = "serde_bytes", default, skip_serializing_if = "Vec::is_empty")]
    behind_breaker: Vec<u8>,
    #[serde(rename = "wc", with = "serde_bytes", default, skip_serializing_if = "Vec::is_empty")]
    awaiting: Vec<u8>,
    #[serde(rename = "fs", with = "serde_bytes")]
    first_us: Vec<u8>,
    #[serde(rename = "u", with = "serde_bytes")]
    undo: Vec<u8>,
    /// Step, failures, last delay.
    #[serde(rename = "tr", with = "serde_bytes")]
    trouble: Vec<u8>,
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<(u32, StepError)>,
    #[serde(rename = "ff", default, skip_serializing_if = "Option::is_none")]
    first_failed: Option<u32>,
    #[serde(rename = "ug", default, skip_serializing_if = "Option::is_none")]
    undoing: Option<Undoing>,
    #[serde(rename = "ca", default, skip_serializing_if = "Option::is_none")]
    cause: Option<EndCause>,
    #[serde(rename = "er", default, skip_serializing_if = "Option::is_none")]
    error: Option<RunError>,
    #[serde(rename = "pk", default, skip_serializing_if = "Option::is_none")]
    parked: Option<String>,
}

impl RunState {
    /// Everything but input and outputs, as bytes. At most a few bytes per step.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let kept = &self.kept;
        let base = kept.clock_us;
        let times = |map: &BTreeMap<u32, i64>| {
            pack(map.iter().flat_map(|(&step, &us)| [u64::from(step), zigzag(us.wrapping_sub(base))]))
        };
        let trouble = kept.trouble.iter();
        let packed = Packed {
            phase: kept.phase,
            workers: kept.workers,
            started_us: kept.started_us,
            clock_us: base,
            codes: kept.codes.iter().map(|&code| code as u8).collect(),
            attempts: pack(kept.attempts.iter().map(|&n| u64::from(n))),
            ready: pack(kept.ready.iter().map(|&n| u64::from(n))),
            doomed: pack(kept.doomed.iter().map(|&n| u64::from(n))),
            waiting: times(&kept.waiting),
            behind_breaker: pack(kept.behind_breaker.iter().map(|&n| u64::from(n))),
            awaiting: pack(kept.awaiting.iter().map(|&n| u64::from(n))),
            first_us: times(&kept.first_us),
            undo: pack(kept.undo.iter().map(|&n| u64::from(n))),
            trouble: pack(
                trouble.flat_map(|(&step, t)| [u64::from(step), u64::from(t.failures), t.last_delay_us]),
            ),
            errors: kept.errors.iter().map(|(&step, error)| (step, error.clone())).collect(),
            first_failed: kept.first_failed,
            undoing: kept.undoing.clone(),
            cause: kept.cause.clone(),
            error: kept.error.clone(),
            parked: kept.parked.clone(),
        };
        // Plain data in memory always serialises.
        rmp_serde::to_vec_named(&packed).unwrap_or_default()
    }

    /// Reads a snapshot back. Input and outputs are still missing, see [`RunState::outputs_needed`].
    ///
    /// # Errors
    /// [`SnapshotError`]: the bytes are damaged or belong to another definition; the run cannot go on from them.
    pub fn from_snapshot(def: &ValidDefinition, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let packed: Packed = rmp_serde::from_slice(bytes)?;
        let kept = unpack(packed)?;
        check(def, &kept)?;
        let mut state = Self { kept, ..Self::default() };
        if state.kept.phase != Phase::Pending && !state.kept.codes.is_empty() {
            state.derive(def);
        }
        Ok(state)
    }
}

fn unpack(packed: Packed) -> Result<Kept, SnapshotError> {
    let base = packed.clock_us;
    let codes: Option<Vec<StepCode>> = packed.codes.iter().map(|&code| StepCode::from_u8(code)).collect();
    let times = |bytes: &[u8]| -> Result<BTreeMap<u32, i64>, SnapshotError> {
        let pairs = numbers(bytes)?;
        pairs
            .chunks(2)
            .map(|pair| match pair {
                [step, us] => Ok((step_number(*step)?, base.wrapping_add(unzigzag(*us)))),
                _ => Err(SnapshotError::Inconsistent("a time without a step")),
            })
            .collect()
    };
    let trouble = numbers(&packed.trouble)?
        .chunks(3)
        .map(|triple| match triple {
            [step, failures, delay] => Ok((
                step_number(*step)?,
                Trouble { failures: step_number(*failures)?, last_delay_us: *delay },
            )),
            _ => Err(SnapshotError::Inconsistent("failures without a step")),
        })
        .collect::<Result<_, _>>()?;
    Ok(Kept {
        phase: packed.phase,
        workers: packed.workers,
        started_us: packed.started_us,
        clock_us: packed.clock_us,
        codes: codes.ok_or(SnapshotError::Inconsistent("an unknown step code"))?,
        attempts: steps(&packed.attempts)?,
        ready: VecDeque::from(steps(&packed.ready)?),
        doomed: VecDeque::from(steps(&packed.doomed)?),
        waiting: times(&packed.waiting)?,
        behind_breaker: BTreeSet::from_iter(steps(&packed.behind_breaker)?),
        awaiting: BTreeSet::from_iter(steps(&packed.awaiting)?),
        first_us: times(&packed.first_us)?,
        trouble,
        errors: packed.errors.into_iter().collect(),
        first_failed: packed.first_failed,
        undo: steps(&packed.undo)?,
        undoing: packed.undoing,
        cause: packed.cause,
        error: packed.error,
        parked: packed.parked,
    })
}

/// Checks every invariant the engine relies on.
fn check(def: &ValidDefinition, kept: &Kept) -> Result<(), SnapshotError> {
    let n = def.step_count() as usize;
    let blank = kept.codes.is_empty() && kept.attempts.is_empty();
    let may_be_blank = matches!(kept.phase, Phase::Pending | Phase::Cancelled);
    let sized = kept.codes.len() == n && kept.attempts.len() == n;
    let code = |step: u32| kept.codes.get(step as usize).copied();
    let mut ready = kept.ready.iter().copied().collect::<Vec<_>>();
    ready.sort_unstable();
    ready.dedup();
    let ready_codes = kept.codes.iter().filter(|&&code| code == StepCode::Ready).count();
    let waiting_codes = kept.codes.iter().filter(|&&code| code == StepCode::Waiting).count();
    let mut undo = kept.undo.clone();
    undo.sort_unstable();
    undo.dedup();
    let undoable = |step: u32| def.step(step).is_some_and(|plan| plan.compensation.is_some());
    let undo_step = kept.undoing.as_ref().map(|undoing| undoing.step);
    let cause_step = kept.first_failed.is_none_or(|step| (step as usize) < n);
    let rules = [
        (sized || (blank && may_be_blank), "the number of steps is another"),
        (kept.phase == Phase::Pending || blank || kept.workers > 0, "no workers"),
        (ready.len() == kept.ready.len() && ready.len() == ready_codes, "the queue of ready steps"),
        (ready.iter().all(|&step| code(step) == Some(StepCode::Ready)), "a queued step is not ready"),
        (
            kept.doomed.iter().all(|&step| code(step) == Some(StepCode::Pending)),
            "a doomed step is not pending",
        ),
        (kept.waiting.len() + kept.awaiting.len() == waiting_codes, "the waiting steps"),
        (
            kept.waiting.keys().chain(&kept.awaiting).all(|&step| code(step) == Some(StepCode::Waiting)),
            "a waiting step",
        ),
        (kept.awaiting.iter().all(|step| !kept.waiting.contains_key(step)), "a step waits twice"),
        (
            kept.behind_breaker.iter().all(|step| kept.waiting.contains_key(step)),
            "a step behind a breaker does not wait",
        ),
        (kept.first_us.keys().all(|&step| code(step).is_some()), "a limited step"),
        (kept.trouble.keys().all(|&step| code(step).is_some()), "a troubled step"),
        (kept.errors.keys().all(|&step| code(step).is_some()), "an error without a step"),
        (kept.errors.len() <= ERRORS_KEPT_MAX, "too many errors"),
        (undo.len() == kept.undo.len() && undo.iter().all(|&step| undoable(step)), "the steps to undo"),
        (undo_step.is_none_or(|step| kept.undo.last() == Some(&step)), "the step being undone"),
        (cause_step, "the failed step"),
        (kept.phase != Phase::Undoing || kept.cause.is_some(), "undoing without a cause"),
    ];
    match rules.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, what)) => Err(SnapshotError::Inconsistent(what)),
    }
}

/// Numbers as LEB128, one after the other.
fn pack(values: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.size_hint().0);
    for mut value in values {
        while value >= 0x80 {
            bytes.push((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
    }
    bytes
}

fn numbers(bytes: &[u8]) -> Result<Vec<u64>, SnapshotError> {
    let mut values = Vec::with_capacity(bytes.len());
    let (mut value, mut shift) = (0u64, 0u32);
    for &byte in bytes {
        let bits = u64::from(byte & 0x7F);
        if shift > 63 || (shift == 63 && bits > 1) {
            return Err(SnapshotError::Inconsistent("a number over 64 bits"));
        }
        value |= bits << shift;
        shift += 7;
        if byte < 0x80 {
            values.push(std::mem::take(&mut value));
            shift = 0;
        }
    }
    if shift == 0 { Ok(values) } else { Err(SnapshotError::Inconsistent("a number is cut off")) }
}

fn steps(bytes: &[u8]) -> Result<Vec<u32>, SnapshotError> {
    numbers(bytes)?.into_iter().map(step_number).collect()
}

fn step_number(value: u64) -> Result<u32, SnapshotError> {
    u32::try_from(value).map_err(|_| SnapshotError::Inconsistent("a number over 32 bits"))
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}
