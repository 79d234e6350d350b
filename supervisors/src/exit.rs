//! How a child ended, in OTP's words, read from ractor's events.
//!
//! ractor knows stop reasons as text, reports a killed or cancelled actor as *terminated*, and carries an error and a
//! panic alike as *failed*. [`Exit::of`] is the one place that reads them.

use std::fmt;
use std::sync::Arc;

use ractor::{ActorId, SupervisionEvent};

/// Stop reason of a child that has done its work; the same as no reason.
pub const NORMAL: &str = "normal";
/// Stop reason a supervisor gives; `shutdown: detail` counts as the same.
pub const SHUTDOWN: &str = "shutdown";

/// ractor's reason for an actor ended by its kill signal.
const KILLED: &str = "killed";
/// ractor's reason for an actor whose task was aborted or whose runtime ended.
const TASK_CANCELLED: &str = "actor_task_cancelled";
/// ractor's reason for an actor that was drained.
const DRAINED: &str = "Drained";

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It stopped without a reason, with [`NORMAL`], or was drained.
    Normal,
    /// It stopped with [`SHUTDOWN`], by its supervisor or by itself, perhaps with a detail.
    Shutdown(Option<Arc<str>>),
    /// A handler answered an error or panicked (ractor erases the difference), or it stopped with a reason of its own.
    Failed(Arc<str>),
    /// It was killed, or its task was aborted: nothing of it ran afterwards.
    Killed,
}

impl Exit {
    /// Reads the end of an actor from ractor's event; `None` for events that are no end.
    #[must_use]
    pub fn of(event: &SupervisionEvent) -> Option<(ActorId, Self)> {
        match event {
            SupervisionEvent::ActorTerminated(who, _, reason) => {
                Some((who.get_id(), Self::of_reason(reason.as_deref())))
            }
            SupervisionEvent::ActorFailed(who, error) => {
                Some((who.get_id(), Self::Failed(Arc::from(error.to_string()))))
            }
            // ractor's enum: its further events (groups, remote lifecycle) are no exits of children.
            _ => None,
        }
    }

    /// Reads a stop reason.
    #[must_use]
    pub fn of_reason(reason: Option<&str>) -> Self {
        match reason {
            None | Some(NORMAL | DRAINED) => Self::Normal,
            Some(SHUTDOWN) => Self::Shutdown(None),
            Some(KILLED | TASK_CANCELLED) => Self::Killed,
            Some(other) => match other.strip_prefix(SHUTDOWN).and_then(|rest| rest.strip_prefix(':')) {
                Some(detail) => Self::Shutdown(Some(Arc::from(detail.trim()))),
                None => Self::Failed(Arc::from(other)),
            },
        }
    }

    /// Whether a transient child is restarted after it.
    #[must_use]
    pub fn is_abnormal(&self) -> bool {
        match self {
            Self::Normal | Self::Shutdown(_) => false,
            Self::Failed(_) | Self::Killed => true,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str(NORMAL),
            Self::Shutdown(None) => f.write_str(SHUTDOWN),
            Self::Shutdown(Some(detail)) => write!(f, "{SHUTDOWN}: {detail}"),
            Self::Failed(message) => f.write_str(message),
            Self::Killed => f.write_str(KILLED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_reasons_are_read_as_otp_reads_them() {
        let cases = [
            (None, Exit::Normal, false),
            (Some("normal"), Exit::Normal, false),
            (Some("Drained"), Exit::Normal, false),
            (Some("shutdown"), Exit::Shutdown(None), false),
            (Some("shutdown: x"), Exit::Shutdown(Some("x".into())), false),
            (Some("shutdowns"), Exit::Failed("shutdowns".into()), true),
            (Some("boom"), Exit::Failed("boom".into()), true),
            (Some("killed"), Exit::Killed, true),
            (Some("actor_task_cancelled"), Exit::Killed, true),
        ];
        for (reason, exit, abnormal) in cases {
            assert_eq!(Exit::of_reason(reason), exit, "{reason:?}");
            assert_eq!(exit.is_abnormal(), abnormal, "{reason:?}");
        }
    }
}
