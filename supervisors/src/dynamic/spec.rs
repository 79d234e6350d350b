//! What a dynamic supervisor and its children are told.

use std::sync::Arc;
use std::time::Duration;

use ractor::Actor;

use crate::child::{Restart, Shutdown, StartFn, start_actor};
use crate::error::SpecError;
use crate::event::{Observer, SupervisorEvent, unobserved};
use crate::intensity::Intensity;
use crate::pacing::Pacing;

/// Whose restarts are counted together, and who is given up when they are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GiveUp {
    /// Each child's own; a poisoned child is given up alone, and told as `GaveUp`.
    #[default]
    Child,
    /// All children's; the supervisor stops, as in OTP.
    Supervisor,
}

/// Describes a dynamic supervisor.
///
/// Defaults: permanent children, 5 s to stop, 3 restarts in 5 s counted per child, at most 1 048 576 children.
#[derive(Clone)]
pub struct DynamicSpec {
    pub(super) restart: Restart,
    pub(super) shutdown: Shutdown,
    pub(super) intensity: Intensity,
    pub(super) give_up: GiveUp,
    pub(super) pacing: Option<Pacing>,
    pub(super) observer: Observer,
    pub(super) max_children: usize,
}

impl Default for DynamicSpec {
    fn default() -> Self {
        Self {
            restart: Restart::Permanent,
            shutdown: Shutdown::Deadline(Duration::from_secs(5)),
            intensity: Intensity::default(),
            give_up: GiveUp::Child,
            pacing: None,
            observer: unobserved(),
            max_children: 1 << 20,
        }
    }
}

impl DynamicSpec {
    /// Sets when children are restarted.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets how children are stopped. When the supervisor stops, the time runs for all of them at once.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// Sets how many restarts are bearable.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Sets whose restarts count together.
    #[must_use]
    pub fn give_up(mut self, give_up: GiveUp) -> Self {
        self.give_up = give_up;
        self
    }

    /// Waits before every restart.
    #[must_use]
    pub fn pacing(mut self, pacing: Pacing) -> Self {
        self.pacing = Some(pacing);
        self
    }

    /// Sets how many children there may be; further starts are refused.
    #[must_use]
    pub fn max_children(mut self, limit: usize) -> Self {
        self.max_children = limit;
        self
    }

    /// Tells every event to `observer`, in order, on the supervisor's task.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&SupervisorEvent) + Send + Sync + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        self.intensity.validate()
    }
}

impl std::fmt::Debug for DynamicSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamicSpec")
            .field("restart", &self.restart)
            .field("shutdown", &self.shutdown)
            .field("intensity", &self.intensity)
            .field("give_up", &self.give_up)
            .field("pacing", &self.pacing)
            .field("max_children", &self.max_children)
            .finish_non_exhaustive()
    }
}

/// One child to be started.
#[derive(Clone)]
pub struct DynamicChild {
    pub(super) label: Arc<str>,
    pub(super) start: StartFn,
}

impl DynamicChild {
    /// A child started by `start`; `label` names it in events and need not be unique.
    pub fn new(label: impl Into<Arc<str>>, start: StartFn) -> Self {
        Self { label: label.into(), start }
    }

    /// A child that is a ractor actor without a name; `make` gives each life its actor and arguments.
    pub fn actor<A, F>(label: impl Into<Arc<str>>, make: F) -> Self
    where
        A: Actor,
        F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    {
        Self::new(label, start_actor(make))
    }
}

impl std::fmt::Debug for DynamicChild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamicChild").field("label", &self.label).finish_non_exhaustive()
    }
}
