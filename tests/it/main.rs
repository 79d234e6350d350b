//! Integration tests, a module per area.

#[cfg(feature = "testing")]
#[path = "../support/mod.rs"]
mod support;

mod kit;

mod calls;
mod dedup;
mod effects;
mod entities;
mod mailbox;
mod outbox;
mod recovery;
#[cfg(feature = "testing")]
mod store_backup;
#[cfg(feature = "testing")]
mod store_redb;
mod timers;
mod transact;
mod volatile;
