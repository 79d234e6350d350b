//! What a supervisor is told once, at its start.

use crate::child::ChildSpec;
use crate::error::SpecError;
use crate::event::{Observer, SupervisorEvent, unobserved};
use crate::intensity::Intensity;
use crate::order::start_order;
use crate::pacing::Pacing;
use crate::strategy::Strategy;

/// Whether significant children that end for good take the supervisor with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoShutdown {
    /// Never; no child may be significant.
    #[default]
    Never,
    /// When one of them ends.
    AnySignificant,
    /// When the last of them ends.
    AllSignificant,
}

/// Describes a supervisor with a fixed list of children, in start order.
///
/// Defaults: `one_for_one`, 3 restarts in 5 s, no automatic shutdown, no delay before restarts.
/// Meant for tens of children, up to a few thousand: an exit looks through the list. For more: `DynamicSupervisor`.
#[derive(Clone)]
pub struct SupervisorSpec {
    pub(crate) strategy: Strategy,
    pub(crate) intensity: Intensity,
    pub(crate) auto_shutdown: AutoShutdown,
    pub(crate) pacing: Option<Pacing>,
    pub(crate) observer: Observer,
    pub(crate) children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// Describes a supervisor without children yet.
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            intensity: Intensity::default(),
            auto_shutdown: AutoShutdown::Never,
            pacing: None,
            observer: unobserved(),
            children: Vec::new(),
        }
    }

    /// Adds a child behind the others.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Adds children behind the others.
    #[must_use]
    pub fn children(mut self, children: impl IntoIterator<Item = ChildSpec>) -> Self {
        self.children.extend(children);
        self
    }

    /// Sets how many restarts are bearable.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.intensity = intensity;
        self
    }

    /// Sets what the end of significant children means.
    #[must_use]
    pub fn auto_shutdown(mut self, mode: AutoShutdown) -> Self {
        self.auto_shutdown = mode;
        self
    }

    /// Waits before every restart.
    #[must_use]
    pub fn pacing(mut self, pacing: Pacing) -> Self {
        self.pacing = Some(pacing);
        self
    }

    /// Tells every event to `observer`, in order, on the supervisor's task.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&SupervisorEvent) + Send + Sync + 'static) -> Self {
        self.observer = std::sync::Arc::new(observer);
        self
    }

    /// Checks the whole specification and puts the children into start order.
    ///
    /// # Errors
    /// One [`SpecError`] variant for each kind of fault; nothing was started.
    pub fn validate(mut self) -> Result<Self, SpecError> {
        self.intensity.validate()?;
        for child in &self.children {
            child.validate(self.auto_shutdown)?;
        }
        self.children = start_order(self.children)?;
        Ok(self)
    }
}

impl std::fmt::Debug for SupervisorSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SupervisorSpec")
            .field("strategy", &self.strategy)
            .field("intensity", &self.intensity)
            .field("auto_shutdown", &self.auto_shutdown)
            .field("pacing", &self.pacing)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}
