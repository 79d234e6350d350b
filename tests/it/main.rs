//! Integration tests, a module per area.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[cfg(feature = "testing")]
#[path = "../support/mod.rs"]
mod support;

mod kit;

mod calls;
#[cfg(all(unix, feature = "cli"))]
mod cli;
#[cfg(feature = "http")]
mod connect;
mod deadlock;
mod dedup;
#[cfg(feature = "documents")]
mod documents;
mod effects;
mod entities;
mod errors;
mod flags;
mod health;
mod history;
mod limits;
mod mailbox;
mod names;
mod outbox;
mod policies;
mod protected;
mod queue;
mod recovery;
#[cfg(feature = "testing")]
mod store_backup;
#[cfg(feature = "testing")]
mod store_conformance;
#[cfg(feature = "testing")]
mod store_derived;
#[cfg(feature = "testing")]
mod store_redb;
mod store_system;
mod task_agents;
mod timers;
#[cfg(feature = "tower")]
mod tower;
mod transact;
mod volatile;
mod workflows;
