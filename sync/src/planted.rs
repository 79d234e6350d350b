//! Bugs that the loom models must find: the negative control of each model.
//!
//! A core asks [`planted`] at the line where the bug would sit. In a normal build the answer is the constant
//! `false` and the branch is gone; only under `--cfg stanchion_loom` can a model switch one bug on for itself.

/// One mistake a core could make. Each is found by the model of the same name in `tests/`.
#[cfg_attr(not(stanchion_loom), expect(unreachable_pub, reason = "the models name it in a loom build"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// `Gate::try_acquire` looks and counts in two steps.
    GateCountsInTwoSteps,
    /// A returned place does not look for waiters.
    GateReturnIgnoresWaiters,
    /// A waiter queues without looking again whether a place came free meanwhile.
    GateQueuesWithoutLooking,
    /// A waiter that is dropped keeps the place it was given.
    GateDroppedWaiterKeepsPlace,
    /// A returned place that was on its way to a waiter is lost when the waiter is gone.
    GateHandsOnToNobody,
    /// `Gate::close` does not wake the waiters.
    GateCloseWakesNobody,
    /// `Doorbell::silence` stores instead of swapping, so it does not see what the ringer wrote.
    DoorbellSilencesBlindly,
    /// The consumer of a hand-off gives up the lock between looking and sleeping.
    HandOffSleepsUnseen,
    /// A closed hand-off answers `Closed` although entries are left.
    HandOffForgetsTheRest,
    /// `ReleaseOrder::hold` looks at the durable version and queues in two steps.
    ReleaseHoldsInTwoSteps,
    /// `ReleaseOrder::release` does not compare epochs.
    ReleaseIgnoresEpoch,
    /// `ReleaseOrder::abandon` leaves the epoch as it is, so the dead incarnation may go on holding.
    ReleaseAbandonKeepsEpoch,
    /// `OwnerSlot::claim` looks and takes in two steps.
    SlotClaimsInTwoSteps,
    /// `OwnerSlot::vacate` does not compare generations.
    SlotVacateIgnoresGeneration,
    /// `Fences::forget` does not compare activation numbers.
    FencesForgetBlindly,
    /// `Probes::try_take` looks and counts in two steps.
    ProbesCountInTwoSteps,
    /// A probe that is dropped keeps its place.
    ProbesDroppedKeepsPlace,
    /// A probe gives its place back to whatever round it is.
    ProbesIgnoreTheRound,
    /// `Bucket::try_take` looks and takes in two steps.
    BucketTakesInTwoSteps,
    /// `Lanes::close` looks and closes in two steps.
    LanesCloseInTwoSteps,
    /// `Lanes::done` does not compare tags.
    LanesIgnoreTheTag,
    /// `Turnstile::try_enter` looks and counts in two steps.
    TurnstileCountsInTwoSteps,
    /// Who leaves a turnstile returns its place and keeps its weight.
    TurnstileReturnsNoWeight,
    /// A caller that is dropped after it was let in keeps its place.
    TurnstileCancelledKeepsPlace,
    /// A caller that gives up while it waits does not look for those whom it kept waiting.
    TurnstileCancelledBlocksTheNext,
    /// A lane of a turnstile closes in two steps.
    TurnstileClosesInTwoSteps,
    /// A pass returns its place to a lane that is closed.
    TurnstileReturnsToAClosedLane,
    /// A turnstile refuses although other lanes have free places.
    TurnstileRefusesWithoutALook,
    /// `SingleFlight::join` looks for a flight and begins one in two steps.
    SingleFlightBeginsInTwoSteps,
    /// A landing wakes nobody.
    SingleFlightLandsSilently,
    /// A leader that is dropped hands over to nobody.
    SingleFlightDroppedLeadStrands,
    /// A rider that was to lead leaves without handing over.
    SingleFlightAppointedLeavesSilently,
    /// `Shelf::get` does not look at the deadline.
    ShelfReadsWithoutLooking,
    /// `Shelf::get` finds an entry over and removes it in two steps.
    ShelfExpiresInTwoSteps,
    /// `Shelf::put` makes room and inserts in two steps.
    ShelfCountsInTwoSteps,
    /// `Shelf::put` makes room before it looks whether it overwrites.
    ShelfOverwriteEvicts,
    /// An entry that is replaced leaves its deadline behind.
    ShelfKeepsOldDeadline,
    /// `Shelf::put_reserved` does not look whether the reservation still holds.
    ShelfIgnoresReservation,
}

/// Whether `bug` is switched on: never, outside loom.
#[cfg(not(stanchion_loom))]
#[inline(always)]
pub(crate) const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(stanchion_loom)]
pub(crate) use switch::planted;
#[cfg(stanchion_loom)]
pub use switch::with;

#[cfg(stanchion_loom)]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    // loom runs all threads of a model on the thread that called `loom::model`, so this reaches exactly one model.
    std::thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub(crate) fn planted(bug: Bug) -> bool {
        PLANTED.with(|cell| cell.get() == Some(bug))
    }

    /// Runs `model` with `bug` switched on, on this thread.
    pub fn with<R>(bug: Bug, model: impl FnOnce() -> R) -> R {
        PLANTED.with(|cell| cell.set(Some(bug)));
        let result = model();
        PLANTED.with(|cell| cell.set(None));
        result
    }
}
