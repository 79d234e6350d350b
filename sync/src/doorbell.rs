//! [`Doorbell`]: a wake-up that is never lost.

use crate::planted::{Bug, planted};
use crate::shim::{AtomicBool, Ordering};

/// A wake-up that is never lost, and is delivered once for any number of rings.
///
/// The work itself lies elsewhere (a queue, the store). Whoever adds work: *add, then ring*, and deliver the
/// wake message if [`Doorbell::ring`] says so. The owner, on that message: *[silence](Doorbell::silence), then
/// look for work*. In the other order, work added between the look and the silence would lie unseen.
///
/// If the wake message cannot be delivered, the owner is gone; its successor silences the bell and looks.
///
/// ```
/// use stanchion_sync::Doorbell;
/// # if stanchion_sync::UNDER_LOOM { return; }
/// let bell = Doorbell::new();
/// assert!(bell.ring());    // silent before: deliver the wake message
/// assert!(!bell.ring());   // one is on its way
/// bell.silence();          // the owner, before it drains
/// assert!(bell.ring());
/// ```
#[derive(Debug)]
pub struct Doorbell {
    rung: AtomicBool,
}

impl Doorbell {
    /// Makes a silent bell.
    #[must_use]
    pub fn new() -> Self {
        Self { rung: AtomicBool::new(false) }
    }

    /// Rings. `true`: it was silent, and the caller must deliver the wake message.
    #[must_use = "`true` obliges the caller to deliver the wake message"]
    pub fn ring(&self) -> bool {
        !self.rung.swap(true, Ordering::AcqRel)
    }

    /// Silences the bell; the owner calls it *before* it looks for work. `true`: it was ringing.
    ///
    /// Everything added before a ring that this call silences is visible after it.
    pub fn silence(&self) -> bool {
        if planted(Bug::DoorbellSilencesBlindly) {
            self.rung.store(false, Ordering::Release);
            return true;
        }
        // A swap, not a store: only reading the last ring makes visible what was added before it.
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// Whether a wake-up is on its way.
    #[must_use]
    pub fn is_ringing(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_ring_after_a_silence_asks_for_a_wake_message() {
        let bell = Doorbell::default();
        assert_eq!([bell.ring(), bell.ring(), bell.ring()], [true, false, false]);
        assert!(bell.is_ringing());
        assert!(bell.silence());
        assert!(!bell.silence());
        assert!(!bell.is_ringing());
        assert!(bell.ring());
    }
}
