//! The supervisor of a fixed, ordered list of children.
//!
//! `actor.rs` receives, `shell.rs` performs what [`crate::strategy`] plans, `control.rs` answers questions and orders,
//! `children.rs` is the list, `handle.rs` is the caller's side.

mod actor;
mod children;
mod control;
mod handle;
mod shell;

pub use children::{ChildCounts, ChildInfo, ChildStatus};
pub use handle::{Init, Supervisor};
