//! A back-off as it is performed: draws, waits, and the message that a wait is over.

use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorRef, Message};
use stanchion_actors::task::TaskScope;

use crate::backoff::Backoff;

/// Gives jitter: a number in `0.0..=1.0` a call.
type Draw = Arc<dyn Fn() -> f64 + Send + Sync>;

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
