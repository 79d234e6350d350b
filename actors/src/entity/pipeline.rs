//! One chain at the store, the next gathering: what the entity's actor and the store's completion share.

use std::sync::{Arc, Mutex, PoisonError};

use stanchion_sync::{Epoch, Held as HoldOutcome, ReleaseOrder};

use super::{cell::EntityCell, mail::Held};
use crate::{
    error::{Doubt, FailureKind, Unavailable},
    ids::Version,
    moment::{Moment, Observer},
    store::{Completer, Outcome, StoreError},
};

/// Where the chain at the store is.
#[derive(Debug, Default)]
struct Flight {
    /// A chain is at the store.
    busy: bool,
    /// The actor has something to do when the chain is back.
    wake: bool,
    /// The chain did not apply.
    failed: Option<FailureKind>,
}

/// Shared between one activation's actor and the completions of its chains.
///
/// It holds only replies whose version is at the store; replies of gathering entries stay with the actor, so
/// that its end leaves no doubt about them.
pub(crate) struct Pipeline {
    cell: Arc<EntityCell>,
    flight: Mutex<Flight>,
    replies: ReleaseOrder<Held>,
    epoch: Epoch,
    observer: Observer,
}

/// What the actor finds when it looks at the pipeline.
#[derive(Debug)]
pub(crate) enum Look {
    /// A chain is at the store; the cell is woken when it is back, if asked for.
    Busy,
    /// Nothing is at the store.
    Free,
    /// The last chain did not apply: the speculative state is void.
    Failed(FailureKind),
}

impl Pipeline {
    /// A pipeline whose last durable version is `durable`.
    pub(crate) fn new(cell: Arc<EntityCell>, durable: Version, observer: Observer) -> Arc<Self> {
        let replies = ReleaseOrder::new(durable.0);
        let (epoch, _nothing) = replies.begin();
        Arc::new(Self { cell, flight: Mutex::default(), replies, epoch, observer })
    }

    /// The last durable version.
    pub(crate) fn durable(&self) -> Version {
        Version(self.replies.durable())
    }

    /// Answers now if `version` is durable, else when the chain at the store is back.
    pub(crate) fn hold(&self, version: Version, held: Held) {
        match self.replies.hold(self.epoch, version.0, held) {
            HoldOutcome::Waiting => {}
            HoldOutcome::Durable(held) => held.release(),
            HoldOutcome::Abandoned(held) => {
                let failed = self.lock().failed.clone();
                held.fail(failed.unwrap_or(FailureKind::Unknown(Doubt::Lost)));
            }
        }
    }

    /// How the pipeline is; `wake` asks to be woken when a chain at the store is back.
    pub(crate) fn look(&self, wake: bool) -> Look {
        let mut flight = self.lock();
        if let Some(failed) = &flight.failed {
            return Look::Failed(failed.clone());
        }
        if !flight.busy {
            return Look::Free;
        }
        flight.wake |= wake;
        Look::Busy
    }

    /// Marks a chain up to `version` as handed over and makes its completer.
    pub(crate) fn depart(self: &Arc<Self>, version: Version, wake: bool) -> Completer {
        {
            let mut flight = self.lock();
            flight.busy = true;
            flight.wake = wake;
        }
        let mut arrival = Arrival { pipeline: Arc::clone(self), version, told: false };
        Box::new(move |outcome| arrival.tell(outcome))
    }

    /// The store handed the chain back unseen; its completer is dropped after this.
    pub(crate) fn turned_back(&self) {
        let mut flight = self.lock();
        *flight = Flight::default();
    }

    /// Runs on the store's thread: answers callers itself, then wakes the actor if it has something to do.
    fn arrive(&self, version: Version, outcome: Result<Outcome, StoreError>) {
        let failed = match outcome {
            Ok(Outcome::Applied { .. }) => None,
            Ok(Outcome::Fenced { .. } | Outcome::Conflict { .. }) => {
                Some(FailureKind::Unavailable(Unavailable::Fenced))
            }
            Err(error) => Some(FailureKind::from(&error)),
        };
        let wake = match failed {
            None => {
                self.observer.reach(Moment::BeforeAnswer);
                let released = self.replies.release(self.epoch, version.0);
                // Before a caller can call again: its next command finds nothing at the store and leaves at once.
                let wake = self.land(None);
                released.into_iter().for_each(Held::release);
                self.observer.reach(Moment::AfterAnswer);
                wake
            }
            Some(kind) => {
                for held in self.replies.abandon(self.epoch) {
                    held.fail(kind.clone());
                }
                self.land(Some(kind));
                true
            }
        };
        if wake {
            self.cell.wake();
        }
    }

    /// Nothing is at the store any more; whether the actor asked to be woken.
    fn land(&self, failed: Option<FailureKind>) -> bool {
        let mut flight = self.lock();
        flight.busy = false;
        flight.failed = failed;
        std::mem::take(&mut flight.wake)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A completion that is told once: a completer dropped uncalled leaves nobody waiting.
struct Arrival {
    pipeline: Arc<Pipeline>,
    version: Version,
    told: bool,
}

impl Arrival {
    fn tell(&mut self, outcome: Result<Outcome, StoreError>) {
        self.told = true;
        self.pipeline.arrive(self.version, outcome);
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let still_out = self.pipeline.lock().busy;
        if !self.told && still_out {
            self.tell(Err(StoreError::Unknown("the store gave no answer".into())));
        }
    }
}
