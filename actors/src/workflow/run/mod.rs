//! The state machine of one run: pure, replayable, O(out-degree) per completed step.
//!
//! [`RunState::advance`] decides an input and applies the events it decides; [`RunState::evolve`] applies
//! stored events on recovery. Both go through the same code, so a recovered run is the run. What is to be done
//! comes back as [`RunEffect`]s, to be performed once the events are durable.
//!
//! Restart after a crash: read a snapshot and later events, load the outputs of [`RunState::outputs_needed`],
//! then advance with [`RunInput::Recovered`].

mod advance;
mod attempts;
mod codes;
mod commands;
mod derive;
mod effect;
mod event;
mod evolve;
mod failures;
mod history;
mod input;
mod outputs;
mod snapshot;
mod state;
mod undo;
mod view;

pub(crate) use effect::UNDO;
pub use effect::{Decision, EVENTS_MAX, OutputRow, RowKey, RunEffect, TimerId, idempotency_key};
pub use event::{EndCause, RetryScope, RunError, RunEvent, SkipReason, StepError, WaitingFor};
pub use history::HistoryLine;
pub use input::{AttemptId, AttemptResult, Failure, IllegalTransition, RunInput, RunRejection};
pub(crate) use outputs::check_levels;
pub use snapshot::SnapshotError;
pub use state::{RunState, RunStatus};
pub use view::{RunCounts, StepView};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
