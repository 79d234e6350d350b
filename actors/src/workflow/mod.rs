//! Workflows as data: what a definition is, and how a run of it moves from one state to the next.
//!
//! The engine is pure: time, random draws and the results of activities come in as arguments, what is to be done
//! comes out as values. `machine` puts it behind an entity, `coordinator` is the thin actor in front, `reader` shows
//! what is stored.
//!
//! - [`definition`]: the document as written, its faults, and the [`ValidDefinition`] the rest relies on.
//! - [`graph`]: dense step numbers, edges and counters.
//! - [`template`], [`condition`]: the small languages of a step; its policies are [`crate::resilience::retry`].
//! - [`run`]: the state machine of one run.

mod command;
pub mod condition;
mod coordinator;
pub mod definition;
pub mod graph;
mod machine;
mod reader;
mod registry;
mod retention;
pub mod run;
pub mod template;
mod workflows;

pub use crate::resilience::retry::{Jitter, RetryPolicy};
pub use command::{
    RUN_ID_MAX_CHARS, RUN_INPUT_MAX_BYTES, RUN_KIND, RunCard, RunCommand, RunRefusal, RunReply, check_run_id,
    check_run_input,
};
pub use coordinator::{
    CoordinatorActor, CoordinatorArgs, CoordinatorMsg, CoordinatorState, RunError, StartRun, Started,
};
pub use definition::{Definition, DefinitionFaults, Step, ValidDefinition};
pub use machine::{LiveRun, run_kind};
pub use reader::{ReadError, StoredRun, run_ids};
pub use registry::{DEFINITION_MAX_BYTES, DefinitionError, Definitions};
pub use retention::{RetentionActor, RetentionArgs, RetentionMsg, RetentionState};
pub use run::{
    Decision, Failure, RunEffect, RunEvent, RunInput, RunRejection, RunState, RunStatus, WaitingFor,
};
pub use workflows::Workflows;
