//! Where a step stands: one byte in a snapshot.

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(super) enum StepCode {
    /// Waits for its needs.
    #[default]
    Pending = 0,
    /// In the queue of steps that may start.
    Ready = 1,
    /// An attempt is running.
    Running = 2,
    /// Waits for its next attempt.
    Waiting = 3,
    /// Done.
    Completed = 4,
    /// Failed for good.
    Failed = 5,
    /// Failed for good, but the run goes on as if it had completed.
    FailedIgnored = 6,
    /// Its condition was false.
    SkippedCondition = 7,
    /// Skipped because of a failure before it.
    SkippedNeedFailed = 8,
    /// Skipped because what it needs was skipped.
    SkippedNeedsSkipped = 9,
    /// Given up because the run ended.
    Cancelled = 10,
    /// Done and undone.
    Compensated = 11,
    /// Done, and undoing it failed.
    CompensationFailed = 12,
}

/// What a settled need means to its dependants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// It gave its output.
    Done,
    /// It did not run, for a harmless reason.
    Neutral,
    /// It failed, or could not run because of a failure.
    Bad,
}

impl StepCode {
    pub(super) fn from_u8(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Pending,
            1 => Self::Ready,
            2 => Self::Running,
            3 => Self::Waiting,
            4 => Self::Completed,
            5 => Self::Failed,
            6 => Self::FailedIgnored,
            7 => Self::SkippedCondition,
            8 => Self::SkippedNeedFailed,
            9 => Self::SkippedNeedsSkipped,
            10 => Self::Cancelled,
            11 => Self::Compensated,
            12 => Self::CompensationFailed,
            _ => return None,
        })
    }

    /// What the step means to its dependants; `None` while it is open or was cancelled.
    pub(super) fn settled(self) -> Option<Settled> {
        match self {
            // A cancelled step ends with the run: nobody waits for it any more.
            Self::Pending | Self::Ready | Self::Running | Self::Waiting | Self::Cancelled => None,
            Self::Completed | Self::FailedIgnored | Self::Compensated | Self::CompensationFailed => {
                Some(Settled::Done)
            }
            Self::SkippedCondition | Self::SkippedNeedsSkipped => Some(Settled::Neutral),
            Self::Failed | Self::SkippedNeedFailed => Some(Settled::Bad),
        }
    }

    /// Whether a retry of the run may make the step run again.
    pub(super) fn may_run_again(self) -> bool {
        match self {
            Self::Failed | Self::SkippedNeedFailed | Self::Cancelled => true,
            Self::Pending
            | Self::Ready
            | Self::Running
            | Self::Waiting
            | Self::Completed
            | Self::FailedIgnored
            | Self::SkippedCondition
            | Self::SkippedNeedsSkipped
            | Self::Compensated
            | Self::CompensationFailed => false,
        }
    }

    /// The word users see.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed | Self::FailedIgnored => "failed",
            Self::SkippedCondition | Self::SkippedNeedFailed | Self::SkippedNeedsSkipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Compensated => "compensated",
            Self::CompensationFailed => "compensation_failed",
        }
    }
}
