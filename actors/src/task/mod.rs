//! The only place where tasks are spawned: every task has an owner, is counted, and ends with its owner.
//!
//! A [`TaskScope`] owns tasks; scopes form a tree under one root per system. Ending a scope ends the tasks of its
//! whole subtree. The [`Census`] says who lives: a test that ends with an empty census has leaked nothing.
//! This module knows tokio; it knows no actor, no store and no supervisor.

mod cancel;
mod census;
mod core;
mod handle;
mod places;
mod scope;

pub use cancel::CancelToken;
pub use census::{ActorGuard, Census, TaskId, TaskInfo};
pub use handle::{TaskEnd, TaskHandle};
pub use places::{Places, TaskPlace};
pub use scope::{Leftover, SpawnError, TaskScope};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic of another holder: every critical section here leaves its data whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
