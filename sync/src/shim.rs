//! The one place that chooses between the standard library and loom.
//!
//! Every core takes its mutexes, condition variables and atomics from here, so a build with
//! `--cfg stanchion_loom` checks the very code that ships. `Arc` is always the standard one: loom's cannot be
//! the receiver of a method, and no core relies on reference counts.

#[cfg(stanchion_loom)]
pub(crate) use loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
#[cfg(not(stanchion_loom))]
pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use std::sync::PoisonError;

/// Locks, and goes on after a panic of another holder: no core runs foreign code inside its critical sections,
/// so what a panic leaves behind is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sleeps until notified; returns with the mutex held.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
