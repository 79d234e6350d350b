//! Policies around calls to the outside world: plain types that decide, without a clock or a runtime.
//!
//! Time and chance come in as arguments, so that tests, simulation and recovery get the same answer twice. Each
//! policy is cheap enough for the way of every call: no actor in between, no global lock, no allocation.

pub mod breaker;
pub mod budget;
pub mod limiter;
pub mod retry;
