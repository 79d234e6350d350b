//! [`Window`]: the outcomes that count at a time, of the last calls or of the last while.

use serde::{Deserialize, Serialize};

use super::{BreakerOptions, CLASSES, FailureClass, WindowType};
use crate::ids::Timestamp;

/// Parts of a time-based window.
const PARTS: i64 = 20;

/// One recorded outcome: the failure's class, if it failed, and whether it was slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) failure: Option<FailureClass>,
    pub(super) slow: bool,
}

impl Record {
    /// Classes it counts for: its own, and `slow`.
    pub(super) fn is(self, class: FailureClass) -> bool {
        self.failure == Some(class) || (class == FailureClass::Slow && self.slow)
    }

    fn to_byte(self) -> u8 {
        let failure = FailureClass::ALL.iter().position(|class| self.failure == Some(*class));
        failure.map_or(0, |at| at as u8 + 1) << 1 | u8::from(self.slow)
    }

    fn from_byte(byte: u8) -> Self {
        let class = usize::from(byte >> 1).checked_sub(1);
        Self { failure: class.and_then(|at| FailureClass::ALL.get(at).copied()), slow: byte & 1 == 1 }
    }
}

/// Outcomes counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tally {
    pub(super) calls: u32,
    /// Failures by class, except that the place of `Slow` counts slow calls, failed or not.
    pub(super) classes: [u32; CLASSES],
    /// Failures of class `Slow`: they are in `classes` as slow calls already.
    pub(super) failed_slow: u32,
}

impl Tally {
    pub(super) fn add(&mut self, record: Record) {
        self.change(record, |count| *count = count.saturating_add(1));
    }

    fn remove(&mut self, record: Record) {
        self.change(record, |count| *count = count.saturating_sub(1));
    }

    fn change(&mut self, record: Record, by: impl Fn(&mut u32)) {
        by(&mut self.calls);
        for (class, count) in FailureClass::ALL.into_iter().zip(&mut self.classes) {
            if record.is(class) {
                by(count);
            }
        }
        if record.failure == Some(FailureClass::Slow) {
            by(&mut self.failed_slow);
        }
    }

    fn merge(&mut self, other: &Self, by: impl Fn(u32, u32) -> u32) {
        self.calls = by(self.calls, other.calls);
        self.failed_slow = by(self.failed_slow, other.failed_slow);
        for (mine, theirs) in self.classes.iter_mut().zip(other.classes) {
            *mine = by(*mine, theirs);
        }
    }

    pub(super) fn of(&self, class: FailureClass) -> u32 {
        let counts = FailureClass::ALL.into_iter().zip(self.classes);
        counts.into_iter().find(|(at, _)| *at == class).map_or(0, |(_, count)| count)
    }

    /// Failures of this class; for `Slow` only those that failed.
    pub(super) fn failures(&self, class: FailureClass) -> u32 {
        if class == FailureClass::Slow { self.failed_slow } else { self.of(class) }
    }
}

/// The outcomes that count. Memory is fixed when it is made.
#[derive(Clone, Debug)]
pub(super) enum Window {
    Calls { ring: Vec<u8>, size: usize, next: usize, total: Tally },
    Time { parts: Vec<Tally>, part_us: i64, latest: i64, total: Tally },
}

impl Window {
    pub(super) fn new(options: &BreakerOptions) -> Self {
        let size = options.sliding_window_size;
        match options.sliding_window_type {
            WindowType::CountBased => Self::Calls {
                ring: Vec::with_capacity(size as usize),
                size: size as usize,
                next: 0,
                total: Tally::default(),
            },
            WindowType::TimeBased => Self::Time {
                parts: vec![Tally::default(); PARTS as usize],
                part_us: i64::from(size) * 1_000 / PARTS,
                latest: i64::MIN,
                total: Tally::default(),
            },
        }
    }

    pub(super) fn add(&mut self, record: Record, now: Timestamp) {
        match self {
            Self::Calls { ring, size, next, total } => {
                total.add(record);
                match ring.get_mut(*next) {
                    Some(oldest) => {
                        total.remove(Record::from_byte(std::mem::replace(oldest, record.to_byte())))
                    }
                    None => ring.push(record.to_byte()),
                }
                *next = (*next + 1) % (*size).max(1);
            }
            Self::Time { .. } => {
                self.advance(now);
                if let Self::Time { parts, latest, total, .. } = self {
                    total.add(record);
                    if let Some(part) = parts.get_mut(place(*latest)) {
                        part.add(record);
                    }
                }
            }
        }
    }

