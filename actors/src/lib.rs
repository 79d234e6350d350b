//! Entities, agents, workflows, and the ports they need.
//!
//! Everything durable is an entity: a state machine with a key, a version and a state; it changes by entries only.
//! This crate knows ractor and tokio in its thin shells; it knows no database, no file, no network.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod adapter;
pub mod agent;
pub mod balance;
pub mod clock;
mod coded;
pub mod discovery;
pub mod entity;
pub mod env;
pub mod error;
pub mod fast_hash;
pub mod flags;
pub mod health;
pub mod ids;
pub mod moment;
pub mod names;
pub mod persistence;
pub mod policies;
pub mod queue;
pub mod remote;
pub mod resilience;
pub mod store;
pub mod task;
pub mod task_agent;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;
pub mod volatile;
pub mod workflow;
