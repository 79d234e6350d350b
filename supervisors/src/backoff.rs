//! How long to wait before a restart.

use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorRef, Message};
use stanchion_actors::task::TaskScope;

/// Exponential delay with jitter: a draw between half and all of `first * 2^(n-1)`, at most `max`.
///
/// # Source
/// "Equal jitter" of Marc Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first delay.
    pub first: Duration,
    /// Upper bound of every delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay before restart number `restart` (from 1) of the current window, for a `draw` in `0.0..=1.0`.
    #[must_use]
    pub fn delay(&self, restart: u32, draw: f64) -> Duration {
        let doublings = restart.saturating_sub(1).min(31);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.max);
        let draw = if draw.is_finite() { draw.clamp(0.0, 1.0) } else { 1.0 };
        ceiling.mul_f64(0.5 + draw / 2.0)
    }
}

/// Gives jitter: a number in `0.0..=1.0` a call.
pub type Draw = Arc<dyn Fn() -> f64 + Send + Sync>;

/// A back-off with what it needs to be performed: random draws, and an owner for the waiting tasks.
#[derive(Clone)]
pub struct Pacing {
    backoff: Backoff,
    draw: Draw,
    scope: TaskScope,
}

impl Pacing {
    /// Delays as `backoff` says, drawing from `draw`; the waits are tasks of `scope`.
    pub fn new(backoff: Backoff, scope: TaskScope, draw: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self { backoff, draw: Arc::new(draw), scope }
    }

    pub(crate) fn delay(&self, restart: u32) -> Duration {
        self.backoff.delay(restart, (self.draw)())
    }

    /// Tells the supervisor that `delay` is over, when it is.
    pub(crate) fn tell_after<M: Message>(
        &self,
        delay: Duration,
        supervisor: &ActorRef<M>,
        due: impl Fn() -> M + Send + Sync + 'static,
    ) {
        let due = Arc::new(due);
        let (later, to) = (Arc::clone(&due), supervisor.clone());
        let waiting = self.scope.spawn("restart delay", async move {
            tokio::time::sleep(delay).await;
            // Fails only when the supervisor is gone.
            let _ = to.cast(later());
        });
        if waiting.is_err() {
            // The owner of delays is gone: restart without one rather than never.
            let _ = supervisor.cast(due());
        }
    }
}

impl std::fmt::Debug for Pacing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pacing").field("backoff", &self.backoff).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_never_leave_their_half() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
        let highest: Vec<_> = (1..=6).map(|n| backoff.delay(n, 1.0).as_millis()).collect();
        assert_eq!(highest, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.delay(2, 0.0), Duration::from_millis(100));
        assert_eq!(backoff.delay(u32::MAX, 7.0), Duration::from_secs(1));
        assert_eq!(backoff.delay(1, f64::NAN), Duration::from_millis(100));
    }
}
