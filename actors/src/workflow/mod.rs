//! Workflows as data: what a definition is, and how a run of it moves from one state to the next.
//!
//! Everything here is pure. The time, random draws and the results of activities come in as arguments; what
//! is to be done comes out as values. No actor, no timer and no clock lives here: a shell performs.
//!
//! - [`definition`]: the document as written, its faults, and the [`ValidDefinition`] the rest relies on.
//! - [`graph`]: dense step numbers, edges and counters.
//! - [`template`], [`condition`], [`retry`]: the small languages and policies of a step.
//! - [`run`]: the state machine of one run.

pub mod condition;
pub mod definition;
pub mod graph;
pub mod retry;
pub mod run;
pub mod template;

pub use definition::{Definition, DefinitionFaults, Step, ValidDefinition};
pub use retry::{Jitter, RetryPolicy};
pub use run::{Decision, Failure, RunEffect, RunEvent, RunInput, RunRejection, RunState, RunStatus};
