//! Integration tests, a module per area.

mod entities;
#[cfg(feature = "testing")]
#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "testing")]
mod store_backup;
#[cfg(feature = "testing")]
mod store_redb;
