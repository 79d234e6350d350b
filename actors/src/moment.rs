//! Named moments of the runtime, told to an observer: a port, so that tests end the process exactly there.

use std::{fmt, sync::Arc};

/// A moment on the way of a command or an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Moment {
    /// A chain is durable, its callers are not answered.
    BeforeAnswer,
    /// The callers of a durable chain are answered, what follows has not begun.
    AfterAnswer,
    /// An attempt of a recorded effect is about to run.
    EffectStart,
    /// An attempt has ended, its end is not recorded.
    EffectEnd,
}

/// Told at each moment, on the thread where it happens; it must not block.
pub trait Moments: Send + Sync + 'static {
    /// The runtime is at `moment`.
    fn reach(&self, moment: Moment);
}

/// The observer as the runtime carries it; none by default.
#[derive(Clone, Default)]
pub(crate) struct Observer(Option<Arc<dyn Moments>>);

impl Observer {
    #[cfg(feature = "testing")]
    pub(crate) fn new(moments: Arc<dyn Moments>) -> Self {
        Self(Some(moments))
    }

    pub(crate) fn reach(&self, moment: Moment) {
        if let Some(moments) = &self.0 {
            moments.reach(moment);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
