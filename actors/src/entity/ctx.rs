//! What a handler records: data, not I/O. It leaves with the entry or not at all.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    discovery::Requirement,
    ids::{Cause, Name, Timestamp, Version},
    store::{RowOp, Timer},
};

/// A message a handler sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// The receiver.
    pub to: Name,
    /// Encoded command.
    pub payload: Bytes,
    /// Returned to the sender when not delivered within this time; `None`: kept until delivered.
    pub expires_after: Option<Duration>,
}

/// An effect a handler starts or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectRequest {
    /// Starts an attempt; the same id again is another attempt of the same effect.
    Start {
        /// Id within the entity.
        id: String,
        /// Registered activity.
        activity: String,
        /// Attempt, from 1.
        attempt: u32,
        /// Encoded input.
        input: Bytes,
        /// Limit of the attempt; zero: none.
        timeout: Duration,
        /// What the node that runs it has to have beside the activity.
        requires: Vec<Requirement>,
    },
    /// The effect is over: its result is recorded.
    End {
        /// Id within the entity.
        id: String,
    },
    /// The running attempt shall stop; the effect is over.
    Cancel {
        /// Id within the entity.
        id: String,
    },
}

/// A timer a handler sets or clears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerRequest {
    /// Sets it, replacing one of the same id.
    Set(Timer),
    /// Clears it, if set.
    Clear(String),
}

/// Collects what one handling records.
#[derive(Debug)]
pub struct Recorder {
    pub(crate) name: Name,
    pub(crate) now: Timestamp,
    pub(crate) version: Version,
    pub(crate) next_effect: u64,
    pub(crate) cause: Cause,
    pub(crate) seed: u64,
    pub(crate) sends: Vec<Send>,
    pub(crate) timers: Vec<TimerRequest>,
    pub(crate) effects: Vec<EffectRequest>,
    pub(crate) rows: Vec<RowOp>,
}

impl Recorder {
    /// A recorder for one handling of `name`, whose last version is `version`.
    #[must_use]
    pub fn new(name: Name, now: Timestamp, version: Version, next_effect: u64, seed: u64) -> Self {
        Self {
            name,
            now,
            version,
            next_effect,
            cause: Cause::default(),
            seed,
            sends: Vec::new(),
            timers: Vec::new(),
            effects: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Wall time of this handling; the same at every look.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The entity's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Version before this handling.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where the command comes from.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// A random number; the only randomness a handler may use.
    ///
    /// # Source
    /// SplitMix64, Steele et al., "Fast splittable pseudorandom number generators" (2014).
    pub fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Records a message.
    pub fn send(&mut self, send: Send) {
        self.sends.push(send);
    }

    /// Records a timer.
    pub fn timer(&mut self, request: TimerRequest) {
        self.timers.push(request);
    }

    /// Records an effect.
    pub fn effect(&mut self, request: EffectRequest) {
        self.effects.push(request);
    }

    /// Gives the next effect id `e<n>`.
    pub fn next_effect_id(&mut self) -> String {
        let id = format!("e{}", self.next_effect);
        self.next_effect += 1;
        id
    }

    /// Records a private row.
    pub fn row(&mut self, op: RowOp) {
        self.rows.push(op);
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty() && self.timers.is_empty() && self.effects.is_empty() && self.rows.is_empty()
    }
}
