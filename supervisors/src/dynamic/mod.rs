//! The supervisor of many children alike, started on demand: OTP's `simple_one_for_one`, and one that counts per child.
//!
//! Every step costs the same for ten children and for 100 000. `actor.rs` receives, `shell.rs` performs, `spec.rs`
//! describes, `handle.rs` is the caller's side.

mod actor;
mod handle;
mod shell;
mod spec;

pub use handle::{DynamicSupervisor, StartedChild};
pub use shell::{ChildKey, DynamicInfo};
pub use spec::{DynamicChild, DynamicSpec, GiveUp};
