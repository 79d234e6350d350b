//! Policies around calls to the outside world: plain types that decide, without a clock or a runtime.
//!
//! Time and chance come in as arguments, so that tests, simulation and recovery get the same answer twice. Each
//! policy is cheap enough for the way of every call: no actor in between, no global lock, no allocation.
//!
//! Where a caller has to wait, for a place in a [`bulkhead`] or for somebody else's result in a [`cache`], the
//! waiting is a future over a core of `stanchion-sync`; it needs tokio's timer, and no task.

pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod cache;
pub mod fallback;
#[cfg(test)]
mod holder;
mod lane;
pub mod limiter;
mod named;
mod options_error;
pub mod protected;
pub mod resources;
pub mod retry;
pub mod timeout;

pub use options_error::OptionsError;