    /// Adds successes, none of them slow, that came within [`Self::goes_on`].
    pub(super) fn add_successes(&mut self, count: u32) {
        match self {
            Self::Calls { size, .. } => {
                for _ in 0..count.min(u32::try_from(*size).unwrap_or(u32::MAX)) {
                    self.add(Record { failure: None, slow: false }, Timestamp(0));
                }
            }
            Self::Time { parts, latest, total, .. } => {
                total.calls = total.calls.saturating_add(count);
                if let Some(part) = parts.get_mut(place(*latest)) {
                    part.calls = part.calls.saturating_add(count);
                }
            }
        }
    }

    /// From when and until when an outcome lets nothing leave because of the time; `None` when the next one does.
    pub(super) fn goes_on(&self) -> Option<(Timestamp, Timestamp)> {
        match self {
            Self::Calls { .. } => Some((Timestamp(i64::MIN), Timestamp(i64::MAX))),
            Self::Time { latest: i64::MIN, .. } => None,
            Self::Time { latest, part_us, .. } => {
                let from = latest.saturating_mul(*part_us);
                Some((Timestamp(from), Timestamp(from.saturating_add(*part_us))))
            }
        }
    }

    /// What counts, as of the last outcome.
    pub(super) fn total(&self) -> &Tally {
        match self {
            Self::Calls { total, .. } | Self::Time { total, .. } => total,
        }
    }

    /// What counts at this time.
    pub(super) fn tally(&mut self, now: Timestamp) -> Tally {
        self.advance(now);
        *self.total()
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::Calls { ring, next, total, .. } => {
                ring.clear();
                (*next, *total) = (0, Tally::default());
            }
            Self::Time { parts, latest, total, .. } => {
                parts.fill(Tally::default());
                (*latest, *total) = (i64::MIN, Tally::default());
            }
        }
    }

    /// Lets parts leave that are a window old. A clock set back by a window or more empties it; by less, the
    /// latest part goes on.
    fn advance(&mut self, now: Timestamp) {
        let Self::Time { parts, part_us, latest, total } = self else { return };
        let part = now.0.div_euclid((*part_us).max(1));
        let ahead = part.saturating_sub(*latest);
        if !(-PARTS..PARTS).contains(&ahead) || *latest == i64::MIN {
            parts.fill(Tally::default());
            (*latest, *total) = (part, Tally::default());
            return;
        }
        for leaving in latest.saturating_add(1)..=part {
            if let Some(old) = parts.get_mut(place(leaving)) {
                total.merge(&std::mem::take(old), u32::saturating_sub);
            }
        }
        *latest = part.max(*latest);
    }

    /// Bytes of the calls, oldest first; empty for a time-based window.
    pub(super) fn calls(&self) -> Vec<u8> {
        match self {
            Self::Calls { ring, next, .. } => {
                let (newer, older) = ring.split_at((*next).min(ring.len()));
                [older, newer].concat()
            }
            Self::Time { .. } => Vec::new(),
        }
    }

    /// Start and tally of each part that holds something, oldest first; empty for a count-based window.
    pub(super) fn parts(&self) -> Vec<(Timestamp, Tally)> {
        let Self::Time { parts, part_us, latest, .. } = self else { return Vec::new() };
        if *latest == i64::MIN {
            return Vec::new();
        }
        let starts = (latest.saturating_sub(PARTS - 1)..=*latest).filter_map(|at| {
            let tally = parts.get(place(at))?;
            (tally.calls > 0).then_some((Timestamp(at.saturating_mul(*part_us)), *tally))
        });
        starts.collect()
    }

    /// Takes over what another window held: what still fits, if both are of one type.
    pub(super) fn fill(&mut self, calls: &[u8], parts: &[(Timestamp, Tally)]) {
        match self {
            Self::Calls { .. } => {
                for byte in calls {
                    self.add(Record::from_byte(*byte), Timestamp(0));
                }
            }
            Self::Time { .. } => {
                for (start, tally) in parts {
                    self.advance(*start);
                    if let Self::Time { parts, latest, total, .. } = self {
                        total.merge(tally, u32::saturating_add);
                        if let Some(part) = parts.get_mut(place(*latest)) {
                            part.merge(tally, u32::saturating_add);
                        }
                    }
                }
            }
        }
    }
}

fn place(part: i64) -> usize {
    usize::try_from(part.rem_euclid(PARTS)).unwrap_or(0)
}
