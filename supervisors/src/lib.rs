//! OTP supervision on ractor: strategies, restart intensity, dynamic children, the root tree of stanchion.
//!
//! ractor links actors and reports exits; it has no strategies. Here, pure policies ([`strategy`], [`intensity`],
//! [`backoff`]) say what follows from an exit, and one shell per kind of supervisor does it: [`Supervisor`] for a fixed,
//! ordered list of children, [`DynamicSupervisor`] for many alike, [`TaskSupervisor`] for tasks. [`root`] puts them
//! together. This crate knows which child ended and how; it knows nothing of what a child does.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod backoff;
pub mod exit;
pub mod intensity;
pub mod root;
pub mod strategy;

mod ask;
mod board;
mod child;
mod dynamic;
mod entities;
mod error;
mod event;
mod link;
mod order;
mod pacing;
mod spec;
mod start;
mod supervisor;
mod tasks;
mod volatile;

pub use ask::Stopped;
pub use backoff::Backoff;
pub use child::{ChildKind, ChildSpec, Restart, Shutdown, StartContext, StartFn, StartFuture, Started};
pub use dynamic::{
    ChildKey, DynamicChild, DynamicInfo, DynamicSpec, DynamicSupervisor, GiveUp, StartedChild,
};
pub use entities::{EntitySupervisorActor, EntitySupervisorArgs, EntitySupervisorState};
pub use error::{ControlError, SpecError, StartError, SupervisorStartError};
pub use event::{Observer, SupervisorEvent};
pub use exit::Exit;
pub use intensity::Intensity;
pub use pacing::Pacing;
pub use spec::{AutoShutdown, SupervisorSpec};
pub use strategy::Strategy;
pub use supervisor::{ChildCounts, ChildInfo, ChildStatus, Init, Supervisor};
pub use tasks::{RunError, TaskSupervisor, TaskSupervisorOptions};
pub use volatile::{VolatileSupervisorActor, VolatileSupervisorArgs, VolatileSupervisorState};
